package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"slices"
)

// chart is a line chart with a logarithmic scale on both axes, as SVG: how a cost grows shows as a slope.
type chart struct {
	title, x, y string
	lines       []chartLine
}

type chartLine struct {
	name   string
	points []chartPoint
}

// chartPoint is left out when it has no place on a logarithmic scale.
type chartPoint struct{ x, y float64 }

func (p chartPoint) drawable() bool {
	return p.x > 0 && p.y > 0 && !math.IsInf(p.x, 0) && !math.IsInf(p.y, 0) // NaN is above nothing
}

// Geometry, in pixels.
const (
	chartWidth, chartHeight           = 640, 400
	chartLeft, chartRight             = 70, 130 // names of lines stand on the right
	chartTop, chartBottom             = 40, 50
	chartNameGap                      = 14 // between lines of text
	chartPlotWidth, chartPlotHeight   = chartWidth - chartLeft - chartRight, chartHeight - chartTop - chartBottom
	chartPlotRight, chartPlotBaseline = chartLeft + chartPlotWidth, chartTop + chartPlotHeight
)

// chartColors tell lines apart for readers with any colour vision (Okabe and Ito), and on light and dark pages.
var chartColors = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"}

// axis is a logarithmic scale over whole decades.
type axis struct{ low, high int }

// axisOf covers the values; at least one decade.
func axisOf(lines []chartLine, value func(chartPoint) float64) axis {
	low, high := math.Inf(1), math.Inf(-1)
	for _, l := range lines {
		for _, p := range l.points {
			low, high = min(low, math.Log10(value(p))), max(high, math.Log10(value(p)))
		}
	}
	if low > high { // no point
		return axis{0, 1}
	}
	a := axis{int(math.Floor(low)), int(math.Ceil(high))}
	a.high = max(a.high, a.low+1)
	return a
}

// at returns where a value lies, from 0 to 1.
func (a axis) at(v float64) float64 { return (math.Log10(v) - float64(a.low)) / float64(a.high-a.low) }

// tick names a power of ten.
func tick(exponent int) string {
	if exponent < 0 {
		return fmt.Sprintf("%.*f", -exponent, math.Pow10(exponent))
	}
	digits := fmt.Sprintf("%.0f", math.Pow10(exponent))
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// svg returns the document. The same chart is always the same bytes.
func (c chart) svg() []byte {
	lines := slices.Clone(c.lines)
	for i := range lines {
		lines[i].points = slices.DeleteFunc(slices.Clone(lines[i].points), func(p chartPoint) bool { return !p.drawable() })
	}
	xs := axisOf(lines, func(p chartPoint) float64 { return p.x })
	ys := axisOf(lines, func(p chartPoint) float64 { return p.y })
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s"`+
		" font-family=\"sans-serif\" font-size=\"12\">\n", chartWidth, chartHeight, chartWidth, chartHeight, escapeXML(c.title))
	fmt.Fprintf(&b, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", chartWidth, chartHeight)
	text := func(x, y float64, anchor, style, s string) {
		fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>%s</text>\n", x, y, anchor, style, escapeXML(s))
	}
	rule := func(x1, y1, x2, y2 float64) {
		fmt.Fprintf(&b, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", x1, y1, x2, y2)
	}
	px := func(v float64) float64 { return chartLeft + xs.at(v)*chartPlotWidth }
	py := func(v float64) float64 { return chartPlotBaseline - ys.at(v)*chartPlotHeight }
	text(chartLeft, chartTop-16, "start", ` font-size="15" font-weight="bold"`, c.title)
	for e := xs.low; e <= xs.high; e++ {
		x := px(math.Pow10(e))
		rule(x, chartTop, x, chartPlotBaseline)
		text(x, chartPlotBaseline+18, "middle", "", tick(e))
	}
	for e := ys.low; e <= ys.high; e++ {
		y := py(math.Pow10(e))
		rule(chartLeft, y, chartPlotRight, y)
		text(chartLeft-8, y+4, "end", "", tick(e))
	}
	text(chartLeft+chartPlotWidth/2, chartHeight-10, "middle", "", c.x)
	text(16, chartTop+chartPlotHeight/2, "middle", fmt.Sprintf(` transform="rotate(-90 16 %d)"`, chartTop+chartPlotHeight/2), c.y)
	ends := make([]float64, 0, len(lines)) // where names stand
	for i, l := range lines {
		if len(l.points) == 0 {
			continue
		}
		color := chartColors[i%len(chartColors)]
		var path bytes.Buffer
		for _, p := range l.points {
			fmt.Fprintf(&path, "%.1f,%.1f ", px(p.x), py(p.y))
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`, bytes.TrimSpace(path.Bytes()), color)
		b.WriteByte('\n')
		for _, p := range l.points {
			fmt.Fprintf(&b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", px(p.x), py(p.y), color)
		}
		last := l.points[len(l.points)-1]
		y := clearOf(ends, py(last.y))
		ends = append(ends, y)
		text(px(last.x)+8, y+4, "start", fmt.Sprintf(` fill="%s"`, color), fmt.Sprintf("%s %.3g", l.name, last.y))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// clearOf moves a name down until it stands on no other.
func clearOf(taken []float64, y float64) float64 {
	for moved := true; moved; {
		moved = false
		for _, t := range taken {
			if math.Abs(t-y) < chartNameGap {
				y, moved = t+chartNameGap, true
			}
		}
	}
	return y
}

func escapeXML(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes all
	return b.String()
}

package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"
)

// chart is a line chart as SVG, with a logarithmic scale on both axes, so that how a cost grows shows as a slope; or with linear
// scales from zero, so that what it costs to begin with shows too.
type chart struct {
	title, x, y string
	linear      bool
	lines       []chartLine
}

type chartLine struct {
	name   string
	points []chartPoint
}

// chartPoint is left out when it has no place on the chart's scales.
type chartPoint struct{ x, y float64 }

func (p chartPoint) drawable(linear bool) bool {
	if linear && p.x == 0 {
		p.x = 1
	}
	if linear && p.y == 0 {
		p.y = 1
	}
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

// scale places the values of one axis.
type scale interface {
	at(v float64) float64 // from 0 to 1
	ticks() []float64
	name(tick float64) string
}

func (c chart) scaleOf(lines []chartLine, value func(chartPoint) float64) scale {
	if c.linear {
		return evenOf(lines, value)
	}
	return axisOf(lines, value)
}

// even is a linear scale from zero to a multiple of step.
type even struct{ step, high float64 }

// evenOf covers the values with at most evenTicks steps.
func evenOf(lines []chartLine, value func(chartPoint) float64) even {
	most := 0.0
	for _, l := range lines {
		for _, p := range l.points {
			most = max(most, value(p))
		}
	}
	if most == 0 {
		return even{1, 1}
	}
	step := math.Pow(10, math.Floor(math.Log10(most/evenTicks)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*step*evenTicks >= most {
			step *= m
			break
		}
	}
	return even{step, step * math.Ceil(most/step)}
}

const evenTicks = 8

func (e even) at(v float64) float64 { return v / e.high }

func (e even) ticks() []float64 {
	var all []float64
	for i := 0; float64(i)*e.step <= e.high; i++ {
		all = append(all, float64(i)*e.step)
	}
	return all
}

func (e even) name(tick float64) string {
	return grouped(tick, max(0, -int(math.Floor(math.Log10(e.step)))))
}

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

func (a axis) ticks() []float64 {
	var all []float64
	for e := a.low; e <= a.high; e++ {
		all = append(all, math.Pow10(e))
	}
	return all
}

func (a axis) name(tick float64) string {
	return grouped(tick, max(0, -int(math.Round(math.Log10(tick)))))
}

// grouped writes a number with so many decimals and commas between its thousands.
func grouped(v float64, decimals int) string {
	digits := fmt.Sprintf("%.*f", decimals, v)
	whole, _, _ := strings.Cut(digits, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// svg returns the document. The same chart is always the same bytes.
func (c chart) svg() []byte {
	lines := slices.Clone(c.lines)
	for i := range lines {
		lines[i].points = slices.DeleteFunc(slices.Clone(lines[i].points), func(p chartPoint) bool { return !p.drawable(c.linear) })
	}
	xs := c.scaleOf(lines, func(p chartPoint) float64 { return p.x })
	ys := c.scaleOf(lines, func(p chartPoint) float64 { return p.y })
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
	for _, tick := range xs.ticks() {
		x := px(tick)
		rule(x, chartTop, x, chartPlotBaseline)
		text(x, chartPlotBaseline+18, "middle", "", xs.name(tick))
	}
	for _, tick := range ys.ticks() {
		y := py(tick)
		rule(chartLeft, y, chartPlotRight, y)
		text(chartLeft-8, y+4, "end", "", ys.name(tick))
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
			// Rounded, t+gap-t may be less than the gap: a name that would not move has moved enough.
			if math.Abs(t-y) < chartNameGap && t+chartNameGap > y {
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

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var updateGolden = flag.Bool("update", false, "write testdata/*.svg instead of comparing")

// TestChart compares a chart with names to escape, names that would cover each other, and a line without points with the one that
// was looked at.
func TestChart(t *testing.T) {
	c := chart{title: `Search & "totals" <1 %`, x: "sessions", y: "median, ms", lines: []chartLine{
		{"Rollcall", []chartPoint{{1000, 0.05}, {10_000, 0.06}, {1_000_000, 0.2}}},
		{"none", nil},
		{"near", []chartPoint{{1000, 0.5}, {1_000_000, 0.21}}},
		{"PostgreSQL", []chartPoint{{1000, 0.9}, {10_000, 9}, {1_000_000, 900}}},
	}}
	got := c.svg()
	golden := filepath.Join("testdata", "chart.svg")
	if *updateGolden {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the chart differs from %s; look at it and run with -update:\n%s", golden, got)
	}
}

// TestChartIsAlwaysADocument: no numbers, and numbers that have no logarithm, must not end in NaN or broken XML.
func TestChartIsAlwaysADocument(t *testing.T) {
	for _, points := range [][]chartPoint{nil, {{1, 1}}, {{0, 1}}, {{1, 0}}, {{5, 5}, {5, 5}}, {{math.Inf(1), 1}}, {{math.NaN(), 1}}} {
		doc := slices.Concat([]byte("<both>"), chart{title: "x", lines: []chartLine{{"a", points}}}.svg(),
			chart{title: "x", linear: true, lines: []chartLine{{"a", points}}}.svg(), []byte("</both>"))
		for dec := xml.NewDecoder(bytes.NewReader(doc)); ; {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v: %v", points, err)
			}
		}
		if bytes.Contains(doc, []byte("NaN")) || bytes.Contains(doc, []byte("Inf")) {
			t.Errorf("%v: %s", points, doc)
		}
	}
}

func TestAxis(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   axis
	}{
		{[]float64{1000, 1_000_000}, axis{3, 6}}, {[]float64{1001, 999_999}, axis{3, 6}}, {[]float64{0.04, 0.2}, axis{-2, 0}},
		{[]float64{10}, axis{1, 2}}, {nil, axis{0, 1}},
	} {
		var points []chartPoint
		for _, v := range c.values {
			points = append(points, chartPoint{v, 1})
		}
		if got := axisOf([]chartLine{{"", points}}, func(p chartPoint) float64 { return p.x }); got != c.want {
			t.Errorf("%v: %v, want %v", c.values, got, c.want)
		}
	}
	for exponent, want := range map[int]string{-3: "0.001", -1: "0.1", 0: "1", 2: "100", 3: "1,000", 6: "1,000,000"} {
		if got := (axis{}).name(math.Pow10(exponent)); got != want {
			t.Errorf("10^%d is %q, want %q", exponent, got, want)
		}
	}
}

func TestEven(t *testing.T) {
	for _, c := range []struct {
		most  float64
		names []string
	}{
		{19_000, []string{"0", "5,000", "10,000", "15,000", "20,000"}}, {8, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8"}},
		{8.1, []string{"0", "2", "4", "6", "8", "10"}}, {0.3, []string{"0.00", "0.05", "0.10", "0.15", "0.20", "0.25", "0.30"}}, {0, []string{"0", "1"}},
	} {
		e := evenOf([]chartLine{{"", []chartPoint{{c.most, 1}}}}, func(p chartPoint) float64 { return p.x })
		var names []string
		for _, tick := range e.ticks() {
			names = append(names, e.name(tick))
		}
		if !slices.Equal(names, c.names) {
			t.Errorf("up to %g: %q, want %q", c.most, names, c.names)
		}
		if got := e.at(c.most); got < 0 || got > 1 {
			t.Errorf("%g lies at %g", c.most, got)
		}
	}
}

// TestLinearChartShowsZero: a point at zero has its place, and is the corner.
func TestLinearChartShowsZero(t *testing.T) {
	doc := chart{title: "x", linear: true, lines: []chartLine{{"a", []chartPoint{{0, 0}, {10, 10}}}}}.svg()
	if corner := fmt.Sprintf(`points="%d.0,%d.0 `, chartLeft, chartPlotBaseline); !bytes.Contains(doc, []byte(corner)) {
		t.Errorf("no line begins at %s:\n%s", corner, doc)
	}
}

// TestNamesStandClear: also where t + gap - t is a little less than the gap.
func TestNamesStandClear(t *testing.T) {
	for i := range 10_000 {
		at := float64(i) * 0.0371
		if y := clearOf([]float64{at, at + 1}, at); y < at+1+chartNameGap {
			t.Fatalf("names at %v and %v: the third stands at %v", at, at+1, y)
		}
	}
}

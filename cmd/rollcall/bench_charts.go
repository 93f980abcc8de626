package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// benchCharts are the charts of a result: a file each.
var benchCharts = []struct{ operation, title string }{
	{"listFirst", "First page of 50 with totals"},
	{"listRandom", "Any page of 50 with totals"},
	{"listDeep", "Page of 50 near the end, with totals"},
	{"searchRare", "Search with totals, few match"},
	{"searchTwo", "Search with totals, two characters"},
	{"searchOne", "Search with totals, one character"},
	{"searchCommon", "Search with totals, many match"},
	{"searchNothing", "Search with totals, nothing matches"},
}

// chartSystems are the lines, in the order of their colours.
var chartSystems = []struct{ system, name string }{
	{systemRollcall, "Rollcall"}, {systemSQLite, "SQLite"}, {systemPostgres, "PostgreSQL"},
}

// benchFile is where --charts leaves the numbers that it drew.
const benchFile = "bench.json"

// redraw draws the charts of an earlier result.
func (c benchCmd) redraw() error {
	data, err := os.ReadFile(c.From)
	if err != nil {
		return usagef("--from: %w", err)
	}
	var r benchResult
	if err := json.Unmarshal(data, &r); err != nil {
		return usagef("--from: %s is not a result of bench: %w", c.From, err)
	}
	if r.Growth != nil && len(r.Growth.Populations) > 0 {
		return drawIdle(c.Charts, &r)
	}
	if len(r.Sizes) == 0 {
		return usagef("--from: %s has nothing to draw: it is not a result of bench --rows or --populations", c.From)
	}
	return drawCharts(c.Charts, &r)
}

// drawCharts writes the result and its charts into the directory. An operation that was not measured has no chart.
func drawCharts(dir string, r *benchResult) error {
	charts := map[string]chart{}
	for _, kind := range benchCharts {
		c := chart{title: kind.title, x: "sessions in the application", y: "median, ms"}
		for _, s := range chartSystems {
			line := chartLine{name: s.name}
			for _, size := range r.Sizes {
				if op := size.Systems[s.system][kind.operation]; op != nil {
					line.points = append(line.points, chartPoint{float64(size.Rows), op.Latency.P50})
				}
			}
			c.lines = append(c.lines, line)
		}
		if len(c.lines[0].points) > 0 {
			charts[kind.operation+".svg"] = c
		}
	}
	return writeCharts(dir, benchFile, r, charts)
}

// writeCharts writes the numbers and what was drawn of them into the directory.
func writeCharts(dir, numbersFile string, r *benchResult, charts map[string]chart) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("--charts: %w", err)
	}
	var numbers bytes.Buffer
	if err := printJSON(&numbers, r); err != nil {
		return err
	}
	files := map[string][]byte{numbersFile: numbers.Bytes()}
	for name, c := range charts {
		files[name] = c.svg()
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil { //nolint:gosec // as above
			return fmt.Errorf("--charts: %w", err)
		}
	}
	return nil
}

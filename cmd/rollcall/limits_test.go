package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/rollcallhq/rollcall/internal/testkit"
)

// limitArgs parses flags of serve and returns their limits as the server gets them, by the names of their fields.
func limitArgs(t *testing.T, args ...string) map[string]any {
	t.Helper()
	var cmd serveCmd
	parser, err := kong.New(&cmd, flagDefaults)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Fatal(err)
	}
	cfg, err := cmd.config("", "info", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]any{}
	for _, limits := range []reflect.Value{reflect.ValueOf(cfg.Gateway), reflect.ValueOf(cfg.Manage)} {
		for i := range limits.NumField() {
			fields[limits.Type().Field(i).Name] = limits.Field(i).Interface()
		}
	}
	return fields
}

var upperCase = regexp.MustCompile(`\B[A-Z]`)

// flagOf returns the name of a field's flag, as kong makes it.
func flagOf(field string) string { return strings.ToLower(upperCase.ReplaceAllString(field, "-$0")) }

// documentedLimits returns the rows of docs/limits.md that have a flag: flag → default, and every name of a limit in the metrics.
func documentedLimits(t *testing.T) (defaults map[string]string, metrics []string) {
	t.Helper()
	doc, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	defaults = map[string]string{}
	name := regexp.MustCompile("^`([a-z-]+)`")
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		last := strings.TrimSuffix(cells[len(cells)-1], " |")
		if len(cells) < 4 {
			continue
		}
		if m := name.FindStringSubmatch(last); m != nil && !slices.Contains(metrics, m[1]) {
			metrics = append(metrics, m[1])
		}
		if flag, ok := strings.CutPrefix(cells[1], "`--"); ok {
			defaults[strings.TrimSuffix(flag, "`")] = cells[2]
		}
	}
	return defaults, metrics
}

// TestLimitFlags: every field of Limits has a flag of its name, which reaches it, and a line with its default in docs/limits.md.
func TestLimitFlags(t *testing.T) {
	defaults, _ := documentedLimits(t)
	unset := limitArgs(t)
	var flags []string
	for field, value := range unset {
		flag := flagOf(field)
		flags = append(flags, flag)
		said := fmt.Sprint(value)
		switch documented := defaults[flag]; {
		case said == "0" && (documented == "unlimited" || strings.HasPrefix(documented, "as many")):
		case documented != said:
			t.Errorf("--%s: the default is %s, docs/limits.md says %q", flag, said, documented)
		}
		want := "7777"
		if _, ok := value.(time.Duration); ok {
			want = "1h7m0s"
		}
		args := []string{"--" + flag + "=" + want}
		if field == "StreamPing" { // must stay below
			args = append(args, "--stream-idle=2h")
		}
		if got := fmt.Sprint(limitArgs(t, args...)[field]); got != want {
			t.Errorf("--%s=%s gives %s", flag, want, got)
		}
		for _, nonsense := range []string{"-1", "-1s", "x", "", "NaN", "1e99"} {
			var cmd serveCmd
			parser, err := kong.New(&cmd, flagDefaults)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse([]string{"--" + flag + "=" + nonsense}); err == nil || !strings.Contains(err.Error(), flag) {
				t.Errorf("--%s=%s: %v", flag, nonsense, err)
			}
		}
	}
	slices.Sort(flags)
	if documented := slices.Sorted(maps.Keys(defaults)); !slices.Equal(documented, flags) {
		t.Errorf("docs/limits.md has %v,\nthe flags are %v", documented, flags)
	}
}

// TestLimitMetrics: a node shows exactly the limits that docs/limits.md names.
func TestLimitMetrics(t *testing.T) {
	_, documented := documentedLimits(t)
	s := testkit.Start(t, testkit.Config{})
	resp, err := http.Get(s.Ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(documented)
	for _, series := range []string{"rollcall_limit", "rollcall_limit_refusals_total"} {
		var shown []string
		for _, m := range regexp.MustCompile(`(?m)^`+series+`\{limit="([^"]+)"\} `).FindAllStringSubmatch(string(body), -1) {
			shown = append(shown, m[1])
		}
		if slices.Sort(shown); !slices.Equal(shown, documented) {
			t.Errorf("%s has %v,\ndocs/limits.md names %v", series, shown, documented)
		}
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"

	"github.com/rollcallhq/rollcall/api"
)

// shown returns s, which anybody may have written, as a terminal shows it on one line of at most width columns.
func shown(s string, width int) string {
	if most := 8*width + 64; len(s) > most { // no more of it can be seen; the rest needs no work
		for !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most] + "…"
	}
	return ansi.Truncate(settled(printable(s, 0)), width, "…")
}

// settled escapes what terminals do not agree on the width of, such as an emoji with a skin tone, which is one wide rune or two, and
// what would join its neighbours. A line that is wider than we think would push what follows out of its column.
func settled(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		cluster, width := ansi.FirstGraphemeCluster(s, ansi.GraphemeWidth)
		if len(cluster) == 0 {
			break
		}
		alone := "x" + cluster + "x"
		if width == columnsOf(cluster) && width+2 == ansi.StringWidth(alone) && width+2 == ansi.StringWidthWc(alone) {
			b.WriteString(cluster)
		} else {
			for _, r := range cluster {
				b.WriteString(escaped(r))
			}
		}
		s = s[len(cluster):]
	}
	return b.String()
}

// cell returns s in exactly width columns.
func cell(s string, width int) string { return fit(shown(s, width), width) }

// fit cuts or pads a line, which may have styles, to exactly width columns.
func fit(line string, width int) string {
	line = ansi.Truncate(line, width, "…")
	return line + strings.Repeat(" ", max(0, width-ansi.StringWidth(line)))
}

// typedLine draws a line being typed in, scrolled so that the cursor is in view, and returns the cursor's column.
func typedLine(value string, cursor, width int) (string, int) {
	runes := []rune(value)
	before := settled(printable(string(runes[:cursor]), 0))
	column := ansi.StringWidth(before)
	if over := column - width + 1; over > 0 {
		before = ansi.TruncateLeft(before, over, "")
		column = ansi.StringWidth(before)
	}
	return ansi.Truncate(before+settled(printable(string(runes[cursor:]), 0)), width, ""), column
}

// ago returns a duration in the unit that tells most: "7 min".
func ago(d time.Duration) string {
	d = max(0, d) // clocks differ
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	default:
		return fmt.Sprintf("%d d", d/(24*time.Hour))
	}
}

// age is ago in a column of five.
func age(d time.Duration) string {
	return strings.NewReplacer(" min", "m", " ", "").Replace(ago(d))
}

// statusOf returns the derived status of a session with what it is derived from.
func statusOf(s api.Session, now time.Time) string {
	since := func(t *api.Timestamp) string {
		if t == nil {
			return "some time"
		}
		return ago(now.Sub(api.Millis(*t).Time()))
	}
	status := string(s.DerivedStatus)
	switch s.DerivedStatus {
	case api.DerivedActive:
		return status + ": last activity " + since(s.LastActiveAt) + " ago"
	case api.DerivedIdle:
		return status + ": no activity for " + since(s.LastActiveAt)
	case api.DerivedExpired:
		return status + ": its token ran out " + since(s.TokenExpiresAt) + " ago"
	case api.DerivedDisconnected:
		status += " " + since(s.DisconnectedAt) + " ago"
		d := s.Details
		if d != nil && d.EndReason != "" && d.EndReason != api.EndDisconnected {
			status += ": " + string(d.EndReason)
		}
		if d != nil && d.EndedBy != "" {
			status += " by " + d.EndedBy
		}
	}
	return status
}

// partialOf returns what a totals message says is missing.
func partialOf(raw []byte) string {
	var t api.TotalsMessage
	_ = json.Unmarshal(raw, &t) // the page has judged it
	return t.Partial
}

// subjectOf returns whose row a message is about.
func subjectOf(raw []byte) api.ServerID {
	var m struct {
		ServerID api.ServerID
		Row      api.Row
	}
	_ = json.Unmarshal(raw, &m) // the page has judged it
	if m.ServerID == "" {
		return m.Row.ServerID
	}
	return m.ServerID
}

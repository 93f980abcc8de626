package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/rollcallhq/rollcall/api"
)

// column is a column of the table. Columns come in by rank while there is room for least, and for spare in those before it; they
// share what is left up to most.
type column struct {
	head               string
	rank               int
	least, spare, most int
	value              func(r api.Row, now time.Time) string
}

var columns = []column{
	{"LOGIN", 1, 16, 0, 40, func(r api.Row, _ time.Time) string { return text(r.Login) }},
	{"LICENSE", 3, 12, 0, 36, func(r api.Row, _ time.Time) string { return text(r.License) }},
	{"CLIENT", 4, 12, 0, 36, func(r api.Row, _ time.Time) string { return r.ClientID }},
	{"ADDRESS", 5, 15, 0, 39, func(r api.Row, _ time.Time) string { return r.IPAddress }},
	{"NODE", 6, 10, 30, 20, func(r api.Row, _ time.Time) string { node, _, _ := r.ServerID.Split(); return node }},
	{"AGE", 2, 5, 0, 5, func(r api.Row, now time.Time) string { return age(now.Sub(r.CreatedAt.Time())) }},
}

const (
	gutter = 2 // the mark of a line
	gap    = 2 // between columns
)

// widths shares out a width; a column that does not fit has none. It depends on nothing but the width: columns do not move as
// rows come and go.
func widths(width int) []int {
	w := make([]int, len(columns))
	room := width - gutter + gap
	for rank := 1; rank <= len(columns); rank++ {
		for i, c := range columns {
			if c.rank == rank && c.least+gap+c.spare <= room {
				w[i] = c.least
				room -= c.least + gap
			}
		}
	}
	for grown := true; grown && room > 0; {
		grown = false
		for i, c := range columns {
			if w[i] > 0 && w[i] < c.most && room > 0 {
				w[i]++
				room--
				grown = true
			}
		}
	}
	return w
}

// table draws the head and the rows; when there are more rows than lines, those around the selected one.
func (d *desk) table(width, height int) []string {
	w := widths(width)
	head := make([]string, len(columns))
	for i, c := range columns {
		head[i] = c.head
	}
	lines := []string{d.styles.head.Render(fit("  "+joined(head, w), width))}
	rows := height - 1
	first := max(0, min(d.line-rows/2, len(d.page.Items)-rows))
	for i := first; i < min(first+rows, len(d.page.Items)); i++ {
		lines = append(lines, d.row(d.page.Items[i], w, width))
	}
	if d.shown && len(d.page.Items) == 0 {
		none := "no session is live; one appears here as soon as it connects"
		if d.query.Search != "" {
			none = "no live session matches"
		}
		lines = append(lines, d.styles.faint.Render("  "+none))
	}
	return d.fill(lines, height, width)
}

func joined(cells []string, w []int) string {
	var parts []string
	for i, c := range cells {
		if w[i] > 0 {
			parts = append(parts, cell(c, w[i]))
		}
	}
	return strings.Join(parts, strings.Repeat(" ", gap))
}

func (d *desk) row(r api.Row, w []int, width int) string {
	now := d.now()
	cells := make([]string, len(columns))
	for i, c := range columns {
		if w[i] > 0 {
			if cells[i] = c.value(r, now); cells[i] == "" {
				cells[i] = "-"
			}
		}
	}
	sign, style := "  ", d.styles.faint.UnsetForeground()
	switch d.marks[r.ServerID].kind {
	case api.TypeAdded:
		sign, style = "+ ", d.styles.good
	case api.TypeUpdated:
		sign, style = "~ ", d.styles.warn
	}
	if r.ServerID == d.selected {
		sign, style = "▸"+sign[:1], d.styles.selected
	}
	return style.Render(fit(sign+joined(cells, w), width))
}

// pane draws the details of the selected session.
func (d *desk) pane(width, height int) []string {
	head := d.styles.head.Render(fit("DETAILS", width))
	switch {
	case d.selected == "":
		return []string{head, d.styles.faint.Render("no session is selected")}
	case d.details.id != d.selected:
		return []string{head, d.styles.faint.Render("reading…")}
	case d.details.err != nil:
		return []string{head, d.styles.bad.Render(shown("! "+d.details.err.Error(), width))}
	}
	lines := d.fields(width)
	room := height - 1
	d.details.scroll = max(0, min(d.details.scroll, len(lines)-room))
	hidden := len(lines) > room
	lines = lines[d.details.scroll:min(len(lines), d.details.scroll+room)]
	if hidden {
		head = d.styles.head.Render("DETAILS") + d.styles.faint.Render("  J K scroll")
	}
	return append([]string{head}, lines...)
}

const (
	labelWidth = 16
	// mostLines is how many lines of the pane a value may take.
	mostLines = 6
)

func (d *desk) fields(width int) []string {
	s, now := d.details.session, d.now()
	fields := [][2]string{{"status", statusOf(s, now)}}
	for _, f := range sessionFields(s) {
		switch f[0] {
		case "status", "derivedStatus", "clientInfo", "endReason", "endedBy":
			continue
		}
		fields = append(fields, f)
	}
	var tree bytes.Buffer
	if len(s.ClientInfo) > 0 && string(s.ClientInfo) != "null" && json.Indent(&tree, s.ClientInfo, "", "  ") == nil {
		for i, line := range strings.Split(tree.String(), "\n") {
			label := ""
			if i == 0 {
				label = "clientInfo"
			}
			fields = append(fields, [2]string{label, line})
		}
	}
	room := max(8, width-labelWidth)
	var lines []string
	for _, f := range fields {
		label := f[0]
		parts := strings.SplitSeq(ansi.Wrap(shown(f[1], room*mostLines), room, ""), "\n")
		for part := range parts {
			lines = append(lines, d.styles.faint.Render(fit(label, labelWidth))+part)
			label = ""
		}
	}
	return lines
}

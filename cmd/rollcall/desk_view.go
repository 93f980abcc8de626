package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/rollcallhq/rollcall/api"
)

const (
	// above and below are the lines around the table: title, counts, search and head; notice and footer.
	above, below = 4, 2
	// A window smaller than this shows its state alone.
	minWidth, minHeight = 24, above + below + 2
	// sideBySide is how wide a window shows the details beside the table, not instead of it.
	sideBySide = 110
)

// pageSizeFor returns how many rows a window of that height shows.
func pageSizeFor(height int) int { return max(1, min(height-above-below, api.MaxPageSize)) }

// styles are colours for a light or a dark background. A terminal with fewer colours gets the nearest, and with NO_COLOR none: what
// a colour says is said in text as well.
type styles struct {
	title, head, faint, good, warn, bad, key, selected lipgloss.Style
}

func newStyles(dark bool) styles {
	pick := lipgloss.LightDark(dark)
	colour := func(light, onDark string) lipgloss.Style {
		return lipgloss.NewStyle().Foreground(pick(lipgloss.Color(light), lipgloss.Color(onDark)))
	}
	return styles{
		title: colour("24", "81").Bold(true),
		head:  colour("240", "248").Bold(true),
		faint: colour("242", "246"),
		good:  colour("28", "78"),
		warn:  colour("130", "214").Bold(true),
		bad:   colour("160", "210").Bold(true),
		key:   colour("24", "81"),
		selected: lipgloss.NewStyle().Bold(true).Background(pick(lipgloss.Color("189"), lipgloss.Color("24"))).
			Foreground(pick(lipgloss.Color("16"), lipgloss.Color("231"))),
	}
}

// View draws the window.
func (d *desk) View() tea.View {
	lines, cursor := d.draw()
	v := tea.NewView(strings.Join(lines, "\n"))
	v.AltScreen, v.Cursor = true, cursor
	v.WindowTitle = "rollcall sessions watch " + printable(d.query.Application, 40)
	return v
}

// draw returns exactly height lines of exactly width columns, and where the cursor is, if it shows.
func (d *desk) draw() (lines []string, cursor *tea.Cursor) {
	if d.width < minWidth || d.height < minHeight {
		lines = []string{d.state(), fmt.Sprintf("%d live, %d match", d.page.Total, d.page.FilteredTotal), "a larger window shows more"}
		return d.fill(lines[:min(len(lines), max(0, d.height))], d.height, d.width), nil
	}
	search, column := d.searchLine()
	lines = append(lines, d.titleLine(), d.countsLine(), search)
	body, bodyCursor := d.body(d.height - above - below + 1) // with the head
	lines = append(lines, body...)
	lines = append(lines, d.noticeLine(), d.footer())
	switch {
	case d.mode == modeSearch:
		cursor = tea.NewCursor(column, 2)
	case bodyCursor != nil:
		cursor = tea.NewCursor(bodyCursor.X, bodyCursor.Y+3)
	}
	return d.fill(lines, d.height, d.width), cursor
}

// fill makes lines exactly that many, each exactly that wide.
func (d *desk) fill(lines []string, height, width int) []string {
	for len(lines) < height {
		lines = append(lines, "")
	}
	for i, line := range lines {
		lines[i] = fit(line, width)
	}
	return lines
}

// ends puts one text at each end of a line; the left one gives way.
func (d *desk) ends(left, right string) string {
	room := d.width - ansi.StringWidth(right) - 1
	if room < 8 {
		return fit(left, d.width)
	}
	return fit(left, room) + " " + right
}

// state says whether what is shown is true now.
func (d *desk) state() string {
	switch {
	case d.down != nil:
		return d.styles.bad.Render("◌ reconnecting")
	case d.partial != "":
		return d.styles.warn.Render("◐ partial")
	case !d.shown:
		return d.styles.faint.Render("◌ connecting")
	default:
		return d.styles.good.Render("● live")
	}
}

func (d *desk) titleLine() string {
	return d.ends(d.styles.title.Render("Rollcall")+" "+shown(d.query.Application, 36)+d.styles.faint.Render(" · "+shown(d.url, d.width)), d.state())
}

func (d *desk) countsLine() string {
	last := "no connection yet"
	if at := d.page.LastConnectionTime; at != 0 {
		last = "last connection " + ago(d.now().Sub(at.Time())) + " ago"
	}
	var parts []string
	for i, n := range []int{d.page.Total, d.page.FilteredTotal, d.page.AuthorizedSessionCount} {
		parts = append(parts, d.styles.title.Render(strconv.Itoa(n))+[]string{" live", " match", " authorized"}[i])
	}
	return strings.Join(parts, d.styles.faint.Render(" · ")) + d.styles.faint.Render(" · "+last)
}

// searchLine draws the search with its categories, and returns the cursor's column.
func (d *desk) searchLine() (string, int) {
	var on strings.Builder
	for i, c := range categories {
		if slices.Contains(d.query.Categories, c) {
			on.WriteString(" " + d.styles.key.Bold(true).Render(fmt.Sprintf("[%d %s]", i+1, c)))
		} else {
			on.WriteString(d.styles.faint.Render(fmt.Sprintf("  %d %s ", i+1, c)))
		}
	}
	right := on.String()
	if d.width < 60 { // the names do not fit: numbers do
		var short []string
		for i, c := range categories {
			if slices.Contains(d.query.Categories, c) {
				short = append(short, strconv.Itoa(i+1))
			}
		}
		right = d.styles.faint.Render("in " + strings.Join(short, ","))
	}
	prompt := d.styles.key.Render("/ ")
	if d.mode != modeSearch && d.search.Value() == "" {
		return d.ends(prompt+d.styles.faint.Render("search with /"), right), 2
	}
	room := max(8, d.width-ansi.StringWidth(right)-4)
	text, column := typedLine(d.search.Value(), d.search.Position(), room)
	return d.ends(prompt+text, right), 2 + column
}

func (d *desk) noticeLine() string {
	switch {
	case d.notice.text != "" && d.notice.bad:
		return d.styles.bad.Render("! " + shown(d.notice.text, d.width-2))
	case d.notice.text != "":
		return shown(d.notice.text, d.width)
	case d.down != nil:
		return d.styles.bad.Render(shown("! this is an old page: "+d.down.Error(), d.width))
	case d.partial != "":
		return d.styles.warn.Render(shown("! the view is partial: "+d.partial+" are missing", d.width))
	case d.shown && d.selected != "" && d.at(d.selected) < 0 && len(d.page.Items) > 0:
		return d.styles.faint.Render(shown("the selected session has left this page", d.width))
	default:
		return ""
	}
}

// footer shows the page and as many keys as fit.
func (d *desk) footer() string {
	switch d.mode {
	case modeSearch:
		return d.hints([][2]string{{"enter", "keep"}, {"esc", "clear"}, {"alt+1 2 3", "where"}}, "")
	case modeConfirm:
		return d.hints([][2]string{{"enter", "disconnect"}, {"esc", "keep it"}}, "")
	case modeHelp:
		return d.hints([][2]string{{"any key", "back"}}, "")
	default:
		var keys [][2]string
		for _, k := range keyHelp {
			keys = append(keys, [2]string{k.keys, k.short})
		}
		place := fmt.Sprintf("page %d/%d", d.page.Page, d.pages())
		if d.pending > 0 {
			place += "…"
		}
		return d.hints(keys, place)
	}
}

func (d *desk) hints(keys [][2]string, line string) string {
	for _, k := range keys {
		gap := ""
		if line != "" {
			gap = "  "
		}
		if ansi.StringWidth(line+gap+k[0]+" "+k[1]) > d.width {
			break
		}
		line += gap + d.styles.key.Render(k[0]) + " " + d.styles.faint.Render(k[1])
	}
	return line
}

// body draws what is between the search and the notice.
func (d *desk) body(height int) ([]string, *tea.Cursor) {
	switch d.mode {
	case modeHelp:
		return d.fill(d.help(height), height, d.width), nil
	case modeConfirm:
		dialog, cursor := d.dialog()
		table := height - len(dialog)
		if table < 2 { // a head without rows says nothing
			table = 0
		}
		lines := d.fill(d.main(table), table, d.width)
		cursor.Y += table
		return d.fill(append(lines, dialog...), height, d.width)[:height], cursor
	default:
		return d.main(height), nil
	}
}

// main draws the table, the details, or both.
func (d *desk) main(height int) []string {
	switch {
	case height <= 0:
		return nil
	case !d.details.open:
		return d.table(d.width, height)
	case d.width < sideBySide:
		return d.fill(d.pane(d.width, height), height, d.width)
	}
	right := max(48, d.width*2/5)
	left := d.width - right - 3
	table, pane := d.table(left, height), d.fill(d.pane(right, height), height, right)
	for i := range table {
		table[i] += d.styles.faint.Render(" │ ") + pane[i]
	}
	return table
}

func (d *desk) help(height int) []string {
	longest := 0
	for _, k := range keyHelp {
		longest = max(longest, ansi.StringWidth(k.keys))
	}
	columns := (len(keyHelp) + height - 1) / height
	rows := (len(keyHelp) + columns - 1) / columns
	width := d.width / columns
	lines := make([]string, rows)
	for i, k := range keyHelp {
		what := k.long
		if longest+4+ansi.StringWidth(what) > width {
			what = k.short
		}
		lines[i%rows] += fit(" "+d.styles.key.Render(fit(k.keys, longest))+"  "+what, width)
	}
	return lines
}

// dialog asks whether to end the session that was chosen; the cursor is in the reason.
func (d *desk) dialog() ([]string, *tea.Cursor) {
	r := d.confirm.row
	title := "Disconnect this session?"
	if d.at(r.ServerID) < 0 {
		title += " It has left this page."
	}
	lines := []string{d.styles.bad.Render(strings.Repeat("─", 2) + " " + title + " " + strings.Repeat("─", max(0, d.width-len(title)-4)))}
	who := text(r.Login)
	if who == "" {
		who = "no login"
	}
	licensed := text(r.License)
	if licensed == "" {
		licensed = "no license"
	}
	for _, f := range [][2]string{{"login", who}, {"license", licensed}, {"client", r.ClientID + "  " + r.IPAddress}} {
		lines = append(lines, d.styles.faint.Render(fit(" "+f[0], 10))+shown(f[1], max(1, d.width-11)))
	}
	value, column := typedLine(d.confirm.reason.Value(), d.confirm.reason.Position(), max(1, d.width-12))
	if value == "" {
		value = d.styles.faint.Render("optional; the client is shown it")
	}
	lines = append(lines, d.styles.key.Render(fit(" reason", 10))+value)
	return lines, tea.NewCursor(10+column, len(lines)-1)
}

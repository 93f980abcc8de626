package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

const (
	// settleAfter is how long typing and resizing must rest before the stream is moved.
	settleAfter = 150 * time.Millisecond
	// markedFor is how long a row shows that it is new or has changed, noticedFor how long a notice stands.
	markedFor  = 2 * time.Second
	noticedFor = 6 * time.Second
	// detailsAge is when shown details are read again: activity does not come by the stream.
	detailsAge = 3 * time.Second
)

// mode is what keys mean at the moment.
type mode string

const (
	modeTable   mode = "table"
	modeSearch  mode = "search"
	modeConfirm mode = "confirm"
	modeHelp    mode = "help"
)

// desk is the full-screen table of `sessions watch`: a model of Bubble Tea, whose program calls Update and View from one
// goroutine, and runs what Update returns in others.
//
// Nothing is ever done to a session that the operator did not choose: the selection is a session, not a line. It moves with its
// row; when the row has gone nothing is selected, until a key says what.
type desk struct {
	ctx  context.Context
	feed feed
	url  string
	now  func() time.Time

	width, height int
	fixedSize     bool // the page size was given, and does not follow the window
	mode          mode
	styles        styles

	query   client.Query // what the operator wants to see
	page    client.Page  // what there is to see
	shown   bool         // there was a page
	partial string       // what the page lacks: "nodes"
	down    error        // why the page is an old one
	failed  error        // why there will be no other; ends the program

	settling int  // counts what settle was asked for; only the last counts
	asking   bool // a query is being sent
	again    bool // another is to follow it
	pending  int  // queries that no fresh page has answered

	selected api.ServerID
	line     int // where the selected row is, or was
	marks    map[api.ServerID]mark

	details details
	confirm confirm
	search  textinput.Model
	notice  notice
}

// mark is what happened to a row of late.
type mark struct {
	kind string // api.TypeAdded or api.TypeUpdated
	at   time.Time
}

type notice struct {
	text string
	bad  bool
	at   time.Time
}

// confirm is the session about to be disconnected, as it was when it was chosen.
type confirm struct {
	row    api.Row
	reason textinput.Model
}

// details is the pane of the selected session.
type details struct {
	open     bool
	fetching bool
	id       api.ServerID // whose session is; "" = nobody's yet
	session  api.Session
	err      error
	at       time.Time
	scroll   int
}

// What the commands of a desk report.
type (
	stepMsg   client.Step
	failedMsg struct{ err error }
	settleMsg int
	askedMsg  struct{ err error }
	tickMsg   struct{}
	readMsg   struct {
		id      api.ServerID
		session api.Session
		err     error
	}
	endedMsg struct {
		row   api.Row
		count int
		err   error
	}
)

func newDesk(ctx context.Context, f feed, url string, q client.Query) *desk {
	if len(q.Categories) == 0 {
		q.Categories = []api.Category{api.CategoryLicense}
	}
	d := &desk{ctx: ctx, feed: f, url: url, now: time.Now, mode: modeTable, styles: newStyles(true), query: q,
		marks: map[api.ServerID]mark{}, search: newInput(api.MaxSearch)}
	d.search.SetValue(q.Search)
	return d
}

// newInput returns a line to type in. It is drawn by the desk, which knows what a terminal must not be shown.
func newInput(limit int) textinput.Model {
	t := textinput.New()
	t.CharLimit = limit
	t.SetVirtualCursor(false)
	t.KeyMap.Paste.SetEnabled(false) // of the server's own clipboard; the terminal's comes as a paste
	return t
}

// Init starts what goes on for as long as the program does.
func (d *desk) Init() tea.Cmd {
	return tea.Batch(d.next, tick(), tea.RequestBackgroundColor)
}

func (d *desk) next() tea.Msg {
	step, err := d.feed.Next(d.ctx)
	if err != nil {
		return failedMsg{unlessDone(d.ctx, err)}
	}
	return stepMsg(step)
}

func tick() tea.Cmd { return tea.Tick(time.Second, func(time.Time) tea.Msg { return tickMsg{} }) }

// Update is called with everything that happens.
func (d *desk) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case stepMsg:
		return d, tea.Batch(d.next, d.step(client.Step(msg)))
	case failedMsg:
		d.failed = msg.err
		return d, tea.Quit
	case tea.WindowSizeMsg:
		return d, d.resize(msg.Width, msg.Height)
	case tea.BackgroundColorMsg:
		d.styles = newStyles(msg.IsDark())
	case tea.KeyPressMsg:
		return d, d.key(msg)
	case tea.PasteMsg:
		return d, d.typed(tea.PasteMsg{Content: typable(msg.Content)})
	case settleMsg:
		if int(msg) == d.settling {
			return d, d.ask()
		}
	case askedMsg:
		return d, d.asked(msg.err)
	case tickMsg:
		return d, tea.Batch(tick(), d.tick())
	case readMsg:
		return d, d.read(msg)
	case endedMsg:
		d.ended(msg)
		return d, d.fetch()
	}
	return d, nil
}

// typable drops from pasted text what a line cannot show.
func typable(s string) string {
	return strings.Map(func(r rune) rune {
		if safeRune(r) {
			return r
		}
		return -1
	}, s)
}

func (d *desk) tick() tea.Cmd {
	now := d.now()
	for id, m := range d.marks {
		if now.Sub(m.at) >= markedFor {
			delete(d.marks, id)
		}
	}
	if now.Sub(d.notice.at) >= noticedFor {
		d.notice = notice{}
	}
	if d.down = d.feed.Down(); d.down != nil {
		d.pending = min(d.pending, 1) // one fresh page answers all that were asked
	}
	if now.Sub(d.details.at) >= detailsAge {
		return d.fetch()
	}
	return nil
}

func (d *desk) say(bad bool, format string, args ...any) {
	d.notice = notice{fmt.Sprintf(format, args...), bad, d.now()}
}

// step shows a page after its messages.
func (d *desk) step(s client.Step) tea.Cmd {
	now, touched := d.now(), false
	for _, msg := range s.Messages {
		switch msg.Type {
		case api.TypeInit:
			d.partial, d.down = "", nil
			clear(d.marks)
		case api.TypeTotals:
			d.partial = partialOf(msg.Raw)
		case api.TypeAdded, api.TypeUpdated, api.TypeRemoved:
			id := subjectOf(msg.Raw)
			touched = touched || id == d.selected
			if msg.Type == api.TypeRemoved {
				delete(d.marks, id)
				continue
			}
			d.marks[id] = mark{msg.Type, now}
		}
	}
	fresh := !d.shown || slices.ContainsFunc(s.Messages, func(m client.Message) bool { return m.Type == api.TypeInit }) && d.pending > 0
	if s.Refused != nil {
		d.pending = max(0, d.pending-1)
		d.say(true, "%s", s.Refused.Message)
	}
	if fresh && d.shown {
		d.pending--
	}
	d.page, d.shown = s.Page, true
	d.follow(fresh)
	touched = touched || d.details.id != d.selected
	if pages := d.pages(); d.query.Page > pages && d.pending == 0 && !d.asking {
		d.query.Page = pages // the page's last rows have gone
		return d.ask()
	}
	if touched {
		return d.fetch()
	}
	return nil
}

// follow finds the selected session's line on the page that has come. On another page than before, or with nobody chosen yet, it
// selects the first.
func (d *desk) follow(fresh bool) {
	if i := d.at(d.selected); i >= 0 {
		d.line = i
		return
	}
	if (fresh || d.selected == "") && len(d.page.Items) > 0 {
		d.line, d.selected = 0, d.page.Items[0].ServerID
		return
	}
	d.line = max(0, min(d.line, len(d.page.Items)-1))
}

func (d *desk) at(id api.ServerID) int {
	return slices.IndexFunc(d.page.Items, func(r api.Row) bool { return r.ServerID == id })
}

// chosen returns the selected row, if it is on the page.
func (d *desk) chosen() (api.Row, bool) {
	if i := d.at(d.selected); i >= 0 {
		return d.page.Items[i], true
	}
	return api.Row{}, false
}

// pick selects another line: by lines from the selected one, or from where it was.
func (d *desk) pick(by int) tea.Cmd {
	if len(d.page.Items) == 0 {
		return nil
	}
	at := d.line + by
	if d.at(d.selected) < 0 {
		at = d.line // what has come to where it was
	}
	d.line = max(0, min(at, len(d.page.Items)-1))
	d.selected, d.details.scroll = d.page.Items[d.line].ServerID, 0
	return d.fetch()
}

func (d *desk) pages() int {
	size := max(1, d.page.PageSize)
	return max(1, (d.page.FilteredTotal+size-1)/size)
}

// turn shows another page.
func (d *desk) turn(to int) tea.Cmd {
	to = max(1, min(to, d.pages()))
	if to == d.query.Page {
		return nil
	}
	d.query.Page = to
	return d.ask()
}

// ask moves the stream to the query, one message at a time: the last one must be the last to arrive.
func (d *desk) ask() tea.Cmd {
	d.settling++ // what waits to settle is asked for now
	if d.asking {
		d.again = true
		return nil
	}
	d.asking = true
	d.pending++
	q := d.query
	q.Categories = slices.Clone(q.Categories)
	return func() tea.Msg { return askedMsg{d.feed.Query(d.ctx, q)} }
}

func (d *desk) asked(err error) tea.Cmd {
	d.asking = false
	if err != nil {
		d.pending = max(0, d.pending-1)
		d.say(true, "%v", err)
	}
	if d.again {
		d.again = false
		return d.ask()
	}
	return nil
}

// settle asks once nothing has been typed for a while.
func (d *desk) settle() tea.Cmd {
	d.settling++
	n := d.settling
	return tea.Tick(settleAfter, func(time.Time) tea.Msg { return settleMsg(n) })
}

// resize makes the page as long as the window, and keeps its first row on it.
func (d *desk) resize(width, height int) tea.Cmd {
	d.width, d.height = width, height
	size := pageSizeFor(height)
	if d.fixedSize || size == d.query.PageSize {
		return nil
	}
	d.query.Page = (d.query.Page-1)*d.query.PageSize/size + 1
	d.query.PageSize = size
	return d.settle()
}

// fetch reads the selected session for the pane of details; one call at a time, so that a held arrow key makes few.
func (d *desk) fetch() tea.Cmd {
	id := d.selected
	_, session, ok := id.Split()
	if !d.details.open || d.details.fetching || !ok {
		return nil
	}
	d.details.fetching = true
	return func() tea.Msg {
		s, err := d.feed.Session(d.ctx, session)
		return readMsg{id, s, err}
	}
}

func (d *desk) read(msg readMsg) tea.Cmd {
	d.details.fetching = false
	if msg.id != d.selected {
		return d.fetch()
	}
	d.details.id, d.details.session, d.details.err, d.details.at = msg.id, msg.session, msg.err, d.now()
	return nil
}

// disconnect ends the confirmed session.
func (d *desk) disconnect() tea.Cmd {
	row, reason := d.confirm.row, strings.TrimSpace(d.confirm.reason.Value())
	_, id, ok := row.ServerID.Split()
	d.mode = modeTable
	if !ok {
		d.say(true, "the server names this session in a way that this version does not know")
		return nil
	}
	d.say(false, "disconnecting %s…", nameOf(row))
	return func() tea.Msg {
		n, err := d.feed.Disconnect(d.ctx, id, reason)
		return endedMsg{row, n, err}
	}
}

func (d *desk) ended(msg endedMsg) {
	switch {
	case api.CodeOf(msg.err) == api.CodeSessionNotFound, msg.err == nil && msg.count == 0:
		d.say(false, "%s had already ended", nameOf(msg.row))
	case msg.err != nil:
		d.say(true, "%s was not disconnected: %v", nameOf(msg.row), msg.err)
	default:
		d.say(false, "%s was disconnected", nameOf(msg.row))
	}
}

// nameOf returns what a person would call the session.
func nameOf(r api.Row) string {
	for _, name := range []*string{r.Login, r.License} {
		if name != nil && *name != "" {
			return *name
		}
	}
	return r.ClientID
}

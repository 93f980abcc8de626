package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// fakeFeed notes what a desk asks for.
type fakeFeed struct {
	queries []client.Query
	read    []api.SessionID
	ended   []string // id and reason
	down    error
	count   int
	err     error // of Session and Disconnect
	session api.Session
}

var errQuiet = errors.New("nothing has come")

func (f *fakeFeed) Next(context.Context) (client.Step, error) { return client.Step{}, errQuiet }

func (f *fakeFeed) Query(_ context.Context, q client.Query) error {
	f.queries = append(f.queries, q)
	return nil
}

func (f *fakeFeed) Down() error { return f.down }

func (f *fakeFeed) Session(_ context.Context, id api.SessionID) (api.Session, error) {
	f.read = append(f.read, id)
	s := f.session
	s.ID = id
	return s, f.err
}

func (f *fakeFeed) Disconnect(_ context.Context, id api.SessionID, reason string) (int, error) {
	f.ended = append(f.ended, id.String()+" "+reason)
	return f.count, f.err
}

// deskTest is a desk whose commands run as soon as they are returned; in a bubble of synctest, timers as well.
type deskTest struct {
	*desk
	feed *fakeFeed
	page client.Page
	held []tea.Cmd // commands not run, while hold is set
	hold bool
}

func newDeskTest(t testing.TB, width, height int) *deskTest {
	f := &fakeFeed{count: 1}
	d := newDesk(t.Context(), f, "http://rollcall.test", client.Query{Application: "123456789", Page: 1, PageSize: pageSizeFor(height), Totals: true})
	d.width, d.height = width, height
	return &deskTest{desk: d, feed: f}
}

func (h *deskTest) do(msg tea.Msg) {
	_, cmd := h.Update(msg)
	h.run(cmd)
}

func (h *deskTest) run(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	if h.hold {
		h.held = append(h.held, cmd)
		return
	}
	switch msg := cmd().(type) {
	case tea.BatchMsg:
		for _, c := range msg {
			h.run(c)
		}
	case nil, tickMsg, failedMsg: // they come for ever
	default:
		h.do(msg)
	}
}

// release runs what was held.
func (h *deskTest) release() {
	h.hold = false
	held := h.held
	h.held = nil
	for _, cmd := range held {
		h.run(cmd)
	}
}

// press presses keys, by their names; a longer word that is no key is typed.
func (h *deskTest) press(keys ...string) {
	named := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "up": tea.KeyUp, "down": tea.KeyDown, "left": tea.KeyLeft,
		"right": tea.KeyRight, "home": tea.KeyHome, "end": tea.KeyEnd, "backspace": tea.KeyBackspace, "delete": tea.KeyDelete, "tab": tea.KeyTab}
	for _, key := range keys {
		if code, ok := named[key]; ok {
			h.do(tea.KeyPressMsg{Code: code})
			continue
		}
		if n, ok := strings.CutPrefix(key, "alt+"); ok {
			h.do(tea.KeyPressMsg{Code: rune(n[0]), Mod: tea.ModAlt})
			continue
		}
		for _, r := range key {
			h.do(tea.KeyPressMsg{Code: r, Text: string(r)})
		}
	}
}

// comes lets messages come by the stream as one step.
func (h *deskTest) comes(t testing.TB, raw ...string) {
	t.Helper()
	step := client.Step{}
	for _, r := range raw {
		m := client.Message{Raw: json.RawMessage(r)}
		if err := json.Unmarshal(m.Raw, &m); err != nil {
			t.Fatal(err)
		}
		if err := h.page.Apply(m.Raw); err != nil {
			t.Fatal(err)
		}
		step.Messages = append(step.Messages, m)
	}
	step.Page = h.page.Clone()
	h.do(stepMsg(step))
}

// serverID returns the id of the nth session to connect.
func serverID(n int) api.ServerID {
	return api.ServerID(fmt.Sprintf("srv-01:00000000-0000-7000-8000-%012d", n))
}

func sessionOf(n int) string {
	_, id, _ := serverID(n).Split()
	return id.String()
}

func rowOf(n int) api.Row {
	login := fmt.Sprintf("user-%d@example.com", n)
	return api.Row{ServerID: serverID(n), IPAddress: "203.0.113.10", CreatedAt: api.Millis(1778585700000 + n), ClientID: fmt.Sprintf("client-%03d", n), Login: &login}
}

func encoded(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// initFor is an init of a page with these sessions, of total that match.
func initFor(page, size, total int, sessions ...int) string {
	slices.Sort(sessions)
	slices.Reverse(sessions)
	m := api.Init{Type: api.TypeInit, Success: true, View: api.View{Page: page, PageSize: size, Items: []api.Row{},
		Counts: api.Counts{Total: total, FilteredTotal: total, AuthorizedSessionCount: total}}}
	for _, n := range sessions {
		m.Items = append(m.Items, rowOf(n))
	}
	return encoded(m)
}

func added(n int) string { return encoded(api.RowMessage{Type: api.TypeAdded, Row: rowOf(n)}) }

func removed(n int) string {
	return encoded(api.RemovedMessage{Type: api.TypeRemoved, ServerID: serverID(n)})
}

func (h *deskTest) screen() string {
	lines, _ := h.draw()
	return ansi.Strip(strings.Join(lines, "\n"))
}

func (h *deskTest) shows(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if absent, not := strings.CutPrefix(text, "not "); strings.Contains(h.screen(), absent) == not {
			t.Errorf("the screen does not show %q:\n%s", text, h.screen())
		}
	}
}

// TestDeskSelectsASession holds that the selection is a session: rows come and go around it, and when it has gone nothing else is in
// its place.
func TestDeskSelectsASession(t *testing.T) {
	h := newDeskTest(t, 80, 24)
	h.comes(t, initFor(1, 18, 3, 1, 2, 3))
	if h.selected != serverID(3) {
		t.Fatalf("selected %s at first", h.selected)
	}
	h.press("down")
	h.comes(t, added(4), added(5), removed(3))
	if h.selected != serverID(2) || h.line != 2 {
		t.Errorf("rows came and went: selected %s in line %d", h.selected, h.line)
	}
	h.shows(t, "▸ user-2@", "+ user-5@")
	h.comes(t, removed(2))
	if _, ok := h.chosen(); ok {
		t.Error("the selected session has gone, and another is in its place")
	}
	h.shows(t, "not ▸", "the selected session has left this page")
	h.press("d", "y")
	if h.mode != modeTable || len(h.feed.ended) > 0 {
		t.Errorf("nothing is selected, and %s is asked about, %v ended", h.confirm.row.ServerID, h.feed.ended)
	}
	h.shows(t, "! choose a session first")
	h.comes(t, added(2)) // slides back
	h.shows(t, "▸+user-2@")
	h.comes(t, removed(2))
	h.press("down")
	if h.selected != serverID(1) {
		t.Errorf("after down: %s", h.selected)
	}
	h.press("up", "up", "up", "k", "j", "j", "j", "j", "down")
	if h.selected != serverID(1) || h.line != 2 {
		t.Errorf("at the end: %s in line %d", h.selected, h.line)
	}
	h.comes(t, removed(5), removed(4), removed(1))
	h.press("down", "up", "d")
	h.shows(t, "no session is live")
}

func TestDeskSearchesOnceTypingRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newDeskTest(t, 80, 24)
		h.comes(t, initFor(2, 18, 40, 1, 2, 3))
		h.query.Page = 2
		h.press("/")
		h.hold = true // as when keys come faster than the timer
		h.press("stol", "x", "backspace", "en q")
		h.release()
		want := client.Query{Application: "123456789", Page: 1, PageSize: 18, Search: "stolen q", Totals: true, Categories: []api.Category{api.CategoryLicense}}
		if diff := cmp.Diff([]client.Query{want}, h.feed.queries); diff != "" {
			t.Fatalf("asked (-want +got):\n%s", diff)
		}
		h.shows(t, "/ stolen q")
		h.comes(t, initFor(1, 18, 1, 7))
		h.shows(t, "▸ user-7@", "1 match")
		h.do(tea.PasteMsg{Content: "\x1b[31m\u202eab\n"})
		if got := h.feed.queries[1].Search; got != "stolen q[31mab" {
			t.Errorf("pasted %q", got)
		}
		h.do(tea.PasteMsg{Content: strings.Repeat("é", 500)})
		if got := len([]rune(h.feed.queries[2].Search)); got != api.MaxSearch {
			t.Errorf("a search of %d characters", got)
		}
		h.press("enter", "esc")
		if got := h.feed.queries[3]; got.Search != "" || h.search.Value() != "" || h.mode != modeTable {
			t.Errorf("cleared to %+v", got)
		}
		h.press("/", "q", "esc", "esc", "esc") // q is typed; clearing nothing asks nothing
		if len(h.feed.queries) != 6 {
			t.Errorf("%d queries: %+v", len(h.feed.queries), h.feed.queries)
		}
	})
}

func TestDeskCategories(t *testing.T) {
	h := newDeskTest(t, 80, 24)
	h.comes(t, initFor(1, 18, 0))
	h.press("1")
	h.shows(t, "a search needs a place", "[1 license]")
	h.press("3", "2", "1", "/", "alt+3")
	want := [][]api.Category{
		{api.CategoryLicense, api.CategoryClientID},
		{api.CategoryLicense, api.CategoryIP, api.CategoryClientID},
		{api.CategoryIP, api.CategoryClientID},
		{api.CategoryIP},
	}
	var got [][]api.Category
	for _, q := range h.feed.queries {
		got = append(got, q.Categories)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	h.shows(t, " 1 license ", "[2 ip]", " 3 clientId ")
}

func TestDeskPages(t *testing.T) {
	h := newDeskTest(t, 80, 10)
	sizes := []int{1, 2, 3, 4}
	h.comes(t, initFor(1, 4, 10, sizes...))
	var pages []int
	for _, keys := range [][]string{{"left"}, {"right"}, {"l"}, {"right"}, {"home"}, {"end"}, {"h"}, {"g"}, {"G"}} {
		before := h.query.Page
		h.press(keys...)
		if waits := map[bool]string{true: "/3  ?", false: "/3…  ?"}[before == h.query.Page]; !strings.Contains(h.screen(), waits) {
			t.Errorf("after %v from page %d the footer has no %q:\n%s", keys, before, waits, h.screen())
		}
		pages = append(pages, h.query.Page)
		if before != h.query.Page {
			h.comes(t, initFor(h.query.Page, 4, 10, sizes...))
		}
	}
	if diff := cmp.Diff([]int{1, 2, 3, 3, 1, 3, 2, 1, 3}, pages); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	// The last page loses its rows.
	h.comes(t, removed(1), removed(2), removed(3), removed(4), `{"type":"totals","total":8,"filteredTotal":8,"authorizedSessionCount":1}`)
	if got := h.feed.queries[len(h.feed.queries)-1].Page; got != 2 {
		t.Errorf("an empty page 3 of 2 moved to %d", got)
	}
}

func TestDeskFitsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newDeskTest(t, 80, 24)
		h.query.Page = 3 // rows 37 to 54
		h.do(tea.WindowSizeMsg{Width: 80, Height: 16})
		h.do(tea.WindowSizeMsg{Width: 200, Height: 16})
		h.do(tea.WindowSizeMsg{Width: 80, Height: 500})
		want := [][2]int{{4, 10}, {1, 50}} // page and size with row 37; with 31
		var got [][2]int
		for _, q := range h.feed.queries {
			got = append(got, [2]int{q.Page, q.PageSize})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("page and size (-want +got):\n%s", diff)
		}
		h.fixedSize = true
		h.do(tea.WindowSizeMsg{Width: 80, Height: 12})
		if len(h.feed.queries) != 2 {
			t.Error("a page size that was given followed the window")
		}
		// Its page is longer than the window, which shows the part around the selection.
		h.comes(t, initFor(1, 50, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20))
		h.shows(t, "▸ user-20@", "user-15@", "not user-14@")
		h.press("jjjjjjjjjjjjjjjjjjj")
		h.shows(t, "▸ user-1@", "user-6@", "not user-7@")
	})
}

func TestDeskDisconnects(t *testing.T) {
	for _, tc := range []struct {
		name  string
		count int
		err   error
		says  string
	}{
		{"done", 1, nil, "user-2@example.com was disconnected"},
		{"too late", 0, nil, "user-2@example.com had already ended"},
		{"long gone", 0, &api.Error{Code: api.CodeSessionNotFound, Message: "no"}, "user-2@example.com had already ended"},
		{"refused", 0, &api.Error{Code: api.CodeInsufficientScope, Message: "sessions:disconnect"}, "! user-2@example.com was not disconnected: insufficient_scope"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newDeskTest(t, 100, 24)
			h.feed.count, h.feed.err = tc.count, tc.err
			h.comes(t, initFor(1, 18, 3, 1, 2, 3))
			h.press("down", "d", "esc", "d")
			// The page goes on under the question; who is asked about stays.
			h.comes(t, added(9), removed(2), added(8))
			h.shows(t, "Disconnect this session? It has left this page.", "user-2@example.com", "optional")
			h.press(" reported", "q", " ")
			h.do(tea.PasteMsg{Content: "\x07stolen\u202e"})
			h.press("enter")
			if want := []string{sessionOf(2) + " reportedq stolen"}; !slices.Equal(h.feed.ended, want) {
				t.Errorf("ended %v, want %v", h.feed.ended, want)
			}
			h.shows(t, tc.says)
		})
	}
}

func TestDeskDetails(t *testing.T) {
	h := newDeskTest(t, 120, 24)
	h.feed.session = api.Session{Name: "ann", DerivedStatus: api.DerivedActive, ClientInfo: json.RawMessage(`{"name":"x","deep":{"a":[1,2]}}`)}
	h.comes(t, initFor(1, 18, 3, 1, 2, 3))
	h.press("enter")
	h.shows(t, "│ DETAILS", "│ status          active", "│ clientInfo      {", `"deep": {`)
	h.hold = true
	h.press("jkjkj") // keys faster than answers
	if len(h.held) != 1 {
		t.Errorf("%d calls at once", len(h.held))
	}
	h.shows(t, "│ reading…")
	h.release()
	if last := h.feed.read[len(h.feed.read)-1]; len(h.feed.read) != 2 || last.String() != sessionOf(2) {
		t.Errorf("read %v", h.feed.read)
	}
	reads := len(h.feed.read)
	h.comes(t, added(4))
	if len(h.feed.read) != reads {
		t.Error("another row's change read the details again")
	}
	h.feed.session.DerivedStatus = api.DerivedDisconnected
	h.feed.session.Details = &api.Details{EndReason: "disconnected", EndedBy: "0123456789abcdef"}
	h.comes(t, removed(2))
	h.shows(t, "disconnected some time ago by", "0123456789abcdef", "not ▸")
	h.feed.err = &api.Error{Code: api.CodeUnavailable, Message: "away\x1b[2J"}
	h.press("down")
	h.shows(t, `│ ! unavailable: away\u001b[2J`)
	h.feed.err = nil
	h.press("3") // another page, another session
	h.comes(t, initFor(1, 18, 1, 7))
	if last := h.feed.read[len(h.feed.read)-1]; last.String() != sessionOf(7) {
		t.Errorf("read %s after the page of 7 came", last)
	}
	h.shows(t, "not reading…", "▸ user-7@")
	h.press("esc")
	h.shows(t, "not DETAILS")
}

// TestDeskAsksInOrder holds that the query that was asked for last is the last one sent.
func TestDeskAsksInOrder(t *testing.T) {
	h := newDeskTest(t, 80, 24)
	h.comes(t, initFor(1, 18, 100, 1, 2, 3))
	h.hold = true
	h.press("right", "right", "3", "right")
	if len(h.held) != 1 {
		t.Fatalf("%d queries are sent at once", len(h.held))
	}
	h.release()
	if n := len(h.feed.queries); n != 2 || h.feed.queries[1].Page != 2 || len(h.feed.queries[1].Categories) != 2 {
		t.Errorf("%+v", h.feed.queries)
	}
}

func TestDeskSaysWhatIsNotTrue(t *testing.T) {
	h := newDeskTest(t, 80, 24)
	h.shows(t, "◌ connecting")
	h.comes(t, initFor(1, 18, 1, 1))
	h.shows(t, "● live")
	h.feed.down = errors.New("the network\x1b]0;x\x07 is away")
	h.do(tickMsg{})
	h.shows(t, "◌ reconnecting", `! this is an old page: the network\u001b]0;x\u0007 is away`, "user-1@")
	h.feed.down = nil
	h.comes(t, initFor(1, 18, 1, 1), `{"type":"totals","total":1,"filteredTotal":1,"authorizedSessionCount":1,"partial":"nodes"}`)
	h.shows(t, "◐ partial", "! the view is partial: nodes are missing")
	h.comes(t, `{"type":"totals","total":1,"filteredTotal":1,"authorizedSessionCount":1}`)
	h.shows(t, "● live", "not partial")
}

func TestDeskQuits(t *testing.T) {
	for name, msg := range map[string]tea.Msg{
		"q": tea.KeyPressMsg{Code: 'q', Text: "q"}, "ctrl+c": tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}, "the end": failedMsg{errQuiet},
	} {
		h := newDeskTest(t, 80, 24)
		_, cmd := h.Update(msg)
		if cmd == nil {
			t.Fatalf("%s does nothing", name)
		}
		if _, ok := cmd().(tea.QuitMsg); !ok {
			t.Errorf("%s does not quit", name)
		}
	}
}

// hostile draws strings that a client may have made up.
func hostile() *rapid.Generator[string] {
	return rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z@.]{0,80}`), rapid.SampledFrom([]string{
		"\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "evil\u202egnp.exe", "\u2066\u2067\u2068", "a\r\nb\tc", "日本語レポート日本語レポート",
		"👍🏽👨\u200d👩\u200d👧🇩🇪🇫🇷", "Z" + strings.Repeat("\u0300\u0489", 2000), strings.Repeat("x", 4096), strings.Repeat("字", 1400), "\xff\xfe\x00",
		"<img src=x onerror=alert(1)>", "ﷺ﷽", "क्षि नमस्ते", "\u1100\u1161\u11a8각", "e\u0301", "\u0301", "￼\ufffd\ufeff\u00ad", "שלום عالم",
	}))
}

// TestDeskDraws holds that whatever clients wrote, keys were pressed and the window's size is, the window is exactly filled, and a
// terminal is told nothing but text and colours.
func TestDeskDraws(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newDeskTest(t, rapid.IntRange(0, 220).Draw(rt, "width"), rapid.IntRange(0, 60).Draw(rt, "height"))
		h.hold = true
		h.now = func() time.Time { return time.UnixMilli(1778585800000) }
		h.url, h.query.Application = hostile().Draw(rt, "url"), hostile().Draw(rt, "application")
		view := api.View{Page: 1, PageSize: 50}
		for n := rapid.IntRange(0, 8).Draw(rt, "rows"); n > 0; n-- {
			login, license := hostile().Draw(rt, "login"), hostile().Draw(rt, "license")
			view.Items = append(view.Items, api.Row{ServerID: serverID(n), IPAddress: hostile().Draw(rt, "ip"), CreatedAt: api.Millis(n),
				ClientID: hostile().Draw(rt, "client"), Login: &login, License: &license})
		}
		if rapid.Bool().Draw(rt, "shown") {
			h.comes(t, encoded(api.Init{Type: api.TypeInit, Success: true, View: view}))
		}
		info, _ := json.Marshal(map[string]string{hostile().Draw(rt, "name"): hostile().Draw(rt, "info")})
		name := hostile().Draw(rt, "hostname")
		h.details = details{open: rapid.Bool().Draw(rt, "details"), id: h.selected, session: api.Session{Name: name, Hostname: &name, ClientInfo: info}}
		if rapid.Bool().Draw(rt, "down") {
			h.down = errors.New(hostile().Draw(rt, "why"))
		}
		if rapid.Bool().Draw(rt, "notice") {
			h.say(rapid.Bool().Draw(rt, "bad"), "%s", hostile().Draw(rt, "says"))
		}
		for _, key := range rapid.SliceOfN(rapid.SampledFrom([]string{"/", "d", "?", "enter", "J", "down", "esc", "3"}), 0, 4).Draw(rt, "keys") {
			h.press(key)
		}
		h.do(tea.PasteMsg{Content: hostile().Draw(rt, "pasted")})
		lines, cursor := h.draw()
		if len(lines) != h.height {
			rt.Fatalf("%d lines in a window of %d", len(lines), h.height)
		}
		if cursor != nil && (cursor.X < 0 || cursor.X >= h.width || cursor.Y < 0 || cursor.Y >= h.height) {
			rt.Fatalf("the cursor is at %d,%d of %dx%d", cursor.X, cursor.Y, h.width, h.height)
		}
		for _, line := range lines {
			plain := ansi.Strip(line)
			if a, b := ansi.StringWidth(plain), ansi.StringWidthWc(plain); a != h.width || b != h.width {
				rt.Fatalf("%q has %d columns, or %d, of %d", plain, a, b, h.width)
			}
			for _, r := range plain {
				if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
					rt.Fatalf("%q has %U", line, r)
				}
			}
			for i, seq := range strings.Split(line, "\x1b")[1:] {
				if end := strings.IndexFunc(seq, func(r rune) bool { return r >= '@' && r != '[' }); end < 0 || seq[0] != '[' || seq[end] != 'm' {
					rt.Fatalf("sequence %d of %q is no colour", i, line)
				}
			}
		}
	})
}

func TestStatusHasItsReason(t *testing.T) {
	now := time.UnixMilli(1778586000000)
	before := func(d time.Duration) *api.Timestamp { return api.Millis(now.Add(-d).UnixMilli()).Timestamp() }
	for _, tc := range []struct {
		s    api.Session
		want string
	}{
		{api.Session{DerivedStatus: api.DerivedActive, LastActiveAt: before(3 * time.Second)}, "active: last activity 3 s ago"},
		{api.Session{DerivedStatus: api.DerivedActive, LastActiveAt: before(-time.Hour)}, "active: last activity 0 s ago"},
		{api.Session{DerivedStatus: api.DerivedIdle, LastActiveAt: before(7*time.Minute + 59*time.Second)}, "idle: no activity for 7 min"},
		{api.Session{DerivedStatus: api.DerivedIdle}, "idle: no activity for some time"},
		{api.Session{DerivedStatus: api.DerivedExpired, TokenExpiresAt: before(20 * time.Second)}, "expired: its token ran out 20 s ago"},
		{api.Session{DerivedStatus: api.DerivedDisconnected, DisconnectedAt: before(50 * time.Hour)}, "disconnected 2 d ago"},
		{api.Session{DerivedStatus: api.DerivedDisconnected, DisconnectedAt: before(3 * time.Hour), Details: &api.Details{EndReason: "revoked", EndedBy: "k"}},
			"disconnected 3 h ago: revoked by k"},
	} {
		if got := statusOf(tc.s, now); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

// BenchmarkDesk is what a change of the page costs at its largest.
func BenchmarkDesk(b *testing.B) {
	h := newDeskTest(b, 200, 56)
	view := api.View{Page: 1, PageSize: 50}
	for n := 50; n > 0; n-- {
		view.Items = append(view.Items, rowOf(n))
	}
	raw := encoded(api.Init{Type: api.TypeInit, Success: true, View: view})
	if err := h.page.Apply([]byte(raw)); err != nil {
		b.Fatal(err)
	}
	h.do(stepMsg{Page: h.page})
	for b.Loop() {
		h.View()
	}
}

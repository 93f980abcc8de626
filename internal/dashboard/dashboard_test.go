package dashboard_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// shows waits for the logins of the table to be these, from the top.
func (p *tab) shows(logins ...string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for got := p.logins(); !slices.Equal(got, logins); got = p.logins() {
		if time.Now().After(deadline) {
			p.t.Fatalf("the table shows %q, want %q\n%s", got, logins, p.state())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *tab) counter(name string) string {
	p.t.Helper()
	return get[string](p, fmt.Sprintf(`document.querySelector("[data-counter=%s]")?.innerText ?? ""`, name))
}

const page = "/applications/123456789"

// TestFirstRun: an application that nobody has connected to says how to, with a token that works, and turns into the table.
func TestFirstRun(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	p := open(t, s.URL)
	p.signIn("/", fullKey)
	p.sees("Connect the first session")
	p.until(`document.querySelector("[data-token]").innerText.length > 100`)
	token := get[string](p, `document.querySelector("[data-token]").innerText`)
	for _, language := range []string{"Go", "JavaScript", "curl"} {
		p.button(language)
		p.until(fmt.Sprintf(`document.querySelector("pre").innerText.includes(%q)`, token))
		p.until(fmt.Sprintf(`document.querySelector("pre").innerText.includes(%q)`, s.URL))
	}
	connect(t, s.URL, nil, func(cfg *client.SessionConfig) {
		cfg.Token, cfg.ClientID = nil, "first-client"
		cfg.PublishableKey = "rca_0123456789abcdef"
	})
	p.shows("no login")
	p.until(`!document.body.innerText.includes("Connect the first session")`)
}

// TestMainJob: someone who has never seen it finds a session by license and ends it.
func TestMainJob(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{MaxAuthorized: 1000})
	john := connect(t, s.URL, named("john@example.com", "ABCDEF-123456"), func(cfg *client.SessionConfig) {
		cfg.ClientID, cfg.Hostname = "client-001", "mbp-14"
		cfg.ClientInfo = info(map[string]any{"name": "Editor", "plugins": []string{"spell", "lint"}})
	})
	p := open(t, s.URL)
	p.signIn("/", fullKey)
	p.shows("john@example.com")
	// Others come and go under his eyes.
	alice := connect(t, s.URL, named("alice@example.com", "ZYXWVU-654321"), nil)
	p.shows("alice@example.com", "john@example.com")
	p.until(`document.querySelector("[data-counter=total]").innerText === "2"`)
	if got := p.counter("authorized"); got != "2 of 1,000" {
		t.Errorf("authorized: %q", got)
	}
	bob := connect(t, s.URL, named("bob@example.com", "ABCDEF-999999"), nil)
	p.shows("bob@example.com", "alice@example.com", "john@example.com")
	bob.leave()
	p.shows("alice@example.com", "john@example.com")
	// He is found by his license, and ended.
	p.press("/")
	p.press("abcdef")
	p.shows("john@example.com")
	p.until(`location.search === "?search=abcdef"`)
	if got := p.counter("matching"); got != "1" {
		t.Errorf("matching: %q", got)
	}
	p.press(kb.ArrowDown)
	p.press("d")
	p.sees("john@example.com is told, cut off")
	p.press("stolen laptop\r")
	p.sees("Disconnected john@example.com.")
	p.sees("No session matches")
	if told := john.hears(); told.Reason == "" || !strings.Contains(told.Reason, "stolen laptop") {
		t.Errorf("the client was told %+v", told)
	}
	p.button("Clear the search")
	p.shows("alice@example.com")
	// What became of him is kept.
	p.click(`nav[aria-label=Views] a:nth-child(2)`)
	p.shows("bob@example.com", "john@example.com")
	p.sees("by this key")
	p.click(".tbody .tr:nth-child(2) .row-link")
	p.sees("stolen laptop")
	p.until(`document.querySelector(".drawer .badge").innerText === "disconnected"`)
	p.until(`document.querySelector(".tree").innerText.includes("spell")`)
	p.press(kb.Escape)
	p.until(`!document.querySelector("dialog")`)
	alice.leave()
}

func TestRevokeAll(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	john := connect(t, s.URL, named("john@example.com", "A-1"), nil)
	alice := connect(t, s.URL, named("alice@example.com", "A-2"), nil)
	p := open(t, s.URL)
	p.signIn(page, fullKey)
	p.shows("alice@example.com", "john@example.com")
	p.button("Revoke all…")
	disabled := `[...document.querySelectorAll("dialog button")].find(b => b.innerText.trim() === "Revoke all").disabled`
	for _, wrong := range []string{"", "desktop client", "Desktop Clien"} {
		p.types("dialog [data-confirm]", wrong)
		p.until(disabled)
	}
	p.types("dialog [data-confirm]", "Desktop Client")
	p.button("Revoke all")
	p.sees("Revoked: 2 sessions ended.")
	p.sees("Nobody is connected")
	for _, one := range []*person{john, alice} {
		if told := one.hears(); !told.Reauthenticate {
			t.Errorf("told %+v", told)
		}
	}
}

// TestDisconnectMatching: the count is shown, must be typed, and is the count that ends.
func TestDisconnectMatching(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	var stolen []*person
	for i := range 3 {
		stolen = append(stolen, connect(t, s.URL, named(fmt.Sprintf("stolen%d@example.com", i), fmt.Sprintf("STOLEN-%d", i)), nil))
	}
	connect(t, s.URL, named("kept@example.com", "KEPT-1"), nil)
	p := open(t, s.URL)
	p.signIn(page+"?search=stolen", fullKey)
	p.shows("stolen2@example.com", "stolen1@example.com", "stolen0@example.com")
	p.button("Disconnect 3 matching…")
	p.until(`document.querySelector("[data-preview='3']")`)
	// One that connects after the preview is not part of it.
	connect(t, s.URL, named("late@example.com", "STOLEN-9"), nil)
	p.types("dialog [data-confirm]", "2")
	p.until(`document.querySelector("dialog button[type=submit]").disabled`)
	p.types("dialog [data-confirm]", "3")
	p.button("Disconnect 3")
	p.sees("Disconnected 3 sessions.")
	p.shows("late@example.com")
	for _, one := range stolen {
		one.hears()
	}
}

// TestPast: what ended can be narrowed by reason and time, and the audit says who did what; a link holds both.
func TestPast(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	connect(t, s.URL, named("left@example.com", "A-1"), nil).leave()
	cut := connect(t, s.URL, named("cut@example.com", "A-2"), nil)
	p := open(t, s.URL)
	p.signIn(page, fullKey)
	p.shows("cut@example.com")
	p.click(".tbody .act button")
	p.press("shared license\r")
	p.sees("Disconnected cut@example.com.")
	cut.hears()
	p.press("2")
	p.shows("cut@example.com", "left@example.com")
	p.click(".kinds .menu-button")
	p.click(`.kinds input[value=disconnected]`)
	p.shows("cut@example.com")
	p.until(`location.search === "?reason=disconnected"`)
	p.click(`.kinds input[value=client_closed]`)
	p.shows("cut@example.com", "left@example.com")
	p.goTo(page + "/ended?reason=client_closed")
	p.shows("left@example.com")
	p.goTo(page + "/ended?range=custom&to=2020-01-01T00:00:00.000Z")
	p.sees("No session ended")
	p.goTo("/audit")
	p.until(`document.querySelector("[data-action='session.disconnected']").innerText.includes("shared license")`)
	p.until(`document.querySelector("[data-action=sign_in]")`)
	p.goTo("/audit?action=session.disconnected")
	p.until(`[...document.querySelectorAll("[data-action]")].map(e => e.dataset.action).join() === "session.disconnected"`)
	p.sees("everything (this key)")
	q := open(t, s.URL) // a key without audit:read
	q.signIn("/audit", readKey)
	q.sees("This key cannot read the audit")
}

// TestPaging: pages follow one another, and a page that changes stays whole.
func TestPaging(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	var want []string
	for i := range 13 {
		login := fmt.Sprintf("user%02d@example.com", i)
		connect(t, s.URL, named(login, "L"), nil)
		want = append([]string{login}, want...)
	}
	p := open(t, s.URL)
	p.signIn(page+"?pageSize=10", fullKey)
	p.shows(want[:10]...)
	p.button("Next page")
	p.shows(want[10:]...)
	p.until(`location.search === "?page=2&pageSize=10"`)
	p.sees("11–13 of 13")
	// A colleague who gets the link sees the same.
	q := open(t, s.URL)
	q.signIn(get[string](p, "location.pathname + location.search"), readKey)
	q.shows(want[10:]...)
	// Somebody new on page 1 moves a row onto page 2.
	connect(t, s.URL, named("new@example.com", "L"), nil)
	p.shows(append([]string{want[9]}, want[10:]...)...)
	p.press("[")
	p.shows(append([]string{"new@example.com"}, want[:9]...)...)
	p.run("history.back()")
	p.shows(append([]string{want[9]}, want[10:]...)...)
	// The key of the colleague may only look.
	q.shows(append([]string{want[9]}, want[10:]...)...)
	q.until(`!document.querySelector("main button.danger")`)
}

// TestPointer: nothing moves under the pointer, and what waited comes when it leaves.
func TestPointer(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	john := connect(t, s.URL, named("john@example.com", "A-1"), nil)
	connect(t, s.URL, named("alice@example.com", "A-2"), nil)
	p := open(t, s.URL)
	p.signIn(page, fullKey)
	p.shows("alice@example.com", "john@example.com")
	at := get[[]float64](p, `(r => [r.x + 40, r.y + 20])(document.querySelectorAll(".tbody .tr")[1].getBoundingClientRect())`)
	p.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, at[0], at[1]))
	connect(t, s.URL, named("bob@example.com", "A-3"), nil)
	p.sees("1 newer row when the pointer leaves")
	p.shows("alice@example.com", "john@example.com")
	john.leave()
	p.until(`document.querySelectorAll(".tbody .tr")[1].classList.contains("gone")`)
	p.shows("alice@example.com", "john@example.com")
	p.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 5, 300))
	p.shows("bob@example.com", "alice@example.com")
}

// TestKeyboard: everything that matters works without a pointer.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	john := connect(t, s.URL, named("john@example.com", "A-1"), nil)
	connect(t, s.URL, named("alice@example.com", "A-2"), nil)
	p := open(t, s.URL)
	p.signIn(page, fullKey)
	p.shows("alice@example.com", "john@example.com")
	focused := func(login string) {
		t.Helper()
		p.until(fmt.Sprintf(`document.activeElement.innerText.trim() === %q`, login))
	}
	p.press(kb.ArrowDown)
	focused("alice@example.com")
	p.press(kb.ArrowDown)
	p.press(kb.ArrowDown) // there is no third
	focused("john@example.com")
	// A row that comes does not take the focus from his.
	connect(t, s.URL, named("bob@example.com", "A-3"), nil)
	p.shows("bob@example.com", "alice@example.com", "john@example.com")
	focused("john@example.com")
	p.press("\r")
	p.until(`document.querySelector("dialog.drawer h2").innerText === "john@example.com"`)
	p.until(`location.search.startsWith("?session=")`)
	p.press(kb.Escape)
	p.until(`!document.querySelector("dialog")`)
	focused("john@example.com")
	john.leave()
	p.shows("bob@example.com", "alice@example.com")
	focused("alice@example.com") // the row in its place
	p.press("?")
	p.sees("Next and previous row")
	p.press(kb.Escape)
	p.until(`!document.querySelector("dialog")`)
	p.press("3")
	p.until(`location.pathname === "/audit"`)
	p.press("1")
	p.shows("bob@example.com", "alice@example.com")
}

// TestRestart: the page says that it is not live, keeps what it had, and is live again, still signed in, with the next server.
func TestRestart(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := testkit.Start(t, testkit.Config{Data: data})
	f := newFront(t, s.Addr())
	john := connect(t, s.URL, named("john@example.com", "A-1"), nil)
	p := open(t, "http://"+f.Addr().String())
	p.signIn(page, fullKey)
	p.shows("john@example.com")
	p.expect("") // whatever is asked while nobody is there fails
	john.leave()
	p.sees("Nobody is connected")
	f.point("")
	s.Stop(t)
	p.sees("Not live.")
	p.sees("Reconnecting")
	s = testkit.Start(t, testkit.Config{Data: data})
	f.point(s.Addr())
	connect(t, s.URL, named("back@example.com", "A-2"), nil)
	p.button("Retry now")
	p.shows("back@example.com")
	p.until(`!document.body.innerText.includes("Not live.")`)
}

// TestKeyEnds: a key that expires ends what is open, and one that has expired opens nothing.
func TestKeyEnds(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	connect(t, s.URL, named("john@example.com", "A-1"), nil)
	p := open(t, s.URL)
	p.expect("/api/v1/")
	p.expect("WebSocket")
	id, short := newKey(t, s)
	p.signIn(page, short)
	p.shows("john@example.com")
	expires := time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano)
	if status, body := s.Do(t, s.AdminToken, http.MethodPatch, "/api/v1/admin/api-keys/"+id, map[string]any{"expiresAt": expires}); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	p.sees("You were signed out: the API key expired")
	if text := p.state(); strings.Contains(text, "john@example.com") {
		t.Errorf("the page still shows sessions:\n%s", text)
	}
	p.types("input[name=key]", short+"\r")
	p.sees("The API key expired")
	p.types("input[name=key]", "rck_nonsense\r")
	p.sees("The API key is not valid")
	// A key in a page's storage, or in its address, would outlive the sign-in.
	p.types("input[name=key]", readKey+"\r")
	p.shows("john@example.com")
	kept := get[string](p, `JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href, document.documentElement.outerHTML])`)
	if strings.Contains(kept, "rck_") || strings.Contains(kept, api.SignInCookie) {
		t.Error("the page keeps a credential")
	}
	p.click(".who .menu-button")
	p.button("Sign out")
	p.until(`document.querySelector("input[name=key]")`)
	p.run("location.reload()")
	p.until(`document.querySelector("input[name=key]")`)
}

// newKey returns the public id and the plaintext of a key that may look.
func newKey(t *testing.T, s *testkit.Server) (id, plaintext string) {
	t.Helper()
	status, body := s.Do(t, s.AdminToken, http.MethodPost, "/api/v1/admin/organizations/"+testkit.Org.String()+"/api-keys",
		map[string]any{"name": "short", "scopes": []string{"sessions:read", "applications:read"}})
	var key api.NewAPIKey
	if err := json.Unmarshal(body, &key); err != nil || status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	return key.PublicID, key.Key
}

// TestTwoOrganizations: what one sees, the other never does, whatever it asks for.
func TestTwoOrganizations(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	connect(t, s.URL, named("john@example.com", "A-1"), nil)
	acme, globex := open(t, s.URL), open(t, s.URL)
	acme.signIn("/", fullKey)
	globex.signIn("/", otherKey)
	acme.shows("john@example.com")
	globex.until(`location.pathname === "/applications/987654321"`)
	globex.sees("Connect the first session")
	globex.expect("/api/v1/")
	globex.expect("WebSocket")
	for _, path := range []string{page, "/applications/" + testkit.App.String(), page + "/ended"} {
		globex.goTo(path)
		globex.sees("There is no such application")
		if text := globex.state(); strings.Contains(text, "john") || strings.Contains(text, "Desktop") || strings.Contains(text, "Acme") {
			t.Errorf("%s shows another organization's:\n%s", path, text)
		}
	}
}

// TestHostileText: what clients say is text, wherever it is shown, and cannot turn around what stands beside it.
func TestHostileText(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	markup, bidi, long := `<img src=x onerror=document.title='owned'>`, "user\u202Etxt.exe\u2066", strings.Repeat("W", 256)
	connect(t, s.URL, map[string]any{"sub": markup, "license": bidi}, func(cfg *client.SessionConfig) {
		cfg.Name, cfg.Hostname, cfg.UserAgent = bidi, markup, long
		cfg.ClientInfo = info(map[string]any{markup: []any{markup, bidi, nil, true, 1.5, map[string]any{"__proto__": markup}}, "\u202e": "\u0000\u0007"})
	})
	p := open(t, s.URL)
	p.signIn(page, fullKey)
	p.shows(markup)
	license := get[string](p, `document.querySelector(".tbody .license").textContent`)
	if license != "userU+202Etxt.exeU+2066" {
		t.Errorf("the license reads %q", license)
	}
	p.click(".tbody .row-link")
	p.until(`document.querySelector(".drawer .tree")`)
	p.until(`document.querySelector(".drawer .tree").textContent.includes("<img src=x")`)
	if bad := get[[]string](p, `[...document.querySelectorAll("img, [onerror], script:not([src^='/assets/'])")].map(e => e.outerHTML)`); len(bad) > 0 {
		t.Errorf("client text became markup: %q", bad)
	}
	wide := get[bool](p, `document.documentElement.scrollWidth > innerWidth || document.querySelector(".drawer .sheet").scrollWidth > document.querySelector(".drawer .sheet").clientWidth`)
	if title := get[string](p, "document.title"); title == "owned" || wide {
		t.Errorf("title %q, wider than the window: %v", title, wide)
	}
}

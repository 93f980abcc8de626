package dashboard_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// How fast a person works who does not hurry: a key, and a look at what came of it.
const (
	aKey  = 120 * time.Millisecond
	aLook = 700 * time.Millisecond
)

// hands types as a person does.
func (p *tab) hands(keys ...string) {
	p.t.Helper()
	for _, key := range keys {
		time.Sleep(aKey)
		p.press(key)
	}
}

// TestTenSeconds: who reads a license over the phone is found and cut off, with a reason, by the keyboard alone, in ten seconds.
func TestTenSeconds(t *testing.T) {
	t.Parallel()
	s, _ := stage(t)
	john := connect(t, s.URL, named("john@example.com", "ABCDEF-123456"), nil)
	p := open(t, s.URL)
	p.signIn(page, fullKey)
	p.until(`document.querySelectorAll(".tbody .tr").length > 5`)
	began := time.Now()
	time.Sleep(aLook)
	p.hands("/")
	p.hands(strings.Split("abcdef-12", "")...)
	p.shows("john@example.com")
	time.Sleep(aLook)
	p.hands(kb.ArrowDown, "d")
	p.sees("is told, cut off")
	time.Sleep(aLook)
	p.hands(strings.Split("stolen", "")...)
	p.hands("\r")
	if told := john.hears(); !strings.Contains(told.Reason, "stolen") {
		t.Errorf("the client was told %+v", told)
	}
	p.sees("Disconnected john@example.com.")
	took := time.Since(began)
	t.Logf("it took %v", took)
	if took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// focus is what has it, as a person would call it.
const focus = `(e => e.getAttribute("aria-label") || e.labels?.[0]?.innerText.trim().split("\n")[0] || e.innerText.trim().split("\n")[0] || e.tagName)(document.activeElement)`

// tabs presses Tab so often, and says where that led; each place must be seen, and be seen to have the focus.
func (p *tab) tabs(times int) (order []string) {
	p.t.Helper()
	for range times {
		p.press("\t")
		name := get[string](p, focus)
		order = append(order, name)
		seen := get[bool](p, `(e => {
			if (e === document.body) return true;
			const ring = [getComputedStyle(e), getComputedStyle(e, "::after")].some(s => s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2);
			const box = e.getBoundingClientRect();
			return ring && box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
		})(document.activeElement)`)
		if !seen {
			p.t.Errorf("%q has the focus, and nobody sees it", name)
		}
	}
	return order
}

// TestFocus: Tab goes through the page in the order that it is read; a dialog keeps the focus and gives it back.
func TestFocus(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	connect(t, s.URL, named("john@example.com", "A-1"), nil)
	connect(t, s.URL, named("alice@example.com", "A-2"), nil)
	p := open(t, s.URL)
	p.signIn(page+"?search=a-", fullKey)
	p.media("light", true)
	p.goTo(page + "?search=a-")
	p.shows("alice@example.com", "john@example.com")
	p.until(`document.querySelector(".toolbar .button.danger:enabled")`)
	want := []string{
		"Skip to the content", "Rollcall: live sessions", "Application: Desktop Client", "Live", "Ended", "Audit", "Keyboard shortcuts",
		"Signed in with the key everything", "Copy the number", "Connect a client", "Revoke all…", "Search the live sessions", "License", "IP address",
		"Client ID", "Disconnect 2 matching…", "alice@example.com", "Disconnect alice@example.com", "john@example.com", "Disconnect john@example.com", "Rows",
	}
	if got := p.tabs(len(want)); !slices.Equal(got, want) {
		t.Errorf("Tab goes\n%q, want\n%q", got, want)
	}
	// Whoever does not want to walk past the bar each time jumps over it.
	p.goTo(page)
	p.shows("alice@example.com", "john@example.com")
	p.press("\t")
	p.press("\r")
	p.until(`document.activeElement.id === "main"`)
	for _, dialog := range []struct{ opener, key string }{
		{"Revoke all…", "\r"}, {"Keyboard shortcuts", "\r"}, {"Connect a client", "\r"}, {"Disconnect john@example.com", "\r"}, {"john@example.com", "d"}, {"john@example.com", "\r"},
	} {
		p.run(fmt.Sprintf(`[...document.querySelectorAll("main button, main a, header button")].find(e => (e.ariaLabel ?? e.innerText.trim()) === %q).focus()`, dialog.opener))
		p.press(dialog.key)
		p.until(`document.querySelector("dialog[open]")?.contains(document.activeElement)`)
		for range 14 {
			p.press("\t")
			if !get[bool](p, `document.activeElement === document.body || document.querySelector("dialog[open]").contains(document.activeElement)`) {
				t.Errorf("Tab leaves the dialog of %q for %q", dialog.opener, get[string](p, focus))
			}
		}
		p.press(kb.Escape)
		p.until(`!document.querySelector("dialog")`)
		if got := get[string](p, focus); got != dialog.opener {
			t.Errorf("after the dialog of %q the focus is at %q", dialog.opener, got)
		}
	}
}

// TestManyAtOnce: when most of the page is replaced, its elements show other sessions: everything in a row is that session's, nothing moves
// or flashes, and the focus stays at its place.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	m := manager(t, s)
	var held []api.LeaseItem
	for i := range 60 {
		held = append(held, guest(i))
	}
	if err := report(t.Context(), m, held); err != nil {
		t.Fatal(err)
	}
	logins := func(page int) (logins []string) {
		list, err := m.Live(t.Context(), client.Query{Application: testkit.Number, PageSize: 25, Page: page})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range list.Items {
			logins = append(logins, *row.Login)
		}
		return logins
	}
	p := open(t, s.URL)
	p.signIn(page+"?pageSize=25", fullKey)
	p.shows(logins(1)...)
	p.run(`document.querySelectorAll(".tbody .row-link")[5].focus()`)
	p.run(`globalThis.animated = 0, Element.prototype.animate = (was => function (...all) { animated++; return was.apply(this, all); })(Element.prototype.animate)`)
	p.run(`globalThis.elements = new Set(document.querySelectorAll(".tbody .tr"))`)
	p.within("views/motion.js", `m.flash(document.querySelector(".tbody .tr"), {serverId: "a", login: "x"}, {serverId: "a", login: "y"})`)
	p.run(`animated--`)
	p.press("]")
	second := logins(2)
	p.shows(second...)
	const rows = `[...document.querySelectorAll(".tbody .tr")]`
	if n := get[float64](p, rows+`.filter(row => elements.has(row)).length`); n != 25 {
		t.Errorf("%.0f of 25 elements were taken over", n)
	}
	if n := get[float64](p, "animated"); n != 0 {
		t.Errorf("%.0f elements moved or flashed", n)
	}
	if n := get[float64](p, `document.querySelector(".tbody").getAnimations({subtree: true}).length`); n != 0 {
		t.Errorf("%.0f elements flash for the session that was there before", n)
	}
	if !get[bool](p, rows+`.every(row => { const link = row.querySelector("a"), who = row.dataset.who;
		return new URL(link.href).search.includes(row.dataset.session) && row.dataset.id.endsWith(row.dataset.session) && link.innerText === who &&
			row.querySelector("button").ariaLabel === "Disconnect " + who; })`) {
		t.Error("a row is of two sessions")
	}
	if got := get[string](p, focus); got != second[5] {
		t.Errorf("the focus is at %q, want %q", got, second[5])
	}
	// It is that row's focus: when it leaves alone, the next gets it, and can be ended.
	leaves := held[slices.IndexFunc(held, func(one api.LeaseItem) bool { return one.Login == second[5] })]
	if err := report(t.Context(), m, []api.LeaseItem{{Op: api.LeaseEnd, ID: leaves.ID}}); err != nil {
		t.Fatal(err)
	}
	p.until(fmt.Sprintf(`(%s) === %q`, focus, second[6]))
	p.press("d")
	p.until(fmt.Sprintf(`document.querySelector("dialog[open]")?.innerText.includes(%q)`, second[6]))
	p.button("Disconnect")
	p.until(fmt.Sprintf(`!%s.some(row => row.dataset.who === %q)`, rows, second[6]))
}

// TestStill: who asked the system for less motion sees none; who did not sees rows come.
func TestStill(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	connect(t, s.URL, named("first@example.com", "A-0"), nil)
	p := open(t, s.URL)
	p.signIn(page, fullKey)
	const moved = `document.querySelector(".tbody").parentElement`
	logins := []string{"first@example.com"}
	for i, still := range []bool{false, true} {
		p.media("light", still)
		p.goTo(page)
		p.shows(logins...)
		p.run(`globalThis.animated = 0, Element.prototype.animate = (was => function (...all) { animated++; return was.apply(this, all); })(Element.prototype.animate)`)
		login := fmt.Sprintf("new%d@example.com", i)
		connect(t, s.URL, named(login, "A-1"), nil)
		logins = append([]string{login}, logins...)
		p.shows(logins...)
		if n := get[float64](p, "animated"); (n == 0) != still {
			t.Errorf("less motion wanted: %v, and %.0f elements moved", still, n)
		}
		running := get[float64](p, moved+`.getAnimations({subtree: true}).filter(one => one.playState === "running").length`)
		if still && running > 0 {
			t.Errorf("%.0f animations run", running)
		}
	}
}

// Strings that want to be more than text. The server refuses none of them in these places.
var hostile = map[string]string{
	"markup":     `<img src=x onerror=owned++><script>owned++</script><svg onload=owned++>`,
	"attribute":  `" onmouseover="owned++" autofocus onfocus="owned++`,
	"template":   `${owned++}{{owned++}}javascript:owned++`,
	"override":   "pay\u202Egpj.exe",
	"isolates":   "\u2066\u2067\u2068open",
	"right":      "שלום עליכם مرحبا",
	"mixed":      "abc אבג 123",
	"invisible":  "ad\u200bm\u200ci\u200dn\u00ad\ufeff",
	"lines":      "one\ntwo\r\nthree\u2028four\tfive",
	"controls":   "bell\u0007esc\u001b[31mred",
	"combining":  "Z" + strings.Repeat("\u0300\u0301\u0302\u0303", 25),
	"long":       strings.Repeat("W", 256),
	"longBidi":   strings.Repeat("א", 128),
	"emoji":      strings.Repeat("👩‍👩‍👧‍👦", 10),
	"prototype":  "__proto__",
	"underlines": strings.Repeat("_", 256),
}

// printable is what of a text may stand in a client id, which is 4 to 64 printable characters.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r >= ' ' && r < 0x7f && b.Len() < 64 {
			b.WriteRune(r)
		}
	}
	if b.Len() < 4 {
		return "client-of-letters"
	}
	return b.String()
}

// TestHostileEverywhere: nothing that clients, or colleagues, can write runs, hides, turns around what stands beside it, or bends the page.
func TestHostileEverywhere(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, testkit.Config{})
	m := manager(t, s)
	var names []string
	var items []api.LeaseItem
	for name, text := range hostile {
		names = append(names, name)
		big := strings.Repeat(text, 1+2000/len(info(text))) // as JSON writes it: all of it is 4 KiB at most
		items = append(items, api.LeaseItem{Op: api.LeaseOpen, ID: api.NewSessionID(), IPAddress: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Login: text, License: text,
			ClientID: printable(text), Hostname: text, UserAgent: text, ClientInfo: info(map[string]any{text: big, "list": []any{text, map[string]any{text: text}}})})
	}
	reply, err := m.Report(t.Context(), testkit.App, api.LeaseBatch{Items: items})
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for i, result := range reply.Results {
		if result.OK {
			accepted++
		} else {
			t.Errorf("%s is refused: %s", names[i], result.Error.Message)
		}
	}
	p := open(t, s.URL)
	p.guard()
	p.media("light", true) // what still comes in is outside of the window
	p.signIn(page+"?pageSize=50", fullKey)
	count := func() { p.until(fmt.Sprintf(`document.querySelectorAll(".tbody .tr").length === %d`, accepted)) }
	count()
	p.isText("live")
	for i, result := range reply.Results {
		if !result.OK {
			continue
		}
		p.goTo(page + "?pageSize=50&session=" + items[i].ID.String())
		p.until(`document.querySelector(".drawer .tree")`)
		p.run(`document.querySelectorAll("details").forEach(e => e.open = true)`)
		p.isText("drawer of " + names[i])
		p.size(390, 844)
		p.isText("drawer of " + names[i] + " at 390 px")
		p.size(1440, 900)
	}
	p.goTo(page + "?pageSize=50")
	count()
	p.run(`document.querySelector(".tbody .act button").click()`)
	p.until(`document.querySelector("dialog.ask input")`)
	p.isText("question")
	p.press("owned\u202E<img src=x onerror=owned++>\r")
	p.until(`document.querySelector(".toast") && !document.querySelector("dialog")`)
	p.isText("toast")
	for i, result := range reply.Results {
		if result.OK {
			_, _ = m.Disconnect(t.Context(), testkit.App, items[i].ID, items[i].Login) // one is gone already
		}
	}
	p.goTo(page + "/ended")
	count()
	p.isText("ended")
	p.run(`document.querySelector(".tbody .row-link").click()`)
	p.until(`document.querySelector(".drawer blockquote")`)
	p.isText("ended drawer")
	p.goTo("/audit")
	p.until(fmt.Sprintf(`document.querySelectorAll("[data-action='session.disconnected']").length === %d`, accepted))
	p.isText("audit")
	p.goTo(page + "?search=" + strings.ReplaceAll(`%3Cimg src=x onerror=owned%2B%2B%3E%E2%80%AEabc`, " ", "%20"))
	p.sees("No session matches")
	p.isText("nothing")
}

// isText fails the test when a client's text is more than text on this view.
func (p *tab) isText(name string) {
	p.t.Helper()
	const look = `(() => {
		const bad = [], unseen = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/u;
		for (const e of document.querySelectorAll("img, iframe, object, embed, [onload], [onerror], [onmouseover], [onfocus], script:not([src^='/assets/']), a[href^='javascript:'], svg script"))
			bad.push("markup: " + e.outerHTML.slice(0, 100));
		for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walk.nextNode();)
			if (unseen.test(walk.currentNode.data)) bad.push("unseen characters: " + JSON.stringify(walk.currentNode.data.slice(0, 60)) + " in " + walk.currentNode.parentElement.outerHTML.slice(0, 100));
		for (const e of document.querySelectorAll("[aria-label], [title]"))
			for (const at of ["aria-label", "title"]) if (unseen.test(e.getAttribute(at) ?? "")) bad.push("unseen characters in " + at + ": " + JSON.stringify(e.getAttribute(at).slice(0, 60)));
		for (const e of document.querySelectorAll("bdi")) if (getComputedStyle(e).unicodeBidi !== "isolate") bad.push("not isolated: " + e.outerHTML.slice(0, 100));
		for (const e of document.querySelectorAll(".tbody [role=cell], dd, h2, strong, .toast p"))
			for (const node of e.childNodes) if (node.nodeType === 3 && /[\u0590-\u06ff]/.test(node.data)) bad.push("right-to-left text that is not isolated: " + e.outerHTML.slice(0, 100));
		const rows = [...document.querySelectorAll(".tbody .tr")].map(e => e.getBoundingClientRect());
		if (new Set(rows.map(r => Math.round(r.height))).size > 1) bad.push("rows of heights " + rows.map(r => r.height));
		for (const cell of ["login", "license", "when", "act"]) {
			const at = new Set([...document.querySelectorAll(".tbody ." + cell)].map(e => Math.round(e.getBoundingClientRect().x)));
			if (innerWidth > 900 && at.size > 1) bad.push(cell + " stands at " + [...at]);
		}
		if (document.documentElement.scrollWidth > innerWidth) bad.push("the page is wider than the window");
		for (const e of document.querySelectorAll("dialog[open] .sheet, .tree")) if (e.scrollWidth > e.clientWidth + 1) bad.push(e.className + " is " + (e.scrollWidth - e.clientWidth) + " px too wide");
		const close = document.querySelector("dialog[open] header button")?.getBoundingClientRect();
		if (close && (close.right > innerWidth || close.top < 0 || close.bottom > innerHeight)) bad.push("the dialog cannot be closed");
		const end = document.querySelector("dialog[open] footer button:last-child")?.getBoundingClientRect();
		if (end && (end.right > innerWidth || end.bottom > innerHeight + 1)) bad.push("the dialog's button is outside of the window");
		return bad;
	})()`
	for _, bad := range get[[]string](p, look) {
		p.t.Errorf("%s: %s", name, bad)
	}
	p.isGuarded()
}

package dashboard_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// view is something that the dashboard shows, and how to get there.
type view struct {
	name string
	show func(p *tab)
}

// Views of somebody who is signed in.
var views = []view{
	{"live", func(p *tab) { p.live("") }},
	{"search", func(p *tab) {
		p.live("?search=team0")
		p.until(`document.querySelector(".toolbar .button.danger:enabled")`)
	}},
	{"nothing", func(p *tab) { p.goTo(page + "?search=nobody"); p.sees("No session matches") }},
	{"past-the-end", func(p *tab) { p.goTo(page + "?page=99"); p.sees("This page is empty") }},
	{"row", func(p *tab) { p.live(""); p.press(kb.ArrowDown); p.press(kb.ArrowDown) }},
	{"drawer", func(p *tab) {
		p.live("")
		p.run(`document.querySelectorAll(".tbody .row-link")[2].click()`)
		p.until(`document.querySelector(".drawer .history")`)
	}},
	{"drawer-unknown", func(p *tab) {
		p.live("?session=00000000-0000-4000-8000-000000000000")
		p.sees("This session is not known")
	}},
	{"disconnect", func(p *tab) {
		p.live("")
		p.run(`document.querySelectorAll(".tbody .act button")[2].click()`)
		p.until(`document.querySelector("dialog.ask input")`)
	}},
	{"matching", func(p *tab) {
		p.live("?search=team01")
		p.until(`document.querySelector(".toolbar .button.danger:enabled")`)
		p.run(`document.querySelector(".toolbar .button.danger").click()`)
		p.until(`document.querySelector("[data-preview]")`)
	}},
	{"revoke", func(p *tab) {
		p.live("")
		p.button("Revoke all…")
		p.until(`document.querySelector("dialog.ask input")`)
	}},
	{"help", func(p *tab) { p.live(""); p.press("?"); p.until(`document.querySelector("dialog .keys")`) }},
	{"connect", func(p *tab) {
		p.live("")
		p.button("Connect a client")
		p.until(`document.querySelector("dialog [data-token]")?.innerText.length > 100`)
	}},
	{"account", func(p *tab) {
		p.live("")
		p.run(`document.querySelector(".who .menu-button").click()`)
		p.until(`document.querySelector(".who .panel")`)
	}},
	{"picker", func(p *tab) {
		p.live("")
		p.run(`document.querySelector(".picker .menu-button").click()`)
		p.until(`document.querySelector(".picker .panel")`)
	}},
	{"first-run", func(p *tab) {
		p.goTo(emptyPage)
		p.until(`document.querySelector("[data-token]")?.innerText.length > 100`)
	}},
	{"ended", func(p *tab) { p.goTo(page + "/ended"); p.until(`document.querySelectorAll(".tbody .tr").length > 5`) }},
	{"ended-filter", func(p *tab) {
		p.goTo(page + "/ended?range=custom&reason=disconnected")
		p.until(`document.querySelectorAll(".tbody .tr").length > 0`)
		p.run(`document.querySelector(".kinds .menu-button").click()`)
		p.until(`document.querySelector(".kinds .panel")`)
	}},
	{"ended-drawer", func(p *tab) {
		p.goTo(page + "/ended?reason=disconnected")
		p.until(`document.querySelectorAll(".tbody .tr").length > 0`)
		p.run(`document.querySelector(".tbody .row-link").click()`)
		p.until(`document.querySelector(".drawer blockquote")`)
	}},
	{"ended-none", func(p *tab) { p.goTo(page + "/ended?reason=node_lost"); p.sees("No session ended") }},
	{"audit", func(p *tab) { p.goTo("/audit"); p.until(`document.querySelectorAll(".tbody .tr").length > 2`) }},
	{"missing", func(p *tab) { p.goTo("/applications/1"); p.sees("There is no such application") }},
	{"partial", func(p *tab) {
		p.live("")
		p.within("state/live.js", `m.view.value = {...m.view.value, partial: "nodes"}`)
		p.until(`document.querySelector(".banner.warn")`)
	}},
	{"toasts", func(p *tab) {
		p.live("")
		p.within("state/toasts.js", `m.tell("Disconnected ada.48@example.com."); m.tell("The node that holds the session cannot be reached.", "bad")`)
		p.until(`document.querySelectorAll(".toast").length === 2`)
	}},
}

// live opens the table, and waits for all of it.
func (p *tab) live(query string) {
	p.t.Helper()
	p.goTo(page + query)
	p.until(`document.querySelectorAll(".tbody .tr").length > 5 && document.querySelector(".plot-space canvas")`)
}

var (
	widths = []int64{1440, 834, 390}
	themes = []string{"light", "dark"}
)

// judge looks at what the tab shows: in both themes at three widths, at 320 pixels, and at 200 % of 1440.
func (p *tab) judge(name, source string) {
	p.t.Helper()
	dir := os.Getenv("ROLLCALL_PICTURES")
	if dir != "" {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			p.t.Fatal(err)
		}
	}
	for i, theme := range themes {
		p.media(theme, true)
		for _, width := range widths {
			p.size(width, map[int64]int64{1440: 1000, 834: 1112, 390: 844}[width])
			if i == 0 {
				p.fits(name, width)
			}
			if width == 1440 || i == 0 && width == 390 {
				p.isAccessible(fmt.Sprintf("%s, %s, %d px", name, theme, width), source, i > 0)
			}
			if dir != "" {
				p.do(chromedp.Sleep(settle / 4)) // what is drawn on a canvas follows the size
				p.picture(dir, fmt.Sprintf("%s-%d-%s", name, width, theme))
			}
		}
	}
	for _, width := range []int64{720, 320} {
		p.size(width, 640)
		p.fits(name, width)
	}
	p.size(1440, 1000)
	if n := get[float64](p, `document.querySelectorAll("h1").length`); n != 1 {
		p.t.Errorf("%s has %.0f first headings", name, n)
	}
	p.isGuarded()
}

// TestViews: everything that the dashboard shows can be read and worked by everybody, fits every window, and keeps to the page's policy.
// ROLLCALL_PICTURES=dir writes a picture of each view at three widths in both themes.
func TestViews(t *testing.T) {
	t.Parallel()
	source := axe(t)
	s, _ := stage(t)
	f := newFront(t, s.Addr())
	p := open(t, "http://"+f.Addr().String())
	p.guard()
	p.media("light", true)
	p.expect("/api/v1/sign-in")
	p.goTo("/")
	p.until(`document.querySelector("input[name=key]")`)
	p.judge("sign-in", source)
	p.types("input[name=key]", "rck_nonsense\r")
	p.sees("The API key is not valid")
	p.judge("sign-in-refused", source)
	p.signIn("/", fullKey)
	p.expect("00000000-0000-4000-8000-000000000000") // 404, and says so
	for _, v := range views {
		v.show(p)
		p.judge(v.name, source)
	}
	p.live("")
	p.expect("")
	f.point("")
	p.sees("Not live.")
	p.judge("not-live", source)
}

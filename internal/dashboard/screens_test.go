package dashboard_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// settle is how long a picture waits for what moves.
const settle = 400 * time.Millisecond

// TestScreens takes pictures of a server that runs elsewhere:
// ROLLCALL_SCREENS=dir ROLLCALL_URL=http://… ROLLCALL_KEY=rck_… go test -run TestScreens ./internal/dashboard
func TestScreens(t *testing.T) {
	dir, base, key := os.Getenv("ROLLCALL_SCREENS"), os.Getenv("ROLLCALL_URL"), os.Getenv("ROLLCALL_KEY")
	if dir == "" {
		t.Skip("set ROLLCALL_SCREENS, ROLLCALL_URL and ROLLCALL_KEY")
	}
	p := open(t, base)
	shots := []struct {
		name, path, ready string
		then              func()
	}{
		{"live", "/", `document.querySelectorAll(".tbody .tr").length > 5 && document.querySelector(".plot-space canvas")`, nil},
		{"search", "/?search=7", `document.querySelector(".pager")`, nil},
		{"drawer", "/", `document.querySelectorAll(".tbody .tr").length > 5`, func() {
			p.run(`document.querySelectorAll(".tbody .row-link")[2].click()`)
			p.until(`document.querySelector(".drawer .history")`)
		}},
		{"disconnect", "/", `document.querySelectorAll(".tbody .tr").length > 5`, func() {
			p.run(`document.querySelectorAll(".tbody .act button")[2].click()`)
			p.until(`document.querySelector("dialog.ask")`)
		}},
		{"matching", "/?search=team", `document.querySelectorAll(".tbody .tr").length > 5`, func() {
			p.until(`document.querySelector(".toolbar .button.danger:enabled")`)
			p.run(`document.querySelector(".toolbar .button.danger").click()`)
			p.until(`document.querySelector("[data-preview]")`)
		}},
		{"revoke", "/", `document.querySelectorAll(".tbody .tr").length > 5`, func() { p.button("Revoke all…") }},
		{"account", "/", `document.querySelectorAll(".tbody .tr").length > 5`, func() { p.run(`document.querySelector(".who .menu-button").click()`) }},
		{"picker", "/", `document.querySelectorAll(".tbody .tr").length > 5`, func() { p.run(`document.querySelector(".picker .menu-button").click()`) }},
		{"nothing", "/?search=nobody", `document.querySelector(".empty")`, nil},
		{"ended", "/applications/123456789/ended", `document.querySelectorAll(".tbody .tr").length > 0`, nil},
		{"audit", "/audit", `document.querySelector(".card")`, nil},
		{"help", "/", `document.querySelectorAll(".tbody .tr").length > 5`, func() { p.button("Keyboard shortcuts") }},
		{"connect", "/", `document.querySelectorAll(".tbody .tr").length > 5`, func() {
			p.button("Connect a client")
			p.until(`document.querySelector("[data-token]").innerText.length > 20`)
		}},
	}
	picture := func(name string) {
		png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sizes := []struct{ width, height int64 }{{390, 844}, {834, 1112}, {1440, 1000}}
	p.expect("/api/v1/sign-in")
	only := os.Getenv("ROLLCALL_SCREENS_ONLY")
	p.goTo("/")
	p.until(`document.querySelector("input[name=key]")`)
	for _, scheme := range []string{"light", "dark"} {
		p.theme(scheme)
		for _, size := range sizes {
			p.size(size.width, size.height)
			picture(fmt.Sprintf("signin-%d-%s", size.width, scheme))
		}
	}
	p.signIn("/", key)
	for _, shot := range shots {
		if only != "" && only != shot.name {
			continue
		}
		p.size(1440, 1000)
		p.goTo(shot.path)
		p.until(shot.ready)
		if shot.then != nil {
			shot.then()
		}
		for _, scheme := range []string{"light", "dark"} {
			p.theme(scheme)
			for _, size := range sizes {
				p.size(size.width, size.height)
				p.do(chromedp.Sleep(settle))
				picture(fmt.Sprintf("%s-%d-%s", shot.name, size.width, scheme))
			}
		}
	}
}

package dashboard_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	target "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// emptyPage is of an application that nobody ever connected to.
const emptyPage = "/applications/123456790"

func manager(t *testing.T, s *testkit.Server) *client.Manage {
	t.Helper()
	m, err := client.NewManage(client.ManageConfig{URL: s.URL, Key: fullKey})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// report opens and ends sessions of testkit.App in one call, as a server does that reports its own clients.
func report(ctx context.Context, m *client.Manage, items []api.LeaseItem) error {
	reply, err := m.Report(ctx, testkit.App, api.LeaseBatch{Items: items})
	if err != nil {
		return err
	}
	for _, result := range reply.Results {
		if !result.OK {
			return fmt.Errorf("an item was refused: %+v", result.Error)
		}
	}
	return nil
}

// guest is an open session that is like those of a product in use.
func guest(i int) api.LeaseItem {
	names := strings.Fields("ada grace linus barbara ken margaret dennis radia edsger hedy alan joan donald katherine tim frances")
	login := fmt.Sprintf("%s.%02d@example.com", names[i%len(names)], i)
	return api.LeaseItem{
		Op: api.LeaseOpen, ID: api.NewSessionID(), Authorized: i%7 != 3, Login: login, LeaseSeconds: 3600,
		License: fmt.Sprintf("TEAM%02d-%06d", i%5, 104729*(i+1)%1000000), ClientID: fmt.Sprintf("desk-%04x", 40503*(i+1)%65536),
		IPAddress: fmt.Sprintf("203.0.113.%d", 1+i%250), Hostname: fmt.Sprintf("mbp-%02d.office.example", i), UserAgent: "Editor/4.2 (macOS 15.3; arm64)",
		ClientInfo: info(map[string]any{"name": "Editor", "version": "4.2.1", "plugins": []string{"spell", "lint"}, "window": map[string]any{"w": 1440, "dark": true}}),
	}
}

// stage is a server where something happened: 60 sessions live, some ended in every way that an operator has, an audit of it.
func stage(t *testing.T) (*testkit.Server, *client.Manage) {
	t.Helper()
	s := testkit.Start(t, testkit.Config{MaxAuthorized: 100})
	m := manager(t, s)
	var open, end []api.LeaseItem
	for i := range 72 {
		open = append(open, guest(i))
		if i < 8 {
			end = append(end, api.LeaseItem{Op: api.LeaseEnd, ID: open[i].ID})
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(report(t.Context(), m, open))
	must(report(t.Context(), m, end))
	_, err := m.Disconnect(t.Context(), testkit.App, open[8].ID, "Stolen laptop, ticket 4711")
	must(err)
	found := api.DisconnectInput{SearchString: open[9].License, Categories: []api.Category{api.CategoryLicense}, Reason: "License resold"}
	preview, err := m.PreviewMatching(t.Context(), testkit.App, found)
	must(err)
	found.CreatedBefore = &preview.CreatedBefore
	_, err = m.DisconnectMatching(t.Context(), testkit.App, found)
	must(err)
	return s, m
}

// media says what the person's system asks of pages.
func (p *tab) media(scheme string, still bool) {
	p.t.Helper()
	motion := "no-preference"
	if still {
		motion = "reduce"
	}
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: motion},
		}})
		return err
	}))
}

// guard makes every page that the tab opens from now on count what breaks its policy, and what runs by way of a client's text.
func (p *tab) guard() {
	p.t.Helper()
	const script = `globalThis.owned = 0; globalThis.violations = [];
		addEventListener("securitypolicyviolation", e => violations.push(e.effectiveDirective + " " + e.blockedURI + " " + e.sample));`
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, target.AddScriptToEvaluateOnNewDocument, target.AddScriptToEvaluateOnNewDocumentParams{Source: script})
		return err
	}))
}

// isGuarded fails the test for what guard counted, and for a credential that the page keeps where scripts, or people who look over a
// shoulder, could read it.
func (p *tab) isGuarded() {
	p.t.Helper()
	if found := get[[]string](p, "violations"); len(found) > 0 {
		p.t.Errorf("the page breaks its policy: %q", found)
	}
	if get[float64](p, "owned") > 0 {
		p.t.Error("a script of a client ran")
	}
	kept := get[string](p, `JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href, history.state])`)
	if strings.Contains(kept, "rck_") || strings.Contains(kept, keySecret[1:]) || strings.Contains(kept, "eyJ") {
		p.t.Errorf("the page keeps a credential: %s", kept)
	}
	if kept := get[float64](p, "localStorage.length + sessionStorage.length"); kept > 0 {
		p.t.Error("the page keeps something in the browser's storage")
	}
}

// fits fails the test when something is wider than the window, or a word of the page's own is cut.
func (p *tab) fits(name string, width int64) {
	p.t.Helper()
	const measure = `(() => {
		const bad = [], wide = document.documentElement.scrollWidth - innerWidth;
		if (wide > 0) bad.push("the page is " + wide + " px too wide");
		const sheet = [...document.querySelectorAll("dialog[open] .sheet")].at(-1);
		if (sheet && sheet.scrollWidth > sheet.clientWidth + 1) bad.push("the dialog is " + (sheet.scrollWidth - sheet.clientWidth) + " px too wide");
		for (const e of (sheet ?? document.body).querySelectorAll("button, h1, h2, h3, label, legend, dt, nav a, .badge, .counter dd, [role=columnheader]")) {
			const box = e.getBoundingClientRect(), style = getComputedStyle(e);
			if (!box.width || style.clipPath !== "none" || e.closest(".offscreen, .thead")?.offsetWidth === 1) continue;
			if (box.right > innerWidth + 1 || box.left < -1) bad.push("outside of the window: " + e.outerHTML.slice(0, 120));
			if (e.scrollWidth > e.clientWidth + 1 && style.display !== "inline" && style.overflow !== "visible" && !e.querySelector("bdi"))
				bad.push("cut: " + e.outerHTML.slice(0, 120));
		}
		return bad;
	})()`
	for _, bad := range get[[]string](p, measure) {
		p.t.Errorf("%s at %d px: %s", name, width, bad)
	}
}

// axe returns the source of axe-core, which is a development dependency of web/ alone.
func axe(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile("../../web/node_modules/axe-core/axe.min.js")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip("axe-core is not installed: npm ci in web/")
	} else if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// isAccessible fails the test for whatever axe-core finds. It comes into the page by way of the debugger: the page's
// policy lets nothing else in. In a second theme only contrast can differ.
func (p *tab) isAccessible(name, source string, contrastAlone bool) {
	p.t.Helper()
	if !get[bool](p, `"axe" in globalThis`) {
		if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](source+"\n;true")); err != nil {
			p.t.Fatal(err)
		}
	}
	options := `{resultTypes: ["violations"]}`
	if contrastAlone {
		options = `{resultTypes: ["violations"], runOnly: {type: "rule", values: ["color-contrast"]}}`
	}
	ctx, cancel := context.WithTimeout(p.ctx, 3*patience)
	defer cancel()
	raw, err := chromedp.Run(ctx, chromedp.Evaluate[string](`axe.run(document, `+options+`).then(found => JSON.stringify(found.violations.map(v =>
		({id: v.id, impact: v.impact, nodes: v.nodes.map(n => n.html.slice(0, 200) + " — " + n.failureSummary.slice(0, 300))}))))`, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatal(err)
	}
	var found []struct {
		ID, Impact string
		Nodes      []string
	}
	if err := json.Unmarshal([]byte(raw), &found); err != nil {
		p.t.Fatal(err)
	}
	for _, v := range found {
		p.t.Errorf("%s: %s (%s), %d times:\n  %s", name, v.ID, v.Impact, len(v.Nodes), strings.Join(v.Nodes[:min(3, len(v.Nodes))], "\n  "))
	}
}

// picture writes what the window shows, when somebody wants pictures.
func (p *tab) picture(dir, name string) {
	p.t.Helper()
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(dir+"/"+name+".png", png, 0o600)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// state of a module of the page itself: what no server at hand can bring about.
func (p *tab) within(module, statement string) {
	p.t.Helper()
	script := fmt.Sprintf(`import(document.querySelector("script[type=module]").src.replace("app/main.js", "app/%s")).then(m => { %s; return true; })`, module, statement)
	if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise)); err != nil {
		p.t.Fatal(err)
	}
}

package dashboard_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// The one Chromium of all tests: each gets a profile of its own in it.
var browser struct {
	once   sync.Once
	ctx    context.Context
	cancel func()
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if browser.cancel != nil {
		browser.cancel()
	}
	os.Exit(code)
}

func startBrowser(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("Chromium is not installed")
		}
		t.Skip("Chromium is not installed")
	}
	browser.once.Do(func() {
		allocator, stop := chromedp.NewExecAllocator(context.Background(), chromedp.ExecPath(path), chromedp.NoSandbox,
			chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.Flag("disable-dev-shm-usage", true),
			chromedp.Flag("force-color-profile", "srgb"), chromedp.WindowSize(1440, 900))
		ctx, cancel := chromedp.NewContext(allocator)
		browser.ctx, browser.cancel = ctx, func() { cancel(); stop() }
		browser.err = chromedp.Do(ctx)
	})
	if browser.err != nil {
		t.Fatal(browser.err)
	}
	return browser.ctx
}

// tab is a page of a browser in which nobody is signed in.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string // of the server, as the page reaches it

	mu       sync.Mutex
	requests []string // to elsewhere
	errors   []string // in the console
	expected []string // parts of errors that are wanted
}

// patience is how long a page may take to show what it must.
const patience = 10 * time.Second

func open(t *testing.T, base string) *tab {
	t.Helper()
	parent := startBrowser(t)
	ctx, cancel := chromedp.NewContext(parent, chromedp.WithNewBrowserContext())
	p := &tab{t: t, ctx: ctx, base: base}
	t.Cleanup(func() {
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, r := range p.requests {
			t.Errorf("the page asked %s", r)
		}
		for _, e := range p.errors {
			t.Errorf("the console has: %s", e)
		}
	})
	if err := chromedp.Do(ctx); err != nil { // makes the tab, which a deadline here would end
		t.Fatal(err)
	}
	if err := chromedp.Listen(ctx, p.hear); err != nil {
		t.Fatal(err)
	}
	p.size(1440, 900)
	return p
}

// expect makes errors with the text in the console no failure.
func (p *tab) expect(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = append(p.expected, text)
}

func (p *tab) hear(event any) {
	var text string
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.asked(e.Request.URL)
		return
	case *network.EventWebSocketCreated:
		p.asked(e.URL)
		return
	case *runtime.EventExceptionThrown:
		if text = e.ExceptionDetails.Text; e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type != "error" && e.Type != "warning" {
			return
		}
		for _, arg := range e.Args {
			text += " " + string(arg.Value) + arg.Description
		}
	case *log.EventEntryAdded:
		if e.Entry.Level != "error" {
			return
		}
		text = e.Entry.Text + " " + e.Entry.URL
	default:
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range p.expected {
		if strings.Contains(text, part) {
			return
		}
	}
	p.errors = append(p.errors, text)
}

func (p *tab) asked(address string) {
	to, err := url.Parse(address)
	own, _ := url.Parse(p.base)
	if err != nil || to.Host != own.Host && to.Scheme != "about" && to.Scheme != "data" {
		p.mu.Lock()
		p.requests = append(p.requests, address)
		p.mu.Unlock()
	}
}

// do runs actions, which must succeed in time.
func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("%v\n%s", err, p.state())
	}
}

func try[T any](p *tab, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression))
}

// state is what the page shows, for failures.
func (p *tab) state() string {
	text, _ := try[string](p, `location.href + "\n" + document.body.innerText`)
	return text
}

func (p *tab) goTo(path string) {
	p.t.Helper()
	p.do(chromedp.Navigate(p.base + path))
}

// until waits for an expression of the page to be true.
func (p *tab) until(expression string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		is, err := try[bool](p, `Boolean(`+expression+`)`)
		if err == nil && is {
			return
		} else if time.Now().After(deadline) {
			p.t.Fatalf("still not so: %s (%v)\n%s", expression, err, p.state())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// sees waits for a text on the page.
func (p *tab) sees(text string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`document.body.innerText.includes(%q)`, text))
}

// get evaluates an expression.
func get[T any](p *tab, expression string) (value T) {
	p.t.Helper()
	value, err := try[T](p, expression)
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", expression, err, p.state())
	}
	return value
}

// press sends keys to whatever has the focus.
func (p *tab) press(keys string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// click clicks what the selector finds, with the pointer, once it is there.
func (p *tab) click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

// button presses the last button with a text or label.
func (p *tab) button(name string) {
	p.t.Helper()
	found := fmt.Sprintf(`[...document.querySelectorAll("button")].findLast(b => !b.disabled && (b.innerText.trim() === %q || b.ariaLabel === %q))`, name, name)
	p.until(found)
	p.run(found + ".click()")
}

// run runs a statement in the page.
func (p *tab) run(statement string) {
	p.t.Helper()
	get[bool](p, "("+statement+", true)")
}

// types fills a field.
func (p *tab) types(selector, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("document.querySelector(%q)", selector))
	p.run(fmt.Sprintf("document.querySelector(%q).focus(), document.querySelector(%q).select()", selector, selector))
	p.press(text)
}

// signIn opens the dashboard at a path and signs in with the key.
func (p *tab) signIn(path, key string) {
	p.t.Helper()
	p.expect("/api/v1/sign-in") // 401: nobody is signed in yet
	p.goTo(path)
	p.types("input[name=key]", key+"\r")
	p.until(`document.querySelector("header.top")`)
}

// logins are those of the rows on the screen.
func (p *tab) logins() []string {
	p.t.Helper()
	return get[[]string](p, `[...document.querySelectorAll(".tbody > .tr .login")].map(e => e.innerText.trim())`)
}

func (p *tab) size(width, height int64) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(width, height))
}

func (p *tab) theme(scheme string) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
		return err
	}))
}

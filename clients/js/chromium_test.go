package js_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/rollcallhq/rollcall/internal/testkit"
)

// page is a tab of a real browser on the stand's own origin.
type page struct {
	t   *testing.T
	ctx context.Context
}

func browse(t *testing.T, url string) page {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program(t, "chromium", "chromium-browser", "google-chrome")),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	p := page{t, ctx}
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool]("window.tests !== undefined")); err != nil {
		t.Fatal(err)
	}
	return p
}

// call awaits a function of window.tests and returns what it does.
func (p page) call(name string, args ...any) any {
	p.t.Helper()
	var list []string
	for _, arg := range args {
		text, err := json.Marshal(arg)
		if err != nil {
			p.t.Fatal(err)
		}
		list = append(list, string(text))
	}
	script := fmt.Sprintf("tests.%s(%s).then(v => v ?? null)", name, strings.Join(list, ", "))
	out, err := chromedp.Run(p.ctx, chromedp.Evaluate[any](script, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	return out
}

// TestChromium runs the same modules in a real browser, unbuilt, on a page of the server's origin.
func TestChromium(t *testing.T) {
	program(t, "chromium", "chromium-browser", "google-chrome")
	s := start(t)
	p := browse(t, s.url+"/test/browser/index.html")
	sessions := "/api/v1/applications/" + testkit.App.String() + "/sessions"
	id, _ := p.call("hold").(string)
	s.ended(sessions + "/" + id)
	if again := p.call("back", 4100); again == id {
		t.Errorf("back as %v", again)
	}
	nextSecond()
	s.ended(sessions)
	nextSecond()
	p.call("bye")

	p.call("churn", s.url+"/signed", testkit.Number)
	p.call("watch", s.url+"/signed", testkit.Number)
	s.cut()
	p.call("caught")
	s.restart()
	p.call("caught")
	p.call("away")
	if got := p.call("refused", testkit.Number); got != "401 api_key_invalid" {
		t.Errorf("refused with %v", got)
	}
	if got, _ := p.call("key", testkit.Key, testkit.Number).(string); !strings.Contains(got, "in a browser, sign in") {
		t.Errorf("with a key: %v", got)
	}
}

// ended makes a DELETE that must end one session.
func (s *stand) ended(path string) {
	s.t.Helper()
	status, body := s.server.Do(s.t, testkit.Key, http.MethodDelete, path, nil)
	if want := `"disconnectedCount":1`; status != http.StatusOK || !strings.Contains(string(body), want) {
		s.t.Errorf("DELETE %s: %d %s", path, status, body)
	}
}

// nextSecond waits for one: a token of another issuer is judged by the second in which it was issued.
func nextSecond() {
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(1100 * time.Millisecond)))
}

//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/creack/pty"
	"github.com/hinshun/vt10x"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// terminal is a program in a pseudo-terminal, with what a person would see of it.
type terminal struct {
	t      *testing.T
	vt     vt10x.Terminal
	pty    *os.File
	tty    *os.File // the program's end; kept open, so that its settings can be read
	before *term.State
	cmd    *exec.Cmd
	done   chan error // has the program's end
}

func newTerminal(t *testing.T, width, height int, env []string, args ...string) *terminal {
	t.Helper()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	if err := pty.Setsize(ours, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}); err != nil {
		t.Fatal(err)
	}
	before, err := term.GetState(theirs.Fd())
	if err != nil {
		t.Fatal(err)
	}
	p := &terminal{t: t, pty: ours, tty: theirs, before: before, done: make(chan error, 1),
		vt: vt10x.New(vt10x.WithSize(width, height))}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(append(os.Environ(), "TERM=xterm-256color", "GORACE=atexit_sleep_ms=0"), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.cmd = cmd
	var running sync.WaitGroup
	running.Go(func() { p.done <- cmd.Wait() })
	running.Go(func() {
		r := bufio.NewReader(ours)
		for p.vt.Parse(r) == nil {
		}
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = theirs.Close()
		_ = ours.Close()
		running.Wait()
	})
	return p
}

func (p *terminal) keys(s string) {
	p.t.Helper()
	if _, err := p.pty.WriteString(s); err != nil {
		p.t.Fatal(err)
	}
}

// lines returns the screen without the space at the ends of its lines.
func (p *terminal) lines() []string {
	lines := strings.Split(p.vt.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

// sees waits until the screen has all of the texts, and none of those that begin with "not ".
func (p *terminal) sees(texts ...string) {
	p.t.Helper()
	for end := time.Now().Add(3 * patience); ; time.Sleep(5 * time.Millisecond) {
		screen, missing := strings.Join(p.lines(), "\n"), ""
		for _, text := range texts {
			if absent, not := strings.CutPrefix(text, "not "); strings.Contains(screen, absent) == not {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("the screen does not show %q:\n%s", missing, screen)
		}
	}
}

// restored waits for the end of the program and holds that the terminal is as it was.
func (p *terminal) restored() error {
	p.t.Helper()
	var end error
	select {
	case end = <-p.done:
	case <-time.After(3 * patience):
		p.t.Fatalf("it goes on:\n%s", strings.Join(p.lines(), "\n"))
	}
	after, err := term.GetState(p.tty.Fd())
	if err != nil {
		p.t.Fatal(err)
	}
	if *p.before != *after {
		p.t.Errorf("the terminal's settings were %+v, are %+v", *p.before, *after)
	}
	testkit.Eventually(p.t, "the terminal is out of the alternate screen, with a cursor", func() bool {
		p.vt.Lock()
		defer p.vt.Unlock()
		return p.vt.Mode()&vt10x.ModeAltScreen == 0 && p.vt.CursorVisible()
	})
	return end
}

// holdAs holds a session; what ends it is sent.
func holdAs(t *testing.T, srv *testkit.Server, login, license string) <-chan error {
	t.Helper()
	ended, ctx := make(chan error, 1), t.Context()
	token := testkit.Token(t, map[string]any{"sub": login, "license": license})
	open := make(chan struct{}, 1)
	var holding sync.WaitGroup
	holding.Go(func() {
		ended <- client.Hold(ctx, client.SessionConfig{URL: srv.URL, Hostname: "mbp-14", ClientInfo: []byte(`{"name":"agent","tools":["a","b"]}`),
			Token: func(context.Context) (string, error) { return token, nil },
			OnEvent: func(e client.Event) {
				if _, ok := e.(api.Welcome); ok {
					open <- struct{}{}
				}
			}})
	})
	t.Cleanup(holding.Wait)
	<-open
	return ended
}

func watchIn(t *testing.T, srv *testkit.Server, width, height int, args ...string) *terminal {
	t.Helper()
	return newTerminal(t, width, height,
		[]string{"ROLLCALL_URL=" + srv.URL, "ROLLCALL_KEY=" + testkit.Key, "ROLLCALL_APPLICATION=" + testkit.Number},
		append([]string{"rollcall", "sessions", "watch"}, args...)...)
}

// TestTerminalFindsAndEndsASession is the whole of an operator's night: the table, a search, the details, a disconnect with its
// reason at the client, another size, and a terminal that is as it was.
func TestTerminalFindsAndEndsASession(t *testing.T) {
	srv := testkit.Start(t, testkit.Config{})
	_ = holdAs(t, srv, "ann@example.com", "PRO-111")
	mallory := holdAs(t, srv, "mallory@example.com", "STOLEN-666")
	p := watchIn(t, srv, 80, 24)
	p.sees("Rollcall 123456789", "● live", "2 live", "2 match", "LOGIN", "ann@example.com", "mallory@example.com", "page 1/1")

	bob := holdAs(t, srv, "bob@example.com", "PRO-222") // arrives under our eyes
	p.sees("3 live", "+ bob@example.com")

	p.keys("/stolen")
	p.sees("/ stolen", "1 match", "mallory@example.com", "not ann@example.com", "not bob@example.com")
	p.keys("\r\r") // keep the search, see the details
	p.sees("DETAILS", "status          active: last activity", "hostname        mbp-14", `"tools": [`)
	p.keys("\r")
	p.sees("not DETAILS")

	p.keys("d")
	p.sees("Disconnect this session?", "license  STOLEN-666", "enter disconnect")
	p.keys("\x1b")
	p.sees("not Disconnect this session?", "▸")
	p.keys("d")
	p.sees("Disconnect this session?")
	p.keys("laptop was stolen\r")
	ended := &client.EndedError{}
	if err := <-mallory; !errors.As(err, &ended) || ended.Disconnect.Code != api.CloseDisconnected || ended.Disconnect.Reason != "laptop was stolen" {
		t.Fatalf("the client was told %v", err)
	}
	p.sees("mallory@example.com was disconnected", "0 match", "2 live", "no live session matches")

	p.keys("\x1b") // clears the search
	p.sees("2 match", "ann@example.com", "bob@example.com")
	p.vt.Resize(40, 12)
	if err := pty.Setsize(p.pty, &pty.Winsize{Cols: 40, Rows: 12}); err != nil {
		t.Fatal(err)
	}
	p.sees("search with /                     in 1", "not CLIENT", "ann@example.com")
	p.keys("?")
	p.sees("suspend", "any key back")
	p.keys(" ")
	p.sees("not suspend")
	p.keys("q")
	if err := p.restored(); err != nil {
		t.Errorf("quitting: %v", err)
	}
	select {
	case err := <-bob:
		t.Errorf("bob was told %v", err)
	default:
	}
}

// TestTerminalIsRestored holds that however the table ends, the terminal is as it was, and the reason is on it.
func TestTerminalIsRestored(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(t *testing.T, srv *testkit.Server, p *terminal)
		says string
	}{
		{"ctrl+c", func(_ *testing.T, _ *testkit.Server, p *terminal) { p.keys("\x03") }, ""},
		{"a signal", func(_ *testing.T, _ *testkit.Server, p *terminal) { _ = p.cmd.Process.Signal(syscall.SIGTERM) }, ""},
		{"a key that was revoked", func(t *testing.T, srv *testkit.Server, _ *terminal) { revokeKey(t, srv) }, "rollcall: api_key_revoked"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := testkit.Start(t, testkit.Config{})
			p := watchIn(t, srv, 80, 24)
			p.sees("no session is live")
			tc.do(t, srv, p)
			err := p.restored()
			if tc.says == "" && err != nil {
				t.Errorf("it ended with %v", err)
			}
			if tc.says != "" {
				p.sees(tc.says)
				if err == nil {
					t.Error("it ended with 0")
				}
			}
		})
	}
}

func revokeKey(t *testing.T, srv *testkit.Server) {
	t.Helper()
	admin, err := client.NewAdmin(client.ManageConfig{URL: srv.URL, Key: srv.AdminToken})
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.RevokeKey(t.Context(), "0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
}

// TestTerminalSaysThatItIsOld holds that a page whose server has gone is not taken for a live one.
func TestTerminalSaysThatItIsOld(t *testing.T) {
	srv := testkit.Start(t, testkit.Config{})
	p := watchIn(t, srv, 80, 24)
	p.sees("● live")
	srv.Stop(t)
	p.sees("◌ reconnecting", "! this is an old page", "not ● live")
	p.keys("q")
	if err := p.restored(); err != nil {
		t.Errorf("quitting: %v", err)
	}
}

// TestTerminalKeepsItsColours holds that NO_COLOR is respected whatever its value, and that what clients wrote colours nothing, moves
// nothing and hides nothing.
func TestTerminalKeepsItsColours(t *testing.T) {
	srv := testkit.Start(t, testkit.Config{})
	_ = holdAs(t, srv, "<img src=x onerror=alert(1)>", "\x1b[31mred\x1b[2J\u202e")
	_ = holdAs(t, srv, "\x1b]0;title\x07"+strings.Repeat("x", 200), "a\r\nb\tc") // the emulator knows no wide runes
	_ = holdAs(t, srv, "ann@example.com", "PRO-111")
	for _, env := range []string{"NO_COLOR=please", "NO_COLOR="} {
		p := newTerminal(t, 120, 24, []string{env, "ROLLCALL_URL=" + srv.URL, "ROLLCALL_KEY=" + testkit.Key, "ROLLCALL_APPLICATION=" + testkit.Number},
			"rollcall", "sessions", "watch")
		p.sees("3 live", "<img src=x onerror=aler…", `\u001b[31mred\u001b…`, `\u001b]0;title\u0007xxx…`, `a\r\nb\tc`, "PRO-111", "page 1/1", "q quit")
		coloured := 0
		p.vt.Lock()
		for y := range 24 {
			for x := range 120 {
				if c := p.vt.Cell(x, y); c.FG != vt10x.DefaultFG || c.BG != vt10x.DefaultBG {
					coloured++
				}
			}
		}
		if title := p.vt.Title(); title != "rollcall sessions watch "+testkit.Number {
			t.Errorf("the window is called %q", title)
		}
		p.vt.Unlock()
		if none := env != "NO_COLOR="; none != (coloured == 0) {
			t.Errorf("with %s %d cells are coloured", env, coloured)
		}
		p.keys("q")
		if err := p.restored(); err != nil {
			t.Errorf("quitting: %v", err)
		}
	}
}

// TestTerminalIsRefused holds that what is wrong is said on the terminal itself, not on a screen that goes away.
func TestTerminalIsRefused(t *testing.T) {
	srv := testkit.Start(t, testkit.Config{})
	p := watchIn(t, srv, 80, 24, "--application", "7")
	if err := p.restored(); err == nil {
		t.Error("it ended with 0")
	}
	p.sees("rollcall: application_not_found")
}

// TestShellsComplete asks real shells, at their prompts.
func TestShellsComplete(t *testing.T) {
	path, err := exec.LookPath("rollcall")
	if err != nil {
		t.Fatal(err)
	}
	for shell, start := range map[string][]string{
		"bash": {"--norc", "--noprofile", "-i"},
		"zsh":  {"-f", "-i"},
		"fish": {"--no-config", "-i"},
	} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(shell); err != nil {
				t.Skipf("there is no %s here", shell)
			}
			home := t.TempDir()
			if err := os.WriteFile(filepath.Join(home, "some-file"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			p := newTerminal(t, 100, 30, []string{"HOME=" + home, "PS1=$ ", "PATH=" + filepath.Dir(path) + ":" + os.Getenv("PATH")},
				append([]string{shell}, start...)...)
			p.keys("cd " + home + "; echo rea''dy\r")
			p.sees("\nready")
			p.keys(map[string]string{
				"bash": "source <(rollcall completion bash)\r",
				"zsh":  "autoload -U compinit; compinit -u; source <(rollcall completion zsh)\r",
				"fish": "rollcall completion fish | source\r",
			}[shell])
			p.keys("echo lo''aded\r")
			p.sees("\nloaded")
			for _, tc := range [][2]string{
				{"rollcall sess\t", "rollcall sessions"},
				{"rollcall sessions list --status=ina\t", "rollcall sessions list --status=inactive"},
				{"rollcall sessions list -o j\t", "rollcall sessions list -o json"},
				{"rollcall serve --bootstrap some\t", "rollcall serve --bootstrap some-file"},
			} {
				p.keys(tc[0])
				p.sees(tc[1])
				p.keys("\x15") // takes the line back
				p.sees("not " + tc[1])
			}
			p.keys("rollcall sessions \t\t")
			p.sees("list", "get", "watch", "disconnect", "revoke-all")
			p.keys("\x03\x04")
		})
	}
}

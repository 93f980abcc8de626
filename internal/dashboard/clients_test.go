package dashboard_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

const (
	keySecret = "_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL"
	fullKey   = "rck_0123456789abcdef" + keySecret // of Acme, every scope
	readKey   = "rck_readreadreadread" + keySecret // sessions:read
	otherKey  = "rck_otherotherother0" + keySecret // of Globex, every scope
)

// person is a client that holds a session with the server.
type person struct {
	t    *testing.T
	told chan api.Disconnect // what the server said when it ended the session
	stop context.CancelFunc
	done sync.WaitGroup
}

// connect opens a session of testkit.App and waits for its welcome.
func connect(t *testing.T, url string, claims map[string]any, change func(*client.SessionConfig)) *person {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p := &person{t: t, told: make(chan api.Disconnect, 10), stop: stop}
	welcome := make(chan struct{}, 10)
	token := testkit.Token(t, claims)
	cfg := client.SessionConfig{
		URL: url, Token: func(context.Context) (string, error) { return token, nil }, MinBackoff: 50 * time.Millisecond,
		MaxBackoff: 200 * time.Millisecond,
		OnEvent: func(e client.Event) {
			switch e := e.(type) {
			case api.Welcome:
				welcome <- struct{}{}
			case api.Disconnect:
				p.told <- e
			}
		},
	}
	if change != nil {
		change(&cfg)
	}
	session, err := client.NewSession(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.done.Go(func() { _ = session.Run(ctx) }) // it ends with the test, or because the server wants it
	t.Cleanup(p.leave)
	select {
	case <-welcome:
	case <-time.After(patience):
		t.Fatal("no welcome")
	}
	return p
}

func (p *person) leave() {
	p.stop()
	p.done.Wait()
}

// hears waits for the server to end the session.
func (p *person) hears() api.Disconnect {
	p.t.Helper()
	select {
	case e := <-p.told:
		return e
	case <-time.After(patience):
		p.t.Fatal("the client was not told")
		return api.Disconnect{}
	}
}

// named makes claims of a login and a license.
func named(login, license string) map[string]any {
	return map[string]any{"sub": login, "license": license, "jti": login}
}

// front is an address that stays while the server behind it is another.
type front struct {
	net.Listener
	mu     sync.Mutex
	target string // host:port; "" = nobody is there
	conns  []net.Conn
}

func newFront(t *testing.T, target string) *front {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{Listener: listener, target: target}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { f.pass(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		f.point("")
		running.Wait()
	})
	return f
}

// point passes new connections on to another server, and cuts those that there are.
func (f *front) point(target string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = target
	for _, conn := range f.conns {
		_ = conn.Close()
	}
	f.conns = nil
}

func (f *front) pass(conn net.Conn) {
	defer conn.Close()
	f.mu.Lock()
	target := f.target
	f.conns = append(f.conns, conn)
	f.mu.Unlock()
	there, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", target)
	if err != nil {
		return
	}
	defer there.Close()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(conn, there)
		_ = conn.Close()
	})
	_, _ = io.Copy(there, conn)
	_ = there.Close()
	back.Wait()
}

func info(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// quiet is the pause between samples that shows the system at rest: a stream that flushed less than 50 ms ago is under load (G2).
const quiet = 75 * time.Millisecond

// helloFor signs a token for the n-th client and returns its hello frame.
func helloFor(t benchTarget, n int) ([]byte, error) {
	now := time.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": fmt.Sprintf("user-%07d@bench.test", n), "license": fmt.Sprintf("LIC-%06d-%06d", n, rand.IntN(1e6)),
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": fmt.Sprintf("%d-%d", n, rand.Uint64()),
	}).SignedString([]byte(t.Secret))
	if err != nil {
		return nil, err
	}
	return json.Marshal(api.Hello{
		Type: api.TypeHello, Token: token, Application: t.Application, ClientID: fmt.Sprintf("client-%05d", n), Hostname: "bench",
	})
}

// warm opens and closes a few sessions, so that what the server makes once is made, and returns its memory then.
func (b *bench) warm(ctx context.Context) (int64, error) {
	for n := range 50 {
		hello, err := helloFor(b.target, n)
		if err != nil {
			return 0, err
		}
		w, _, err := b.dial.open(ctx, hello)
		if err != nil {
			return 0, err
		}
		w.close()
	}
	if _, err := b.m.Live(ctx, client.Query{Application: b.target.Application}); err != nil {
		return 0, err
	}
	time.Sleep(time.Second)
	return b.rss()
}

// rss returns the resident memory of the server's process; 0 when it is not ours, or the system does not tell.
func (b *bench) rss() (int64, error) {
	if b.target.PID == 0 {
		return 0, nil
	}
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(b.target.PID), "statm"))
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(data), &size, &resident); err != nil {
		return 0, err
	}
	return resident * int64(os.Getpagesize()), nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// list asks for random pages over one kept connection.
func (b *bench) list(ctx context.Context) (*latencyResult, error) {
	pages := max(1, b.cmd.Sessions/api.MaxPageSize)
	return b.ask(ctx, func() client.Query { return client.Query{Page: 1 + rand.IntN(pages), PageSize: api.MaxPageSize} })
}

// search asks for the licenses of random sessions, by what few of them have.
func (b *bench) search(ctx context.Context) (*latencyResult, error) {
	return b.ask(ctx, func() client.Query {
		return client.Query{PageSize: api.MaxPageSize, Search: fmt.Sprintf("%04d", rand.IntN(b.cmd.Sessions))}
	})
}

func (b *bench) ask(ctx context.Context, query func() client.Query) (*latencyResult, error) {
	samples := make([]time.Duration, 0, b.cmd.Requests)
	for len(samples) < b.cmd.Requests {
		q := query()
		q.Application = b.target.Application
		start := time.Now()
		_, err := b.m.Live(ctx, q)
		switch api.CodeOf(err) {
		case "":
			samples = append(samples, time.Since(start))
		case api.CodeRateLimited: // of a server that is not ours
			if err := pause(ctx, time.Second); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
	return &latencyResult{quantilesOf(samples)}, nil
}

// watcher is a stream of the newest sessions that tells when a row came or went.
type watcher struct {
	*client.Watch
	seen chan seen
	stop context.CancelFunc
	pump sync.WaitGroup
}

// seen is a row message with its time of arrival.
type seen struct {
	kind string
	id   api.ServerID
	at   time.Time
}

func (b *bench) startWatcher(ctx context.Context) (*watcher, error) {
	w, err := b.m.Watch(ctx, client.Query{Application: b.target.Application, PageSize: 10})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	out := &watcher{Watch: w, seen: make(chan seen, 1024), stop: cancel}
	out.pump.Go(func() {
		for {
			step, err := w.Next(ctx)
			if err != nil {
				return
			}
			at := time.Now()
			for _, m := range step.Messages {
				var row struct {
					Row      api.Row      `json:"row"`
					ServerID api.ServerID `json:"serverId"`
				}
				_ = json.Unmarshal(m.Raw, &row) // init has neither
				select {
				case out.seen <- seen{m.Type, row.Row.ServerID + row.ServerID, at}:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	return out, nil
}

// end stops the watcher and waits for it.
func (w *watcher) end() {
	w.stop()
	w.pump.Wait()
	_ = w.Close() // it has no error
}

// wait returns when the message came.
func (w *watcher) wait(ctx context.Context, kind string, id api.ServerID) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
	for {
		select {
		case s := <-w.seen:
			if s.kind == kind && s.id == id {
				return s.at, nil
			}
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("no %s of %s came", kind, id)
		}
	}
}

// newcomers is far above the numbers of the crowd, so that tokens and client ids are new.
const newcomers = 1_000_000

// watch lets sessions come one at a time and takes the time until a watcher has the row.
func (b *bench) watch(ctx context.Context) (*watchResult, error) {
	w, err := b.startWatcher(ctx)
	if err != nil {
		return nil, err
	}
	defer w.end()
	var added, opened []time.Duration
	for n := range b.cmd.Rounds {
		hello, err := helloFor(b.target, newcomers+n)
		if err != nil {
			return nil, err
		}
		start := time.Now()
		s, welcome, err := b.dial.open(ctx, hello)
		if err != nil {
			return nil, err
		}
		opened = append(opened, time.Since(start))
		at, err := w.wait(ctx, api.TypeAdded, welcome.ServerID)
		s.close()
		if err != nil {
			return nil, err
		}
		added = append(added, at.Sub(start))
		if _, err := w.wait(ctx, api.TypeRemoved, welcome.ServerID); err != nil {
			return nil, err
		}
		time.Sleep(quiet)
	}
	return &watchResult{Added: quantilesOf(added), Opened: quantilesOf(opened)}, nil
}

// disconnect ends sessions over the stream and takes the time until the client has the event.
func (b *bench) disconnect(ctx context.Context) (*disconnectResult, error) {
	w, err := b.startWatcher(ctx)
	if err != nil {
		return nil, err
	}
	defer w.end()
	var samples []time.Duration
	for n := range b.cmd.Rounds {
		hello, err := helloFor(b.target, 2*newcomers+n)
		if err != nil {
			return nil, err
		}
		s, welcome, err := b.dial.open(ctx, hello)
		if err != nil {
			return nil, err
		}
		if _, err := w.wait(ctx, api.TypeAdded, welcome.ServerID); err != nil {
			return nil, err
		}
		start := time.Now()
		if err := w.Disconnect(ctx, welcome.ServerID); err != nil {
			return nil, err
		}
		code := s.ended()
		samples = append(samples, time.Since(start))
		s.close()
		if code != api.CloseDisconnected {
			return nil, fmt.Errorf("the client was told %d, not %d", code, api.CloseDisconnected)
		}
	}
	return &disconnectResult{Event: quantilesOf(samples)}, nil
}

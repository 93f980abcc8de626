package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// follower is an operator's stream that keeps a note of every message.
type follower struct {
	watch *client.Watch
	stop  context.CancelFunc
	pump  sync.WaitGroup
	news  chan struct{} // holds one: there are more notes

	mu    sync.Mutex
	notes []note
	page  client.Page // as the stream has it
	err   error       // why the stream ended before it was told to
}

// note is one message of a stream.
type note struct {
	kind  string
	id    api.ServerID   // of a row message
	page  []api.ServerID // of an init: the first, and those after the connection was lost
	total int            // of a totals message
	at    time.Time      // the same for all messages of one step
}

// follow opens a stream of the target's application.
func (b *bench) follow(ctx context.Context, q client.Query) (*follower, error) {
	q.Application = b.target.Application
	w, err := b.m.Watch(ctx, q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &follower{watch: w, stop: cancel, news: make(chan struct{}, 1)}
	f.pump.Go(func() { f.read(ctx) })
	return f, nil
}

func (f *follower) read(ctx context.Context) {
	for {
		step, err := f.watch.Next(ctx)
		at := time.Now()
		f.mu.Lock()
		for _, m := range step.Messages {
			f.notes = append(f.notes, noteOf(m, at))
		}
		if len(step.Messages) > 0 {
			f.page = step.Page
		}
		if err != nil && ctx.Err() == nil {
			f.err = err
		}
		f.mu.Unlock()
		select {
		case f.news <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func noteOf(m client.Message, at time.Time) note {
	if m.Type == api.TypeInit {
		var init api.Init
		_ = json.Unmarshal(m.Raw, &init) // package client has read it already
		n := note{kind: m.Type, at: at}
		for _, row := range init.Items {
			n.page = append(n.page, row.ServerID)
		}
		return n
	}
	var body struct {
		Row      api.Row      `json:"row"`
		ServerID api.ServerID `json:"serverId"`
		Total    int          `json:"total"`
	}
	_ = json.Unmarshal(m.Raw, &body) // as above
	return note{kind: m.Type, id: body.Row.ServerID + body.ServerID, total: body.Total, at: at}
}

// all returns the notes so far.
func (f *follower) all() []note {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.notes)
}

// view returns the page as the stream has it.
func (f *follower) view() api.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.page.Clone().View
}

// failure returns why the stream has ended; nil while it goes on.
func (f *follower) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// await returns once there is a note that is wanted, wherever it stands.
func (f *follower) await(ctx context.Context, wanted func(note) bool) error {
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
	for seen := 0; ; {
		notes := f.all()
		if slices.ContainsFunc(notes[seen:], wanted) {
			return nil
		}
		seen = len(notes)
		if err := f.failure(); err != nil {
			return err
		}
		select {
		case <-f.news:
		case <-ctx.Done():
			return fmt.Errorf("the stream did not bring what was waited for: %w", context.Cause(ctx))
		}
	}
}

// end closes the stream and waits for it.
func (f *follower) end() {
	f.stop()
	f.pump.Wait()
	_ = f.watch.Close() // it has no error
}

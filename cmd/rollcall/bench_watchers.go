package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// watchersOrder tells a client process which streams to hold: stream i watches query i modulo their number. The first Followed of
// them apply what they are sent; the others count it, so that the machine is left to the server.
type watchersOrder struct {
	Target   benchTarget    `json:"target"`
	Queries  []client.Query `json:"queries"`
	Watchers int            `json:"watchers"`
	Followed int            `json:"followed"`
}

// watchersReport is its first answer, and its answer to every null that follows.
type watchersReport struct {
	Init     []time.Duration `json:"init,omitempty"` // from dialling to the first message
	Failed   int             `json:"failed,omitempty"`
	FirstErr string          `json:"firstErr,omitempty"`
	Messages int64           `json:"messages"` // so far
	Bytes    int64           `json:"bytes"`
	Pages    []api.View      `json:"pages,omitempty"` // of those that are followed, in their order
}

type benchWatchersCmd struct{}

// Run holds the streams until its input ends.
func (benchWatchersCmd) Run(ctx context.Context, io *stdio) error {
	in, out := json.NewDecoder(io.in), json.NewEncoder(io.out)
	var order watchersOrder
	if err := in.Decode(&order); err != nil {
		return err
	}
	d, err := newDialer(order.Target.URL)
	if err != nil {
		return err
	}
	c := &watchers{streams: make([]*watchStream, order.Watchers)}
	for i := range c.streams {
		c.streams[i] = &watchStream{follow: i < order.Followed}
	}
	defer c.end()
	if err := out.Encode(c.open(ctx, d, order)); err != nil {
		return err
	}
	return c.answer(in, out)
}

// watchers are the streams of a process, a goroutine each.
type watchers struct {
	streams         []*watchStream
	messages, bytes atomic.Int64
	reading         sync.WaitGroup

	mu     sync.Mutex // of what went wrong
	failed int
	first  error
}

// watchStream is one stream.
type watchStream struct {
	wire   *wire
	follow bool

	mu   sync.Mutex
	page client.Page // when followed
}

// open opens all streams at once.
func (c *watchers) open(ctx context.Context, d *dialer, order watchersOrder) watchersReport {
	took := make([]time.Duration, len(c.streams))
	var opening sync.WaitGroup
	for i, s := range c.streams {
		opening.Go(func() {
			start := time.Now()
			err := s.open(ctx, d, order.Target, order.Queries[i%len(order.Queries)])
			if took[i] = time.Since(start); err != nil {
				c.fail(fmt.Errorf("opening stream %d: %w", i, err))
				return
			}
			c.reading.Go(func() { c.read(s) })
		})
	}
	opening.Wait()
	r := c.report(false)
	r.Init = took
	return r
}

func (s *watchStream) open(ctx context.Context, d *dialer, t benchTarget, q client.Query) (err error) {
	query := url.Values{
		"applicationId": {t.Application}, "page": {strconv.Itoa(q.Page)}, "pageSize": {strconv.Itoa(q.PageSize)},
		"searchString": {q.Search}, "categories": {string(q.Categories[0])}, "totals": {strconv.FormatBool(q.Totals)},
	}
	header := http.Header{"Authorization": {"Bearer " + t.Key}}
	s.wire, err = d.dial(ctx, api.LivePath, query.Encode(), ws.Dialer{Header: ws.HandshakeHeaderHTTP(header)}, func(w *wire) error {
		frame, err := w.frame()
		if err == nil && !bytes.Contains(frame, []byte(`"type":"init"`)) {
			err = fmt.Errorf("the first message is %.80s", frame)
		}
		if err == nil && s.follow {
			err = s.page.Apply(frame)
		}
		return err
	})
	return err
}

// read counts and follows until the stream ends.
func (c *watchers) read(s *watchStream) {
	for {
		frame, err := s.wire.frame()
		if err != nil {
			c.fail(err)
			return
		}
		c.messages.Add(1)
		c.bytes.Add(int64(len(frame)))
		if s.follow {
			s.mu.Lock()
			err = s.page.Apply(frame)
			s.mu.Unlock()
			if err != nil {
				c.fail(err)
				return
			}
		}
	}
}

func (c *watchers) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed++; c.first == nil {
		c.first = err
	}
}

// answer reports once for every null of the input.
func (c *watchers) answer(in *json.Decoder, out *json.Encoder) error {
	for {
		var null any
		if err := in.Decode(&null); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := out.Encode(c.report(true)); err != nil {
			return err
		}
	}
}

func (c *watchers) report(pages bool) watchersReport {
	r := watchersReport{Messages: c.messages.Load(), Bytes: c.bytes.Load()}
	c.mu.Lock()
	if r.Failed = c.failed; c.first != nil {
		r.FirstErr = c.first.Error()
	}
	c.mu.Unlock()
	for _, s := range c.streams {
		if pages && s.follow {
			s.mu.Lock()
			view := s.page.Clone().View
			s.mu.Unlock()
			r.Pages = append(r.Pages, view)
		}
	}
	return r
}

func (c *watchers) end() {
	for _, s := range c.streams {
		if s.wire != nil {
			s.wire.close()
		}
	}
	c.reading.Wait()
}

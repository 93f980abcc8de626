package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// stormReport is what a process of stormers answers to a null: it has cut all its connections and every client has come back, or
// has given up. Entry i of Cut and Welcome are of the same client.
type stormReport struct {
	Start    time.Time       `json:"start"`
	Cut      []time.Duration `json:"cut"`     // from Start to the client's cut
	Welcome  []time.Duration `json:"welcome"` // from its cut to its welcome
	Dials    int             `json:"dials"`
	Told     map[string]int  `json:"told,omitempty"`
	FirstErr string          `json:"firstErr,omitempty"`
}

// stormPatience is how long a client tries to come back.
const stormPatience = 60 * time.Second

// eachNull calls do for every null of the input, until it ends.
func eachNull(in *json.Decoder, do func() error) error {
	for {
		var null any
		if err := in.Decode(&null); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := do(); err != nil {
			return err
		}
	}
}

// heldReport is what the process of the held sessions answers when they are open, and to every second null.
type heldReport struct {
	FirstErr   string          `json:"firstErr,omitempty"`
	Echo       []time.Duration `json:"echo,omitempty"`
	Unanswered int             `json:"unanswered"`
	Lost       int             `json:"lost"` // so far
}

type benchHeldCmd struct{}

// Run opens sessions and holds them until its input ends. A null lets them send frames that are answered, the next one stops that.
func (benchHeldCmd) Run(ctx context.Context, io *stdio) error {
	in, out := json.NewDecoder(io.in), json.NewEncoder(io.out)
	var order crowdOrder
	if err := in.Decode(&order); err != nil {
		return err
	}
	h := &heldSessions{}
	defer h.reading.Wait()
	defer h.close()
	if err := h.open(ctx, order); err != nil {
		return out.Encode(heldReport{FirstErr: err.Error()})
	}
	if err := out.Encode(heldReport{}); err != nil {
		return err
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	stop := func() {}
	defer func() { stop() }()
	running := false
	return eachNull(in, func() error {
		if running = !running; running {
			var sctx context.Context
			sctx, stop = context.WithCancel(ctx)
			sending.Go(func() { h.send(sctx) })
			return nil
		}
		stop()
		sending.Wait()
		return out.Encode(h.report())
	})
}

// heldSessions are sessions whose frames are answered by an error, which takes the way of every frame and changes nothing.
type heldSessions struct {
	sessions []*heldSession
	reading  sync.WaitGroup
	closing  atomic.Bool

	mu   sync.Mutex
	echo []time.Duration
	lost int
}

type heldSession struct {
	wire *wire
	sent atomic.Int64 // since began, of the frame that was not answered yet; 0 = none
}

// heldBegan is what times of echoes are counted from.
var heldBegan = time.Now()

// echoEvery is the time between two frames, whichever session sends them; no session sends more than one in echoRest, which the
// limit of frames allows.
const (
	echoEvery = 5 * time.Millisecond
	echoRest  = 1200 * time.Millisecond
)

func (h *heldSessions) open(ctx context.Context, order crowdOrder) error {
	d, err := newDialer(order.Target.URL)
	if err != nil {
		return err
	}
	hellos, err := order.hellos()
	if err != nil {
		return err
	}
	for _, hello := range hellos {
		w, _, err := d.open(ctx, hello)
		if err != nil {
			return err
		}
		s := &heldSession{wire: w}
		h.sessions = append(h.sessions, s)
		h.reading.Go(func() { h.read(s) })
	}
	return nil
}

func (h *heldSessions) read(s *heldSession) {
	for {
		frame, err := s.wire.frame()
		now := time.Since(heldBegan)
		if err == nil && !bytes.Contains(frame, []byte(`"type":"error"`)) {
			continue
		}
		h.mu.Lock()
		if err == nil {
			h.echo = append(h.echo, now-time.Duration(s.sent.Swap(0)))
		} else if !h.closing.Load() {
			h.lost++
		}
		h.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// send sends on a schedule, whether or not answers come: a session that still waits for one is passed over, and its wait counts in
// full.
func (h *heldSessions) send(ctx context.Context) {
	every := max(echoEvery, echoRest/time.Duration(len(h.sessions)))
	tick := time.NewTicker(every)
	defer tick.Stop()
	start := time.Now()
	for n := 0; ctx.Err() == nil; <-tick.C {
		for due := int(time.Since(start) / every); n < due; n++ {
			s := h.sessions[n%len(h.sessions)]
			if s.sent.CompareAndSwap(0, int64(time.Since(heldBegan))) {
				_ = s.wire.text([]byte(`{"type":"update","name":5}`)) // its reader tells that it failed
			}
		}
	}
}

// report takes what is known since the last report. An answer that is still out counts as one that came now.
func (h *heldSessions) report() heldReport {
	_ = pause(context.Background(), 100*time.Millisecond) // the last frames' answers are on their way
	h.mu.Lock()
	defer h.mu.Unlock()
	r := heldReport{Echo: h.echo, Lost: h.lost}
	h.echo = nil
	for _, s := range h.sessions {
		if sent := s.sent.Load(); sent != 0 {
			r.Unanswered++
			r.Echo = append(r.Echo, time.Since(heldBegan)-time.Duration(sent))
		}
	}
	return r
}

func (h *heldSessions) close() {
	h.closing.Store(true)
	for _, s := range h.sessions {
		s.wire.close()
	}
}

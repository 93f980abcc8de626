package main

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/gobwas/ws"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// clientEnd is what one client heard of the end of its session. Times are absolute, for client and server are processes of one
// machine; zero is what never came.
type clientEnd struct {
	Code  api.CloseCode `json:"code"`            // of the disconnect frame
	Close api.CloseCode `json:"close"`           // of the close frame
	Retry int64         `json:"retry,omitempty"` // retryAfterMs
	Event time.Time     `json:"event,omitzero"`
	End   time.Time     `json:"end,omitzero"` // of the close frame
}

// heardEnd waits for the server's disconnect and its close frame, and answers pings meanwhile.
func (w *wire) heardEnd() (e clientEnd) {
	for {
		op, payload, err := w.read()
		switch {
		case err != nil:
			return e
		case op == ws.OpPing:
			_ = w.send(ws.OpPong, payload) // the next read tells that it failed
		case op == ws.OpClose:
			code, _ := ws.ParseCloseFrameData(payload)
			e.Close, e.End = api.CloseCode(code), time.Now()
			return e
		case bytes.Contains(payload, []byte(`"type":"disconnect"`)):
			e.Event = time.Now()
			var d api.Disconnect
			_ = json.Unmarshal(payload, &d) // 0 says so
			e.Code, e.Retry = d.Code, d.RetryAfterMs
		}
	}
}

// endsResult is how a population heard of its end. A client that did not hear both frames, in order and with the same code, is
// wrong.
type endsResult struct {
	Events int     `json:"events"`
	Closes int     `json:"closeFrames"`
	Wrong  int     `json:"wrong"`
	Event  moments `json:"eventMs"` // from the order
	Close  moments `json:"closeFrameMs"`
}

// moments say when something that happens many times happened, in milliseconds.
type moments struct {
	First  float64 `json:"first"`
	Median float64 `json:"median"`
	Last   float64 `json:"last"`
}

func momentsOf(at []time.Duration) moments {
	if len(at) == 0 {
		return moments{}
	}
	slices.Sort(at)
	return moments{First: millis(at[0]), Median: millis(at[(len(at)-1)/2]), Last: millis(at[len(at)-1])}
}

// endsOf judges what clients heard of an end with the code that was ordered at start.
func endsOf(ends []clientEnd, code api.CloseCode, start time.Time) endsResult {
	var r endsResult
	var events, closes []time.Duration
	for _, e := range ends {
		event, closed := e.Code == code && !e.Event.IsZero(), e.Close == code && !e.End.IsZero()
		if event {
			events = append(events, e.Event.Sub(start))
		}
		if closed {
			closes = append(closes, e.End.Sub(start))
		}
		if !event || !closed || e.End.Before(e.Event) {
			r.Wrong++
		}
	}
	r.Events, r.Closes = len(events), len(closes)
	r.Event, r.Close = momentsOf(events), momentsOf(closes)
	return r
}

// revokeResult is revoke-all of the whole population.
type revokeResult struct {
	Count     int     `json:"disconnectedCount"`
	AnswerMs  float64 `json:"answerMs"`
	PerSecond float64 `json:"perSecond"` // until the last event
	endsResult
	Stream streamResult `json:"stream"`
	Listed int          `json:"listedAfter"` // right after the answer
}

// streamResult is what an operator's stream of the newest ten sessions showed, in milliseconds from the order.
type streamResult struct {
	Removed moments `json:"removedMs"`
	Totals  moments `json:"totalsMs"`
	EmptyMs float64 `json:"emptyMs"` // the first totals message with no session; 0 = none came
	Gap     float64 `json:"longestGapMs"`
	Flushes int     `json:"flushes"`
}

// streamOf judges what a stream brought from start until it was empty.
func streamOf(notes []note, start time.Time) streamResult {
	var r streamResult
	var removed, totals []time.Duration
	last := start
	for _, n := range notes {
		at := n.at.Sub(start)
		if at < 0 || r.EmptyMs > 0 {
			continue
		}
		switch n.kind {
		case api.TypeRemoved:
			removed = append(removed, at)
		case api.TypeTotals:
			totals = append(totals, at)
			if n.total == 0 {
				r.EmptyMs = millis(at)
			}
		}
		if n.at != last { // what comes together is one flush
			r.Flushes++
			r.Gap = max(r.Gap, millis(n.at.Sub(last)))
			last = n.at
		}
	}
	r.Removed, r.Totals = momentsOf(removed), momentsOf(totals)
	return r
}

// revoke ends the whole crowd.
func (b *bench) revoke(ctx context.Context, crowd *crowd) (*revokeResult, error) {
	f, err := b.follow(ctx, client.Query{PageSize: 10, Totals: true})
	if err != nil {
		return nil, err
	}
	defer f.end()
	start := time.Now()
	n, err := b.m.RevokeAll(ctx, b.app, "bench")
	if err != nil {
		return nil, err
	}
	r := &revokeResult{Count: n, AnswerMs: millis(time.Since(start))}
	list, err := b.m.Live(ctx, client.Query{Application: b.target.Application})
	if err != nil {
		return nil, err
	}
	r.Listed = list.Total
	ends, err := crowd.ended(ctx)
	if err != nil {
		return nil, err
	}
	r.endsResult = endsOf(ends, api.CloseRevoked, start)
	if r.Event.Last > 0 {
		r.PerSecond = float64(r.Events) / r.Event.Last * 1e3
	}
	if err := f.await(ctx, func(n note) bool { return n.kind == api.TypeTotals && n.total == 0 }); err != nil {
		return nil, err
	}
	r.Stream = streamOf(f.all(), start)
	return r, nil
}

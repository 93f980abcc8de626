package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/internal/cluster"
)

// heard collects what a bus hears.
type heard struct {
	mu  sync.Mutex
	all [][]byte
}

func (h *heard) add(msg []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, msg)
}

func (h *heard) list() [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

func echo(_ context.Context, msg []byte) []byte { return append([]byte("re: "), msg...) }

func (e *env) bus(node string, h *heard, asked func(context.Context, []byte) []byte) cluster.Bus {
	e.Helper()
	bus := e.next()
	if err := bus.Start(node, h.add, asked); err != nil {
		e.Fatal(err)
	}
	e.Cleanup(bus.Stop)
	return bus
}

func testBroadcast(e *env) {
	var ha, hb, hc heard
	a, b := e.bus("a", &ha, echo), e.bus("b.with.dots", &hb, echo)
	e.bus("c", &hc, echo)
	want := [][]byte{}
	Within(e, 10*time.Second, "the first message", func() string { // buses may take a moment to find each other
		_ = a.Broadcast([]byte("hello"))
		_ = b.Broadcast([]byte("hello"))
		time.Sleep(10 * time.Millisecond)
		for _, h := range []*heard{&ha, &hb, &hc} {
			if len(h.list()) < 2 {
				return "not heard everywhere"
			}
		}
		return ""
	})
	for i := range 2000 {
		want = append(want, fmt.Appendf(nil, "message %d", i))
		if err := a.Broadcast(want[i]); err != nil {
			e.Fatal(err)
		}
	}
	for _, h := range []*heard{&ha, &hb, &hc} {
		Within(e, 10*time.Second, "all messages", func() string {
			got := slices.DeleteFunc(h.list(), func(msg []byte) bool { return string(msg) == "hello" })
			if !slices.EqualFunc(got, want, bytes.Equal) {
				return fmt.Sprintf("%d messages of %d, or another order", len(got), len(want))
			}
			return ""
		})
	}
	if err := a.Status(); err != nil {
		e.Errorf("status: %v", err)
	}
}

// ask asks until the buses have found each other.
func (e *env) ask(bus cluster.Bus, node string, msg []byte) []byte {
	e.Helper()
	var answer []byte
	Within(e, 10*time.Second, "request", func() string {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var err error
		if answer, err = bus.Request(ctx, node, msg); err != nil {
			return err.Error()
		}
		return ""
	})
	return answer
}

func testRequest(e *env) {
	var h heard
	a := e.bus("a", &h, echo)
	e.bus("b", &h, func(context.Context, []byte) []byte { return []byte("I am b") })
	e.bus("b.b", &h, func(context.Context, []byte) []byte { return []byte("I am b.b") })
	for node, want := range map[string]string{"a": "re: x", "b": "I am b", "b.b": "I am b.b"} {
		if got := e.ask(a, node, []byte("x")); string(got) != want {
			e.Errorf("%s answers %q", node, got)
		}
	}
	var work sync.WaitGroup
	for i := range 50 {
		work.Go(func() {
			msg := strconv.Itoa(i)
			if answer, err := a.Request(context.Background(), "a", []byte(msg)); err != nil || string(answer) != "re: "+msg {
				e.Errorf("%q, %v", answer, err)
			}
		})
	}
	work.Wait()
	if len(h.list()) > 0 {
		e.Errorf("requests were heard as broadcasts")
	}
}

func testNobody(e *env) {
	var h heard
	a := e.bus("a", &h, echo)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := a.Request(ctx, "nobody", []byte("x")); !errors.Is(err, cluster.ErrNoNode) {
		e.Errorf("%v, want ErrNoNode", err)
	}
}

func testRequestEnds(e *env) {
	var h heard
	a := e.bus("a", &h, echo)
	e.bus("silent", &h, func(context.Context, []byte) []byte { return nil })
	hold := make(chan struct{})
	e.bus("slow", &h, func(ctx context.Context, _ []byte) []byte {
		select {
		case <-hold:
		case <-ctx.Done(): // Stop ends it
		}
		return nil
	})
	for _, node := range []string{"silent", "slow"} {
		Within(e, 10*time.Second, node, func() string {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			if answer, err := a.Request(ctx, node, []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Sprintf("%q, %v, want the context's end", answer, err)
			}
			return ""
		})
	}
}

func testStop(e *env) {
	var ha, hb heard
	a, b := e.bus("a", &ha, echo), e.bus("b", &hb, echo)
	e.ask(a, "b", []byte("x"))
	b.Stop()
	b.Stop()
	n := len(hb.list())
	for range 100 {
		_ = a.Broadcast([]byte("late"))
	}
	if err := b.Broadcast([]byte("x")); err == nil {
		e.Error("a bus that has stopped takes a broadcast")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := b.Request(ctx, "a", nil); err == nil {
		e.Error("a bus that has stopped takes a request")
	}
	Within(e, 10*time.Second, "a request to who has stopped", func() string {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := a.Request(ctx, "b", []byte("x")); err == nil {
			return "answered"
		}
		return ""
	})
	if len(hb.list()) != n {
		e.Error("heard after stop")
	}
}

func testLarge(e *env) {
	var ha, hb heard
	a := e.bus("a", &ha, echo)
	e.bus("b", &hb, func(_ context.Context, msg []byte) []byte { return msg })
	large := bytes.Repeat([]byte("0123456789abcdef"), cluster.MaxMessage/16-64)
	if got := e.ask(a, "b", large); !bytes.Equal(got, large) {
		e.Errorf("%d bytes came back", len(got))
	}
	Within(e, 10*time.Second, "a large broadcast", func() string {
		_ = a.Broadcast(large)
		time.Sleep(10 * time.Millisecond)
		if got := hb.list(); len(got) == 0 || !bytes.Equal(got[len(got)-1], large) {
			return "not heard"
		}
		return ""
	})
}

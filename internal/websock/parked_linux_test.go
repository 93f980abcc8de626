package websock

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// wakes is the simplest driver's end of a parked connection.
type wakes chan struct{}

// Wake implements Waker.
func (w wakes) Wake() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// parked is a parked connection that a test drives.
type parked struct {
	*Parked
	wakes
	buf []byte
}

// receive waits for a message, with buffers of a few bytes.
func (p *parked) receive() (Message, error) {
	for {
		msg, err := p.Receive(p.buf)
		if !errors.Is(err, ErrTimeout) {
			return msg, err
		}
		<-p.wakes
	}
}

// depart lingers and closes.
func (p *parked) depart() {
	late := time.After(10 * time.Second)
	for !p.Discard(p.buf) {
		select {
		case <-p.wakes:
		case <-late:
			panic("nobody woke the driver")
		}
	}
	p.Release()
}

// servePark runs fn on every connection, parked, and departs then.
func servePark(t *testing.T, cfg Config, fn func(*parked)) string {
	t.Helper()
	poller, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	var run sync.WaitGroup
	run.Go(func() {
		if err := poller.Run(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { _ = poller.Close(); run.Wait() })
	return serve(t, cfg, func(c *Conn) {
		p := &parked{wakes: make(wakes, 1), buf: make([]byte, 7)}
		var err error
		if p.Parked, err = poller.Park(c, p.wakes); err != nil {
			t.Error(err)
			return
		}
		fn(p)
		p.depart()
	})
}

func (p *parked) echo() {
	for {
		msg, err := p.receive()
		switch end := (*CloseError)(nil); {
		case errors.As(err, &end):
			p.BeginClose(nil, end.Code, "")
			return
		case err != nil:
			_ = p.Close()
			return
		case msg.Op == Text:
			_ = p.Send(AppendText(nil, msg.Data))
		case msg.Op == Ping:
			_ = p.Send(AppendControl(nil, Pong, msg.Data))
		}
	}
}

func descriptors(t *testing.T) int {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// TestParkedInterop has an independent implementation at the other end, several times over the same descriptors.
func TestParkedInterop(t *testing.T) {
	addr := servePark(t, Config{MaxMessage: 1 << 20}, (*parked).echo)
	before := 0
	for round := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		conn, _, err := websocket.Dial(ctx, "ws://"+addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetReadLimit(1 << 20)
		for _, n := range []int{0, 1, 125, 126, 30_000} {
			want := strings.Repeat("µ", n/2)
			if err := conn.Write(ctx, websocket.MessageText, []byte(want)); err != nil {
				t.Fatal(err)
			}
			if _, got, err := conn.Read(ctx); err != nil || string(got) != want {
				t.Fatalf("%d bytes: got %d, %v", n, len(got), err)
			}
		}
		if err := conn.Ping(conn.CloseRead(ctx)); err != nil {
			t.Error(err)
		}
		if err := conn.Close(4001, "done"); err != nil {
			t.Errorf("close handshake: %v", err)
		}
		cancel()
		for range 1000 { // the server's end closes a moment later
			if round == 0 || descriptors(t) <= before {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if round == 0 {
			time.Sleep(20 * time.Millisecond)
			before = descriptors(t)
		} else if n := descriptors(t); n > before {
			t.Errorf("%d descriptors after round %d, %d before", n, round, before)
		}
	}
}

// TestParkedTakesWhatCameEarly: frames in the same packet as the upgrade, cut anywhere, are not lost.
func TestParkedTakesWhatCameEarly(t *testing.T) {
	addr := servePark(t, Config{}, (*parked).echo)
	early := join(frame(0x81, "one"), frame(0x81, "two"))
	for cut := range len(early) + 1 {
		conn, br, _ := dialRaw(t, addr, "", early[:cut])
		if _, err := conn.Write(early[cut:]); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"one", "two"} {
			if _, body := readFrame(t, br); body != want {
				t.Fatalf("cut at %d: %q", cut, body)
			}
		}
		_ = conn.Close()
	}
}

// TestParkedKeeps: the driver's buffer can be used for another connection in the middle of what was read.
func TestParkedKeeps(t *testing.T) {
	addr := servePark(t, Config{}, func(p *parked) {
		p.buf = make([]byte, 4096)
		for _, want := range []string{"one", "two", "three"} {
			msg, err := p.receive()
			if err != nil || string(msg.Data) != want {
				t.Errorf("got %q, %v, want %q", msg.Data, err, want)
			}
			p.Keep()
			clear(p.buf)
		}
		if p.pending != nil {
			t.Errorf("%d bytes are kept", cap(p.pending))
		}
		_ = p.Close()
	})
	_, br, _ := dialRaw(t, addr, "", join(frame(0x81, "one"), frame(0x81, "two"), frame(0x81, "three")))
	_, _ = br.ReadByte()
}

// TestParkedHoldsNothingAtRest: between messages there is no parser, nor anything unsent; inside one there is.
func TestParkedHoldsNothingAtRest(t *testing.T) {
	type rest struct {
		parser bool
		unsent int
	}
	seen := make(chan rest)
	addr := servePark(t, Config{}, func(p *parked) {
		for range 2 {
			var msg Message
			var err error
			for msg.Op == 0 {
				if msg, err = p.Receive(p.buf); errors.Is(err, ErrTimeout) {
					seen <- rest{p.parser != nil, cap(p.unsent)}
					<-p.wakes
				} else if err != nil {
					t.Error(err)
					return
				}
			}
			_ = p.Send(AppendText(nil, msg.Data))
		}
		_ = p.Close()
	})
	conn, br, _ := dialRaw(t, addr, "", nil)
	var got rest
	settle := func(write []byte) {
		_, _ = conn.Write(write)
		for quiet := false; !quiet; {
			select {
			case got = <-seen:
			case <-time.After(50 * time.Millisecond):
				quiet = true
			}
		}
	}
	settle(nil)
	if got != (rest{}) {
		t.Errorf("before the first byte: %+v", got)
	}
	hello := frame(0x81, "hello")
	if settle(hello[:3]); !got.parser {
		t.Error("inside a frame there is no parser")
	}
	if settle(hello[3:]); got != (rest{}) {
		t.Errorf("after a message: %+v", got)
	}
	if _, body := readFrame(t, br); body != "hello" {
		t.Error(body)
	}
	_, _ = conn.Write(hello)
	readFrame(t, br)
}

// full sends until the socket takes no more, and returns how many frames that were.
func (p *parked) full(t *testing.T, f []byte) (sent int) {
	for {
		p.mu.Lock()
		waiting := len(p.unsent)
		p.mu.Unlock()
		if waiting > 0 {
			return sent
		}
		if err := p.Send(f); err != nil {
			t.Error(err)
			return sent
		}
		sent++
	}
}

// TestParkedSendsTheRest: what a full socket did not take follows when the client reads, the close frame last.
func TestParkedSendsTheRest(t *testing.T) {
	sent := make(chan int, 1)
	text := strings.Repeat("x", 4000)
	addr := servePark(t, Config{SendBuffer: 16 << 10}, func(p *parked) {
		n := p.full(t, AppendText(nil, []byte(text)))
		p.BeginClose(AppendText(nil, []byte("last")), 4100, "why")
		if _, err := p.Receive(p.buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Receive after BeginClose: %v", err)
		}
		if p.BeginClose(nil, 1001, "") {
			t.Error("closed twice")
		}
		sent <- n
	})
	_, br, _ := dialRaw(t, addr, "", nil)
	for range <-sent {
		if _, body := readFrame(t, br); body != text {
			t.Fatalf("a frame of %d bytes", len(body))
		}
	}
	if _, body := readFrame(t, br); body != "last" {
		t.Errorf("%q", body)
	}
	if op, body := readFrame(t, br); op != 0x88 || body != closeBody(4100, "why") {
		t.Errorf("%x %q", op, body)
	}
	if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the close frame: %v", err)
	}
}

// TestParkedBoundsWhatIsUnsent: a client that does not read is closed when 32 KiB wait for it, and the driver hears of it.
func TestParkedBoundsWhatIsUnsent(t *testing.T) {
	done := make(chan struct{})
	addr := servePark(t, Config{SendBuffer: 16 << 10}, func(p *parked) {
		defer close(done)
		f := AppendText(nil, make([]byte, 1000))
		p.full(t, f)
		n := 0
		for ; p.Send(f) == nil; n++ {
			if len(p.unsent) > maxUnsent {
				t.Errorf("%d bytes wait", len(p.unsent))
				break
			}
		}
		if n < 30 || cap(p.unsent) != 0 {
			t.Errorf("%d frames were kept; %d bytes are", n, cap(p.unsent))
		}
		if _, err := p.receive(); err == nil {
			t.Error("Receive goes on")
		}
		_ = p.Close()
	})
	dialRaw(t, addr, "", nil)
	<-done
}

// TestParkedLastFramesSurviveUnreadData is TestLastFramesSurviveUnreadData of a parked connection.
func TestParkedLastFramesSurviveUnreadData(t *testing.T) {
	addr := servePark(t, Config{}, func(p *parked) {
		p.buf = make([]byte, 4096)
		if _, err := p.receive(); err != nil {
			t.Error(err)
		}
		p.BeginClose(AppendText(nil, []byte("last words")), 4100, "why")
	})
	for range 20 {
		conn, br, _ := dialRaw(t, addr, "", nil)
		_, _ = conn.Write(frame(0x81, "go"))
		for range 64 {
			_, _ = conn.Write(frame(0x82, strings.Repeat("x", 10_000)))
		}
		time.Sleep(5 * time.Millisecond)
		if _, body := readFrame(t, br); body != "last words" {
			t.Fatal(body)
		}
		if op, body := readFrame(t, br); op != 0x88 || body != closeBody(4100, "why") {
			t.Fatalf("%x %q", op, body)
		}
		_ = conn.Close()
	}
}

// TestParkedAfterRelease: whoever still holds the connection does no harm to the one that has its descriptor next.
func TestParkedAfterRelease(t *testing.T) {
	held := make(chan *parked, 1)
	addr := servePark(t, Config{}, func(p *parked) {
		_, _ = p.receive()
		_ = p.Close()
		held <- p
	})
	conn, _, _ := dialRaw(t, addr, "", nil)
	_ = conn.Close()
	p := <-held
	for released := false; !released; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		released = p.fd < 0
		p.mu.Unlock()
	}
	if err := p.Send([]byte("x")); err == nil {
		t.Error("sent")
	}
	if p.BeginClose(nil, 1001, "") {
		t.Error("closed")
	}
	_ = p.Close()
}

// TestParkLeavesOthersAlone: what is no TCP connection goes on as it was.
func TestParkLeavesOthersAlone(t *testing.T) {
	poller, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer poller.Close()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := newConn(ours, Config{}, frame(0x81, "x"))
	if _, err := poller.Park(c, make(wakes, 1)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if msg, err := c.Receive(time.Time{}); err != nil || string(msg.Data) != "x" {
		t.Errorf("%q, %v", msg.Data, err)
	}
	_ = c.Close()
}

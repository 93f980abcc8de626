package main

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// TestWireReadsFrames sends frames in pieces of every size and holds that the same messages come out, and that pings are
// answered.
func TestWireReadsFrames(t *testing.T) {
	long := strings.Repeat("x", 3*wireBuffer)
	var stream bytes.Buffer
	for _, f := range []ws.Frame{
		ws.NewTextFrame([]byte("one")), ws.NewPingFrame([]byte("p")), ws.NewTextFrame(nil), ws.NewTextFrame([]byte(long)),
		ws.NewTextFrame([]byte(`{"type":"disconnect","code":4100}`)), ws.NewCloseFrame(ws.NewCloseFrameBody(4100, "x")),
	} {
		if err := ws.WriteFrame(&stream, f); err != nil {
			t.Fatal(err)
		}
	}
	for _, piece := range []int{1, 2, 3, 7, 100, stream.Len()} {
		ours, theirs := net.Pipe()
		pong := make(chan ws.Frame, 1)
		go func() {
			for data := stream.Bytes(); len(data) > 0; data = data[min(piece, len(data)):] {
				if _, err := theirs.Write(data[:min(piece, len(data))]); err != nil {
					t.Error(err)
				}
			}
		}()
		go func() {
			f, err := ws.ReadFrame(theirs) //nolint:staticcheck // deprecated for its missing bound; the peer is this test
			if err != nil {
				t.Error(err)
			}
			pong <- ws.UnmaskFrameInPlace(f)
		}()
		w := &wire{conn: ours, buf: make([]byte, wireBuffer)}
		for i, want := range []string{"one", "", long} {
			got, err := w.frame()
			if err != nil || string(got) != want {
				t.Fatalf("pieces of %d: frame %d is %.20q (%v), want %.20q", piece, i, got, err, want)
			}
		}
		if f := <-pong; f.Header.OpCode != ws.OpPong || string(f.Payload) != "p" {
			t.Errorf("the ping was answered with %+v", f)
		}
		if code := w.ended(); code != 4100 {
			t.Errorf("pieces of %d: ended with %d", piece, code)
		}
		if _, err := w.frame(); !errors.Is(err, errClosed) {
			t.Errorf("after the close frame: %v", err)
		}
		w.close()
	}
}

// TestWireSendsFrames holds that an independent reader understands what a wire sends.
func TestWireSendsFrames(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 8000} {
		ours, theirs := net.Pipe()
		w := &wire{conn: ours}
		payload := bytes.Repeat([]byte("y"), n)
		go func() {
			if err := w.text(payload); err != nil {
				t.Error(err)
			}
		}()
		f, err := ws.ReadFrame(theirs) //nolint:staticcheck // deprecated for its missing bound; the peer is this test
		if err != nil {
			t.Fatal(err)
		}
		if !f.Header.Masked || f.Header.OpCode != ws.OpText || !f.Header.Fin || !bytes.Equal(ws.UnmaskFrameInPlace(f).Payload, payload) {
			t.Errorf("%d bytes were sent as %+v", n, f.Header)
		}
		w.close()
	}
}

package hostile

import (
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// fuzzNode starts one server for all inputs, with a log that is checked at the end.
func fuzzNode(f *testing.F) node {
	f.Helper()
	log := &testkit.Log{}
	n := node{testkit.Start(f, testkit.Config{Gateway: plenty(gateway.Limits{}), Log: log,
		Manage: manage.Limits{RequestsPerSecond: 1e6, RequestBurst: 1e6}}), false}
	f.Cleanup(func() { n.Stop(f); checkLog(f, log) })
	return n
}

// FuzzFrames: whatever bytes come after welcome, the server answers with frames that it may send, and ends with a close frame, after a
// disconnect frame where the end was its own, or waits for more.
func FuzzFrames(f *testing.F) {
	for _, tc := range autobahn() {
		if in := join(tc.send...); len(in) < 400 {
			f.Add([]byte(in))
		}
	}
	f.Add([]byte(frame(0x81, `{"type":"authorize","token":"a.b.c"}`) + frame(0x81, `{"type":"update","name":"\ud800","clientInfo":{"a":[]}}`)))
	f.Add([]byte(frame(0x81, `{"type":"update","clientInfo":{"a":1,"a":2},"hostname":null,"name":""}`) + frame(0x81, `{"type":"bye"}`)))
	n := fuzzNode(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		p := n.open(t)
		p.write(string(in))
		p.halfClose()
		got := p.rest() // next fails the test for a frame that no server may send
		for _, frame := range got[:len(got)-1] {
			if !strings.HasPrefix(frame, "{") && !strings.HasPrefix(frame, "pong ") && !strings.HasPrefix(frame, "close") {
				t.Errorf("%q: got %q", in, frame)
			}
		}
		last := got[len(got)-1]
		closed := len(got) > 1 && strings.HasPrefix(got[len(got)-2], "close")
		if last != "EOF" {
			t.Errorf("%q: ended with %q", in, got)
		}
		if disconnected := len(got) > 2 && strings.HasPrefix(got[len(got)-3], `{"type":"disconnect"`); disconnected && !closed {
			t.Errorf("%q: a disconnect without a close: %q", in, got)
		}
		p.Close()
		n.open(t).alive() // the next one is served
	})
}

// FuzzRequest: whatever stands in place of an upgrade, the answer is HTTP, or the connection is closed.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(request()))
	f.Add([]byte(request("Content-Length: 5", "Content-Length: 6") + smuggled))
	f.Add([]byte(request("Transfer-Encoding: chunked") + "0\r\n\r\n"))
	f.Add([]byte(strings.ReplaceAll(request("X: a\r\n b"), "\r\n", "\n")))
	f.Add([]byte(line("Sec-WebSocket-Key", "Sec-WebSocket-Key: \xff")))
	f.Add([]byte("GET /api/v1/../v1/%63onnect HTTP/1.1\r\nHost: [::1]\r\nForwarded: for=\"_x\"\r\n\r\n"))
	f.Add([]byte(request("Authorization: Bearer  \t", "Authorization: bearer x", "Origin: ", "User-Agent: \xff\xfe") + frame(0x81, keyHello)))
	f.Add([]byte("\x00\r\n\r\n"))
	n := fuzzNode(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		p := n.dial(t)
		p.write(string(in))
		p.halfClose()
		if first, err := p.in.Peek(9); err == nil && !strings.HasPrefix(string(first), "HTTP/1.") {
			t.Errorf("%q is answered with %q", in, first)
		}
		p.Close()
		n.open(t).alive()
	})
}

package hostile

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/gateway"
)

// wire is a case: what is sent after welcome, the answers to it, and how the connection ends: with disconnect and close of a code, or,
// when code is 0, not at all.
type wire struct {
	name    string
	send    []string
	answers []string
	code    int
}

// join makes one string of frames.
func join(frames ...string) string { return strings.Join(frames, "") }

// invalid is the answer to a JSON frame of an unknown type.
const invalid = `{"type":"error","code":"validation_error","message":"type must be authorize, update, activity or bye"}`

// unknown is a valid frame with an answer, of n bytes; the least is 12.
func unknown(n int) string { return `{"type":"` + strings.Repeat("x", n-11) + `"}` }

// cut makes a message of fragments of n bytes.
func cut(first byte, payload string, n int) string {
	var b strings.Builder
	for op := first; ; op = 0 {
		if len(payload) <= n {
			b.WriteString(frame(0x80|op, payload))
			return b.String()
		}
		b.WriteString(frame(op, payload[:n]))
		payload = payload[n:]
	}
}

func closeBody(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// The groups carry the numbers of the Autobahn test suite. It expects its text and binary messages back; a session answers a text by
// what it says: not JSON is 4300, an unknown type an error frame. A binary message is 4304.
func autobahn() []wire {
	long := strings.Repeat("*", 300)
	mask := `"aaaa"`
	cases := []wire{
		{"1.1.1 empty text", []string{frame(0x81, "")}, nil, 4300},
		{"1.1.2 text of 125", []string{frame(0x81, long[:125])}, nil, 4300},
		{"1.1.3 text of 126", []string{frame(0x81, unknown(126))}, []string{invalid}, 0},
		{"1.1.4 text of 127", []string{frame(0x81, unknown(127))}, []string{invalid}, 0},
		{"1.1.6 text of 65535", []string{frame(0x81, unknown(65535))}, nil, 1009},
		{"1.1.7 text of 65536", []string{frame(0x81, unknown(65536))}, nil, 1009},
		{"1.2.1 empty binary", []string{frame(0x82, "")}, nil, 4304},
		{"1.2.3 binary of 126", []string{frame(0x82, long[:126])}, nil, 4304},
		{"1.2.7 binary of 65536", []string{frame(0x82, strings.Repeat("\xfe", 65536))}, nil, 1009},
		{"2.1 empty ping", []string{frame(0x89, "")}, []string{"pong "}, 0},
		{"2.2 ping of text", []string{frame(0x89, "Hello, world!")}, []string{"pong Hello, world!"}, 0},
		{"2.3 ping of bytes", []string{frame(0x89, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff")}, []string{"pong \x00\xff\xfe\xfd\xfc\xfb\x00\xff"}, 0},
		{"2.4 ping of 125", []string{frame(0x89, strings.Repeat("\xfe", 125))}, []string{"pong " + strings.Repeat("\xfe", 125)}, 0},
		{"2.5 ping of 126", []string{frame(0x89, strings.Repeat("\xfe", 126))}, nil, 1002},
		{"2.7 pong that nobody asked for", []string{frame(0x8a, ""), frame(0x89, "then")}, []string{"pong then"}, 0},
		{"2.9 pong, then ping", []string{frame(0x8a, "unsolicited"), frame(0x89, "asked")}, []string{"pong asked"}, 0},
		{"2.10 ten pings", tenPings("payload-"), tenPings2("pong payload-"), 0},
		{"3.1 RSV3", []string{frame(0x91, unknown(20))}, nil, 1002},
		{"3.2 RSV2 after a message", []string{join(frame(0x81, unknown(20)), frame(0xa1, unknown(20)), frame(0x89, ""))}, []string{invalid}, 1002},
		{"3.4 RSV1, which compression would use", []string{frame(0xc1, unknown(20))}, nil, 1002},
		{"3.5 RSV on binary", []string{frame(0xd2, "x")}, nil, 1002},
		{"3.6 RSV on ping", []string{frame(0xe9, "x")}, nil, 1002},
		{"3.7 RSV on close", []string{frame(0xf8, "")}, nil, 1002},
		{"5.1 fragmented ping", []string{frame(0x09, "a"), frame(0x80, "b")}, nil, 1002},
		{"5.2 fragmented pong", []string{frame(0x0a, "a"), frame(0x80, "b")}, nil, 1002},
		{"5.3 two fragments", []string{cut(1, unknown(40), 20)}, []string{invalid}, 0},
		{"5.6 ping between fragments", []string{join(frame(0x01, unknown(40)[:9]), frame(0x89, "p"), frame(0x80, unknown(40)[9:]))},
			[]string{"pong p", invalid}, 0},
		{"5.9 continuation of nothing", []string{frame(0x80, "x"), frame(0x81, unknown(20))}, nil, 1002},
		{"5.12 unfinished continuation of nothing", []string{frame(0x00, "x"), frame(0x81, unknown(20))}, nil, 1002},
		{"5.15 continuation after the end", []string{join(cut(1, unknown(40), 20), frame(0x00, "c"), frame(0x81, unknown(20)))}, []string{invalid}, 1002},
		{"5.18 a second text inside a message", []string{join(frame(0x01, "a"), frame(0x81, "b"))}, nil, 1002},
		{"5.19 five fragments, pings between", []string{join(frame(0x01, `{"ty`), frame(0x00, `pe":`), frame(0x89, "1"), frame(0x00, mask),
			frame(0x00, `,"b":`), frame(0x89, "2"), frame(0x80, `1}`))}, []string{"pong 1", "pong 2", invalid}, 0},
		{"6.2.2 UTF-8 in fragments", []string{cut(1, `{"type":"Hello-µ@ßöäüàá-UTF-8!!"}`, 1)}, []string{invalid}, 0},
		{"6.3.1 invalid UTF-8", []string{frame(0x81, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited")}, nil, 1007},
		{"6.3.2 invalid UTF-8 in fragments", []string{cut(1, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", 1)}, nil, 1007},
		{"6.4.1 invalid in the second fragment of three", []string{join(frame(0x01, "\xce\xba"), frame(0x00, "\xf4\x90\x80\x80"))}, nil, 1007},
		{"6.4.3 invalid inside a fragment that is not all there", []string{frame(0x81, "\xf4\x90\x80\x80"+long)[:12]}, nil, 1007},
		{"6.6.1 half a rune", []string{frame(0x81, "\xce")}, nil, 1007},
		{"6.8.1 rune of five bytes", []string{frame(0x81, "\xf8\x88\x80\x80\x80")}, nil, 1007},
		{"6.9.4 highest rune", []string{frame(0x81, `{"type":"`+"\U0010ffff"+`"}`)}, []string{invalid}, 0},
		{"6.10.1 above the highest rune", []string{frame(0x81, `{"type":"`+"\xf4\x90\x80\x80"+`"}`)}, nil, 1007},
		{"6.13.1 stray continuation byte", []string{frame(0x81, "\x80")}, nil, 1007},
		{"6.14.1 lonely start byte", []string{frame(0x81, "\xc0 \xc1 ")}, nil, 1007},
		{"6.16.1 impossible byte", []string{frame(0x81, "\xff")}, nil, 1007},
		{"6.18.1 overlong", []string{frame(0x81, "\xc0\xaf")}, nil, 1007},
		{"6.20.1 surrogate", []string{frame(0x81, "\xed\xa0\x80")}, nil, 1007},
		{"6.21.1 pair of surrogates", []string{frame(0x81, "\xed\xa0\x80\xed\xb0\x80")}, nil, 1007},
		{"6.22.1 non-character", []string{frame(0x81, `{"type":"`+"\ufffe"+`"}`)}, []string{invalid}, 0},
		{"7.3.2 close with half a code", []string{frame(0x88, "\x03")}, nil, 1002},
		{"7.3.6 close with too long a reason", []string{frame(0x88, closeBody(1000, long[:124]))}, nil, 1002},
		{"7.5.1 close reason not UTF-8", []string{frame(0x88, closeBody(1000, "\xce\xba\xed\xa0\x80"))}, nil, 1007},
		{"unmasked text", []string{"\x81\x01x"}, nil, 1002},
		{"unmasked ping", []string{"\x89\x00"}, nil, 1002},
		{"unmasked close", []string{"\x88\x02\x03\xe8"}, nil, 1002},
		{"unmasked, judged by two bytes", []string{"\x81\x7f"}, nil, 1002},
		{"length not in its shortest form", []string{"\x81\xfe\x00\x05\x00\x00\x00\x00hello"}, nil, 1002},
		{"length not in its shortest form, of 64 bits", []string{"\x81\xff\x00\x00\x00\x00\x00\x00\x00\x05"}, nil, 1002},
		{"length with its highest bit", []string{"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00"}, nil, 1002},
		{"length of 2^62, judged by the header", []string{"\x81\xff\x40\x00\x00\x00\x00\x00\x00\x00"}, nil, 1009},
		{"ping of 2^16", []string{"\x89\xff\x00\x00\x00\x00\x00\x01\x00\x00"}, nil, 1002},
		{"fragments over the limit together", []string{cut(1, unknown(api.MaxFrame+1), 1000)}, nil, 1009},
		{"thousands of empty fragments", []string{frame(0x01, "") + strings.Repeat(frame(0x00, ""), 5000)}, nil, 1009},
		{"thousands of fragments of a byte", []string{frame(0x01, "x") + strings.Repeat(frame(0x00, "x"), 5000)}, nil, 1009},
		{"compressed bomb without an extension", []string{frame(0xc1, "\xec\xc1\x01\x01\x00\x00\x00\x80\x90\xfe\xaf\xee\x08")}, nil, 1002},
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf} {
		cases = append(cases, wire{fmt.Sprintf("4 opcode %x", op), []string{frame(0x80|op, "")}, nil, 1002},
			wire{fmt.Sprintf("4 opcode %x after a message", op), []string{join(frame(0x81, unknown(20)), frame(0x80|op, "x"), frame(0x89, ""))},
				[]string{invalid}, 1002})
	}
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases = append(cases, wire{fmt.Sprintf("7.9 close code %d", code), []string{frame(0x88, closeBody(code, "r"))}, nil, 1002})
	}
	for _, size := range []int{64, 256, 1024, 4096, api.MaxFrame} { // 16 MiB in the suite
		cases = append(cases, wire{fmt.Sprintf("9 longest message in fragments of %d", size), []string{cut(1, unknown(api.MaxFrame), size)},
			[]string{invalid}, 0})
	}
	return cases
}

func tenPings(payload string) []string {
	var out []string
	for i := range 10 {
		out = append(out, frame(0x89, fmt.Sprint(payload, i)))
	}
	return out
}

func tenPings2(payload string) []string {
	var out []string
	for i := range 10 {
		out = append(out, fmt.Sprint(payload, i))
	}
	return out
}

// TestFrames: RFC 6455 on the wire, each case in one write and in writes of a byte.
func TestFrames(t *testing.T) {
	t.Parallel()
	attack(t, plenty(gateway.Limits{}), func(t *testing.T, n node) {
		for _, tc := range autobahn() {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				for chopped, send := range map[bool]func(*peer, string){false: (*peer).write, true: (*peer).drip} {
					if size := len(join(tc.send...)); chopped && size > 300 {
						continue
					}
					p := n.open(t)
					send(p, join(tc.send...))
					var got []string
					for range tc.answers {
						got = append(got, p.next())
					}
					if diff := cmp.Diff(tc.answers, got); diff != "" {
						t.Fatalf("chopped=%v (-want +got)\n%s", chopped, diff)
					}
					if tc.code == 0 {
						p.alive()
						p.write(frame(0x88, closeBody(1000, "")))
						if diff := cmp.Diff([]string{"close 1000", "EOF"}, p.rest()); diff != "" {
							t.Errorf("chopped=%v: closed: %s", chopped, diff)
						}
						n.wantEnd(t, p.id, api.EndClientClosed)
					} else {
						p.ends(tc.code)
						n.wantEnd(t, p.id, api.EndProtocolError)
					}
					p.Close()
				}
			})
		}
	})
}

// drip writes byte by byte.
func (p *peer) drip(s string) {
	for i := range len(s) {
		p.write(s[i : i+1])
	}
}

// TestPeersClose: a close frame is answered with its code, whatever comes after it, and the session ends as the client's wish
// (groups 7.1, 7.3 and 7.7).
func TestPeersClose(t *testing.T) {
	t.Parallel()
	attack(t, plenty(gateway.Limits{}), func(t *testing.T, n node) {
		cases := map[string]struct{ send, want string }{
			"7.1.1 no code":                  {frame(0x88, ""), "close"},
			"7.1.2 twice":                    {frame(0x88, closeBody(1000, "")) + frame(0x88, closeBody(1001, "")), "close 1000"},
			"7.1.3 ping after it":            {frame(0x88, closeBody(1000, "")) + frame(0x89, "x"), "close 1000"},
			"7.1.4 text after it":            {frame(0x88, closeBody(1000, "")) + frame(0x81, unknown(20)), "close 1000"},
			"7.1.5 in a message":             {frame(0x01, "a") + frame(0x88, closeBody(1000, "")) + frame(0x80, "b"), "close 1000"},
			"7.1.6 256 KiB after it":         {frame(0x88, closeBody(1000, "")) + strings.Repeat(frame(0x81, unknown(1000)), 256), "close 1000"},
			"7.3.4 a reason":                 {frame(0x88, closeBody(1000, "Hello World!")), "close 1000"},
			"7.3.5 the longest reason":       {frame(0x88, closeBody(1000, strings.Repeat("*", 123))), "close 1000"},
			"bye, and more frames":           {frame(0x81, `{"type":"bye"}`) + frame(0x81, keyHello) + frame(0x81, unknown(20)), "close 1000"},
			"garbage after it":               {frame(0x88, closeBody(1000, "")) + strings.Repeat("\xff", 5000), "close 1000"},
			"reason with control characters": {frame(0x88, closeBody(3000, "a\r\nlevel=ERROR panic")), "close 3000"},
		}
		for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4100, 4999} {
			cases[fmt.Sprintf("7.7 code %d", code)] = struct{ send, want string }{frame(0x88, closeBody(code, "")), fmt.Sprint("close ", code)}
		}
		for name, tc := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := n.open(t)
				p.write(tc.send)
				if diff := cmp.Diff([]string{tc.want, "EOF"}, p.rest()); diff != "" {
					t.Error(diff)
				}
				n.wantEnd(t, p.id, api.EndClientClosed)
			})
		}
	})
}

// TestLineRate: frames as fast as they can be sent end with 4201, and the disconnect frame is readable although the client goes on
// sending.
func TestLineRate(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		for name, one := range map[string]string{
			"pings of a byte":     frame(0x89, "x"),
			"pongs of a byte":     frame(0x8a, "x"),
			"activity":            frame(0x81, `{"type":"activity"}`),
			"unknown types":       frame(0x81, unknown(20)),
			"pings inside a text": frame(0x89, ""),
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := n.open(t)
				if name == "pings inside a text" {
					p.write(frame(0x01, "{"))
				}
				p.write(strings.Repeat(one, (256<<10)/len(one)))
				p.ends(4201)
				n.wantEnd(t, p.id, api.EndRateLimited)
			})
		}
		t.Run("before hello", func(t *testing.T) {
			p := n.connect(t)
			p.write(strings.Repeat(frame(0x89, "x"), 10000))
			p.ends(4201)
		})
	})
}

// TestNothingIsReset: what the client sends after its mistake does not take the server's last frames away from it. The pings before
// it keep the network busy with small answers, behind which those frames wait while the connection is closed.
func TestNothingIsReset(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		for name, tc := range map[string]struct {
			first string
			code  int
		}{
			"binary": {frame(0x82, "x"), 4304}, "not JSON": {frame(0x81, "x"), 4300}, "unmasked": {"\x81\x01x", 1002},
			"too large": {frame(0x81, strings.Repeat("x", api.MaxFrame+1)), 1009},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				pings := strings.Repeat(frame(0x89, "x"), api.FrameBurst-2)
				more := strings.Repeat(frame(0x81, strings.Repeat("x", 1000)), 300)
				p := n.open(t)
				p.write(pings + tc.first + more)
				p.ends(tc.code)
				p = n.connect(t) // before hello too
				p.write(pings + tc.first + more)
				p.ends(tc.code)
			})
		}
	})
}

package websock

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
)

// frame builds a client's frame byte by byte, without any code of the package.
func frame(first byte, payload string) []byte {
	out := []byte{first}
	switch n := len(payload); {
	case n <= 125:
		out = append(out, 0x80|byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 0x80|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 0x80|127), uint64(n))
	}
	mask := [4]byte{0xa1, 0x07, 0x5c, 0xff}
	out = append(out, mask[:]...)
	for i := range len(payload) {
		out = append(out, payload[i]^mask[i%4])
	}
	return out
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

func closeBody(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// parseAll feeds data in chunks cut at the places of cuts and describes what came out.
func parseAll(data []byte, limit int, chunk func(left int) int) []string {
	p := parser{max: limit}
	var out []string
	for {
		n := min(len(data), max(1, chunk(len(data))))
		in := data[:n]
		data = data[n:]
		for {
			msg, rest, ok, err := p.next(in)
			in = rest
			if e := (*CloseError)(nil); errors.As(err, &e) {
				return append(out, fmt.Sprintf("end peer=%v code=%d", e.Peer, e.Code))
			}
			if !ok {
				break
			}
			out = append(out, fmt.Sprintf("op%d %s", msg.Op, msg.Data))
		}
		if len(data) == 0 {
			return out
		}
	}
}

func whole(left int) int { return left }
func single(int) int     { return 1 }

// The cases carry the numbers of the Autobahn test suite where it has them.
func TestParser(t *testing.T) {
	long := strings.Repeat("*", 1000)
	protocol := []string{"end peer=false code=1002"}
	tests := []struct {
		name string
		in   []byte
		want []string
	}{
		{"1.1.1 empty text", frame(0x81, ""), []string{"op1 "}},
		{"1.1.2 text of 125", frame(0x81, long[:125]), []string{"op1 " + long[:125]}},
		{"1.1.3 text of 126", frame(0x81, long[:126]), []string{"op1 " + long[:126]}},
		{"1.1.6 text at the limit", frame(0x81, long), []string{"op1 " + long}},
		{"1.2.1 empty binary", frame(0x82, ""), []string{"op2 "}},
		{"over the limit", frame(0x81, long+"*"), []string{"end peer=false code=1009"}},
		{"over the limit, judged from the header", frame(0x81, long+"*")[:4], []string{"end peer=false code=1009"}},
		{"over the limit by a fragment", join(frame(0x01, long), frame(0x80, "*")), []string{"end peer=false code=1009"}},
		{"2.1 empty ping", frame(0x89, ""), []string{"op9 "}},
		{"2.4 ping of 125", frame(0x89, long[:125]), []string{"op9 " + long[:125]}},
		{"2.5 ping of 126", frame(0x89, long[:126]), protocol},
		{"2.7 pong unasked", frame(0x8a, "x"), []string{"op10 x"}},
		{"2.10 ten pings", bytes.Repeat(frame(0x89, "p"), 10), slicesRepeat("op9 p", 10)},
		{"3.1 RSV3", frame(0x91, "x"), protocol},
		{"3.2 RSV2 after a message", join(frame(0x81, "a"), frame(0xa1, "x")), append([]string{"op1 a"}, protocol...)},
		{"3.4 RSV1", frame(0xc1, "x"), protocol},
		{"3.5 RSV on ping", frame(0xf9, "x"), protocol},
		{"4.1.1 opcode 3", frame(0x83, ""), protocol},
		{"4.1.5 opcode 7", frame(0x87, ""), protocol},
		{"4.2.1 opcode B", frame(0x8b, ""), protocol},
		{"4.2.5 opcode F", frame(0x8f, ""), protocol},
		{"5.1 fragmented ping", join(frame(0x09, "a"), frame(0x80, "b")), protocol},
		{"5.2 fragmented pong", join(frame(0x0a, "a"), frame(0x80, "b")), protocol},
		{"5.3 two fragments", join(frame(0x01, "ab"), frame(0x80, "cd")), []string{"op1 abcd"}},
		{"5.6 ping between", join(frame(0x01, "ab"), frame(0x89, "p"), frame(0x80, "cd")), []string{"op9 p", "op1 abcd"}},
		{"5.9 continuation alone", frame(0x80, "x"), protocol},
		{"5.10 unfinished continuation alone", frame(0x00, "x"), protocol},
		{"5.15 continuation after the end", join(frame(0x01, "a"), frame(0x80, "b"), frame(0x00, "c")),
			append([]string{"op1 ab"}, protocol...)},
		{"5.18 second text in a message", join(frame(0x01, "a"), frame(0x81, "b")), protocol},
		{"5.19 five fragments, pings between", join(frame(0x01, "a"), frame(0x00, "b"), frame(0x89, "1"), frame(0x00, "c"),
			frame(0x00, "d"), frame(0x89, "2"), frame(0x80, "e")), []string{"op9 1", "op9 2", "op1 abcde"}},
		{"6.1.2 empty fragments", join(frame(0x01, ""), frame(0x00, ""), frame(0x80, "")), []string{"op1 "}},
		{"6.2.1 UTF-8", frame(0x81, "Hello-µ@ßöäüàá-UTF-8!!"), []string{"op1 Hello-µ@ßöäüàá-UTF-8!!"}},
		{"6.2.3 UTF-8 cut inside a rune", join(frame(0x01, "\xce"), frame(0x80, "\xba")), []string{"op1 κ"}},
		{"6.3.1 invalid UTF-8", frame(0x81, "\xce\xba\xed\xa0\x80edited"), []string{"end peer=false code=1007"}},
		{"6.4.1 fails at the fragment", join(frame(0x01, "\xce\xba\xf4"), frame(0x00, "\x90"), frame(0x89, "")),
			[]string{"end peer=false code=1007"}},
		{"6.4.2 fails inside the fragment", frame(0x01, "\xf4\x90\x80")[:8], []string{"end peer=false code=1007"}},
		{"6.6.1 rune cut by the end", frame(0x81, "\xce"), []string{"end peer=false code=1007"}},
		{"6.9.4 highest rune", frame(0x81, "\xf4\x8f\xbf\xbf"), []string{"op1 \U0010ffff"}},
		{"6.13.1 stray continuation byte", frame(0x81, "\x80"), []string{"end peer=false code=1007"}},
		{"6.18.1 overlong", frame(0x81, "\xc0\xaf"), []string{"end peer=false code=1007"}},
		{"6.21.1 surrogate", frame(0x81, "\xed\xa0\x80"), []string{"end peer=false code=1007"}},
		{"binary is not judged", frame(0x82, "\xff"), []string{"op2 \xff"}},
		{"7.1.3 ping after close", join(frame(0x88, ""), frame(0x89, "")), []string{"end peer=true code=1005"}},
		{"7.1.5 close inside a message", join(frame(0x01, "a"), frame(0x88, closeBody(1000, ""))), []string{"end peer=true code=1000"}},
		{"7.3.1 close without a body", frame(0x88, ""), []string{"end peer=true code=1005"}},
		{"7.3.2 close with one byte", frame(0x88, "\x03"), protocol},
		{"7.3.5 close with the longest reason", frame(0x88, closeBody(1000, long[:123])), []string{"end peer=true code=1000"}},
		{"7.3.6 close with a longer reason", frame(0x88, closeBody(1000, long[:124])), protocol},
		{"7.5.1 close reason not UTF-8", frame(0x88, closeBody(1000, "\xff")), []string{"end peer=false code=1007"}},
		{"unmasked", []byte{0x81, 0x01, 'x'}, protocol},
		{"unmasked, judged from two bytes", []byte{0x81, 0x7f}, protocol},
		{"length not minimal, 16 bit", []byte{0x81, 0x80 | 126, 0, 125}, protocol},
		{"length not minimal, 64 bit", []byte{0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, protocol},
		{"length with its highest bit", []byte{0x81, 0x80 | 127, 0x80, 0, 0, 0, 0, 1, 0, 0}, protocol},
		{"length of 2^62", []byte{0x81, 0x80 | 127, 0x40, 0, 0, 0, 0, 0, 0, 0}, []string{"end peer=false code=1009"}},
		{"fragments without end", join(frame(0x01, ""), bytes.Repeat(frame(0x00, ""), maxFragments)), []string{"end peer=false code=1009"}},
	}
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		tests = append(tests, struct {
			name string
			in   []byte
			want []string
		}{fmt.Sprintf("7.7 close code %d", code), frame(0x88, closeBody(code, "r")), []string{fmt.Sprintf("end peer=true code=%d", code)}})
	}
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		tests = append(tests, struct {
			name string
			in   []byte
			want []string
		}{fmt.Sprintf("7.9 close code %d", code), frame(0x88, closeBody(code, "r")), protocol})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, chunk := range map[string]func(int) int{"whole": whole, "byte by byte": single} {
				if diff := cmp.Diff(tt.want, parseAll(tt.in, 1000, chunk)); diff != "" {
					t.Errorf("%s: (-want +got)\n%s", name, diff)
				}
			}
		})
	}
}

func slicesRepeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// FuzzParser holds the parser to one result however its input is cut, to the limit, and to no panic.
func FuzzParser(f *testing.F) {
	f.Add(join(frame(0x81, "hello"), frame(0x88, closeBody(1000, ""))), uint8(3))
	f.Add(join(frame(0x01, "κ"), frame(0x89, "p"), frame(0x80, "κ")), uint8(1))
	f.Add(frame(0x82, strings.Repeat("x", 200)), uint8(7))
	f.Add(frame(0x81, strings.Repeat("x", 400)), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		want := parseAll(data, 300, whole)
		got := parseAll(data, 300, func(int) int { return int(size) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("chunks of %d differ from the whole (-whole +chunks)\n%s", size, diff)
		}
		for _, m := range got {
			if len(m) > 300+len("op10 ") {
				t.Fatalf("message of %d bytes passed a limit of 300", len(m))
			}
		}
	})
}

// TestRoundTrip sends random messages, fragmented at random with pings between, cut at random, and expects them back.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var want []string
		for range rapid.IntRange(0, 8).Draw(t, "messages") {
			text := rapid.String().Draw(t, "text")
			parts := rapid.IntRange(1, 4).Draw(t, "fragments")
			left := text
			for i := range parts {
				n := len(left)
				if i < parts-1 {
					n = rapid.IntRange(0, len(left)).Draw(t, "cut")
				}
				first := byte(0)
				if i == 0 {
					first = 0x01
				}
				if i == parts-1 {
					first |= 0x80
				}
				stream = append(stream, frame(first, left[:n])...)
				left = left[n:]
				if i < parts-1 && rapid.Bool().Draw(t, "ping") {
					stream = append(stream, frame(0x89, "p")...)
					want = append(want, "op9 p")
				}
			}
			want = append(want, "op1 "+text)
		}
		got := parseAll(stream, api.MaxFrame, func(left int) int {
			return rapid.IntRange(1, max(1, left)).Draw(t, "chunk")
		})
		if !cmp.Equal(want, got) {
			t.Fatalf("want %q, got %q", want, got)
		}
	})
}

func TestParserHoldsNothingBetweenMessages(t *testing.T) {
	p := parser{max: 1000}
	for _, f := range [][]byte{frame(0x81, "abc"), frame(0x89, "p")} {
		if _, _, ok, err := p.next(f); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if p.msg != nil || p.control != nil {
			t.Errorf("kept %d and %d bytes", cap(p.msg), cap(p.control))
		}
	}
}

func TestErrorsStay(t *testing.T) {
	p := parser{max: 10}
	_, _, _, first := p.next(frame(0x83, ""))
	_, _, ok, again := p.next(frame(0x81, "x"))
	if ok || !errors.Is(again, first) {
		t.Errorf("after %v: ok=%v err=%v", first, ok, again)
	}
}

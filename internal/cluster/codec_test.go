package cluster

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
)

func drawID[T any](t *rapid.T) (id api.ID[T]) {
	copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	id[15] |= 1
	return id
}

func drawMillis(t *rapid.T) api.Millis {
	return api.Millis(rapid.OneOf(rapid.Int64Range(1, 2_000_000_000_000), rapid.Int64()).Draw(t, "ms"))
}

// drawChange draws any change that a registry can tell.
func drawChange(t *rapid.T) registry.RowChange {
	row := registry.Row{Organization: drawID[api.Organization](t), Application: drawID[api.Application](t), Session: drawID[api.Session](t)}
	switch kind := rapid.SampledFrom([]registry.ChangeKind{registry.RowSet, registry.RowGone, registry.RowActive}).Draw(t, "kind"); kind {
	case registry.RowSet:
		row.ServerID = api.NewServerID(rapid.SampledFrom([]string{"srv-01", "srv-02"}).Draw(t, "node"), row.Session)
		row.CreatedAt, row.TokenExpiresAt = drawMillis(t), drawMillis(t)
		row.LastActiveAt = max(row.CreatedAt, drawMillis(t))
		row.IP, row.Login, row.License = rapid.String().Draw(t, "ip"), rapid.String().Draw(t, "login"), rapid.String().Draw(t, "license")
		row.ClientID = rapid.OneOf(rapid.Just(row.Session.String()), rapid.String()).Draw(t, "client")
		row.Authorized, row.OwnerEpoch = rapid.Bool().Draw(t, "authorized"), rapid.Uint32().Draw(t, "adopted")
		row.Credential = rapid.SampledFrom([]registry.Credential{{}, {Kind: registry.CredentialRollcall, Epoch: math.MaxUint64},
			{Kind: registry.CredentialForeign, IssuedAt: drawMillis(t)}}).Draw(t, "credential")
		return registry.RowChange{Kind: kind, Epoch: rapid.Uint64().Draw(t, "epoch"), Row: row}
	case registry.RowActive:
		row.LastActiveAt = drawMillis(t)
		return registry.RowChange{Kind: kind, Row: row}
	default:
		return registry.RowChange{Kind: kind, Row: row}
	}
}

// TestMessagesComeThrough: what is written is read.
func TestMessagesComeThrough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := header{kind: kindBatch, node: "srv-01", incarnation: rapid.Int64Min(0).Draw(t, "inc"), sequence: rapid.Uint64().Draw(t, "seq")}
		changes := rapid.SliceOf(rapid.Custom(drawChange)).Draw(t, "changes")
		size := rapid.IntRange(0, 2000).Draw(t, "size")
		var got []registry.RowChange
		for left := changes; len(left) > 0; {
			b, n := appendChanges(appendHeader(nil, h), h.node, left, size)
			m, err := parseMessage(b)
			if err != nil || m.header != h || n == 0 {
				t.Fatalf("%v, %+v, %d changes", err, m.header, n)
			}
			got, left = append(got, m.changes...), left[n:]
		}
		if !slices.Equal(got, changes) {
			t.Fatal(cmp.Diff(changes, got))
		}

		h.kind = kindHeartbeat
		m, err := parseMessage(appendHeartbeat(nil, h, 42, true))
		if err != nil || m.header != h || m.version != 42 || !m.hello {
			t.Fatalf("heartbeat: %+v, %v", m, err)
		}
		h.kind = kindGoodbye
		if m, err = parseMessage(appendHeader(nil, h)); err != nil || m.header != h {
			t.Fatalf("goodbye: %+v, %v", m, err)
		}

		h.kind = kindSnapshot
		p := &page{header: h, to: h.sequence, version: 7, more: true, next: registry.RosterPosition{
			Application: drawID[api.Application](t), After: api.Position{CreatedAt: drawMillis(t), ServerID: "a:b"}}, rows: changes}
		if p.rows == nil {
			p.rows = []registry.RowChange{}
		}
		back, err := parsePage(encodePage(p, p.rows))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, back, cmp.AllowUnexported(page{}, header{})); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestMalformedMessages lists what no node sends.
func TestMalformedMessages(t *testing.T) {
	h := header{kind: kindBatch, node: "srv-01", incarnation: 1, sequence: 1}
	good := appendHeader(nil, h)
	app := append([]byte{wireApplication}, make([]byte, 31)...)
	app = append(app, 1)
	with := func(parts ...string) []byte { return append(slices.Clone(good), strings.Join(parts, "")...) }
	for name, b := range map[string][]byte{
		"empty":                         {},
		"another version":               append([]byte{2}, good[1:]...),
		"unknown kind":                  append([]byte{1, 'X'}, good[2:]...),
		"no node":                       {1, 'G', 0, 1, 1},
		"negative incarnation":          append([]byte{1, 'G', 1, 'a'}, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1),
		"node too long":                 {1, 'G', 200, 'a', 1, 1},
		"varint too long":               append([]byte{1, 'G', 1, 'a'}, slices.Repeat([]byte{255}, 12)...),
		"cut in the header":             good[:len(good)-1],
		"goodbye with more":             append(appendHeader(nil, header{kind: kindGoodbye, node: "a"}), 0),
		"heartbeat with a flag 2":       append(appendHeader(nil, header{kind: kindHeartbeat, node: "a"}), 0, 2),
		"change before its application": with("\x02", strings.Repeat("s", 16)),
		"nil application":               with("\x00", strings.Repeat("\x00", 32), "\x02", strings.Repeat("s", 16)),
		"cut in an id":                  with(string(app), "\x02", "sss"),
		"flags on a removal":            with(string(app), "\x06", strings.Repeat("s", 16)),
		"two kinds of credential":       with(string(app), "\x79", strings.Repeat("s", 16), "\x00\x00\x00\x00\x00\x00\x00\x00"),
		"no node in a server id":        with(string(app), "\x09", strings.Repeat("s", 16), "\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		"text beyond the end":           with(string(app), "\x19", strings.Repeat("s", 16), "\x00\x00\x00\x00\x00\x7fabc"),
	} {
		if m, err := parseMessage(b); err == nil {
			t.Errorf("%s: read as %+v", name, m)
		}
	}
	if _, err := parsePage(encodePage(&page{header: header{kind: kindSnapshot, node: "a", sequence: 5}, to: 4}, nil)); err == nil {
		t.Error("a page that is complete before it was begun")
	}
}

// FuzzMessage: whatever comes, what is read is written back the same, and memory is bounded by the message.
func FuzzMessage(f *testing.F) {
	h := header{kind: kindBatch, node: "srv-01", incarnation: 1, sequence: 1}
	for i := range 4 {
		b, _ := appendChanges(appendHeader(nil, h), h.node, rapid.SliceOfN(rapid.Custom(drawChange), i, i).Example(i), math.MaxInt)
		f.Add(b)
	}
	f.Add(appendHeartbeat(nil, header{kind: kindHeartbeat, node: "a", sequence: 9}, 3, true))
	f.Add(encodePage(&page{header: header{kind: kindSnapshot, node: "a"}}, rapid.SliceOfN(rapid.Custom(drawChange), 2, 2).Example(1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parsePage(b); err == nil {
			again, err := parsePage(encodePage(p, p.rows))
			if err != nil || !cmp.Equal(p, again, cmp.AllowUnexported(page{}, header{})) {
				t.Fatalf("%v: %s", err, cmp.Diff(p, again, cmp.AllowUnexported(page{}, header{})))
			}
		}
		m, err := parseMessage(b)
		if err != nil || m.kind != kindBatch {
			return
		}
		if len(m.changes) > len(b)/16 || cap(m.changes) > len(b)/8+1 {
			t.Fatalf("%d bytes became %d changes in room for %d", len(b), len(m.changes), cap(m.changes))
		}
		again, _ := appendChanges(appendHeader(nil, m.header), m.node, m.changes, math.MaxInt)
		back, err := parseMessage(again)
		if err != nil || !slices.Equal(back.changes, m.changes) {
			t.Fatalf("%v: %s", err, cmp.Diff(m.changes, back.changes))
		}
	})
}

func benchChanges(n int) []registry.RowChange {
	changes := make([]registry.RowChange, n)
	for i := range changes {
		id := api.NewSessionID()
		row := registry.Row{Session: id, ServerID: api.NewServerID("srv-01", id), CreatedAt: 1_700_000_000_000, IP: "203.0.113.100",
			ClientID: "client-00001", License: "LIC-0000-0000-001", Login: "someone@example.com", Authorized: true,
			TokenExpiresAt: 1_700_000_900_000, LastActiveAt: 1_700_000_000_000, Credential: registry.Credential{Kind: registry.CredentialRollcall}}
		row.Organization[0], row.Application[0] = 1, 1
		changes[i] = registry.RowChange{Kind: registry.RowSet, Row: row}
	}
	return changes
}

// BenchmarkCodec writes and reads batches of 100; the budget is a million changes in a second.
func BenchmarkCodec(b *testing.B) {
	h := header{kind: kindBatch, node: "srv-01", incarnation: 1, sequence: 1}
	changes := benchChanges(100)
	encoded, _ := appendChanges(appendHeader(nil, h), h.node, changes, math.MaxInt)
	b.Run("write", func(b *testing.B) {
		room := make([]byte, 0, 1<<16)
		for range b.N {
			appendChanges(appendHeader(room, h), h.node, changes, math.MaxInt)
		}
		b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)/100*1e3, "s/million")
		b.ReportMetric(float64(len(encoded))/100, "B/change")
	})
	b.Run("read", func(b *testing.B) {
		for range b.N {
			if _, err := parseMessage(encoded); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)/100*1e3, "s/million")
	})
}

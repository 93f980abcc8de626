package server

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestShare: whatever the limit, each group of descriptors leaves enough for those that matter more.
func TestShare(t *testing.T) {
	for _, tc := range []struct{ descriptors, sessions int }{{256, 128}, {1024, 896}, {19_999, 19_375}, {20_000, 19_375}, {1 << 20, 1015808}} {
		if b, err := share(tc.descriptors, 0); err != nil || b.sessions != tc.sessions {
			t.Errorf("%d descriptors: %+v, %v; want %d sessions", tc.descriptors, b, err, tc.sessions)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		reserve := rapid.IntRange(0, 1000).Draw(t, "reserve")
		descriptors := rapid.IntRange(minDescriptors+reserve, 1<<30).Draw(t, "descriptors")
		b, err := share(descriptors, reserve)
		if err != nil {
			t.Fatal(err)
		}
		if b.descriptors != descriptors-reserve || b.sessions < b.descriptors/2 {
			t.Errorf("%+v", b)
		}
		if engine := b.descriptors - b.connections - b.ops; engine < 48 { // SQLite alone takes 15
			t.Errorf("%d are left for the engine: %+v", engine, b)
		}
		if b.ops < 16 || b.connections-b.kept < 16 || b.kept-b.sessions < 48 {
			t.Errorf("too few for operators: %+v", b)
		}
	})
	if b, err := share(0, 100); err != nil || b != (budget{}) || places(b.connections) < 1<<30 {
		t.Errorf("without a limit: %+v, %v", b, err)
	}
}

func TestShareRefuses(t *testing.T) {
	if _, err := share(255, 0); err == nil || !strings.Contains(err.Error(), "ulimit -n") {
		t.Error(err)
	}
	if _, err := share(1024, 800); err == nil {
		t.Error("a reserve that leaves 224 was accepted")
	}
	b, err := share(1024, 0)
	if err != nil {
		t.Fatal(err)
	}
	for configured, want := range map[int]int{0: 896, 1: 1, 896: 896} {
		if n, err := b.maxSessions(configured); n != want || err != nil {
			t.Errorf("%d: %d, %v", configured, n, err)
		}
	}
	for _, configured := range []int{-1, 897, 1 << 40} {
		if _, err := b.maxSessions(configured); err == nil || !strings.HasPrefix(err.Error(), "max-sessions: ") {
			t.Errorf("%d: %v", configured, err)
		}
	}
	if n, err := (budget{}).maxSessions(5_000_000); n != 5_000_000 || err != nil {
		t.Errorf("without a limit: %d, %v", n, err)
	}
}

package gateway

import (
	"maps"
	"slices"
)

// Restate hands over the record of every session that is connected once more, and returns how many that were. It is for a node that
// was taken for dead and has a new incarnation: its records were closed in SQL, but nobody has ended its sessions (G9).
func (g *Gateway) Restate() (n int) {
	g.mu.Lock()
	live := slices.Collect(maps.Values(g.live))
	g.mu.Unlock()
	for _, s := range live {
		s.mu.Lock()
		if s.live && s.told == nil { // under the lock, so that the end comes after it
			g.cfg.Records.Keep(s.record)
			n++
		}
		s.mu.Unlock()
	}
	return n
}

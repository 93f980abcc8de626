package server

import (
	"fmt"
	"math"
)

// Descriptors are shared out once, at start, so that no client can take the one that the database, the log or an operator needs:
//
//	all that the process may open
//	├─ the engine: database, files, ops listener, what other code in the process needs
//	└─ connections of the main listener
//	   ├─ kept: sessions and operators' streams, which stay
//	   └─ spare: at least so many are for plain requests
//
// Sessions alone may take fewer than the kept ones, so that operators' streams find room beside them.
const (
	minDescriptors = 256 // a node with fewer is refused
	minHeadroom    = 128 // what sessions leave, at least
	headroomShare  = 32  // or one in so many: 624 of 20,000, so that 19,000 sessions fit with room for reconnects
)

// budget is how a node's descriptors are shared out; see above. The zero value bounds nothing: the system has no such limit.
type budget struct {
	descriptors int // what the process may open, less what it needs beside the node
	connections int // of the main listener, accepted at once
	kept        int // of these, sessions and streams
	sessions    int // of these, sessions: the most that MaxSessions can be
	ops         int // connections of the ops listener
}

// share derives a node's budget from what the process may open (0 = no limit) and what it needs for other things.
func share(descriptors, reserve int) (budget, error) {
	if descriptors == 0 {
		return budget{}, nil
	}
	left := descriptors - reserve
	if left < minDescriptors {
		return budget{}, fmt.Errorf("descriptors: a node needs at least %d file descriptors, and this process may open %d (%d of them for other things); "+
			"raise the limit: ulimit -n, or LimitNOFILE= of a systemd unit", minDescriptors, descriptors, reserve)
	}
	headroom := max(minHeadroom, left/headroomShare)
	engine := headroom / 2
	b := budget{descriptors: left, connections: left - engine, sessions: left - headroom, ops: engine / 4}
	b.kept = b.connections - headroom/8
	return b, nil
}

// maxSessions returns the bound of session connections: the configured one, which must fit, or by default all that fit.
func (b budget) maxSessions(configured int) (int, error) {
	switch {
	case configured < 0:
		return 0, fmt.Errorf("max-sessions: %d must not be negative; 0 is as many as the file descriptors allow", configured)
	case b.descriptors > 0 && configured > b.sessions:
		return 0, fmt.Errorf("max-sessions: %d do not fit into the %d file descriptors that the node may open, at most %d do; "+
			"raise the limit (ulimit -n, or LimitNOFILE= of a systemd unit), or give a smaller --max-sessions", configured, b.descriptors, b.sessions)
	case configured == 0:
		return b.sessions, nil
	}
	return configured, nil
}

// places returns a bound of connections, where 0 is none.
func places(n int) int {
	if n == 0 {
		return math.MaxInt
	}
	return n
}

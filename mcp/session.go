package mcp

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// state is how far a session has come with Rollcall.
type state uint8

const (
	opening  state = iota // to be told, or being told
	open                  // taken
	refused               // not taken, for the reason in refusal; asked again at retryAt
	unlisted              // cannot be told: Rollcall does not understand it
)

// session is one client of the MCP server. Its fields are guarded by Tracker.mu.
type session struct {
	as          identity
	id          api.SessionID
	day         string // of its id; "" for one with an Mcp-Session-Id
	generation  int    // of its id
	mcpID       string // its Mcp-Session-Id; "" = none
	item        api.LeaseItem
	credentials []string // that it presented, the newest last; at most maxCredentials

	state    state
	answered chan struct{} // closed when nobody need wait for Rollcall any longer
	released bool          // answered is closed
	doubted  bool          // token_revoked was answered once: it may have been meant for what was there before
	refusal  *refusal
	retryAt  time.Time

	queued    bool // it is in Tracker.queue
	exchanges map[*exchange]struct{}
	usedAt    time.Time // by a request, or an open stream
	activeAt  time.Time
	beatAt    time.Time // Rollcall was told last
	toldUse   time.Time // the usedAt that it was told
	toldAct   time.Time // the activeAt that it was told
}

const (
	maxCredentials = 8
	maxGenerations = 16
	activityEvery  = 5 * time.Second // between two reports of a session's activity
	retryRefused   = 5 * time.Second
)

// name gives the session an id that every process which serves the same MCP server finds as well, so that a client is one session
// whichever of them it meets, before and after a restart. An id that has ended is never used again: generation tells them apart.
func (s *session) name() {
	if s.generation >= maxGenerations {
		s.id = api.NewSessionID()
		return
	}
	h := sha256.New()
	h.Write(s.as[:])
	h.Write([]byte(s.day))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(s.generation)))
	id := api.SessionID(h.Sum(nil)[:16])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // RFC 9562, section 5.8: version 8
	s.id = id
}

func (s *session) release() {
	if !s.released {
		s.released = true
		close(s.answered)
	}
}

// presented notes a token, and tells whether it is another one; the oldest are forgotten.
func (s *session) presented(credential string) bool {
	if credential == "" || slices.Contains(s.credentials, credential) {
		return false
	}
	if len(s.credentials) == maxCredentials {
		s.credentials = s.credentials[1:]
	}
	s.credentials = append(s.credentials, credential)
	return true
}

// exchange is one request and its answer.
type exchange struct {
	caller caller
	mcpID  string
	as     identity // of the session that the request says it belongs to; zero = none yet

	session *session // guarded by Tracker.mu, as the next
	cut     *refusal // the session has ended: what is left to answer

	mu       sync.Mutex
	cancel   context.CancelFunc
	control  *http.ResponseController
	finished bool
	stopped  bool
}

// lastWords is how long a client whose session has ended may take to read what is on its way.
const lastWords = time.Second

// stop ends the exchange: its handler's context, and a write that waits for the client.
func (x *exchange) stop() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.finished || x.stopped {
		return
	}
	x.stopped = true
	x.cancel()
	_ = x.control.SetWriteDeadline(time.Now().Add(lastWords)) // not all writers can
}

// isStopped tells whether stop was called before the handler returned.
func (x *exchange) isStopped() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stopped
}

// finish says that the answer is complete, and gives the connection back as it was.
func (x *exchange) finish() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.finished = true
	if x.stopped {
		_ = x.control.SetWriteDeadline(time.Time{})
	}
}

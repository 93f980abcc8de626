//go:build unix

package chaos_test

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

const clock = "15:04:05.000"

// history is what clients and operators were told, and when.
type history struct {
	log io.Writer

	mu          sync.Mutex
	lives       []*life
	revocations []*revocation
	disconnects []*disconnect
	violations  []string
}

// life is a session as its client knows it. Zero times have not come.
type life struct {
	app      api.ApplicationID
	node     *node
	id       string
	serverID string
	minted   time.Time // the token, no later than that
	opened   time.Time // welcome
	left     time.Time // the client ended it
	how      string    // it did: bye, drop
	ended    time.Time // the connection was over
	code     int       // of the close frame; -1 without one
	last     api.Disconnect

	// Of a session that is held by requests and not by a connection.
	lease, reported bool
	beaten          time.Time     // when the last heartbeat was sent that was taken
	reason          api.EndReason // as its client was told
}

// connected tells whether the client believes that it is.
func (l *life) connected() bool { return l.left.IsZero() && l.ended.IsZero() }

// over is when the client knew that the session was; zero when it does not.
func (l *life) over() time.Time {
	if l.left.IsZero() || !l.ended.IsZero() && l.ended.Before(l.left) {
		return l.ended
	}
	return l.left
}

// answer is what became of an operator's call.
type answer struct {
	asked, answered time.Time
	node            *node
	status          int // 0 = nothing was answered, and it may have been done
	partial         string
	count           int
}

func (a answer) String() string {
	return fmt.Sprintf("%d, partial %q, asked at %s, answered at %s", a.status, a.partial, a.asked.Format(clock), a.answered.Format(clock))
}

type revocation struct {
	answer
	app api.ApplicationID
}

type disconnect struct {
	answer
	life *life
}

func (h *history) say(format string, args ...any) {
	fmt.Fprintf(h.log, "%s "+format+"\n", append([]any{time.Now().Format(clock)}, args...)...)
}

// violated says that a property does not hold.
func (h *history) violated(property, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.violateLocked(property, format, args...)
}

func (h *history) violateLocked(property, format string, args ...any) {
	text := property + ": " + fmt.Sprintf(format, args...)
	h.say("VIOLATED %s", text)
	h.violations = append(h.violations, text)
}

// believed returns the sessions whose clients believe that they are connected.
func (h *history) believed(app api.ApplicationID) map[string]*life {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]*life{}
	for _, l := range h.lives {
		if l.app == app && l.connected() {
			all[l.id] = l
		}
	}
	return all
}

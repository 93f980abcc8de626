package cluster

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"
)

// serverLog passes on what the embedded server says. It says much in passing: notices are for who debugs. And it says trouble again
// for each of several connections and each attempt, every second: the same is passed on once a minute.
type serverLog struct {
	log *slog.Logger

	mu    sync.Mutex
	since time.Time       // when said was emptied
	said  map[string]bool // what was passed on since; at most maxSaid
}

const (
	sayAgain = time.Minute
	maxSaid  = 64
)

// varying is what differs between two sayings of the same: the port of who connects, the number of the connection, the attempt.
var varying = regexp.MustCompile(`:\d+ - [rc]id:\d+| \(attempt \d+\)`)

// fresh tells whether a text is to be passed on.
func (l *serverLog) fresh(text string, now time.Time) bool {
	key := varying.ReplaceAllString(text, "")
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.since) >= sayAgain {
		l.since, l.said = now, map[string]bool{}
	}
	if l.said[key] || len(l.said) >= maxSaid {
		return false
	}
	l.said[key] = true
	return true
}

func (l *serverLog) trouble(format string, v []any) {
	text := fmt.Sprintf(format, v...)
	switch {
	case strings.HasPrefix(text, "Plaintext passwords detected"): // ours are derived, or random, and in memory alone
	case l.fresh(text, time.Now()):
		l.log.Warn("nats: " + text)
	default:
		l.log.Debug("nats: " + text)
	}
}

func (l *serverLog) debug(format string, v []any) { l.log.Debug("nats: " + fmt.Sprintf(format, v...)) }

// Noticef and the others implement the server's Logger.
func (l *serverLog) Noticef(format string, v ...any) { l.debug(format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.debug(format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.debug(format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.trouble(format, v) }
func (l *serverLog) Errorf(format string, v ...any)  { l.trouble(format, v) }
func (l *serverLog) Fatalf(format string, v ...any) {
	l.log.Error("nats: " + fmt.Sprintf(format, v...))
}

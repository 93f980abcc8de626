package cluster

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestServerLog: a peer that is away, or a stranger that knocks, is said once a minute and not with every attempt.
func TestServerLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := &serverLog{log: slog.New(slog.NewTextHandler(&out, nil))}
		lines := func() int {
			defer out.Reset()
			return strings.Count(out.String(), "level=WARN")
		}
		for minute := range 3 {
			for i := range 59 {
				for _, port := range []int{6222, 6223} {
					l.Errorf("Error trying to connect to route (attempt %d): dial tcp 10.0.0.2:%d: connect: connection refused", i, port)
				}
				l.Errorf("10.0.0.9:%d - rid:%d - authentication error", 40000+i, i)
				time.Sleep(time.Second)
			}
			time.Sleep(2 * time.Second)
			if n := lines(); n != 3 {
				t.Errorf("minute %d: %d lines of 3 troubles", minute, n)
			}
		}
		l.Warnf("Plaintext passwords detected, use nkeys or bcrypt")
		l.Noticef("Server is ready")
		if n := lines(); n != 0 {
			t.Errorf("%d lines of what is no trouble", n)
		}
		for i := range 1000 {
			l.Errorf("%s", fmt.Sprint("trouble ", i))
		}
		if n := lines(); n > maxSaid {
			t.Errorf("%d lines of a flood", n)
		}
	})
}

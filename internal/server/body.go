package server

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// dawdle is how long the rest of a body that its handler did not want may take to arrive, so that the connection can be used again.
const dawdle = 500 * time.Millisecond

// bounded bounds what a request's body can hold up: one that is read has bodyTimeout in all, and one that was not wanted, such as
// that of a caller without a valid key, does not delay the answer. net/http alone would wait for it as long as for a wanted one.
func bounded(next http.Handler, slow prometheus.Counter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 { // upgrades among them: a connection that was taken over has its own deadlines
			next.ServeHTTP(w, r)
			return
		}
		body := &timedBody{ReadCloser: r.Body, control: http.NewResponseController(w), slow: slow}
		r.Body = body
		body.within(dawdle)
		next.ServeHTTP(w, r)
		if !body.late {
			body.within(dawdle)
		}
	})
}

// timedBody gives whoever reads it bodyTimeout, and counts when that was not enough.
type timedBody struct {
	io.ReadCloser
	control     *http.ResponseController
	slow        prometheus.Counter
	asked, late bool
}

// within ignores errors: a connection that is gone says so at the next read.
func (b *timedBody) within(d time.Duration) { _ = b.control.SetReadDeadline(time.Now().Add(d)) }

// Read reads the body.
func (b *timedBody) Read(p []byte) (int, error) {
	if !b.asked {
		b.asked = true
		b.within(bodyTimeout)
	}
	n, err := b.ReadCloser.Read(p)
	if !b.late && errors.Is(err, os.ErrDeadlineExceeded) {
		b.late = true
		b.slow.Inc()
	}
	return n, err
}

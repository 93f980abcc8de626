package mcp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"
)

// maxHead is how much of a POST is looked at before it is passed on.
const maxHead = 256 << 10

// Middleware returns a handler that is next, and tracks the sessions of its clients. It tracks every GET, POST and DELETE that it is
// given: mount it where the MCP endpoint is. Run must run for anything to be reported.
func (t *Tracker) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodPost, http.MethodDelete:
			t.serve(w, r, next)
		default: // such as the OPTIONS of a browser, which has no credential
			next.ServeHTTP(w, r)
		}
	})
}

func (t *Tracker) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if ambiguous(r.Header) {
		refuseAmbiguous.write(w, r, t.cfg.Challenge)
		return
	}
	who, f := t.identify(r)
	if f != nil {
		f.write(w, r, t.cfg.Challenge)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	x := &exchange{caller: who, mcpID: r.Header.Get(headerSession), cancel: cancel, control: http.NewResponseController(w)}
	var m message
	r = r.WithContext(ctx)
	if r.Method == http.MethodPost {
		var err error
		if m, err = peek(r); err != nil {
			http.Error(w, "the body could not be read", http.StatusBadRequest)
			return
		}
	}
	if x.mcpID != "" && !m.modern {
		x.as = t.transportIdentity(who, x.mcpID)
	} else {
		x.as = t.clientIdentity(who, m, r.UserAgent())
	}
	if f := t.begin(ctx, x, time.Now()); f != nil {
		defer x.finish()
		t.detach(x, time.Now())
		f.write(w, r, t.cfg.Challenge)
		return
	}
	a := &answer{ResponseWriter: w, tracker: t, request: r, exchange: x, message: m}
	defer t.end(a)
	next.ServeHTTP(a, r)
	a.letGo(nil)
	a.decide(http.StatusOK) // as net/http does for a handler that writes nothing
}

// end is deferred behind the handler: it may be what the handler panics into when its context was ended under it.
func (t *Tracker) end(a *answer) {
	t.detach(a.exchange, time.Now())
	defer a.exchange.finish()
	if !a.exchange.isStopped() {
		return
	}
	// The end of the session, not the handler's trouble. net/http closes the answer as it is, so that the client sees a stream that
	// ended, not a connection that broke.
	if err := recover(); err != nil && !isAbort(err) {
		panic(err)
	}
	a.decide(http.StatusOK)
	if f := t.cut(a.exchange); f != nil && f.rpcCode != 0 && a.awaited() {
		_, _ = a.ResponseWriter.Write(f.event(a.message.id)) // the client may be gone
	}
}

func isAbort(panicked any) bool {
	err, ok := panicked.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// peek reads the beginning of the body, and leaves the request as it was for whoever reads it next.
func peek(r *http.Request) (message, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return message{}, nil
	}
	var read bytes.Buffer // grows with what comes, not with what was announced
	_, err := read.ReadFrom(io.LimitReader(r.Body, maxHead))
	head := read.Bytes()
	if err != nil {
		return message{}, err
	}
	body := r.Body
	whole := len(head) < maxHead
	if whole {
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(head)), nil }
		r.Body = restored{bytes.NewReader(head), body}
	} else {
		r.Body = restored{io.MultiReader(bytes.NewReader(head), body), body}
	}
	return readMessage(head, whole), nil
}

// restored is a body whose beginning has been read.
type restored struct {
	io.Reader
	io.Closer
}

// answer is the response as the handler sees it. Everything passes as it is written, but the beginning: it waits until the session is
// known, and is replaced when the client is to be refused.
type answer struct {
	http.ResponseWriter
	tracker  *Tracker
	request  *http.Request
	exchange *exchange
	message  message

	held    int // the status, while the answer to server/discover waits for its first byte
	decided bool
	refused bool   // what the handler writes goes nowhere
	tail    []byte // the last bytes that it wrote
}

// errEnded is what a handler gets that goes on writing to a client whose session has ended.
var errEnded = errors.New("mcp: the session has ended")

// awaited tells whether the client waits for the answer to a call in a stream of events, and the last of them is complete.
func (a *answer) awaited() bool {
	kind, _, err := mime.ParseMediaType(a.Header().Get("Content-Type"))
	return err == nil && kind == "text/event-stream" && !a.refused && a.message.id != nil && a.request.Method == http.MethodPost &&
		(len(a.tail) == 0 || bytes.HasSuffix(a.tail, []byte("\n\n")) || bytes.HasSuffix(a.tail, []byte("\r\n\r\n")))
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if status < http.StatusOK && status != http.StatusSwitchingProtocols {
		a.ResponseWriter.WriteHeader(status)
		return
	}
	if a.message.discover && !a.decided {
		a.held = status
		return
	}
	if a.decide(status); !a.refused {
		a.ResponseWriter.WriteHeader(status)
	}
}

// letGo passes on the status that was held back, now that the answer begins. Clients of both generations ask servers of both to find out
// which it is: only one that is of the client's opens a session, and others may answer 200 as well.
func (a *answer) letGo(begin []byte) {
	if a.message.discover && !a.decided {
		a.message.isRPC = a.message.isRPC && a.message.discovered(begin)
		if status := a.held; status != 0 {
			a.message.discover = false
			a.WriteHeader(status)
		}
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.letGo(p)
	if a.decide(http.StatusOK); a.refused {
		return len(p), nil
	}
	if a.request.Context().Err() != nil && a.exchange.isStopped() {
		return 0, errEnded
	}
	n, err := a.ResponseWriter.Write(p)
	a.tail = append(a.tail, p[max(0, n-4):n]...)
	a.tail = append(a.tail[:0], a.tail[max(0, len(a.tail)-4):]...)
	return n, err
}

// Flush implements http.Flusher, which many handlers ask for by that name.
func (a *answer) Flush() { _ = a.FlushError() }

// FlushError is for http.ResponseController.
func (a *answer) FlushError() error {
	if a.held != 0 && !a.decided {
		return nil
	}
	if a.decide(http.StatusOK); a.refused {
		return nil
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// decide is called with the status before anything is written, and does its work once.
func (a *answer) decide(status int) {
	if a.decided {
		return
	}
	a.decided = true
	if f := a.judge(status); f != nil {
		a.refused = true
		f.write(a.ResponseWriter, a.request, a.tracker.cfg.Challenge)
		a.exchange.cancel()
	}
}

// judge takes the request into its session if the handler accepted it, and ends the session that the handler has ended.
func (a *answer) judge(status int) *refusal {
	t, x := a.tracker, a.exchange
	accepted := status >= http.StatusOK && status < http.StatusMultipleChoices
	switch a.request.Method {
	case http.MethodDelete:
		if x.mcpID != "" && accepted {
			t.close(x.as)
			return nil
		}
	case http.MethodPost:
		if accepted && a.message.isRPC {
			if id := a.Header().Get(headerSession); id != "" && a.message.initialize && !a.message.modern {
				x.mcpID, x.as = id, t.transportIdentity(x.caller, id)
			}
			return a.admit()
		}
	case http.MethodGet:
		if kind, _, err := mime.ParseMediaType(a.Header().Get("Content-Type")); accepted && err == nil && kind == "text/event-stream" {
			return a.admit()
		}
	}
	if status == http.StatusNotFound && x.mcpID != "" && !a.message.modern { // 2025-11-25, basic/transports, "Session Management", 3
		t.close(x.as)
	}
	return t.cut(x)
}

func (a *answer) admit() *refusal {
	x := a.exchange
	authorized := x.caller.verified || x.caller.credential != "" && !a.tracker.cfg.Tokens.verifies()
	return a.tracker.admit(a.request.Context(), x, describe(x.caller, authorized, a.message, a.request.Header), a.message.active)
}

// cut returns what is answered in place of what the handler made of the end of the session under it.
func (t *Tracker) cut(x *exchange) *refusal {
	t.mu.Lock()
	defer t.mu.Unlock()
	return x.cut
}

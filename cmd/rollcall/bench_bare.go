package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/rollcallhq/rollcall/api"
)

// benchBareCmd is what a storm of connects is compared with: the least that a WebSocket server can do for the same clients. It looks
// at no token, keeps no record and has no rows; whoever says hello gets the same welcome, from a goroutine of the connection's own.
type benchBareCmd struct{}

// Run serves until its input ends.
func (benchBareCmd) Run(ctx context.Context, streams *stdio) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ready := serverReady{URL: "http://" + listener.Addr().String(), PID: os.Getpid()}
	if err := json.NewEncoder(streams.out).Encode(ready); err != nil {
		return err
	}
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		untilEOF(streams.in)
		_ = listener.Close() // it is what ends the loop
	})
	welcome := ws.MustCompileFrame(ws.NewTextFrame([]byte(`{"type":"welcome","serverId":"bare"}`)))
	for {
		conn, err := listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			time.Sleep(bareRest)
		default:
			work.Go(func() {
				defer conn.Close()
				_ = serveBare(conn, welcome) // a client that goes is what a storm is made of
			})
		}
	}
}

// bareRest is how long the bare server waits when it has no descriptor left: those of connections that were cut are about to be closed.
const bareRest = 5 * time.Millisecond

// serveBare is a connection's life.
func serveBare(conn net.Conn, welcome []byte) error {
	up := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == api.Subprotocol }}
	if _, err := up.Upgrade(conn); err != nil {
		return err
	}
	if err := skipFrame(conn); err != nil {
		return err
	}
	if _, err := conn.Write(welcome); err != nil {
		return err
	}
	for {
		if err := skipFrame(conn); err != nil {
			return err
		}
	}
}

func skipFrame(from io.Reader) error {
	h, err := ws.ReadHeader(from)
	if err == nil {
		_, err = io.CopyN(io.Discard, from, h.Length)
	}
	return err
}

// bareResult is the storm of the same clients on the bare server, in the same run.
type bareResult struct {
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"`
	Cores     float64 `json:"serverCores"`
	Stolen    float64 `json:"stolenCores"`
	Share     float64 `json:"share"` // of its rate that Rollcall reached
}

// bareStorm lets the storm's clients loose on the bare server.
func (b *bench) bareStorm(ctx context.Context, errs io.Writer) (*bareResult, error) {
	server, err := startChild(ctx, errs, "bench-bare", nil)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	var ready serverReady
	if err := server.lines.Decode(&ready); err != nil {
		return nil, fmt.Errorf("the bare server did not start: %w", err)
	}
	bare := *b
	bare.target.URL, bare.target.PID = ready.URL, ready.PID
	b.progress("connecting %d clients to the bare server", b.cmd.Sessions)
	crowd, err := startCrowdOf(ctx, "bench-stormers", bare.target, b.cmd.Sessions, b.cmd.Concurrency, errs)
	if err != nil {
		return nil, err
	}
	defer crowd.stop()
	if err := pause(ctx, stormBefore); err != nil {
		return nil, err
	}
	m := bare.startMeter()
	reports, err := crowd.stormNow()
	if err != nil {
		return nil, err
	}
	var storm stormResult
	storm.Sessions, storm.Told = b.cmd.Sessions, map[string]int{}
	storm.judge(reports)
	if storm.Missing > 0 {
		return nil, fmt.Errorf("%d of %d clients did not come back to the bare server: %s", storm.Missing, storm.Sessions, storm.FirstErr)
	}
	r := &bareResult{Seconds: storm.Seconds, PerSecond: storm.PerSecond, Stolen: m.stolenCores()}
	r.Cores, _, err = m.cores()
	return r, err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rollcallhq/rollcall/internal/pgserver"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// scriptPostgres is a private PostgreSQL of the scripts, started when the first of them asks for it.
type scriptPostgres struct {
	start     func() (*pgserver.Server, error)
	mu        sync.Mutex
	databases int
}

func postgresOf(t *testing.T) *scriptPostgres {
	return &scriptPostgres{start: sync.OnceValues(func() (*pgserver.Server, error) {
		s, err := pgserver.Start(t.Context())
		if err == nil {
			t.Cleanup(s.Close)
		}
		return s, err
	})}
}

// here is the condition postgres: there is one on this machine. CI must have one.
func (p *scriptPostgres) here(cond string) (bool, error) {
	if cond != "postgres" {
		return false, fmt.Errorf("no condition %q", cond)
	}
	_, err := p.start()
	if errors.Is(err, pgserver.ErrAbsent) && os.Getenv("CI") == "" {
		return false, nil
	}
	return err == nil, err
}

// cmd is `postgres VARIABLE`: it sets the variable to the URL of an empty database.
func (p *scriptPostgres) cmd(ts *testscript.TestScript, _ bool, args []string) {
	s, err := p.start()
	ts.Check(err)
	p.mu.Lock()
	p.databases++
	name := "script" + strconv.Itoa(p.databases)
	p.mu.Unlock()
	ts.Check(s.Exec(context.Background(), "postgres", "CREATE DATABASE "+name+" TEMPLATE template0"))
	ts.Setenv(args[0], s.URL(name))
}

// cmdFree is `free VARIABLE…`: it sets the variables to addresses where nobody listens.
func cmdFree(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		addr, err := testkit.Free(context.Background())
		ts.Check(err)
		ts.Setenv(name, addr)
	}
}

// cmdNATS is `nats VARIABLE TOKEN`: it runs a NATS server that wants the token, and sets the variable to its host:port.
func cmdNATS(ts *testscript.TestScript, _ bool, args []string) {
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, Authorization: args[1], NoSigs: true, NoLog: true})
	ts.Check(err)
	ns.Start()
	ts.Defer(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	if !ns.ReadyForConnections(patience) {
		ts.Fatalf("the NATS server does not listen")
	}
	ts.Setenv(args[0], ns.Addr().String())
}

// cmdNoLeak is `noleak NAME TEXT…`: what the process has written has none of the texts.
func cmdNoLeak(ts *testscript.TestScript, _ bool, args []string) {
	for _, text := range args[1:] {
		if strings.Contains(lookup(ts, args[0]).output(), text) {
			ts.Fatalf("%s wrote %q", args[0], text)
		}
	}
}

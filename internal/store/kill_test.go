//go:build unix

package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// killEnv makes the test binary the process that is killed; its value is the database.
const killEnv = "ROLLCALL_STORE_TEST_KILL"

func TestMain(m *testing.M) {
	if path := os.Getenv(killEnv); path != "" {
		fmt.Fprintln(os.Stderr, storm(path))
		os.Exit(1)
	}
	code := m.Run()
	closeSharedPostgres()
	os.Exit(code)
}

// storm opens, changes and ends sessions until it is killed, and says on stdout what was acknowledged.
func storm(path string) error {
	ctx := context.Background()
	db, err := store.Open(ctx, "sqlite:"+path)
	if err != nil {
		return err
	}
	inc, err := db.Nodes().Claim(ctx, "srv-01")
	if err != nil {
		return err
	}
	r := store.NewRecorder(store.RecorderConfig{Records: db.Records(), MaxWait: time.Hour})
	failed := make(chan error, 1)
	go func() { failed <- r.Run(ctx) }()
	said := make(chan string, 1000)
	for range 32 {
		go func() {
			for i := 0; ; i++ {
				rec := newRecord(api.MillisOf(time.Now()))
				rec.Incarnation = inc
				ticket, err := r.Stage(rec)
				if err == nil {
					err = ticket.Commit(ctx)
				}
				if err != nil {
					failed <- err
					return
				}
				said <- "open " + rec.ID.String()
				if i%2 == 0 {
					rec.Name = "changed"
					if err := r.Change(ctx, rec); err != nil {
						failed <- err
						return
					}
					said <- "change " + rec.ID.String()
				}
				if i%3 == 0 {
					r.End(endOf(rec, 1))
					if r.Flush(ctx) {
						said <- "end " + rec.ID.String()
					}
				}
			}
		}()
	}
	for {
		select {
		case err := <-failed:
			return err
		case line := <-said:
			if _, err := os.Stdout.WriteString(line + "\n"); err != nil {
				return err
			}
		}
	}
}

// TestKill kills the process in a storm of connects: everything that it acknowledged is there (G6).
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	acknowledged := map[api.SessionID]string{}
	for round := range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killEnv+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for in := bufio.NewScanner(out); in.Scan(); lines++ { // up to what was in the pipe when it died
			what, id, ok := strings.Cut(in.Text(), " ")
			session, err := api.ParseID[api.Session](id)
			if !ok || err != nil {
				continue // the last line, torn
			}
			acknowledged[session] = what
			if lines == 1000*(round+1) {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the process ended by itself: %v", err)
		}
		if lines < 1000 {
			t.Fatalf("only %d acknowledgements", lines)
		}
	}
	db := open(t, "sqlite:"+path)
	inc, err := db.Nodes().Claim(t.Context(), "srv-01")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Nodes().Sweep(t.Context(), "srv-01", inc, time.Minute); err != nil {
		t.Fatal(err)
	}
	for id, what := range acknowledged {
		found, err := db.Records().Get(t.Context(), testApp, []api.SessionID{id})
		if err != nil {
			t.Fatal(err)
		}
		rec, ok := found[id]
		switch {
		case !ok:
			t.Fatalf("%s: acknowledged (%s) and lost", id, what)
		case what != "open" && rec.Name != "changed" && rec.EndedAt != 1:
			t.Fatalf("%s: acknowledged (%s) and lost: %+v", id, what, rec)
		case what == "end" && rec.EndReason != api.EndClientClosed, rec.EndedAt == 0:
			t.Fatalf("%s: %s, recorded as %q at %d", id, what, rec.EndReason, rec.EndedAt)
		}
	}
	t.Logf("%d sessions were acknowledged", len(acknowledged))
}

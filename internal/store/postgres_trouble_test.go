//go:build unix

package store_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/pgserver"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
)

// until waits for a condition that another process brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in 20 s not: %s", what)
		}
	}
}

// TestPostgresTrouble has the server go away in the ways that servers do, under a recorder: sessions go on, records wait, reads fail
// in time, nothing is lost, and it recovers by itself.
func TestPostgresTrouble(t *testing.T) {
	t.Parallel()
	server := storetest.Postgres(t)
	exec := func(t *testing.T, statement string) {
		t.Helper()
		if err := server.Exec(context.Background(), "postgres", statement); err != nil {
			t.Fatal(err)
		}
	}
	up := func(t *testing.T) {
		if err := server.Up(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		short bool // it may be over before anything has failed
		begin func(t *testing.T, database string) (end func(*testing.T))
	}{
		{"restart", false, func(*testing.T, string) func(*testing.T) { server.Down(); return up }},
		{"killed", false, func(*testing.T, string) func(*testing.T) { server.Kill(); return up }},
		{"stopped", false, func(t *testing.T, _ string) func(*testing.T) {
			if err := server.Pause(t.Context()); err != nil {
				t.Fatal(err)
			}
			return func(*testing.T) { server.Resume() }
		}},
		{"backends terminated", true, func(t *testing.T, _ string) func(*testing.T) {
			exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rollcall'`)
			return func(*testing.T) {}
		}},
		{"read-only", false, func(t *testing.T, _ string) func(*testing.T) {
			exec(t, `ALTER SYSTEM SET default_transaction_read_only = on`)
			exec(t, `SELECT pg_reload_conf()`)
			return func(t *testing.T) {
				exec(t, `ALTER SYSTEM RESET default_transaction_read_only`)
				exec(t, `SELECT pg_reload_conf()`)
			}
		}},
		{"locked", false, func(t *testing.T, database string) func(*testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() {
				_ = server.Exec(ctx, database, `BEGIN; LOCK TABLE sessions; SELECT pg_sleep(60)`)
			})
			until(t, "locked", func() bool {
				return server.Exec(ctx, database, `SET lock_timeout = 1; LOCK TABLE sessions IN ACCESS SHARE MODE NOWAIT`) != nil
			})
			return func(*testing.T) { cancel(); wg.Wait() }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			database := storetest.DatabaseName(t, server)
			troubleOnPostgres(t, server.URL(database), c.short, func() func() {
				end := c.begin(t, database)
				return func() { end(t) }
			})
		})
	}
}

func troubleOnPostgres(t *testing.T, url string, short bool, begin func() (end func())) {
	db := open(t, url)
	r := store.NewRecorder(store.RecorderConfig{Records: db.Records(), Incarnation: claim(t, db), MaxWait: 100 * time.Millisecond})
	defer runRecorder(t, r)()
	var rows []store.Record
	connect := func(n int) {
		for range n {
			rec := newRecord(api.Millis(len(rows) + 1))
			rows = append(rows, rec)
			commit(t, stage(t, r, rec))
		}
	}
	connect(10)
	end := begin()
	start := time.Now()
	connect(50)
	for i := range rows {
		if i%2 == 0 {
			rows[i] = endOf(rows[i], 1000)
			r.End(rows[i], denialOf(rows[i].ID.String()))
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("50 sessions waited %v", took)
	}
	if !short {
		until(t, "away", func() bool { return r.Status().Away })
		if s := r.Status(); s.Queued < 50 || s.Err == "" || strings.Contains(s.Err, "\n") {
			t.Errorf("in trouble: %+v", s)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		start = time.Now()
		_, _ = db.Config().Version(ctx) // a server that only does not write does answer
		if took := time.Since(start); took > time.Second {
			t.Errorf("a poll of 200 ms took %v", took)
		}
		cancel()
	}
	end()
	until(t, "written", func() bool { return r.Status() == store.RecorderStatus{} })
	for i := range rows {
		if got, _ := read(t, r, rows[i]); got.EndedAt != rows[i].EndedAt {
			t.Fatalf("record %d reads as ended at %d, want %d", i, got.EndedAt, rows[i].EndedAt)
		}
	}
	var ch store.Changes
	until(t, "readable", func() (ok bool) {
		var err error
		ch, err = db.Config().Since(t.Context(), 0)
		return err == nil
	})
	equal(t, "denials", len(ch.Denials), 30)
	connect(1)
}

// TestPostgresFailover has two servers, of which one takes writes, and changes which.
func TestPostgresFailover(t *testing.T) {
	t.Parallel()
	first, second := storetest.Postgres(t), storetest.Postgres(t)
	role := func(s *pgserver.Server, readOnly string) {
		t.Helper()
		for _, statement := range []string{`ALTER SYSTEM SET default_transaction_read_only = ` + readOnly, `SELECT pg_reload_conf()`} {
			if err := s.Exec(t.Context(), "postgres", statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	either := fmt.Sprintf("postgres://%s@/postgres?host=%s,%s&sslmode=disable", pgserver.User, first.Dir(), second.Dir())
	// As a standby would have it: the same tables on both.
	for _, s := range []*pgserver.Server{first, second} {
		db := open(t, s.URL("postgres"))
		claim(t, db)
	}
	role(first, "on")
	until(t, "read-only", func() bool {
		_, err := store.Open(t.Context(), first.URL("postgres"))
		return err != nil && strings.Contains(err.Error(), "read only")
	})
	db := open(t, either)
	write := func() error {
		return db.Records().Write(t.Context(), []store.Record{func() store.Record { r := newRecord(1); r.Incarnation = 1; return r }()}, nil)
	}
	count := func(s *pgserver.Server) (n int) {
		t.Helper()
		store.QueryRow(t, open(t, s.URL("postgres")), `SELECT count(*) FROM sessions`, &n)
		return n
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	equal(t, "rows on the second", count(second), 1)
	role(second, "on")
	role(first, "off")
	until(t, "written on the other", func() bool { return write() == nil })
	until(t, "read from the other", func() bool {
		_, err := db.Config().Version(t.Context())
		return err == nil
	})
	role(second, "off")
	equal(t, "rows on the second", count(second), 1)
}

// TestPostgresPartition cuts the connections without a word: calls end in time, and at once when the way is free again.
func TestPostgresPartition(t *testing.T) {
	t.Parallel()
	server, err := sharedPostgres()
	storetest.Need(t, err)
	url := storetest.Database(t, server)
	dir := t.TempDir()
	way := newProxy(t, filepath.Join(dir, ".s.PGSQL.5432"), filepath.Join(server.Dir(), ".s.PGSQL.5432"))
	db := open(t, strings.Replace(url, server.Dir(), dir, 1))
	inc := claim(t, db)
	way.cut(true)
	start := time.Now()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if err := db.Nodes().Beat(ctx, "srv-01", inc); err == nil {
			t.Error("a beat was written across the cut")
		}
		if _, err := db.Config().Version(ctx); err == nil {
			t.Error("a version was read across the cut")
		}
		cancel()
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("calls of 300 ms took %v", took)
	}
	way.cut(false)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := db.Config().Version(ctx); err != nil {
		t.Errorf("after the cut: %v", err)
	}
	if err := db.Nodes().Beat(ctx, "srv-01", inc); err != nil {
		t.Errorf("after the cut: %v", err)
	}
}

// TestPostgresForgotten: a node that is cut off in the middle of a transaction does not keep the others from its rows.
func TestPostgresForgotten(t *testing.T) {
	t.Parallel()
	server, err := sharedPostgres()
	storetest.Need(t, err)
	url := storetest.Database(t, server)
	dir := t.TempDir()
	way := newProxy(t, filepath.Join(dir, ".s.PGSQL.5432"), filepath.Join(server.Dir(), ".s.PGSQL.5432"))
	gone, here := open(t, strings.Replace(url, server.Dir(), dir, 1)), open(t, url)
	inside, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = gone.Config().Edit(context.Background(), func(tx store.Tx) error {
			close(inside)
			<-release
			return nil
		})
	})
	<-inside
	way.cut(true)
	start := time.Now()
	if err := here.Config().Edit(t.Context(), func(store.Tx) error { return nil }); err != nil {
		t.Errorf("another node's edit: %v", err)
	}
	t.Logf("it waited %v", time.Since(start).Round(100*time.Millisecond))
	close(release)
	way.cut(false)
	wg.Wait()
}

// TestPostgresFenceWaits sweeps a node that is in the middle of a write: the sweep closes what is being written, for it waits.
func TestPostgresFenceWaits(t *testing.T) {
	t.Parallel()
	server, err := sharedPostgres()
	storetest.Need(t, err)
	database := storetest.DatabaseName(t, server)
	db := open(t, server.URL(database))
	rec := newRecord(1000)
	rec.Incarnation = claim(t, db)
	waiting := func(n int) func() bool {
		return func() bool {
			found := 0
			store.QueryRow(t, db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`, &found)
			return found >= n
		}
	}
	blocked, free := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // writes wait, reads do not
		store.Blocking(t, db, `LOCK TABLE sessions IN EXCLUSIVE MODE`, func() { close(blocked); <-free })
	})
	<-blocked
	wg.Go(func() {
		if err := db.Records().Write(t.Context(), []store.Record{rec}, nil); err != nil {
			t.Error(err)
		}
	})
	until(t, "writing", waiting(1))
	var swept atomic.Bool
	inc := claim(t, db)
	wg.Go(func() {
		if _, err := db.Nodes().Sweep(t.Context(), "srv-01", inc, time.Minute); err != nil {
			t.Error(err)
		}
		swept.Store(true)
	})
	until(t, "sweeping", func() bool { return swept.Load() || waiting(2)() })
	close(free)
	wg.Wait()
	found, err := db.Records().Get(t.Context(), testApp, []api.SessionID{rec.ID})
	if err != nil || found[rec.ID].EndReason != api.EndServerStopped {
		t.Errorf("it was left as %+v, %v", found[rec.ID], err)
	}
}

// proxy forwards a socket until it is cut: then nothing comes through and nobody hears of it.
type proxy struct {
	mu    sync.Mutex
	open  *sync.Cond
	isCut bool
}

func newProxy(t *testing.T, from, to string) *proxy {
	t.Helper()
	p := &proxy{}
	p.open = sync.NewCond(&p.mu)
	l, err := net.Listen("unix", from)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); p.cut(false) })
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					defer way[0].Close()
					defer way[1].Close()
					buf := make([]byte, 64<<10)
					for {
						n, err := way[0].Read(buf)
						cut := p.wait()
						if n > 0 && !cut { // what was sent into the cut is lost, with its connection
							if _, err := way[1].Write(buf[:n]); err != nil {
								return
							}
						}
						if err != nil || cut {
							return
						}
					}
				})
			}
		}
	})
	return p
}

// wait returns when the way is free, and whether it was not.
func (p *proxy) wait() (was bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.isCut {
		was = true
		p.open.Wait()
	}
	return was
}

func (p *proxy) cut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isCut = cut
	p.open.Broadcast()
}

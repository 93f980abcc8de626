package store_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
)

func benchRecord(app api.ApplicationID, org api.OrganizationID, at api.Millis) store.Record {
	id := api.NewSessionID()
	return store.Record{ID: id, ServerID: api.NewServerID("srv-01", id), Organization: org, Application: app, Incarnation: 1,
		CreatedAt: at, IP: "203.0.113.10", ClientID: "client-00001", Login: "john.doe@example.com", License: "ABCDEF-1234567890",
		Authorized: true, TokenExpiresAt: at + 3600_000, Hostname: "mbp-14", UserAgent: "rollcall-client/1.0 (linux; amd64)",
		ClientInfo: []byte(`{"name":"desktop","version":"1.2.3"}`)}
}

// onEach runs a benchmark on each engine that is there, PostgreSQL with its syncs.
func onEach(b *testing.B, run func(b *testing.B, db store.DB)) {
	b.Run("sqlite", func(b *testing.B) { run(b, open(b, "sqlite:"+filepath.Join(b.TempDir(), "r.db"))) })
	b.Run("postgres", func(b *testing.B) {
		run(b, open(b, storetest.Database(b, storetest.Postgres(b, "fsync=on", "max_wal_size=4GB"))))
	})
}

// BenchmarkWrite is the rate of inserts and ends in transactions of several sizes.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{1, 50, 500} {
		for _, kind := range []string{"open", "end"} {
			b.Run(fmt.Sprintf("%s/batch=%d", kind, size), func(b *testing.B) {
				onEach(b, func(b *testing.B, db store.DB) { benchWrite(b, db, size, kind == "end") })
			})
		}
	}
}

func benchWrite(b *testing.B, db store.DB, size int, end bool) {
	app, org := api.NewID[api.Application](), api.NewID[api.Organization]()
	owner := claim(b, db)
	batch := make([]store.Record, size)
	rows := 0
	write := func(batch []store.Record) {
		if err := db.Records().Write(b.Context(), batch, nil); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		b.StopTimer()
		for i := range batch {
			batch[i] = benchRecord(app, org, api.Millis(rows+i+1))
			batch[i].Incarnation = owner
		}
		if end {
			write(batch)
			for i := range batch {
				batch[i].EndedAt, batch[i].EndReason = batch[i].CreatedAt+1, api.EndClientClosed
			}
		}
		b.StartTimer()
		write(batch)
		rows += size
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkCommitQuiet is what a welcome waits for when nothing else is going on: commits with pauses between them.
func BenchmarkCommitQuiet(b *testing.B) { onEach(b, benchQuiet) }

func benchQuiet(b *testing.B, db store.DB) {
	r := store.NewRecorder(store.RecorderConfig{Records: db.Records(), Incarnation: claim(b, db)})
	stop := runRecorder(b, r)
	defer stop()
	app, org := api.NewID[api.Application](), api.NewID[api.Organization]()
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		time.Sleep(4 * time.Millisecond)
		start := time.Now()
		t, err := r.Stage(benchRecord(app, org, api.Millis(i+1)))
		if err != nil {
			b.Fatal(err)
		}
		if err := t.Commit(b.Context()); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op") // it is mostly the pauses
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
}

// BenchmarkCommitStorm is the same with 256 sessions that open at once, as many as the gateway verifies together.
func BenchmarkCommitStorm(b *testing.B) { onEach(b, benchStorm) }

func benchStorm(b *testing.B, db store.DB) {
	b.ResetTimer() // opening a database takes longer
	r := store.NewRecorder(store.RecorderConfig{Records: db.Records(), Incarnation: claim(b, db)})
	stop := runRecorder(b, r)
	defer stop()
	app, org := api.NewID[api.Application](), api.NewID[api.Organization]()
	b.SetParallelism(128)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			t, err := r.Stage(benchRecord(app, org, 1))
			if err != nil {
				b.Error(err)
				return
			}
			if err := t.Commit(context.Background()); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// runRecorder runs r until the returned function is called, which waits for it.
func runRecorder(t testing.TB, r *store.Recorder) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

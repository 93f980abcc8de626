package server

import (
	"context"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcallhq/rollcall/internal/store"
)

// TestRush: way is given while newcomers wait, for a moment after, and not for ever.
func TestRush(t *testing.T) {
	before := collectPercent()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{rush: make(chan struct{}, 1), recorder: store.NewRecorder(store.RecorderConfig{})}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.giveWay(ctx)
		}()
		expect := func(when string, want uint64) {
			t.Helper()
			synctest.Wait()
			if got := collectPercent(); got != want {
				t.Errorf("%s: the collector's percentage is %d, not %d", when, got, want)
			}
		}
		expect("nobody came", before)
		s.rushed()
		expect("a newcomer waits", rushCollect)
		time.Sleep(rushOver - 1)
		s.rushed()
		time.Sleep(rushOver - 1)
		expect("another one has waited", rushCollect)
		time.Sleep(time.Nanosecond)
		expect("nobody waits", before)
		s.rushed()
		for end := time.Now().Add(rushMost - 1); time.Now().Before(end); time.Sleep(rushOver / 2) {
			s.rushed()
			expect("they wait and wait", rushCollect)
		}
		for end := time.Now().Add(rushMost - rushOver); time.Now().Before(end); time.Sleep(rushOver / 2) {
			s.rushed()
			expect("the others have waited long enough", before)
		}
		time.Sleep(rushOver)
		expect("they wait still", rushCollect)
		cancel()
		<-done
		expect("the server stops", before)
	})
}

func collectPercent() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

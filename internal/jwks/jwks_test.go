package jwks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	here  = "https://id.example/jwks"
	there = "https://other.example/jwks"
)

var (
	ours   = Group{1}
	theirs = Group{2}
)

// issuer answers fetches as the test says, and counts them.
type issuer struct {
	mu      sync.Mutex
	answer  map[string]func(ctx context.Context) (string, error) // by address
	fetches map[string]int
	flying  map[string]int
	most    int // fetches at once
}

func newIssuer() *issuer {
	return &issuer{answer: map[string]func(context.Context) (string, error){}, fetches: map[string]int{}, flying: map[string]int{}}
}

func (i *issuer) RoundTrip(req *http.Request) (*http.Response, error) {
	address := req.URL.String()
	i.mu.Lock()
	i.fetches[address]++
	i.flying[address]++
	total := 0
	for _, n := range i.flying {
		total += n
	}
	i.most = max(i.most, total)
	answer := i.answer[address]
	i.mu.Unlock()
	text, err := answer(req.Context())
	i.mu.Lock()
	i.flying[address]--
	i.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(text)), Request: req}, nil
}

// serves has the address answer with a set of keys with those kids, at once.
func (i *issuer) serves(address string, kids ...string) {
	var keys []string
	for _, kid := range kids {
		keys = append(keys, jwk(edKey, map[string]any{"kid": kid}))
	}
	i.does(address, func(context.Context) (string, error) { return `{"keys":[` + strings.Join(keys, ",") + `]}`, nil })
}

var errDown = errors.New("connection refused")

func (i *issuer) down(address string) {
	i.does(address, func(context.Context) (string, error) { return "", errDown })
}

// hangs until the fetch is given up.
func (i *issuer) hangs(address string) {
	i.does(address, func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() })
}

func (i *issuer) does(address string, answer func(context.Context) (string, error)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer[address] = answer
}

func (i *issuer) count(address string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches[address]
}

func (i *issuer) atOnce() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.most
}

// world is a running cache and its issuers, in a synctest bubble.
type world struct {
	*Cache
	*issuer
	t       *testing.T
	log     *bytes.Buffer
	metrics *prometheus.Registry
	stop    func()
}

// inBubble runs a test with a cache that runs, and stops it.
func inBubble(t *testing.T, change func(*Config), test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{issuer: newIssuer(), t: t, log: new(bytes.Buffer), metrics: prometheus.NewRegistry()}
		cfg := Config{Transport: w.issuer, Log: slog.New(slog.NewTextHandler(w.log, nil)), Metrics: w.metrics}
		if change != nil {
			change(&cfg)
		}
		w.Cache = New(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { w.Run(ctx) })
		w.stop = func() {
			cancel()
			run.Wait()
		}
		defer w.stop()
		test(w)
	})
}

// await asks until the question is settled, and returns how that took.
func (w *world) await(group Group, address, kid string) (time.Duration, error) {
	began := time.Now()
	var since time.Time
	for {
		_, err := w.Find(group, address, kid, "EdDSA", since)
		pending, ok := errors.AsType[*Pending](err)
		if !ok {
			return time.Since(began), err
		}
		<-pending.Done
		since = pending.Since
	}
}

func (w *world) want(address, kid string, want error, within time.Duration) {
	w.t.Helper()
	time.Sleep(time.Nanosecond) // a bubble's clock stands still, and what was fetched at this instant may be older than the question
	took, err := w.await(ours, address, kid)
	if !errors.Is(err, want) || took > within {
		w.t.Fatalf("kid %q: %v after %s, want %v within %s", kid, err, took, want, within)
	}
}

func (w *world) fetched(result string) float64 {
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if labels := metric.GetLabel(); len(labels) == 1 && labels[0].GetValue() == result {
				return metricValue(metric)
			}
		}
	}
	return -1
}

func metricValue(m *dto.Metric) float64 { return m.GetCounter().GetValue() }

func TestKeysAreFetchedOnceAndServed(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		w.serves(here, "a")
		var all sync.WaitGroup
		for range 1000 { // a storm after a restart
			all.Go(func() { w.want(here, "a", nil, 0) })
		}
		all.Wait()
		for range 1000 {
			w.want(here, "a", nil, 0)
		}
		if n := w.count(here); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestRotation(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		w.serves(here, "a")
		w.want(here, "a", nil, 0)
		w.serves(here, "a", "b")
		w.want(here, "b", nil, minInterval) // a kid that is new is looked for at once
		w.want(here, "a", nil, 0)
		w.serves(here, "b")
		w.want(here, "a", nil, 0)
		time.Sleep(refreshInterval * 11 / 10) // what was taken out is forgotten at the next refresh
		w.want(here, "a", ErrUnknown, minInterval)
		w.want(here, "b", nil, 0)
	})
}

// However many tokens with kids that nobody has come, the issuer is asked once in two seconds, and those with good ones are served.
func TestFloodOfUnknownKids(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		w.serves(here, "a")
		w.want(here, "a", nil, 0)
		var flood sync.WaitGroup
		for i := range 5000 {
			flood.Go(func() {
				time.Sleep(time.Duration(i) * 2 * time.Millisecond) // 10 s of it
				w.want(here, fmt.Sprint("random", i), ErrUnknown, minInterval)
				w.want(here, "a", nil, 0)
			})
		}
		flood.Wait()
		if n := w.count(here); n < 6 || n > 8 {
			t.Errorf("%d fetches in 12 s", n)
		}
	})
}

// Nothing that an issuer does takes keys away that are here.
func TestKeysOutliveTheIssuersTrouble(t *testing.T) {
	trouble := map[string]func(context.Context) (string, error){
		"down":      func(context.Context) (string, error) { return "", errDown },
		"slow":      func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() },
		"huge":      func(context.Context) (string, error) { return `{"keys":[` + strings.Repeat(" ", maxBytes) + `]}`, nil },
		"malformed": func(context.Context) (string, error) { return `<html>`, nil },
		"empty":     func(context.Context) (string, error) { return ``, nil },
		"no keys":   func(context.Context) (string, error) { return `{"keys":[]}`, nil },
		"null":      func(context.Context) (string, error) { return `null`, nil },
		"unusable":  func(context.Context) (string, error) { return `{"keys":[{"kty":"oct","kid":"a","k":"AAAA"}]}`, nil },
		"too many":  func(context.Context) (string, error) { return `{"keys":[` + strings.Repeat("1,", maxKeys) + `1]}`, nil },
	}
	for name, answer := range trouble {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(w *world) {
				w.serves(here, "a")
				w.want(here, "a", nil, 0)
				w.does(here, answer)
				w.want(here, "b", ErrAway, minInterval+fetchTimeout)
				for range 6 {
					time.Sleep(time.Hour / 2)
					w.want(here, "a", nil, 0)
				}
				w.serves(here, "b")
				w.want(here, "b", nil, minInterval+fetchTimeout)
				if text := w.log.String(); strings.Count(text, "cannot be fetched") != 1 || strings.Count(text, "again") != 1 {
					t.Errorf("logged %s", text)
				}
			})
		})
	}
}

func TestNothingCached(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		w.down(here)
		w.want(here, "a", ErrAway, 0)
		w.want(here, "a", ErrAway, minInterval) // asked again, no sooner
		if n := w.count(here); n != 2 {
			t.Errorf("%d fetches", n)
		}
		w.serves(here, "a")
		w.want(here, "a", nil, minInterval)
		w.hangs(there)
		w.want(there, "a", ErrAway, fetchTimeout)
		if n := w.fetched("unreachable"); n != 3 {
			t.Errorf("%v fetches counted as unreachable", n)
		}
		if n := w.fetched("ok"); n != 1 {
			t.Errorf("%v fetches counted as ok", n)
		}
	})
}

// The slow addresses of one group leave room for another's, and there is a bound on all.
func TestGroupsDoNotHoldUpOneAnother(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		var all sync.WaitGroup
		for i := range 100 {
			address := fmt.Sprint("https://slow.example/", i)
			w.hangs(address)
			all.Go(func() { _, _ = w.await(theirs, address, "a") })
		}
		time.Sleep(time.Second)
		if n := w.atOnce(); n != maxGroupFlights {
			t.Errorf("%d fetches of one group at once", n)
		}
		w.serves(here, "a")
		w.want(here, "a", nil, 0)
		for i := range 100 { // of many groups
			address := fmt.Sprint("https://slower.example/", i)
			w.hangs(address)
			all.Go(func() { _, _ = w.await(Group{3, byte(i)}, address, "a") })
		}
		time.Sleep(time.Second)
		if n := w.atOnce(); n != maxFlights {
			t.Errorf("%d fetches at once", n)
		}
		all.Wait()
		w.stop()
		w.Cache.mu.Lock()
		defer w.Cache.mu.Unlock()
		if w.Cache.flying != 0 || len(w.flights) > 0 {
			t.Errorf("%d fetches under way when all have ended, %v", w.Cache.flying, w.flights)
		}
	})
}

// One who asks while a fetch is under way may have a token that is newer than its answer: it is not told that its key is unknown.
func TestAskingDuringAFetch(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		w.does(here, func(context.Context) (string, error) {
			time.Sleep(time.Second) // the answer is a second old when it comes
			return `{"keys":[` + jwk(edKey, map[string]any{"kid": "a"}) + `]}`, nil
		})
		var first sync.WaitGroup
		first.Go(func() { w.want(here, "a", nil, time.Second) })
		time.Sleep(time.Second / 2)
		w.serves(here, "a", "b")
		w.want(here, "b", nil, time.Second/2+minInterval)
		first.Wait()
		if n := w.count(here); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestAddressesThatAreNoLongerConfigured(t *testing.T) {
	var mu sync.Mutex
	used := true
	inBubble(t, func(c *Config) {
		c.InUse = func(string) bool {
			mu.Lock()
			defer mu.Unlock()
			return used
		}
	}, func(w *world) {
		w.serves(here, "a")
		w.want(here, "a", nil, 0)
		mu.Lock()
		used = false
		mu.Unlock()
		time.Sleep(time.Hour)
		if n := w.count(here); n != 1 {
			t.Errorf("%d fetches", n)
		}
		w.Cache.mu.Lock()
		defer w.Cache.mu.Unlock()
		if len(w.sources) != 0 {
			t.Error("it is not forgotten")
		}
	})
}

func TestRefresh(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		w.serves(here, "a")
		w.want(here, "a", nil, 0)
		time.Sleep(time.Hour)
		if n := w.count(here); n < 11 || n > 15 {
			t.Errorf("%d fetches in an hour", n)
		}
		w.down(here)
		time.Sleep(time.Hour)
		if n := w.count(here); n < 110+11 || n > 15+135 {
			t.Errorf("%d fetches in two hours, away in the second", n)
		}
	})
}

func TestStopEndsFetches(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		w.hangs(here)
		_, err := w.Find(ours, here, "a", "EdDSA", time.Time{})
		pending, ok := errors.AsType[*Pending](err)
		if !ok {
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		w.stop()
		<-pending.Done // nobody is left waiting for it
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %s to stop", took)
		}
		if w.log.Len() > 0 {
			t.Errorf("logged %s", w.log)
		}
	})
}

func TestLogHasNoSecrets(t *testing.T) {
	const secret = "https://id.example/jwks?code=hunter2"
	inBubble(t, nil, func(w *world) {
		w.down(secret)
		w.want(secret, "a", ErrAway, 0)
		if text := w.log.String(); strings.Contains(text, "hunter2") || !strings.Contains(text, "https://id.example/jwks") {
			t.Errorf("logged %s", text)
		}
	})
}

package tenant

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

func TestRevoke(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	own, foreign := w.issue(appID, api.TokenInput{}), sign(t, nil, nil)
	w.OnApplication(func(app Application) int {
		if app.ID == appID && app.Epoch > 0 {
			return 40 + int(app.Epoch)
		}
		return 0
	})
	app, count, err := w.Revoke(ctx, appID, "somekey", "stolen laptop")
	want(t, err, "", "")
	if count != 41 || app.Epoch != 1 || app.RevokedBy != "somekey" || app.RevokedReason != "stolen laptop" ||
		time.Since(app.RevokedAt.Time()).Abs() > time.Minute {
		t.Errorf("count %d, %+v", count, app)
	}
	_, err = w.Verify(ctx, Credential{Token: own})
	want(t, err, api.CodeTokenRevoked, "")
	_, err = w.Verify(ctx, Credential{PublishableKey: pubKey})
	want(t, err, "", "")
	_, count, err = w.Revoke(ctx, appID, Admin, "")
	want(t, err, "", "")
	if count != 42 {
		t.Errorf("the second revocation counts %d", count)
	}
	_, err = w.Verify(ctx, Credential{Token: w.issue(appID, api.TokenInput{})})
	want(t, err, "", "")

	// A foreign token is judged in whole seconds by SQL's clock, which the test moves here.
	for name, tc := range map[string]struct {
		revoked time.Duration // after noon
		iat     any
		code    api.Code
	}{
		"issued before":                {10 * time.Second, noon.Unix() + 9, api.CodeTokenRevoked},
		"issued in the same second":    {10*time.Second + 999*time.Millisecond, noon.Unix() + 10, api.CodeTokenRevoked},
		"issued at the end of it":      {10 * time.Second, float64(noon.Unix()) + 10.9, api.CodeTokenRevoked},
		"issued in the next second":    {10*time.Second + 999*time.Millisecond, noon.Unix() + 11, ""},
		"revoked just before a second": {10*time.Second - time.Millisecond, noon.Unix() + 10, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w.clock.set(noon.Add(20 * time.Second))
			changed := w.app(appID).Application
			changed.RevokedAt = api.MillisOf(noon.Add(tc.revoked))
			w.mu.Lock()
			w.mem.take(store.Changes{Version: w.mem.version, Applications: []store.Application{changed}})
			w.mu.Unlock()
			_, err := w.Verify(ctx, Credential{Token: sign(t, nil, m{"iat": tc.iat})})
			want(t, err, tc.code, "")
		})
	}
	_, err = w.Verify(ctx, Credential{Token: foreign})
	want(t, err, api.CodeTokenRevoked, "")

	_, _, err = w.Revoke(ctx, api.NewID[api.Application](), Admin, "")
	want(t, err, api.CodeApplicationNotFound, "")
	_, _, err = w.Revoke(ctx, appID, Admin, strings.Repeat("é", 257))
	want(t, err, api.CodeValidation, "reason must be at most 256 characters")
	_, _, err = w.Revoke(ctx, appID, Admin, "\xff")
	want(t, err, api.CodeValidation, "reason must be")
	epoch := w.app(appID).Epoch
	if _, err := w.ArchiveApplication(ctx, appID, Admin); err != nil {
		t.Fatal(err)
	}
	_, count, err = w.Revoke(ctx, appID, Admin, "")
	want(t, err, "", "")
	if now := w.app(appID); count != 0 || now.Epoch != epoch+1 || now.RevokedReason != "" {
		t.Errorf("revoking an archived application counts %d, epoch %d", count, now.Epoch)
	}
}

// Every revocation counts the sessions that it ended itself, however many come at once.
func TestConcurrentRevocationsCountEachSessionOnce(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	sessions, endedBy := 100, map[uint64]int{}
	w.OnApplication(func(app Application) int { // as the gateway does it
		mu.Lock()
		defer mu.Unlock()
		if app.ID != appID || app.Epoch == 0 {
			return 0
		}
		if _, done := endedBy[app.Epoch]; !done {
			endedBy[app.Epoch] = sessions
			sessions = 0
		}
		return endedBy[app.Epoch]
	})
	var group sync.WaitGroup
	total := 0
	for range 8 {
		group.Go(func() {
			_, n, err := w.Revoke(t.Context(), appID, Admin, "")
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			total += n
			sessions += 5 // who come back meanwhile
		})
	}
	group.Wait()
	mu.Lock()
	defer mu.Unlock()
	if total+sessions != 100+8*5 {
		t.Errorf("%d were counted and %d are left of %d", total, sessions, 100+8*5)
	}
}

// TestRevocationIsFinal is G4 where tokens are concerned: under any interleaving of issuing, verifying, revoking, denying, pausing
// and polling on two nodes, a token that was refused as revoked is never accepted again, none from before a revocation is accepted
// where it is known, and every other one is.
func TestRevocationIsFinal(t *testing.T) {
	db := newDB(t)
	rapid.Check(t, func(r *rapid.T) {
		ctx := t.Context()
		clock := &clock{t: time.Now().Add(-time.Hour)} // behind SQL's clock, which dates revocations
		var nodes [2]*Directory
		for i := range nodes {
			var err error
			if nodes[i], err = New(ctx, Config{Store: db, Now: clock.now}); err != nil {
				r.Fatal(err)
			}
		}
		org, err := nodes[0].CreateOrganization(ctx, OrganizationInput{Name: new("Acme")})
		if err != nil {
			r.Fatal(err)
		}
		app, err := nodes[0].CreateApplication(ctx, org.ID, ApplicationInput{Name: new("App"), Tokens: &TokensInput{HS256Secret: hsSecret}})
		if err != nil {
			r.Fatal(err)
		}
		nodes[1].pollOnce(ctx)

		type token struct {
			text     string
			foreign  bool
			epoch    uint64 // at issue
			dead     [2]bool
			deniedAt [2]bool
			grant    Grant
		}
		var tokens []*token
		var epoch uint64 // of SQL
		known := [2]uint64{}
		paused := [2]bool{}
		sqlPaused := false
		learn := func(n int) { known[n], paused[n] = epoch, sqlPaused }
		node := rapid.IntRange(0, 1)
		r.Repeat(map[string]func(*rapid.T){
			"issue": func(r *rapid.T) {
				n := node.Draw(r, "node")
				reply, err := nodes[n].IssueToken(app, api.TokenInput{ExpiresIn: 1 << 20})
				if paused[n] {
					if api.CodeOf(err) != api.CodeConflict {
						r.Fatalf("issued while paused: %v", err)
					}
					return
				}
				if err != nil {
					r.Fatal(err)
				}
				tokens = append(tokens, &token{text: reply.Token, epoch: known[n]})
			},
			"foreign": func(*rapid.T) {
				now := clock.now().Unix()
				claims := m{"aud": app.ID.String(), "iat": now, "exp": now + 1<<20, "n": len(tokens)}
				tokens = append(tokens, &token{text: sign(t, nil, claims), foreign: true, epoch: epoch})
			},
			"verify": func(r *rapid.T) {
				if len(tokens) == 0 {
					r.Skip("no token")
				}
				n, tok := node.Draw(r, "node"), rapid.SampledFrom(tokens).Draw(r, "token")
				if !tok.foreign && tok.epoch > known[n] {
					learn(n) // Verify catches up
				}
				grant, err := nodes[n].Verify(ctx, Credential{Token: tok.text})
				revoked := tok.deniedAt[n] || tok.epoch < known[n] || tok.foreign && known[n] > 0
				code := api.Code("")
				switch {
				case revoked:
					code = api.CodeTokenRevoked
				case paused[n]:
					code = api.CodeApplicationPaused
				}
				if api.CodeOf(err) != code {
					r.Fatalf("node %d: got %v, want %q for a token of epoch %d at %d", n, err, code, tok.epoch, known[n])
				}
				if tok.dead[n] && err == nil {
					r.Fatal("a token that was revoked is accepted again")
				}
				tok.dead[n] = tok.dead[n] || code == api.CodeTokenRevoked
				if err == nil {
					tok.grant = grant
				}
			},
			"deny": func(r *rapid.T) {
				if len(tokens) == 0 {
					r.Skip("no token")
				}
				n, tok := node.Draw(r, "node"), rapid.SampledFrom(tokens).Draw(r, "token")
				if tok.grant.TokenID == "" {
					r.Skip("never presented")
				}
				nodes[n].Deny([]store.Denial{{Application: app.ID, TokenID: tok.grant.TokenID, ExpiresAt: tok.grant.TokenExpiresAt}})
				tok.deniedAt[n] = true
			},
			"revoke": func(r *rapid.T) {
				n := node.Draw(r, "node")
				if _, _, err := nodes[n].Revoke(ctx, app.ID, Admin, ""); err != nil {
					r.Fatal(err)
				}
				epoch++
				learn(n)
			},
			"pause": func(r *rapid.T) {
				n := node.Draw(r, "node")
				sqlPaused = rapid.Bool().Draw(r, "paused")
				state := api.ApplicationActive
				if sqlPaused {
					state = api.ApplicationPaused
				}
				if _, err := nodes[n].PatchApplication(ctx, app.ID, ApplicationInput{State: &state}, Admin); err != nil {
					r.Fatal(err)
				}
				learn(n)
			},
			"poll": func(r *rapid.T) {
				n := node.Draw(r, "node")
				nodes[n].pollOnce(ctx)
				learn(n)
			},
			"wait": func(*rapid.T) { clock.set(clock.now().Add(time.Second)) },
			"": func(r *rapid.T) {
				for n, d := range nodes {
					if got, _ := d.Application(app.ID); got.Epoch != known[n] {
						r.Fatal(fmt.Sprintf("node %d knows epoch %d, want %d", n, got.Epoch, known[n]))
					}
				}
			},
		})
	})
}

// TestHeed: a node that the database does not answer applies the revocation that another tells it of; what was read before does not
// undo it, and the database has the last word (G4).
func TestHeed(t *testing.T) {
	bubble(t, func(t *testing.T, db store.Config) {
		here := &flaky{Config: db}
		there, err := New(t.Context(), Config{Store: db})
		if err != nil {
			t.Fatal(err)
		}
		w, stop := running(t, here)
		defer stop()
		var told []uint64
		w.OnApplication(func(app Application) int {
			if app.ID == appID {
				told = append(told, app.Epoch)
			}
			return 0
		})
		here.set(func(f *flaky) { f.down = store.ErrRefused })
		app := func() Application {
			app, _ := w.Application(appID)
			return app
		}
		old := app()
		revoked, _, err := there.Revoke(t.Context(), appID, "somekey", "why")
		if err != nil {
			t.Fatal(err)
		}
		note := Revocation{Epoch: revoked.Epoch, RevokedAt: revoked.RevokedAt, By: "somekey", Reason: "why", Version: revoked.Version}
		for range 2 { // told twice it is applied once
			if err := w.Heed(t.Context(), appID, note); err != nil {
				t.Fatal(err)
			}
		}
		want := app()
		if !slices.Equal(told, []uint64{0, 1}) || want.Epoch != 1 || want.RevokedAt != revoked.RevokedAt || want.RevokedBy != "somekey" {
			t.Errorf("told %v, %+v", told, want)
		}
		w.mu.Lock()
		version := w.mem.version
		w.mem.take(store.Changes{Version: version, Applications: []store.Application{old.Application}})
		w.mu.Unlock()
		if got := app(); got.Epoch != 1 {
			t.Errorf("what was read before undoes it: %+v", got)
		}
		here.set(func(f *flaky) { f.down = nil })
		if err := w.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := app(); got.Epoch != 1 || w.mem.version == version || got.Version != revoked.Version {
			t.Errorf("from the database: %+v", got)
		}
		w.mu.Lock()
		w.mem.take(store.Changes{Version: version, Applications: []store.Application{old.Application}})
		w.mu.Unlock()
		if got := app(); got.Epoch != 0 {
			t.Errorf("an older copy of the database: %+v", got)
		}
	})
}

package tenant

import (
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

func TestSignInEnds(t *testing.T) {
	w := newWorld(t)
	k := w.key(plainKey)
	cookie, signed := w.SignIn(k)
	if at, ok := signed.SignedInUntil(); !ok || at != api.MillisOf(noon.Add(api.MaxSignIn)) || w.SignInAge(signed) != api.MaxSignIn {
		t.Errorf("until %v %v, for %s", at, ok, w.SignInAge(signed))
	}
	if _, ok := k.SignedInUntil(); ok {
		t.Error("the key itself came by a sign-in")
	}
	back, err := w.SignedIn(cookie, somewhere)
	want(t, err, "", "")
	if back.PublicID != k.PublicID || back.Organization != k.Organization || back.Require(api.ScopeSessionsRead) != nil {
		t.Errorf("%+v", back)
	}
	w.clock.set(noon.Add(api.MaxSignIn - time.Millisecond))
	_, err = w.Recheck(back)
	want(t, err, "", "")
	w.clock.set(noon.Add(api.MaxSignIn))
	_, err = w.Recheck(back)
	want(t, err, api.CodeKeyInvalid, "sign-in has ended")
	_, err = w.SignedIn(cookie, somewhere)
	want(t, err, api.CodeKeyInvalid, "sign-in has ended")
	_, err = w.Recheck(k)
	want(t, err, "", "") // the key goes on
}

// TestSignInIsTheKeys: it never outlives its key, and is worth nothing for another secret under the same public id.
func TestSignInIsTheKeys(t *testing.T) {
	w := newWorld(t)
	expires := api.MillisOf(noon.Add(time.Hour))
	row, plaintext, err := w.CreateKey(t.Context(), w.key(plainKey).Organization, KeyInput{Name: new("short"), ExpiresAt: &expires})
	want(t, err, "", "")
	cookie, signed := w.SignIn(w.key(plaintext))
	if at, _ := signed.SignedInUntil(); at != expires {
		t.Errorf("until %v, the key until %v", at, expires)
	}
	_, err = w.SignedIn(cookie, somewhere)
	want(t, err, "", "")
	w.clock.set(noon.Add(time.Hour))
	_, err = w.SignedIn(cookie, somewhere)
	want(t, err, api.CodeKeyExpired, "")
	w.clock.set(noon)
	w.mu.Lock()
	other := *w.mem.keys[row.PublicID]
	other.SecretHash[0] ^= 1
	w.mem.keys[row.PublicID] = &other
	w.mu.Unlock()
	_, err = w.SignedIn(cookie, somewhere)
	want(t, err, api.CodeKeyInvalid, "")
	_, err = w.Recheck(signed)
	want(t, err, api.CodeKeyInvalid, "")
}

// TestSignOutWithoutDatabase: this node knows at once; the caller is told that others do not.
func TestSignOutWithoutDatabase(t *testing.T) {
	w := newWorld(t)
	cookie, signed := w.SignIn(w.key(plainKey))
	w.db.set(func(f *flaky) { f.down = errDown })
	_, err := w.SignOut(t.Context(), cookie)
	want(t, err, api.CodeUnavailable, "on this node alone")
	_, err = w.Recheck(signed)
	want(t, err, api.CodeKeyInvalid, "")
	w.db.set(func(f *flaky) { f.down = nil })
	again, err := w.SignOut(t.Context(), cookie) // for the others
	want(t, err, "", "")
	if again.PublicID != "" {
		t.Error("signed out twice")
	}
	other, err := New(t.Context(), Config{Store: w.db, Now: w.clock.now})
	want(t, err, "", "")
	_, err = other.SignedIn(cookie, somewhere)
	want(t, err, api.CodeKeyInvalid, "")
	_, err = w.SignOut(t.Context(), "rubbish")
	want(t, err, "", "")
}

// TestSignOutReachesOtherNodes: a node that was there already learns of it with the next look at the configuration.
func TestSignOutReachesOtherNodes(t *testing.T) {
	w := newWorld(t)
	other, err := New(t.Context(), Config{Store: w.db, Now: w.clock.now})
	want(t, err, "", "")
	cookie, _ := w.SignIn(w.key(plainKey))
	there, err := other.SignedIn(cookie, somewhere)
	want(t, err, "", "")
	_, err = w.SignOut(t.Context(), cookie)
	want(t, err, "", "")
	want(t, other.CatchUp(t.Context()), "", "")
	_, err = other.SignedIn(cookie, somewhere)
	want(t, err, api.CodeKeyInvalid, "sign-in has ended")
	_, err = other.Recheck(there)
	want(t, err, api.CodeKeyInvalid, "sign-in has ended")
}

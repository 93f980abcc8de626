package manage_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
)

func disconnectPath(app api.ApplicationID) string { return sessionsPath(app) + ":disconnect" }

// licensed opens a session with a license.
func (k *kit) licensed(app api.ApplicationID, license string) registry.Row {
	k.t.Helper()
	return k.open(app, ms(), func(r *registry.Row, _ *store.Record) { r.License = license })
}

func (k *kit) preview(body string) api.DisconnectPreview {
	k.t.Helper()
	return ask[api.DisconnectPreview](k, request{method: "POST", path: disconnectPath(desktop) + "?dryRun=true", body: body}, http.StatusOK)
}

func (k *kit) disconnect(in api.DisconnectInput) int {
	k.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		k.t.Fatal(err)
	}
	return ask[api.DisconnectResult](k, request{method: "POST", path: disconnectPath(desktop), body: string(body)}, http.StatusOK).DisconnectedCount
}

// TestDisconnectMatching: a dry run ends nothing; the act ends what matches and matched, and nothing that came or changed since.
func TestDisconnectMatching(t *testing.T) {
	k := newKit(t, manage.Limits{})
	one, two := k.licensed(desktop, "STOLEN-1"), k.licensed(desktop, "stolen-2")
	keep, into, out := k.licensed(desktop, "FINE"), k.licensed(desktop, "FINE-2"), k.licensed(desktop, "STOLEN-3")
	elsewhere := k.licensed(web, "STOLEN-4")
	preview := k.preview(`{"searchString":"Stolen"}`)
	if preview.Count != 3 || !preview.DryRun {
		t.Fatalf("%+v", preview)
	}
	if again := k.preview(fmt.Sprintf(`{"searchString":"Stolen","createdBefore":"%s"}`, preview.CreatedBefore)); again != preview {
		t.Errorf("%+v, then %+v", preview, again)
	}
	later := k.licensed(desktop, "STOLEN-5")
	into.License, out.License, two.License = "STOLEN-6", "FINE-3", "STOLEN-7" // the last matches at both times
	for _, row := range []registry.Row{into, out, two} {
		if err := k.registry.Update(row, registry.Unlimited); err != nil {
			t.Fatal(err)
		}
	}
	in := api.DisconnectInput{SearchString: "Stolen", Reason: "stolen keys", CreatedBefore: &preview.CreatedBefore,
		Categories: []api.Category{api.CategoryLicense}}
	if n := k.disconnect(in); n != 2 {
		t.Errorf("ended %d", n)
	}
	for _, row := range []registry.Row{keep, into, out, elsewhere, later} {
		if _, live := k.registry.Get(row.Application, row.Session); !live {
			t.Errorf("%s was ended", row.License)
		}
	}
	for _, row := range []registry.Row{one, two} {
		d := get[api.SessionReply](k, sessionPath(desktop, row.Session)+"?details=true").Session.Details
		if d.EndReason != api.EndDisconnected || d.EndedBy != "fullfullfullfull" || d.Reason != "stolen keys" {
			t.Errorf("%+v", d)
		}
	}
	if n := k.disconnect(in); n != 0 {
		t.Errorf("ended %d more", n)
	}
	now := api.Timestamp(ms())
	if n := k.disconnect(api.DisconnectInput{SearchString: "203.0.113", Categories: []api.Category{api.CategoryIP}, CreatedBefore: &now}); n != 4 {
		t.Errorf("ended %d by address", n)
	}
	k.licensed(desktop, "")
	preview = k.preview(`{"searchString":"","categories":"clientId"}`)
	if n := k.disconnect(api.DisconnectInput{CreatedBefore: &preview.CreatedBefore}); n != 1 || preview.Count != 1 {
		t.Errorf("ended %d of all, previewed %d", n, preview.Count)
	}
	if _, live := k.registry.Get(web, elsewhere.Session); !live {
		t.Error("another application's session was ended")
	}
}

func TestDisconnectMatchingRefusals(t *testing.T) {
	k := newKit(t, manage.Limits{})
	row := k.licensed(desktop, "STOLEN")
	at := api.Timestamp(ms()).String()
	post := func(body string) request { return request{method: "POST", path: disconnectPath(desktop), body: body} }
	full := fmt.Sprintf(`{"searchString":"STOLEN","createdBefore":"%s"}`, at)
	for body, want := range map[string]string{
		`{}`: "searchString", `{"searchString":null}`: "searchString", `{"searchString":1}`: "searchString", `[]`: "object",
		`{"searchString":"x"}`: "createdBefore", `{"searchString":"x","createdBefore":17}`: "createdBefore",
		`{"searchString":"x","createdBefore":"yesterday"}`:                                              "createdBefore",
		`{"searchString":"x","createdBefore":"2999-01-01T00:00:00Z"}`:                                   "createdBefore",
		`{"searchString":"x","createdBefore":"1970-01-01T00:00:00Z"}`:                                   "createdBefore",
		`{"searchString":"x","createdBefore":"0001-01-01T00:00:00Z"}`:                                   "createdBefore",
		`{"searchString":"` + strings.Repeat("é", 129) + `","createdBefore":"` + at + `"}`:              "128",
		`{"searchString":"x","categories":[],"createdBefore":"` + at + `"}`:                             "categories",
		`{"searchString":"x","categories":["login"],"createdBefore":"` + at + `"}`:                      "categories",
		`{"searchString":"x","reason":"` + strings.Repeat("r", 257) + `","createdBefore":"` + at + `"}`: "reason",
		`{"searchString":"x","search":"y","createdBefore":"` + at + `"}`:                                "search",
		`{"searchString":"x","searchString":"y","createdBefore":"` + at + `"}`:                          "searchString",
		`{"searchString":"` + "\xff" + `","createdBefore":"` + at + `"}`:                                "UTF-8",
	} {
		if msg := k.refusal(post(body), api.CodeValidation); !strings.Contains(msg, want) {
			t.Errorf("%s: %s", body, msg)
		}
	}
	for _, c := range []struct {
		r    request
		code api.Code
	}{
		{request{method: "POST", path: disconnectPath(desktop) + "?dryRun=1", body: full}, api.CodeValidation},
		// Not a time that was left out: that would count what matches now.
		{request{method: "POST", path: disconnectPath(desktop) + "?dryRun=true",
			body: `{"searchString":"x","createdBefore":"1970-01-01T00:00:00Z"}`}, api.CodeValidation},
		{request{method: "POST", path: disconnectPath(desktop) + "?dryRun=true&dryRun=true", body: full}, api.CodeValidation},
		{request{method: "POST", path: strings.Replace(disconnectPath(desktop), desktop.String(), "desktop", 1), body: full}, api.CodeValidation},
		{request{method: "POST", path: disconnectPath(desktop), body: full, key: readKey}, api.CodeInsufficientScope},
		{request{method: "POST", path: disconnectPath(desktop) + "?dryRun=true", body: full, key: readKey}, api.CodeInsufficientScope},
		{request{method: "POST", path: disconnectPath(web), body: full, key: restrictedKey}, api.CodeApplicationForbidden},
		{request{method: "POST", path: disconnectPath(others), body: full}, api.CodeApplicationNotFound},
		{request{method: "POST", path: disconnectPath(desktop), body: full, key: otherKey}, api.CodeApplicationNotFound},
		{request{method: "POST", path: disconnectPath(desktop), body: full, header: http.Header{"Content-Type": {"text/plain"}}},
			api.CodeUnsupportedMediaType},
	} {
		k.refusal(c.r, c.code)
	}
	if _, live := k.registry.Get(desktop, row.Session); !live {
		t.Error("a refused call ended a session")
	}
}

// TestDisconnectMatchingPartial: a node that does not answer, and a database that is away, are told.
func TestDisconnectMatchingPartial(t *testing.T) {
	k := newKit(t, manage.Limits{})
	k.licensed(desktop, "STOLEN")
	body := fmt.Sprintf(`{"searchString":"STOLEN","createdBefore":"%s"}`, api.Timestamp(ms()))
	k.owner.mu.Lock()
	k.owner.err = errAway
	k.owner.mu.Unlock()
	k.records.fail(errAway)
	a := k.do(request{method: "POST", path: disconnectPath(desktop), body: body})
	if a.status != http.StatusOK || !strings.Contains(string(a.body), `"disconnectedCount":1`) || a.header.Get("Rollcall-Partial") != "nodes, store" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
}

// TestEndedFilters lists ended sessions by when and how they ended.
func TestEndedFilters(t *testing.T) {
	k := newKit(t, manage.Limits{})
	start := ms() - 100_000
	reasons := []api.EndReason{api.EndClientClosed, api.EndRevoked, api.EndDisconnected}
	var ended []api.SessionID // newest first
	for i := range 6 {
		row := k.open(desktop, start+api.Millis(i), nil)
		kept, _ := k.owner.records.Load(row.Session)
		rec := kept.(store.Record)
		rec.EndedAt, rec.EndReason = start+1000*api.Millis(i), reasons[i%3]
		k.recorder.End(rec)
		k.registry.Remove(desktop, row.ServerID)
		ended = slices.Insert(ended, 0, row.Session)
		if i%2 == 0 {
			k.recorder.Flush(t.Context()) // some are in SQL, others on their way
		}
	}
	k.open(desktop, ms(), nil)
	expired := k.open(desktop, ms(), func(r *registry.Row, _ *store.Record) { r.TokenExpiresAt = 1 })
	list := func(query string) (ids []api.SessionID) {
		for _, s := range get[api.SessionList](k, sessionsPath(desktop)+"?"+query).Items {
			ids = append(ids, s.ID)
		}
		return ids
	}
	at := func(i int) string { return api.Timestamp(start + 1000*api.Millis(i)).String() }
	for query, want := range map[string][]api.SessionID{
		"status=inactive&endedAfter=" + at(4):                                      ended[:2],
		"status=all&endedAfter=" + at(4):                                           ended[:2],
		"includeInactive=true&endedAfter=" + at(4):                                 ended[:2],
		"status=inactive&endedBefore=" + at(1):                                     ended[5:],
		"status=all&endedAfter=" + at(1) + "&endedBefore=" + at(3):                 ended[3:5],
		"status=inactive&endReason=revoked":                                        {ended[1], ended[4]},
		"status=inactive&endReason=revoked&endReason=disconnected":                 {ended[0], ended[1], ended[3], ended[4]},
		"status=inactive&endReason=revoked&endReason=revoked":                      {ended[1], ended[4]},
		"status=inactive&endReason=revoked&endedBefore=" + at(2):                   {ended[4]},
		"status=inactive&endReason=node_lost":                                      nil,
		"status=inactive&endedAfter=" + strings.Replace(at(4), "Z", "%2B00:00", 1): ended[:2],
		"status=inactive": append([]api.SessionID{expired.Session}, ended...),
	} {
		if got := list(query); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	var paged []api.SessionID
	for cursor := ""; ; {
		page := get[api.SessionList](k, sessionsPath(desktop)+"?status=all&limit=1&details=true&endReason=revoked&endReason=client_closed"+cursor)
		for _, s := range page.Items {
			paged = append(paged, s.ID)
			if s.Details.EndReason == "" {
				t.Error("no reason")
			}
		}
		if page.NextCursor == "" {
			break
		}
		cursor = "&cursor=" + page.NextCursor
	}
	if want := []api.SessionID{ended[1], ended[2], ended[4], ended[5]}; !slices.Equal(paged, want) {
		t.Errorf("pages of one: %v, want %v", paged, want)
	}
	for _, query := range []string{"endReason=revoked", "status=active&endedAfter=" + at(1), "status=inactive&endReason=bored", "status=all&endReason=",
		"status=all&endedAfter=now", "status=all&endedBefore=", "status=all&endedAfter=" + at(1) + "&endedAfter=" + at(1), "status=all&endedBefore=0"} {
		k.refusal(request{path: sessionsPath(desktop) + "?" + query}, api.CodeValidation)
	}
}

// TestSeries: the last hour by the minute, of sessions that live, have ended, or are about to be written.
func TestSeries(t *testing.T) {
	k := newKit(t, manage.Limits{})
	path := api.RoutePrefix + "/applications/" + desktop.String() + "/series"
	running := store.MinuteOf(ms())
	minute := func(ago int) api.Millis { return running.Add(-time.Duration(ago) * time.Minute) }
	end := func(row registry.Row, at api.Millis) {
		kept, _ := k.owner.records.Load(row.Session)
		rec := kept.(store.Record)
		rec.EndedAt, rec.EndReason = at, api.EndClientClosed
		k.recorder.End(rec)
		k.registry.Remove(desktop, row.ServerID)
	}
	end(k.open(desktop, minute(70), nil), minute(65)) // before all of it
	end(k.open(desktop, minute(70), nil), minute(30))
	end(k.open(desktop, minute(60), nil), minute(30)+59_999)
	k.recorder.Flush(t.Context())
	end(k.open(desktop, minute(20), nil), minute(0))
	k.open(desktop, minute(61)+59_999, nil)
	k.open(desktop, minute(20)+59_999, nil)
	k.open(desktop, minute(0), nil)
	k.open(web, minute(20), nil)
	s := get[api.Series](k, path)
	if store.MinuteOf(ms()) != running {
		t.Skip("the minute was over")
	}
	if len(s.Items) != 61 || s.StepSeconds != 60 {
		t.Fatalf("%d items of %d s", len(s.Items), s.StepSeconds)
	}
	for i, got := range s.Items {
		ago := 60 - i
		want := api.SeriesItem{Time: api.Timestamp(minute(ago)), Live: 3}
		switch {
		case ago > 30:
		case ago > 20:
			want.Live = 1
		}
		switch ago {
		case 60:
			want.Connects = 1
		case 30:
			want.Ends, want.Live = 2, 1
		case 20:
			want.Connects = 2
		case 0:
			want.Connects, want.Ends = 1, 1
		}
		if got != want {
			t.Errorf("%d minutes ago: %+v, want %+v", ago, got, want)
		}
	}
	k.recorder.Flush(t.Context())
	get[api.Series](k, path) // what was counted twice need not be again
	before := k.records.minutes.Load()
	if again := get[api.Series](k, path); !slices.Equal(again.Items, s.Items) && store.MinuteOf(ms()) == running {
		t.Errorf("once more: %+v", again)
	}
	if n := k.records.minutes.Load() - before; n > 3 { // the running one, and what is not settled
		t.Errorf("%d minutes were counted again", n)
	}
	k.records.fail(errAway)
	a := k.do(request{path: path})
	if a.status != http.StatusOK || a.header.Get("Rollcall-Partial") != "store" {
		t.Errorf("%d %v", a.status, a.header)
	}
	k.records.fail(nil)
	for _, c := range []struct {
		key, path string
		code      api.Code
	}{{noneKey, path, api.CodeInsufficientScope}, {otherKey, path, api.CodeApplicationNotFound},
		{restrictedKey, strings.Replace(path, desktop.String(), web.String(), 1), api.CodeApplicationForbidden},
		{fullKey, strings.Replace(path, desktop.String(), "x", 1), api.CodeValidation}} {
		k.refusal(request{key: c.key, path: c.path}, c.code)
	}
}

// TestSeriesOfLeaving: a session that is recorded as ended and still in the registry is miscounted while that lasts, and no longer.
func TestSeriesOfLeaving(t *testing.T) {
	k := newKit(t, manage.Limits{})
	path := api.RoutePrefix + "/applications/" + desktop.String() + "/series"
	connected := store.MinuteOf(ms()).Add(-20 * time.Minute)
	connects := func() (n int) {
		for _, item := range get[api.Series](k, path).Items {
			n += item.Connects
		}
		return n
	}
	k.open(desktop, connected, nil)
	row := k.open(desktop, connected, nil)
	kept, _ := k.owner.records.Load(row.Session)
	rec := kept.(store.Record)
	rec.EndedAt, rec.EndReason = ms(), api.EndRevoked
	k.recorder.End(rec)
	if n := connects(); n < 2 {
		t.Errorf("%d connects while one leaves", n)
	}
	k.registry.Remove(desktop, row.ServerID)
	if n := connects(); n != 2 {
		t.Errorf("%d connects of two sessions", n)
	}
}

package manage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// reports stands for the gateway: it remembers what it is told.
type reports struct {
	ends chan []api.LeaseEnded

	mu       sync.Mutex
	items    []api.LeaseItem
	reporter string
	app      api.ApplicationID
	errs     map[api.SessionID]error
	unheld   []string
}

var errGone = errors.New("the session has ended: disconnected")

func (r *reports) Report(_ context.Context, app tenant.Application, reporter string, items []api.LeaseItem) []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.app, r.reporter, r.items = app.ID, reporter, append(r.items, items...)
	errs := make([]error, len(items))
	for i := range items {
		errs[i] = r.errs[items[i].ID]
	}
	return errs
}

func (r *reports) EndOf(err error) (api.EndReason, bool) {
	return api.EndDisconnected, errors.Is(err, errGone)
}

func (r *reports) Ended(ctx context.Context, _ api.ApplicationID, _ string, wait time.Duration) []api.LeaseEnded {
	select {
	case ends := <-r.ends:
		return ends
	default:
	}
	if wait <= 0 {
		return []api.LeaseEnded{}
	}
	select {
	case ends := <-r.ends:
		return ends
	case <-time.After(wait):
	case <-ctx.Done():
	}
	return []api.LeaseEnded{}
}

func (r *reports) EndUnheld(_ context.Context, app api.ApplicationID, id api.SessionID, by tenant.Actor, reason string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unheld = append(r.unheld, fmt.Sprint(app, id, by, reason))
	return true, nil
}

func (r *reports) taken() []api.LeaseItem {
	r.mu.Lock()
	defer r.mu.Unlock()
	items := r.items
	r.items = nil
	return items
}

func batchPath(app api.ApplicationID) string {
	return api.RoutePrefix + "/applications/" + app.String() + "/leases:batch"
}

const (
	one = "44444444-4444-4444-8444-444444444444"
	two = "55555555-5555-4555-8555-555555555555"
)

func TestBatch(t *testing.T) {
	k := newKit(t, unlimited)
	id := api.MustID[api.Session](one)
	k.leases.errs = map[api.SessionID]error{
		api.MustID[api.Session](two): errGone, unopened: api.Errorf(api.CodeQuotaExceeded, "used up"),
	}
	k.leases.ends <- []api.LeaseEnded{{ID: id, Reason: api.EndRevoked, Reauthenticate: true}}
	body := `{"reporter":"mcp-1","items":[
		{"op":"open","id":"` + one + `","ipAddress":"203.0.113.9","login":"john","license":"L","clientId":"client-001","authorized":true,
		 "credentialId":"c","hostname":"h","userAgent":"u","clientInfo":{"a": 1},"lastActiveAt":"2026-05-12T11:38:20.500Z","leaseSeconds":600},
		{"op":"heartbeat","id":"` + two + `"},
		{"op":"end","id":"` + unopened.String() + `","login":null},
		{"op":"nonsense","id":"` + one + `"}]}`
	got := k.do(request{method: "POST", path: batchPath(desktop), body: body})
	want := `{"results":[{"id":"` + one + `","ok":true},` +
		`{"id":"` + two + `","ok":false,"error":{"code":"session_ended","message":"the session has ended: disconnected","reason":"disconnected","reauthenticate":true}},` +
		`{"id":"` + unopened.String() + `","ok":false,"error":{"code":"sessions_quota_exceeded","message":"used up"}},` +
		`{"id":"` + one + `","ok":false,"error":{"code":"validation_error","message":"items[3].op must be open, heartbeat or end"}}],` +
		`"ended":[{"id":"` + one + `","reason":"revoked","reauthenticate":true}]}`
	if diff := cmp.Diff(want, strings.TrimSpace(string(got.body))); diff != "" || got.status != 200 {
		t.Errorf("%d\n%s", got.status, diff)
	}
	at := api.Millis(1778585900500).Timestamp()
	items := []api.LeaseItem{{Op: "open", ID: id, IPAddress: "203.0.113.9", Login: "john", License: "L", ClientID: "client-001",
		Authorized: true, CredentialID: "c", Hostname: "h", UserAgent: "u", ClientInfo: json.RawMessage(`{"a": 1}`), LastActiveAt: at,
		LeaseSeconds: 600}, {Op: "heartbeat", ID: api.MustID[api.Session](two)}, {Op: "end", ID: unopened}}
	if diff := cmp.Diff(items, k.leases.taken()); diff != "" {
		t.Error(diff)
	}
	if k.leases.reporter != "fullfullfullfull/mcp-1" || k.leases.app != desktop {
		t.Errorf("reported by %s for %s", k.leases.reporter, k.leases.app)
	}
	if a := k.do(request{method: "POST", path: batchPath(desktop), body: `{"items":[]}`}); string(a.body) != `{"results":[],"ended":[]}`+"\n" {
		t.Errorf("nothing to report: %d %s", a.status, a.body)
	}
}

// TestBatchItems: what is wrong with a value refuses its item, and no other.
func TestBatchItems(t *testing.T) {
	k := newKit(t, unlimited)
	open := `"op":"open","id":"` + one + `","ipAddress":"203.0.113.9","authorized":true`
	long := strings.Repeat("x", 257)
	for item, field := range map[string]string{
		`{"id":"` + one + `"}`:                                                          "op",
		`{"op":null,"id":"` + one + `"}`:                                                "op",
		`{"op":"OPEN","id":"` + one + `"}`:                                              "op",
		`{"op":7,"id":"` + one + `"}`:                                                   "op",
		`{"op":"end"}`:                                                                  "id",
		`{"op":"end","id":"x"}`:                                                         "id",
		`{"op":"end","id":5}`:                                                           "id",
		`{"op":"end","id":"{` + one + `}"}`:                                             "id",
		`{"op":"end","id":"00000000-0000-0000-0000-000000000000"}`:                      "id",
		`{"op":"open","id":"` + one + `","authorized":true}`:                            "ipAddress",
		`{"op":"open","id":"` + one + `","ipAddress":"::1"}`:                            "authorized",
		`{"op":"open","id":"` + one + `","ipAddress":"::1","authorized":null}`:          "authorized",
		`{"op":"open","id":"` + one + `","ipAddress":"::1","authorized":"true"}`:        "authorized",
		`{"op":"open","id":"` + one + `","ipAddress":"","authorized":true}`:             "ipAddress",
		`{"op":"open","id":"` + one + `","ipAddress":"1.2.3","authorized":true}`:        "ipAddress",
		`{"op":"open","id":"` + one + `","ipAddress":"1.2.3.4:5","authorized":true}`:    "ipAddress",
		`{"op":"open","id":"` + one + `","ipAddress":"fe80::1%eth0","authorized":true}`: "ipAddress",
		`{"op":"open","id":"` + one + `","ipAddress":"localhost","authorized":true}`:    "ipAddress",
		`{"op":"open","id":"` + one + `","ipAddress":16909060,"authorized":true}`:       "ipAddress",
		`{` + open + `,"login":"` + long + `"}`:                                         "login",
		`{` + open + `,"license":7}`:                                                    "license",
		`{` + open + `,"clientId":"abc"}`:                                               "clientId",
		`{` + open + `,"clientId":"abc\u202e"}`:                                         "clientId",
		`{` + open + `,"credentialId":"` + long + `"}`:                                  "credentialId",
		`{` + open + `,"hostname":[]}`:                                                  "hostname",
		`{` + open + `,"userAgent":{}}`:                                                 "userAgent",
		`{` + open + `,"clientInfo":[]}`:                                                "clientInfo",
		`{` + open + `,"clientInfo":{"a":{"b":{"c":{"d":{}}}}}}`:                        "clientInfo",
		`{` + open + `,"clientInfo":{"a":"` + strings.Repeat("x", 4096) + `"}}`:         "clientInfo",
		`{` + open + `,"lastActiveAt":"yesterday"}`:                                     "lastActiveAt",
		`{` + open + `,"lastActiveAt":1778585900500}`:                                   "lastActiveAt",
		`{` + open + `,"leaseSeconds":14}`:                                              "leaseSeconds",
		`{` + open + `,"leaseSeconds":3601}`:                                            "leaseSeconds",
		`{` + open + `,"leaseSeconds":"90"}`:                                            "leaseSeconds",
	} {
		reply := ask[api.LeaseBatchReply](k, request{method: "POST", path: batchPath(desktop),
			body: `{"items":[{"op":"heartbeat","id":"` + two + `"},` + item + `]}`}, http.StatusOK)
		bad := reply.Results[1]
		if !reply.Results[0].OK || bad.OK || bad.Error.Code != api.CodeValidation || !strings.HasPrefix(bad.Error.Message, "items[1]."+field+" ") {
			t.Errorf("%.120s: %+v %+v", item, bad, bad.Error)
		}
		if got := k.leases.taken(); len(got) != 1 {
			t.Errorf("%.120s: %d items were done", item, len(got))
		}
	}
	if reply := ask[api.LeaseBatchReply](k, request{method: "POST", path: batchPath(desktop),
		body: `{"items":[{` + open + `,"login":null,"clientInfo":null,"lastActiveAt":null,"leaseSeconds":null}]}`}, http.StatusOK); !reply.Results[0].OK {
		t.Errorf("null is the same as leaving a field out: %+v", reply.Results[0].Error)
	}
}

// TestBatchBodies: what is wrong with the form refuses all of it, and nothing is done.
func TestBatchBodies(t *testing.T) {
	k := newKit(t, unlimited)
	good := `{"op":"heartbeat","id":"` + two + `"}`
	for body, message := range map[string]string{
		`{}`:                            "items",
		`{"items":null}`:                "items",
		`{"items":{}}`:                  "items",
		`{"items":[` + good + `,null]}`: "items",
		`{"items":[` + good + `,[]]}`:   "items",
		`{"items":[` + good + `,"x"]}`:  "items",
		`{"items":[` + good + `,{"op":"end","id":"` + one + `","name":"x"}]}`: "items[1].name",
		`{"items":[` + good + `,{"op":"end","id":"` + one + `","Op":"x"}]}`:   "items[1].Op",
		`{"items":[` + good + `,{"op":"end","op":"end","id":"` + one + `"}]}`: "twice",
		`{"items":[],"more":1}`:                                     "more",
		`{"items":[],"waitSeconds":21}`:                             "waitSeconds",
		`{"items":[],"waitSeconds":-1}`:                             "waitSeconds",
		`{"items":[],"reporter":7}`:                                 "reporter",
		`{"items":[],"reporter":"` + strings.Repeat("x", 65) + `"}`: "reporter",
		`[]`:            "object",
		`{"items":[`:    "JSON",
		`{"items":[]}]`: "after",
		`{"items":[` + strings.Repeat(good+",", 500) + good + `]}`: "items must be at most 500, not 501",
	} {
		a := k.refusal(request{method: "POST", path: batchPath(desktop), body: body}, api.CodeValidation)
		if !strings.Contains(a, message) {
			t.Errorf("%.100s: %s", body, a)
		}
	}
	k.refusal(request{method: "POST", path: batchPath(desktop), body: `{"items":[],"reporter":"` + strings.Repeat("x", api.MaxBatchBody) + `"}`}, api.CodeBodyTooLarge)
	k.refusal(request{method: "POST", path: batchPath(desktop)}, api.CodeUnsupportedMediaType)
	if got := k.leases.taken(); len(got) != 0 {
		t.Errorf("%d items were done", len(got))
	}
	full := `{"op":"open","id":"` + one + `","ipAddress":"::1","authorized":true,"clientInfo":{"a":"` + strings.Repeat("x", 4080) + `"},"login":"` +
		strings.Repeat("x", 256) + `","userAgent":"` + strings.Repeat("x", 256) + `","hostname":"` + strings.Repeat("x", 256) + `"}`
	all := ask[api.LeaseBatchReply](k, request{method: "POST", path: batchPath(desktop),
		body: `{"items":[` + strings.Repeat(full+",", 499) + full + `]}`}, http.StatusOK)
	if len(all.Results) != 500 || !all.Results[499].OK {
		t.Errorf("500 large items: %d results", len(all.Results))
	}
}

func TestBatchAccess(t *testing.T) {
	k := newKit(t, unlimited)
	body := `{"items":[]}`
	for _, tt := range []struct {
		key  string
		app  api.ApplicationID
		code api.Code
	}{
		{"-", desktop, api.CodeKeyInvalid}, {readKey, desktop, api.CodeInsufficientScope}, {expiredKey, desktop, api.CodeKeyExpired},
		{restrictedKey, web, api.CodeApplicationForbidden}, {restrictedKey, nowhere, api.CodeApplicationForbidden},
		{fullKey, others, api.CodeApplicationNotFound}, {fullKey, nowhere, api.CodeApplicationNotFound},
	} {
		k.refusal(request{method: "POST", path: batchPath(tt.app), key: tt.key, body: body}, tt.code)
	}
	k.refusal(request{method: "POST", path: "/api/v1/applications/123456789/leases:batch", body: body}, api.CodeValidation)
	ask[api.LeaseBatchReply](k, request{method: "POST", path: batchPath(desktop), key: restrictedKey, body: body}, http.StatusOK)
	ask[api.LeaseBatchReply](k, request{method: "POST", path: batchPath(freeApp), key: freeKey, body: body}, http.StatusOK) // no plan forbids it
}

// TestBatchWaits: a call that waits is answered at once when there is an end to tell, and refused when its key is revoked (G7).
func TestBatchWaits(t *testing.T) {
	k := newKit(t, unlimited)
	answers := make(chan answer, 1)
	wait := func() {
		go func() {
			answers <- k.do(request{method: "POST", path: batchPath(desktop), body: `{"items":[],"waitSeconds":20}`})
		}()
	}
	wait()
	k.leases.ends <- []api.LeaseEnded{{ID: unopened, Reason: api.EndRevoked}}
	if a := <-answers; !strings.Contains(string(a.body), `"revoked"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	wait()
	if _, err := k.tenants.RevokeKey(t.Context(), "fullfullfullfull"); err != nil {
		t.Fatal(err)
	}
	if a := <-answers; a.status != http.StatusUnauthorized {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestUnheldLease: a lease that nobody holds is listed nowhere, reads as disconnected, and an operator can end it.
func TestUnheldLease(t *testing.T) {
	k := newKit(t, unlimited)
	id := api.NewSessionID()
	rec := store.Record{ID: id, ServerID: api.NewServerID("srv-01", id), Organization: acme, Application: desktop, CreatedAt: ms(),
		IP: "203.0.113.9", ClientID: "client-001", Incarnation: 1, Lease: &store.Lease{Seconds: 90}}
	ticket, err := k.recorder.Stage(rec)
	if err != nil {
		t.Fatal(err)
	}
	if err := ticket.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, status := range []string{"active", "inactive", "all"} {
		if list := get[api.SessionList](k, sessionsPath(desktop)+"?status="+status); len(list.Items) != 0 {
			t.Errorf("listed as %s", status)
		}
	}
	s := get[api.SessionReply](k, sessionsPath(desktop)+"/"+id.String()+"?details=true").Session
	if s.Status != api.StatusDisconnected || s.DerivedStatus != api.DerivedDisconnected || s.DisconnectedAt != nil || s.Details.EndReason != "" {
		t.Errorf("%+v", s)
	}
	got := ask[api.DisconnectResult](k, request{method: "DELETE", path: sessionsPath(desktop) + "/" + id.String() + "?reason=why"}, http.StatusOK)
	if got.DisconnectedCount != 1 || len(k.leases.unheld) != 1 || k.leases.unheld[0] != fmt.Sprint(desktop, id, "fullfullfullfull", "why") {
		t.Errorf("%+v, %v", got, k.leases.unheld)
	}
	rec.EndedAt, rec.EndReason = ms(), api.EndDisconnected
	k.recorder.End(rec)
	if got := ask[api.DisconnectResult](k, request{method: "DELETE", path: sessionsPath(desktop) + "/" + id.String()}, http.StatusOK); got.DisconnectedCount != 0 {
		t.Errorf("ended again: %+v", got)
	}
}

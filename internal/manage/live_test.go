package manage_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
)

const livePath = api.LivePath + "?applicationId=123456789"

// TestLiveList is the document's example: its very bytes.
func TestLiveList(t *testing.T) {
	k := newKit(t, manage.Limits{})
	row := k.open(desktop, 1778585700000, nil)
	bare := k.open(desktop, 1778585700001, func(r *registry.Row, _ *store.Record) {
		r.ClientID, r.Login, r.License, r.IP, r.Authorized = r.Session.String(), "", "", "2001:db8::1", false
	})
	k.open(web, 1778585700002, nil)
	a := k.do(request{path: livePath})
	want := fmt.Sprintf(`{"success":true,"message":"OK","total":2,"filteredTotal":2,"authorizedSessionCount":2,`+
		`"lastConnectionTime":1778585700001,"items":[`+
		`{"serverId":"%s","ipAddress":"2001:db8::1","createdAt":1778585700001,"clientId":"%s","login":null,"license":null},`+
		`{"serverId":"%s","ipAddress":"203.0.113.10","createdAt":1778585700000,"clientId":"client-001","login":"john@example.com",`+
		`"license":"ABCDEF-123456"}],"page":1,"pageSize":10}`+"\n", bare.ServerID, bare.Session, row.ServerID)
	if diff := cmp.Diff(want, string(a.body)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if a.header.Get("Content-Type") != "application/json; charset=utf-8" || a.header.Get("Content-Length") == "" {
		t.Errorf("headers %v", a.header)
	}
	if byID := k.do(request{path: api.LivePath + "?applicationId=" + strings.ToUpper(desktop.String())}); string(byID.body) != want {
		t.Errorf("by id: %s", byID.body)
	}
	empty := get[api.LiveList](k, livePath+"&page=9&pageSize=50")
	if empty.Items == nil || len(empty.Items) != 0 || empty.Total != 2 || empty.Page != 9 || empty.PageSize != 50 {
		t.Errorf("past the end: %+v", empty)
	}
}

func TestLiveSearch(t *testing.T) {
	k := newKit(t, manage.Limits{})
	for i, license := range []string{"AAA-%", "aab_*", "ccc"} {
		k.open(desktop, api.Millis(1000+i), func(r *registry.Row, _ *store.Record) {
			r.License, r.IP, r.ClientID = license, fmt.Sprintf("10.0.0.%d", i), fmt.Sprintf("client-%d", i)
		})
	}
	for query, want := range map[string]int{
		"":                       3,
		"searchString=":          3,
		"searchString=aA":        2,
		"searchString=%25":       1,
		"searchString=_":         1,
		"searchString=*":         1,
		"searchString=10.0.0.1":  0,
		"searchString=john":      0,
		"searchString=a;b":       0,
		"searchString=a+b":       0,
		"searchString=%E2%98%83": 0,
		"searchString=%00":       0,
		"searchString=" + strings.Repeat("%C3%A9", 128):               0,
		"searchString=10.0.0.1&categories=ip":                         1,
		"searchString=c&categories=license":                           1,
		"searchString=c&categories=license&categories=clientId":       3,
		"searchString=c&categories=clientId&categories=clientId":      3,
		"searchString=1&categories=ip&categories=license&unknown=%20": 3,
	} {
		if list := get[api.LiveList](k, livePath+"&"+query); list.FilteredTotal != want || list.Total != 3 {
			t.Errorf("%s: %d of %d, want %d", query, list.FilteredTotal, list.Total, want)
		}
	}
}

func TestLiveParameters(t *testing.T) {
	k := newKit(t, manage.Limits{})
	for query, names := range map[string]string{
		"":                        "applicationId",
		"applicationId=":          "applicationId",
		"applicationId=abc":       "applicationId",
		"applicationId=-1":        "applicationId",
		"applicationId=1.5":       "applicationId",
		"applicationId=%2B1":      "applicationId",
		"applicationId=%EF%BC%91": "applicationId",
		"applicationId=550e8400e29b41d4a716446655440000":                   "applicationId",
		"applicationId=" + strings.Repeat("1", 33):                         "applicationId",
		"applicationId=123456789&applicationId=123456789":                  "applicationId",
		"applicationId=%zz":                                                "applicationId",
		"applicationId=123456789&page=":                                    "page",
		"applicationId=123456789&page=0":                                   "page",
		"applicationId=123456789&page=-1":                                  "page",
		"applicationId=123456789&page=%2B1":                                "page",
		"applicationId=123456789&page=1.0":                                 "page",
		"applicationId=123456789&page=1e1":                                 "page",
		"applicationId=123456789&page=0x1":                                 "page",
		"applicationId=123456789&page=%201":                                "page",
		"applicationId=123456789&page=one":                                 "page",
		"applicationId=123456789&page=9223372036854775808":                 "page",
		"applicationId=123456789&page=1&page=1":                            "page",
		"applicationId=123456789&page":                                     "page",
		"applicationId=123456789&pageSize=":                                "pageSize",
		"applicationId=123456789&pageSize=0":                               "pageSize",
		"applicationId=123456789&pageSize=51":                              "pageSize",
		"applicationId=123456789&pageSize=ten":                             "pageSize",
		"applicationId=123456789&pageSize=10&pageSize=20":                  "pageSize",
		"applicationId=123456789&searchString=" + strings.Repeat("a", 129): "searchString",
		"applicationId=123456789&searchString=%ff":                         "searchString",
		"applicationId=123456789&searchString=%C3%28":                      "searchString",
		"applicationId=123456789&searchString=%":                           "searchString",
		"applicationId=123456789&searchString=%2":                          "searchString",
		"applicationId=123456789&searchString=a&searchString=a":            "searchString",
		"applicationId=123456789&categories=":                              "categories",
		"applicationId=123456789&categories=login":                         "categories",
		"applicationId=123456789&categories=License":                       "categories",
		"applicationId=123456789&categories=license,ip":                    "categories",
		"applicationId=123456789&categories=ip&categories=login":           "categories",
		"applicationId=123456789&totals=":                                  "totals",
		"applicationId=123456789&totals=1":                                 "totals",
		"applicationId=123456789&totals=TRUE":                              "totals",
		"applicationId=123456789&totals=true&totals=true":                  "totals",
		"applicationId=123456789&%ff=1":                                    "query",
		"applicationId=123456789&%zz=1":                                    "query",
	} {
		if msg := k.refusal(request{path: api.LivePath + "?" + query}, api.CodeValidation); !strings.Contains(msg, names) {
			t.Errorf("%s: %q does not name %s", query, msg, names)
		}
	}
	for query, accepted := range map[string]string{
		"&categories=login": "license, ip or clientId", "&pageSize=99": "1 to 50", "&page=0": "at least 1",
		"&searchString=" + strings.Repeat("a", 200): "128 characters", "&totals=yes": "true or false",
	} {
		if msg := k.refusal(request{path: livePath + query}, api.CodeValidation); !strings.Contains(msg, accepted) {
			t.Errorf("%s: %q does not say what is accepted", query, msg)
		}
	}
	for _, query := range []string{"", "&page=9223372036854775807&pageSize=50", "&page=0001", "&", "&&x&y=1&y=2", "&limit=x"} {
		if a := k.do(request{path: livePath + query}); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
}

func TestLiveAccess(t *testing.T) {
	k := newKit(t, manage.Limits{})
	for _, tt := range []struct {
		ref, key string
		code     api.Code
	}{
		{"123456789", "-", api.CodeKeyInvalid},
		{"123456789", adminWord, api.CodeKeyInvalid},
		{"123456789", "rck_fullfullfullfull_1123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL", api.CodeKeyInvalid},
		{"123456789", expiredKey, api.CodeKeyExpired},
		{"123456789", revokedKey, api.CodeKeyRevoked},
		{"123456789", noneKey, api.CodeInsufficientScope},
		{"1", fullKey, api.CodeApplicationNotFound},
		{"0123456789", fullKey, api.CodeApplicationNotFound},
		{"987654321", fullKey, api.CodeApplicationNotFound},
		{others.String(), fullKey, api.CodeApplicationNotFound},
		{"123456790", restrictedKey, api.CodeApplicationForbidden},
		{"987654321", restrictedKey, api.CodeApplicationForbidden},
		{nowhere.String(), restrictedKey, api.CodeApplicationForbidden},
		{"555555555", freeKey, api.CodePlanRestricted},
	} {
		k.refusal(request{path: api.LivePath + "?applicationId=" + tt.ref, key: tt.key}, tt.code)
		// A stream is refused with the same answer before the upgrade.
		if code := k.dialRefused(tt.key, "applicationId="+tt.ref); code != tt.code {
			t.Errorf("stream of %s with %s: %s, want %s", tt.ref, tt.key, code, tt.code)
		}
	}
	if msg := k.refusal(request{path: livePath, key: noneKey}, api.CodeInsufficientScope); !strings.Contains(msg, "sessions:read") {
		t.Errorf("%q does not name the scope", msg)
	}
	twice := http.Header{"Authorization": {"Bearer " + fullKey, "Bearer " + fullKey}}
	k.refusal(request{path: livePath, header: twice}, api.CodeKeyInvalid)
	if _, err := k.tenants.ArchiveApplication(t.Context(), desktop, "test"); err != nil {
		t.Fatal(err)
	}
	k.refusal(request{path: livePath}, api.CodeApplicationNotFound)
}

// TestRateLimit takes more requests out of a key's allowance than it has.
func TestRateLimit(t *testing.T) {
	k := newKit(t, manage.Limits{RequestsPerSecond: 0.5, RequestBurst: 3})
	for range 3 {
		if a := k.do(request{path: livePath}); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	// Before validation: the key comes first in the order of checks.
	a := k.do(request{path: api.LivePath})
	if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "2" && a.header.Get("Retry-After") != "1" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	if message := k.refusal(request{path: livePath}, api.CodeRateLimited); !strings.Contains(message, "0.5 requests a second (burst 3); try again in") {
		t.Errorf("the message does not name the limit: %s", message)
	}
	if n := k.counter("requests-per-second"); n != 2 {
		t.Errorf("%v were counted, want 2", n)
	}
	if a := k.do(request{path: livePath, key: readKey}); a.status != http.StatusOK {
		t.Errorf("another key: %d %s", a.status, a.body)
	}
	k.refusal(request{path: livePath, key: "-"}, api.CodeKeyInvalid)
	if conn, err := k.dial(fullKey, "applicationId=123456789"); err != nil { // streams have an allowance of their own
		t.Error(err)
	} else {
		conn.close()
	}
}

// TestApplicationHeader: the list says which application it is of; a refusal and a stream do not.
func TestApplicationHeader(t *testing.T) {
	k := newKit(t, unlimited)
	for _, ref := range []string{"123456789", strings.ToUpper(desktop.String())} {
		a := k.do(request{path: api.LivePath + "?applicationId=" + ref, key: readKey})
		if got := a.header.Get(api.ApplicationHeader); a.status != http.StatusOK || got != desktop.String() {
			t.Errorf("%s: %d %q", ref, a.status, got)
		}
	}
	for key, ref := range map[string]string{noneKey: "123456789", otherKey: "123456789", restrictedKey: "123456790", freeKey: "555555555"} {
		a := k.do(request{path: api.LivePath + "?applicationId=" + ref, key: key})
		if a.status == http.StatusOK || a.header.Get(api.ApplicationHeader) != "" {
			t.Errorf("%s: %d %v", ref, a.status, a.header)
		}
	}
}

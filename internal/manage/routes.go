package manage

import (
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rollcallhq/rollcall/api"
)

// access is who may use an operation.
type access int

const (
	byKey   access = 0 // an API key
	byAdmin access = 1 // the admin token
	byAll   access = 2
)

// operation is a method of a route. Its function validates, checks scope, application and plan, acts and answers; what it returns
// instead is answered in the dialect of the path.
type operation struct {
	access access
	do     func(*call) error
}

// table lists every route with its methods; /openapi.yaml describes the same.
func (a *API) table() map[string]map[string]operation {
	key := func(do func(*call) error) operation { return operation{byKey, do} }
	admin := func(do func(*call) error) operation { return operation{byAdmin, do} }
	const (
		app = api.RoutePrefix + "/applications/{applicationId}"
		adm = api.RoutePrefix + "/admin"
	)
	return map[string]map[string]operation{
		api.LivePath: {"GET": key((*call).live)},

		app + "/sessions":             {"GET": key((*call).listSessions), "DELETE": key((*call).revokeSessions)},
		app + "/sessions/{sessionId}": {"GET": key((*call).getSession), "DELETE": key((*call).disconnectSession)},
		app + "/sessions:disconnect":  {"POST": key((*call).disconnectMatching)},
		app + "/series":               {"GET": key((*call).series)},
		app + "/session-tokens":       {"POST": key((*call).issueToken)},
		app + "/leases:batch":         {"POST": key((*call).batchLeases)},
		app: {"GET": key((*call).getApplication), "PATCH": key((*call).patchApplication),
			"DELETE": key((*call).archiveApplication)},
		api.RoutePrefix + "/applications":   {"GET": key((*call).listApplications), "POST": key((*call).createApplication)},
		api.RoutePrefix + "/audit":          {"GET": key((*call).listAudit)},
		api.RoutePrefix + "/account/limits": {"GET": key((*call).accountLimits)},

		api.SignInPath: {"POST": {byAll, (*call).signIn}, "GET": key((*call).whoIs), "DELETE": {byAll, (*call).signOut}},

		adm + "/organizations": {"GET": admin((*call).listOrganizations), "POST": admin((*call).createOrganization)},
		adm + "/organizations/{organizationId}": {"GET": admin((*call).getOrganization),
			"PATCH": admin((*call).patchOrganization)},
		adm + "/organizations/{organizationId}/audit":    {"GET": admin((*call).adminListAudit)},
		adm + "/organizations/{organizationId}/api-keys": {"GET": admin((*call).listKeys), "POST": admin((*call).createKey)},
		adm + "/organizations/{organizationId}/applications": {"GET": admin((*call).adminListApplications),
			"POST": admin((*call).adminCreateApplication)},
		adm + "/applications/{applicationId}": {"GET": admin((*call).adminGetApplication),
			"PATCH": admin((*call).adminPatchApplication), "DELETE": admin((*call).adminArchiveApplication)},
		adm + "/api-keys/{publicId}": {"GET": admin((*call).getKey), "PATCH": admin((*call).patchKey),
			"DELETE": admin((*call).revokeKey)},

		"/openapi.yaml":  {"GET": {byAll, describe(api.OpenAPI)}},
		"/asyncapi.yaml": {"GET": {byAll, describe(api.AsyncAPI)}},
	}
}

func (a *API) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, methods := range a.table() {
		mux.HandleFunc(pattern, a.route(pattern, methods))
	}
	mux.HandleFunc("/", a.route("", nil))
	return mux
}

// route answers one path. HEAD is GET without its body (RFC 9110, section 9.3.2), which net/http leaves out by itself.
func (a *API) route(pattern string, methods map[string]operation) http.HandlerFunc {
	allow := slices.Sorted(maps.Keys(methods))
	if _, ok := methods["GET"]; ok {
		methods["HEAD"] = methods["GET"]
		allow = append(allow, "HEAD")
	}
	allowed := strings.Join(allow, ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{API: a, w: w.(*response), r: r} //nolint:forcetypeassert // ServeHTTP made it
		c.w.route = pattern
		op, ok := methods[r.Method]
		switch {
		case methods == nil:
			c.refuse(api.Errorf(api.CodeNotFound, "there is nothing at this path"))
		case !ok:
			w.Header().Set("Allow", allowed)
			c.refuse(api.Errorf(api.CodeMethodNotAllowed, "this path takes %s", allowed))
		default:
			if err := c.run(op); err != nil {
				c.refuse(err)
			}
		}
	}
}

// ServeHTTP serves every route under /api/v1 but the session protocol's, and the API descriptions.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	id := requestID(r)
	w.Header().Set("X-Request-Id", id)
	resp := &response{ResponseWriter: w, id: id}
	defer func() {
		if fault := recover(); fault != nil {
			if fault == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				panic(fault)
			}
			a.recovered(resp, r, fault)
		}
		a.done(resp, r, start)
	}()
	// ServeMux would redirect to the cleaned path, with a body that is neither dialect's: "//", "." and ".." name nothing here.
	if escaped := r.URL.EscapedPath(); path.Clean(escaped) != escaped {
		a.route("", nil)(resp, r)
		return
	}
	a.mux.ServeHTTP(resp, r)
}

// requestID keeps a caller's X-Request-Id when it is one that logs and headers can carry, and makes one otherwise.
func requestID(r *http.Request) string {
	const longest = 64
	id := r.Header.Get("X-Request-Id")
	fits := func(c rune) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("._:-", c)
	}
	if id == "" || len(id) > longest || strings.ContainsFunc(id, func(c rune) bool { return !fits(c) }) {
		return uuid.NewString()
	}
	return id
}

func describe(doc []byte) func(*call) error {
	return func(c *call) error {
		writeBody(c.w, http.StatusOK, "text/yaml; charset=utf-8", doc)
		return nil
	}
}

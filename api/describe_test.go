package api_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/rollcallhq/rollcall/api"
)

// messageOf tells which message of the AsyncAPI description a golden frame is an example of.
var messageOf = map[string]string{
	"init": "init", "added": "added", "added-unauthorized": "added", "updated": "updated", "removed": "removed",
	"last_connection_time": "last_connection_time", "totals": "totals", "stream-error": "streamError",
	"disconnect_session": "disconnect_session", "query": "query",
	"hello": "hello", "hello-publishable": "hello", "welcome": "welcome", "welcome-unauthorized": "welcome", "authorize": "authorize",
	"authorized": "authorized", "token_expiring": "token_expiring", "update": "update", "update-name": "update", "activity": "activity",
	"bye": "bye", "disconnect": "disconnect", "disconnect-draining": "disconnect", "frame-error": "frameError",
}

func asyncAPI(t *testing.T) (doc map[string]any, compile func(message string) *jsonschema.Schema) {
	t.Helper()
	var description map[string]any
	if err := yaml.Load(api.AsyncAPI, &description); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(description)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("mem:///asyncapi", value); err != nil {
		t.Fatal(err)
	}
	return value.(map[string]any), func(message string) *jsonschema.Schema {
		t.Helper()
		schema, err := compiler.Compile("mem:///asyncapi#/components/messages/" + message + "/payload")
		if err != nil {
			t.Fatal(err)
		}
		return schema
	}
}

func TestAsyncAPIGoldens(t *testing.T) {
	_, compile := asyncAPI(t)
	for name, message := range messageOf {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(golden(t, name)))
		if err != nil {
			t.Fatal(err)
		}
		if err := compile(message).Validate(value); err != nil {
			t.Errorf("%s is not a %s: %v", name, message, err)
		}
		// The description must be able to refuse: another type, and for the server's messages a field that is not there.
		object := value.(map[string]any)
		object["type"] = "other"
		if compile(message).Validate(object) == nil {
			t.Errorf("%s accepts another type", message)
		}
	}
}

// at resolves a local reference.
func resolve(t *testing.T, doc map[string]any, ref string) map[string]any {
	t.Helper()
	node := any(doc)
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		m, ok := node.(map[string]any)
		if !ok || m[part] == nil {
			t.Fatalf("%s leads nowhere", ref)
		}
		node = m[part]
	}
	return node.(map[string]any)
}

// TestAsyncAPIReferences follows every reference, and holds operations, channels and messages to one another.
func TestAsyncAPIReferences(t *testing.T) {
	doc, _ := asyncAPI(t)
	var walk func(node any)
	walk = func(node any) {
		switch v := node.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				resolve(t, doc, ref)
			}
			for _, child := range v {
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(doc)
	used := map[string]bool{}
	for _, op := range resolve(t, doc, "#/operations") {
		for _, m := range op.(map[string]any)["messages"].([]any) {
			used[path.Base(m.(map[string]any)["$ref"].(string))] = true
		}
	}
	for message := range resolve(t, doc, "#/components/messages") {
		if !used[message] {
			t.Errorf("no operation carries %s", message)
		}
		if !slices.Contains(slices.Collect(mapValues(messageOf)), message) {
			t.Errorf("%s has no golden example", message)
		}
	}
	addresses := []string{api.LivePath, api.ConnectPath}
	for _, channel := range resolve(t, doc, "#/channels") {
		if a := channel.(map[string]any)["address"].(string); !slices.Contains(addresses, a) {
			t.Errorf("channel at %s", a)
		}
	}
}

func mapValues(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// constants returns the string constants of the package whose names begin with prefix, or whose type is typ.
func constants(t *testing.T, prefix, typ string) map[string]string {
	t.Helper()
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), source, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			lit, ok := spec.Values[0].(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			kind, _ := spec.Type.(*ast.Ident)
			if name := spec.Names[0].Name; typ == "" && strings.HasPrefix(name, prefix) || kind != nil && kind.Name == typ {
				found[name], _ = strconv.Unquote(lit.Value)
			}
			return true
		})
	}
	if len(found) == 0 {
		t.Fatalf("no constants %s*, %s", prefix, typ)
	}
	return found
}

func TestAsyncAPIDescribesEveryType(t *testing.T) {
	doc, _ := asyncAPI(t)
	described := map[string]bool{}
	for _, m := range resolve(t, doc, "#/components/messages") {
		kind := resolve(t, m.(map[string]any), "#/payload/properties/type")
		described[kind["const"].(string)] = true
	}
	for name, kind := range constants(t, "Type", "") {
		if !described[kind] {
			t.Errorf("%s (%q) is described by no message", name, kind)
		}
	}
}

// TestDescribedCodes holds the error table and the end reasons to the enumerations of the descriptions.
func TestDescribedCodes(t *testing.T) {
	doc, _ := asyncAPI(t)
	open := openAPI(t)
	enum := func(values []any) []string {
		out := make([]string, len(values))
		for i, v := range values {
			out[i] = v.(string)
		}
		return out
	}
	inHTTP := enum(open.Components.Schemas["Code"].Value.Enum)
	onWire := slices.Concat(inHTTP,
		enum(resolve(t, doc, "#/components/messages/streamError/payload/properties/code")["enum"].([]any)),
		enum(resolve(t, doc, "#/components/messages/frameError/payload/properties/code")["enum"].([]any)))
	for name, code := range constants(t, "", "Code") {
		if !slices.Contains(onWire, code) {
			t.Errorf("%s (%s) is described nowhere", name, code)
		}
	}
	for _, code := range onWire {
		if code != string(api.CodeInternal) && api.Code(code).Status() == 500 {
			t.Errorf("%s is described, but not in the error table", code)
		}
	}
	reasons := enum(open.Components.Schemas["Details"].Value.Properties["endReason"].Value.Enum)
	for name, reason := range constants(t, "", "EndReason") {
		if !slices.Contains(reasons, reason) {
			t.Errorf("%s (%s) is not described", name, reason)
		}
	}
	actions := enum(open.Components.Schemas["AuditAction"].Value.Enum)
	for _, action := range api.AuditActions {
		if !slices.Contains(actions, string(action)) {
			t.Errorf("action %s is not described", action)
		}
	}
	for name, action := range constants(t, "", "AuditAction") {
		if !slices.Contains(api.AuditActions, api.AuditAction(action)) {
			t.Errorf("%s (%s) is not listed", name, action)
		}
	}
	for name, reason := range constants(t, "", "EndReason") {
		if !slices.Contains(api.EndReasons, api.EndReason(reason)) {
			t.Errorf("%s (%s) is not listed", name, reason)
		}
	}
	scopes := enum(open.Components.Schemas["Scope"].Value.Enum)
	for _, scope := range api.Scopes {
		if !slices.Contains(scopes, string(scope)) {
			t.Errorf("scope %s is not described", scope)
		}
	}
}

func openAPI(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestOpenAPIDescribesEveryPath: the routes that one package alone serves are held to the description there; these are everybody's.
func TestOpenAPIDescribesEveryPath(t *testing.T) {
	paths := openAPI(t).Paths
	for _, route := range []string{api.LivePath, api.ConnectPath, "/healthz", "/readyz", "/metrics", "/openapi.yaml", "/asyncapi.yaml"} {
		item := paths.Value(route)
		if item == nil || item.Get == nil {
			t.Errorf("GET %s is not described", route)
			continue
		}
		if ops := slices.Contains(item.Get.Tags, "ops"); ops != (len(item.Servers) == 1) {
			t.Errorf("%s: the ops listener's routes, and no others, say where they are", route)
		}
	}
}

// TestOpenAPIGoldens holds the objects of both documents to the OpenAPI description.
func TestOpenAPIGoldens(t *testing.T) {
	doc := openAPI(t)
	for name, schema := range map[string]string{
		"live-list": "LiveList", "live-list-empty": "LiveList", "live-error": "LiveError", "sessions-error": "SessionsError",
		"session-reply": "SessionReply", "session-list": "SessionList", "session-list-empty": "SessionList",
		"disconnect-result": "DisconnectResult", "application": "Application", "token-reply": "TokenReply",
		"account-limits": "AccountLimits", "lease-reply": "LeaseReply", "ended-error": "EndedError", "lease-batch": "LeaseBatch",
		"lease-batch-reply": "LeaseBatchReply", "organization": "Organization", "new-api-key": "NewAPIKey",
		"disconnect-input": "DisconnectInput", "disconnect-preview": "DisconnectPreview",
		"audit-list": "AuditList",
	} {
		var value any
		if err := json.Unmarshal(golden(t, name), &value); err != nil {
			t.Fatal(err)
		}
		s := doc.Components.Schemas[schema].Value
		if err := s.VisitJSON(value, openapi3.EnableJSONSchema2020()); err != nil {
			t.Errorf("%s is not a %s: %v", name, schema, err)
		}
		value.(map[string]any)["more"] = 1
		if s.VisitJSON(value, openapi3.EnableJSONSchema2020()) == nil {
			t.Errorf("%s accepts a field that it does not describe", schema)
		}
	}
}

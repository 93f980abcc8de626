package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

func newSite(t *testing.T) *Site {
	t.Helper()
	s, err := New(fstest.MapFS{"index.js": {Data: []byte("export {};\n")}, "types.d.ts": {Data: []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ask(s *Site, method, path string, header http.Header) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, nil)
	r.Header = header
	s.ServeHTTP(w, r)
	return w
}

func TestPage(t *testing.T) {
	s := newSite(t)
	var page string
	for _, p := range []string{"/", "/audit", "/applications/123456789", "/applications/123456789/ended"} {
		w := ask(s, "GET", p, nil)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" || w.Header().Get("Cache-Control") != "no-cache" {
			t.Fatalf("%s: %d %v", p, w.Code, w.Header())
		}
		page = w.Body.String()
	}
	for _, directive := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if got := ask(s, "GET", "/", nil).Header().Get("Content-Security-Policy"); !strings.Contains(got, directive+";") || strings.Contains(got, "unsafe") {
			t.Errorf("policy %q", got)
		}
	}
	// Every file that the page names is there, is this server's, and may be kept for ever.
	named := regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(named) < 5 {
		t.Errorf("the page names %d files", len(named))
	}
	for _, m := range named {
		w := ask(s, "GET", m[1], nil)
		if !strings.HasPrefix(m[1], "/assets/") || w.Code != http.StatusOK || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", m[1], w.Code, w.Header())
		}
	}
	if regexp.MustCompile(`(?i)<style|\son\w+=|\sstyle=|<script[^>]*>[^<]`).MatchString(page) {
		t.Error("the page has inline script or style")
	}
}

func TestFiles(t *testing.T) {
	s := newSite(t)
	at := "/assets/" + s.version + "/"
	for name, want := range map[string]string{"app/main.js": "text/javascript; charset=utf-8", "vendor/preact.js": "text/javascript; charset=utf-8",
		"style/base.css": "text/css; charset=utf-8", "style/icon.svg": "image/svg+xml", "client/index.js": "text/javascript; charset=utf-8",
		"vendor/LICENSES.txt": "text/plain; charset=utf-8"} {
		w := ask(s, "GET", at+name, nil)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != want || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
		head := ask(s, "HEAD", at+name, nil)
		if head.Body.Len() > 0 || head.Header().Get("Content-Length") != w.Header().Get("Content-Length") {
			t.Errorf("HEAD %s: %v", name, head.Header())
		}
		zipped := ask(s, "GET", at+name, http.Header{"Accept-Encoding": {"br, gzip;q=0.5"}})
		body := zipped.Body
		if zipped.Header().Get("Content-Encoding") == "gzip" {
			r, err := gzip.NewReader(body)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			body = bytes.NewBuffer(plain)
		}
		if body.String() != w.Body.String() {
			t.Errorf("%s differs when compressed", name)
		}
		tag := zipped.Header().Get("ETag")
		same := ask(s, "GET", at+name, http.Header{"Accept-Encoding": {"gzip"}, "If-None-Match": {`"x", W/` + tag}})
		if same.Code != http.StatusNotModified || same.Body.Len() > 0 {
			t.Errorf("%s with its own tag: %d", name, same.Code)
		}
		if w := ask(s, "GET", "/assets/0000000000000000/"+name, nil); w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s of another version: %d %v", name, w.Code, w.Header())
		}
	}
	if w := ask(s, "GET", at+"vendor/preact.js", http.Header{"Accept-Encoding": {"gzip;q=0"}}); w.Header().Get("Content-Encoding") != "" {
		t.Error("compressed for who refuses it")
	}
	for _, p := range []string{"/assets/", at, at + "app", at + "app/", at + "nosuch.js", at + "web.go", at + "package.json", at + "vendor/preact.d.ts",
		at + "client/types.d.ts", at + "index.html", at + "vendor/checksums.json", at + "../web.go", "/api/v1/nosuch", "/nosuch"} {
		if w := ask(s, "GET", p, nil); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", p, w.Code)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE"} {
		if w := ask(s, method, "/", nil); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
}

func TestServes(t *testing.T) {
	for p, want := range map[string]bool{"/": true, "/audit": true, "/favicon.ico": true, "/assets/x": true, "/applications/1": true,
		"/applications/1/ended": true, "/applications": false, "/applications/": false, "/applications/1/ended/x": false, "/applications/1/": false,
		"/applications//1": false, "/applications/..": false, "/api/v1/applications/1": false, "/openapi.yaml": false, "/Audit": false, "": false, "/index.html": false} {
		if Serves(p) != want {
			t.Errorf("%q: %v", p, !want)
		}
	}
}

// TestVendor holds the vendored files to their checksums and to the versions that package.json pins: an edit by hand, or an update of
// one and not the other, fails.
func TestVendor(t *testing.T) {
	var entries []struct{ File, Package, Version, License, Integrity, SHA256 string }
	read(t, "vendor/checksums.json", &entries)
	var pkg struct{ DevDependencies map[string]string }
	read(t, "package.json", &pkg)
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	read(t, "package-lock.json", &lock)
	known := map[string]bool{"checksums.json": true, "LICENSES.txt": true}
	licences, err := os.ReadFile("vendor/LICENSES.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		known[e.File], known[strings.TrimSuffix(e.File, ".js")+".d.ts"] = true, true
		data, err := os.ReadFile(filepath.Join("vendor", e.File))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != e.SHA256 {
			t.Errorf("%s is not the file that was vendored: run npm run vendor", e.File)
		}
		locked := lock.Packages["node_modules/"+e.Package]
		if pkg.DevDependencies[e.Package] != e.Version || locked.Version != e.Version || locked.Integrity != e.Integrity {
			t.Errorf("%s is %s %s; package.json wants %s, its lock %s", e.File, e.Package, e.Version, pkg.DevDependencies[e.Package], locked.Version)
		}
		if !strings.Contains(string(licences), e.Package+" "+e.Version+" ("+e.License+")") {
			t.Errorf("LICENSES.txt lacks %s %s", e.Package, e.Version)
		}
	}
	if len(entries) < 7 {
		t.Errorf("%d entries", len(entries))
	}
	present, err := os.ReadDir("vendor")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range present {
		if !known[f.Name()] {
			t.Errorf("vendor/%s has no checksum", f.Name())
		}
	}
}

func read(t *testing.T, p string, into any) {
	t.Helper()
	data, err := os.ReadFile(p)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestModules: a module imports files that are there, by relative paths; no file is longer than one idea; no text of a client can become
// markup, and nothing is asked of anywhere else.
func TestModules(t *testing.T) {
	const longest = 300
	specifiers := regexp.MustCompile(`(?m)^(?:import|export)\b(?:[^"\n]*\bfrom)? "([^"]+)"`)
	banned := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML|document\.write|\beval\(|new Function|localStorage|https?://[a-z]`)
	err := fs.WalkDir(os.DirFS("."), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == "node_modules" {
			return fs.SkipDir
		}
		own := strings.HasPrefix(p, "app/") || strings.HasPrefix(p, "style/")
		if d.IsDir() || !own || path.Ext(p) == ".svg" {
			return nil
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if lines := bytes.Count(data, []byte("\n")); lines > longest {
			t.Errorf("%s has %d lines, more than %d", p, lines, longest)
		}
		if found := banned.Find(data); found != nil {
			t.Errorf("%s has %s", p, found)
		}
		for _, m := range specifiers.FindAllStringSubmatch(string(data), -1) {
			to := path.Join(path.Dir(p), m[1])
			if to == "client/index.js" || strings.HasPrefix(m[1], ".") && exists(to) {
				continue
			}
			t.Errorf("%s imports %s, which is not there", p, m[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func exists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}

// TestPure runs what tests the modules without a browser.
func TestPure(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("Node.js is not installed")
		}
		t.Skip("Node.js is not installed")
	}
	out, err := exec.CommandContext(t.Context(), node, "--import", "./test/client.mjs", "--test", "test/pure.test.mjs").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Package web is the dashboard: files that a browser takes as they lie here, built by nothing, and the handler that serves them out of
// the binary. It owns the page's security policy and its caching, and knows nothing of sessions: the page speaks the public API.
//
// It promises: a page that loads nothing from anywhere else and runs no script but these files; a file under a version's path never
// changes. Handlers are safe for concurrent use.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed index.html app style vendor/*.js vendor/*.css vendor/LICENSES.txt
var files embed.FS

const assets = "/assets/"

// Site serves the dashboard.
type Site struct {
	version string // of all files together
	page    file
	files   map[string]file // by their path below the version
}

type file struct {
	contentType string
	etag        string
	plain, gzip []byte // gzip nil = not smaller
}

// New reads the dashboard's files. The client is the JavaScript client's modules, at the root.
func New(client fs.FS) (*Site, error) {
	s := &Site{files: map[string]file{}}
	if err := s.add("", files); err != nil {
		return nil, err
	}
	if err := s.add("client", client); err != nil {
		return nil, err
	}
	page := s.files["index.html"].plain
	delete(s.files, "index.html")
	paths := make([]string, 0, len(s.files))
	for p := range s.files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	sum := sha256.New()
	for _, p := range paths {
		fmt.Fprintf(sum, "%s %s\n", p, s.files[p].etag)
	}
	s.version = hex.EncodeToString(sum.Sum(nil))[:16]
	s.page = newFile("index.html", s.expand(page, paths))
	return s, nil
}

func (s *Site) add(under string, from fs.FS) error {
	return fs.WalkDir(from, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || contentType(p) == "" {
			return err
		}
		data, err := fs.ReadFile(from, p)
		s.files[path.Join(under, p)] = newFile(p, data)
		return err
	})
}

// expand puts the version into the page's paths, and has the browser fetch every module at once instead of one import after another.
func (s *Site) expand(page []byte, paths []string) []byte {
	base := assets + s.version + "/"
	var preload strings.Builder
	for _, p := range paths {
		if path.Ext(p) == ".js" {
			fmt.Fprintf(&preload, "  <link rel=\"modulepreload\" href=%q>\n", base+p)
		}
	}
	page = bytes.Replace(page, []byte("  <!-- modules -->\n"), []byte(preload.String()), 1)
	return bytes.ReplaceAll(page, []byte(`"assets/`), []byte(`"`+base))
}

// contentType is "" for what is not served: the sources of types, checksums.
func contentType(p string) string {
	switch path.Ext(strings.TrimSuffix(p, ".d.ts")) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".txt":
		return "text/plain; charset=utf-8"
	}
	return ""
}

func newFile(p string, data []byte) file {
	f := file{contentType: contentType(p), plain: data}
	sum := sha256.Sum256(data)
	f.etag = `"` + hex.EncodeToString(sum[:16]) + `"`
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is one
	_, _ = w.Write(data)                                  // to memory
	_ = w.Close()
	if b.Len() < len(data) {
		f.gzip = b.Bytes()
	}
	return f
}

// Serves tells whether the path is the dashboard's: its pages, whose addresses hold what they show, and its files.
func Serves(p string) bool {
	return p == "/" || p == "/audit" || p == "/favicon.ico" || strings.HasPrefix(p, assets) || isApplication(p)
}

// isApplication: /applications/<number or id>, and one view of it below.
func isApplication(p string) bool {
	rest, ok := strings.CutPrefix(p, "/applications/")
	ref, view, _ := strings.Cut(rest, "/")
	return ok && ref != "" && !strings.Contains(view, "/") && path.Clean(p) == p
}

// policy is the page's Content-Security-Policy: these files, this server, and nothing else. A file of its own cannot be shown in a frame
// either.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// ServeHTTP serves what Serves names; other paths are 404.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "this path takes GET, HEAD", http.StatusMethodNotAllowed)
		return
	}
	f, cache, ok := s.find(r.URL.Path)
	if !ok {
		http.Error(w, "there is nothing at this path", http.StatusNotFound)
		return
	}
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", cache)
	h.Set("Vary", "Accept-Encoding")
	body, etag := f.plain, f.etag
	if f.gzip != nil && acceptsGzip(r) {
		body, etag = f.gzip, strings.TrimSuffix(f.etag, `"`)+`-gzip"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", etag)
	if notModified(r, etag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // the caller is gone, and there is nobody to tell
	}
}

// find returns a file and how it may be cached. While nodes of two versions serve side by side, a page of one may ask the other for its
// modules: it gets those that are here, to be asked for again.
func (s *Site) find(p string) (file, string, bool) {
	const always, check = "public, max-age=31536000, immutable", "no-cache"
	if p == "/favicon.ico" {
		f, ok := s.files["style/icon.svg"]
		return f, check, ok
	}
	below, isAsset := strings.CutPrefix(p, assets)
	if !isAsset {
		return s.page, check, Serves(p)
	}
	version, name, _ := strings.Cut(below, "/")
	f, ok := s.files[name]
	if version != s.version {
		return f, check, ok
	}
	return f, always, ok
}

// acceptsGzip reads Accept-Encoding as far as browsers use it.
func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		coding, weight, _ := strings.Cut(strings.ReplaceAll(strings.ToLower(part), " ", ""), ";")
		if coding == "gzip" {
			return strings.Trim(strings.TrimPrefix(weight, "q="), "0.") != "" || weight == ""
		}
	}
	return false
}

// notModified is RFC 9110, section 13.1.2; the comparison is weak.
func notModified(r *http.Request, etag string) bool {
	for tag := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == etag || tag == "*" {
			return true
		}
	}
	return false
}

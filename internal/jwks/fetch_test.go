package jwks

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFetch(t *testing.T) {
	good := `{"keys":[` + jwk(edKey, m{"kid": "a"}) + `]}`
	var elsewhere int
	mux := http.NewServeMux()
	for path, handle := range map[string]http.HandlerFunc{
		"/good": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, good) },
		"/text": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, good)
		},
		"/elsewhere": func(http.ResponseWriter, *http.Request) { elsewhere++ },
		"/redirect":  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"/moved": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusPermanentRedirect)
		},
		"/created": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated); fmt.Fprint(w, good) },
		"/error": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, good)
		},
		"/huge": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat(" ", maxBytes), good) },
		"/largest": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, strings.Repeat(" ", maxBytes-len(good)), good)
		},
		"/headers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", maxHeaders+5000))
			fmt.Fprint(w, good)
		},
		"/cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, good)
		},
		"/nothing": func(http.ResponseWriter, *http.Request) {},
		"/bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write([]byte(good))
			_ = z.Close()
		},
	} {
		mux.HandleFunc(path, handle)
	}
	srv := httptest.NewServer(mux)
	defer srv.Close()
	secure := httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // a handshake is refused below
	secure.StartTLS()
	defer secure.Close()
	transport := newTransport()
	transport.secure.TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig
	for address, want := range map[string]error{
		srv.URL + "/good": nil, srv.URL + "/text": nil, srv.URL + "/largest": nil, secure.URL + "/good": nil,
		srv.URL + "/redirect": errStatus, srv.URL + "/moved": errStatus, srv.URL + "/created": errStatus, srv.URL + "/error": errStatus,
		srv.URL + "/none": errStatus, srv.URL + "/huge": errTooLarge, srv.URL + "/nothing": errMalformed, srv.URL + "/bomb": errMalformed,
		srv.URL + "/cut": io.ErrUnexpectedEOF,
	} {
		s, err := fetch(t.Context(), transport, address)
		if !errors.Is(err, want) || (err == nil) != (len(s) == 1) {
			t.Errorf("%s gives %d keys, %v, want %v", address, len(s), err, want)
		}
	}
	if _, err := fetch(t.Context(), transport, srv.URL+"/headers"); err == nil {
		t.Error("endless headers are taken")
	}
	if _, err := fetch(t.Context(), newTransport(), secure.URL+"/good"); err == nil {
		t.Error("a certificate of nobody's is taken")
	}
	if elsewhere != 0 {
		t.Error("a redirect was followed")
	}
}

// A body that comes a byte at a time is given up when the time of a fetch is over.
func TestFetchIsBoundedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		began := time.Now()
		_, err := fetch(t.Context(), roundTrip(func(req *http.Request) (*http.Response, error) {
			go func() {
				for req.Context().Err() == nil {
					_, _ = w.Write([]byte(" "))
					time.Sleep(100 * time.Millisecond)
				}
				_ = w.CloseWithError(req.Context().Err())
			}()
			return &http.Response{StatusCode: http.StatusOK, Body: r, Request: req}, nil
		}), here)
		if took := time.Since(began); err == nil || took > fetchTimeout+time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestAddresses(t *testing.T) {
	for address, want := range map[string]struct{ plain, secure bool }{
		"127.0.0.1:80": {true, true}, "[::1]:80": {true, true}, "10.1.2.3:80": {true, true}, "192.168.1.1:80": {true, true},
		"172.16.0.1:80": {true, true}, "[fd00::1]:80": {true, true}, "[::ffff:127.0.0.1]:80": {true, true},
		"203.0.113.1:443": {false, true}, "[2001:db8::1]:443": {false, true},
		"169.254.169.254:80": {false, false}, "[::ffff:169.254.169.254]:80": {false, false}, "[fe80::1]:80": {false, false},
		"0.0.0.0:80": {false, false}, "[::]:80": {false, false}, "224.0.0.1:80": {false, false}, "255.255.255.255:80": {false, false},
		"nonsense": {false, false},
	} {
		if checkPlain("tcp", address, nil) == nil != want.plain || checkSecure("tcp", address, nil) == nil != want.secure {
			t.Errorf("%s: http %v, https %v", address, checkPlain("tcp", address, nil), checkSecure("tcp", address, nil))
		}
	}
	for _, address := range []string{"http://169.254.169.254/latest/meta-data", "https://169.254.169.254/", "http://203.0.113.1/"} {
		if _, err := fetch(t.Context(), newTransport(), address); !errors.Is(err, errAddress) {
			t.Errorf("%s is dialled: %v", address, err)
		}
	}
	if _, err := fetch(t.Context(), newTransport(), "http://id example/"); err == nil {
		t.Error("an address that is none is taken")
	}
}

func TestShown(t *testing.T) {
	for address, want := range map[string]string{
		"https://id.example/a/b?secret=x#y": "https://id.example/a/b", "https://u:p@id.example:8443/": "https://id.example:8443/",
		"http://[::1": "an address that is no URL",
	} {
		if got := shown(address); got != want {
			t.Errorf("%s is shown as %s", address, got)
		}
	}
}

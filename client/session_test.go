package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

func wantEvents(t *testing.T, h *held, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, h.events.names()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestSessionSaysHelloAndGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hello api.Hello
		var sent []map[string]any
		f := newFake(t, func(p *peer, h *api.Hello) {
			hello = *h
			p.welcome()
			sent = p.stay()
		})
		h := f.hold(client.SessionConfig{
			Token: new(tokens).next, Application: "123456789", ClientID: "client-001", Name: "n", Hostname: "mbp-14",
			UserAgent: "ua\r\n\x01é/1", ClientInfo: json.RawMessage(`{"name":"x"}`),
		})
		time.Sleep(time.Minute)
		if err := h.Bye(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := h.end(); err != nil {
			t.Fatalf("Run: %v", err)
		}
		synctest.Wait()
		want := api.Hello{Type: "hello", Token: "t1", Application: "123456789", ClientID: "client-001", Name: "n", Hostname: "mbp-14",
			UserAgent: "ua\r\n\x01é/1", ClientInfo: json.RawMessage(`{"name":"x"}`)}
		if diff := cmp.Diff(want, hello); diff != "" {
			t.Errorf("hello (-want +got):\n%s", diff)
		}
		if len(sent) != 1 || sent[0]["type"] != "bye" {
			t.Errorf("the client sent %v, want bye alone", sent)
		}
		wantEvents(t, h, "welcome", "closed for good")
		if f.count() != 1 {
			t.Errorf("%d connections, want one", f.count())
		}
	})
}

func TestSessionAnswersPingsWhileACallbackRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(p *peer, _ *api.Hello) {
			p.welcome()
			p.stay() // closes when a ping is not answered
		})
		h := f.hold(client.SessionConfig{Token: new(tokens).next, OnEvent: func(e client.Event) {
			if _, ok := e.(api.Welcome); ok {
				time.Sleep(5 * time.Minute)
			}
		}})
		time.Sleep(6 * time.Minute)
		if err := h.end(); err != nil {
			t.Fatal(err)
		}
		wantEvents(t, h, "welcome", "closed for good")
	})
}

func TestSessionRenewsItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []map[string]any
		f := newFake(t, func(p *peer, _ *api.Hello) {
			p.welcome()
			p.send(`{"type":"token_expiring","tokenExpiresAt":"2026-01-31T15:04:05.000Z"}`)
			sent = append(sent, <-p.frames)
			p.send(`{"type":"error","code":"token_invalid","message":"no"}`)
			sent = append(sent, <-p.frames)
			p.send(`{"type":"authorized","tokenExpiresAt":"2026-01-31T16:04:05.000Z"}`)
			sent = append(sent, p.stay()...)
		})
		var tok tokens
		h := f.hold(client.SessionConfig{Token: tok.next})
		time.Sleep(10 * time.Minute)
		_ = h.end()
		synctest.Wait()
		want := []map[string]any{{"type": "authorize", "token": "t2"}, {"type": "authorize", "token": "t3"}, {"type": "bye"}}
		if diff := cmp.Diff(want, sent); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		wantEvents(t, h, "welcome", "token_expiring", "error token_invalid", "authorized", "closed for good")
		if tok.count() != 3 {
			t.Errorf("the token was asked for %d times, want 3", tok.count())
		}
	})
}

func TestSessionAsksAgainWhenARenewalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		renewed := false
		f := newFake(t, func(p *peer, _ *api.Hello) {
			p.welcome()
			p.send(`{"type":"token_expiring","tokenExpiresAt":"2026-01-31T15:04:05.000Z"}`)
			renewed = (<-p.frames)["token"] == "fresh"
			p.stay()
		})
		answers := []string{"first", "error", "first", "fresh"} // an error, then the token that is about to expire: neither is sent
		h := f.hold(client.SessionConfig{Token: func(context.Context) (string, error) {
			a := answers[0]
			answers = answers[1:]
			if a == "error" {
				return "", errors.New("the issuer is away")
			}
			return a, nil
		}})
		time.Sleep(time.Minute)
		if _ = h.end(); !renewed || len(answers) != 0 {
			t.Errorf("renewed %v, answers left %v", renewed, answers)
		}
	})
}

func TestSessionComesBackWithAnotherToken(t *testing.T) {
	for _, code := range []api.CloseCode{api.CloseDisconnected, api.CloseRevoked, api.CloseTokenExpired} {
		synctest.Test(t, func(t *testing.T) {
			var presented []string
			f := newFake(t,
				func(p *peer, h *api.Hello) {
					presented = append(presented, h.Token)
					p.welcome()
					p.end(code, "", 0)
				},
				func(p *peer, h *api.Hello) {
					presented = append(presented, h.Token)
					p.welcome()
					p.stay()
				})
			h := f.hold(client.SessionConfig{Token: new(tokens).next})
			time.Sleep(time.Minute)
			if err := h.end(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"t1", "t2"}, presented); diff != "" {
				t.Errorf("%d: tokens (-want +got):\n%s", code, diff)
			}
			e := api.NewDisconnect(code, "", 0)
			wantEvents(t, h, "welcome", "disconnect "+jsonNumber(e.Code), "closed", "welcome", "closed for good")
		})
	}
}

func jsonNumber(c api.CloseCode) string {
	b, _ := json.Marshal(c)
	return string(b)
}

func TestSessionDoesNotComeBackWithADeniedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(p *peer, _ *api.Hello) {
			p.welcome()
			p.send(`{"type":"token_expiring","tokenExpiresAt":"2026-01-31T15:04:05.000Z"}`)
			<-p.frames
			p.end(api.CloseDisconnected, "", 0)
		})
		answers := []string{"first", "second", "first"} // both were presented, so both are denied
		h := f.hold(client.SessionConfig{Token: func(context.Context) (string, error) {
			a := answers[0]
			answers = answers[1:]
			return a, nil
		}})
		err := <-h.done
		var ended *client.EndedError
		if !errors.As(err, &ended) || f.count() != 1 {
			t.Errorf("Run: %v after %d connections, want an EndedError after one", err, f.count())
		}
		wantEvents(t, h, "welcome", "token_expiring", "disconnect 4100", "closed", "closed for good")
	})
}

func TestSessionEndsWhenTheServerSaysSo(t *testing.T) {
	for _, tc := range []struct {
		name  string
		do    script
		cause api.Code
	}{
		{"paused", func(p *peer, _ *api.Hello) { p.welcome(); p.end(api.CloseApplicationPaused, "", 0) }, api.CodeInternal},
		{"archived", func(p *peer, _ *api.Hello) { p.welcome(); p.end(api.CloseApplicationArchive, "", 0) }, api.CodeInternal},
		{"bad hello", func(p *peer, _ *api.Hello) { p.end(api.CloseBadHello, "clientId must be …", 0) }, api.CodeInternal},
		{"close code alone", func(p *peer, _ *api.Hello) { _ = p.ws.Close(4101, "") }, api.CodeInternal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, tc.do)
				h := f.hold(client.SessionConfig{Token: new(tokens).next})
				err := <-h.done
				var ended *client.EndedError
				if !errors.As(err, &ended) || api.CodeOf(err) != tc.cause || f.count() != 1 {
					t.Errorf("Run: %v after %d connections", err, f.count())
				}
			})
		})
	}
}

func TestSessionWithARefusedPublishableKeyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(p *peer, h *api.Hello) {
			if h.PublishableKey != "rca_x" || h.Token != "" {
				t.Errorf("hello %+v", h)
			}
			p.send(`{"type":"error","code":"publishable_key_invalid","message":"unknown"}`)
			p.end(api.CloseCredentialRefused, "", 0)
		})
		h := f.hold(client.SessionConfig{PublishableKey: "rca_x"})
		if err := <-h.done; api.CodeOf(err) != api.CodePublishableKeyInvalid || f.count() != 1 {
			t.Errorf("Run: %v after %d connections", err, f.count())
		}
	})
}

func TestUnauthorizedSessionComesBackAfterAnOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t,
			func(p *peer, _ *api.Hello) { p.welcome(); p.end(api.CloseRevoked, "", 0) },
			func(p *peer, _ *api.Hello) { p.welcome(); p.stay() })
		h := f.hold(client.SessionConfig{PublishableKey: "rca_x"})
		time.Sleep(time.Minute)
		if err := h.end(); err != nil || f.count() != 2 {
			t.Errorf("Run: %v after %d connections", err, f.count())
		}
	})
}

func TestSessionHonoursRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t,
			func(p *peer, _ *api.Hello) { p.welcome(); p.end(api.CloseGoingAway, "", 40_000) },
			func(p *peer, _ *api.Hello) { p.welcome(); p.stay() })
		h := f.hold(client.SessionConfig{Token: new(tokens).next, MinBackoff: time.Second})
		time.Sleep(5 * time.Minute)
		_ = h.end()
		if f.count() != 2 {
			t.Fatalf("%d connections", f.count())
		}
		if gap := f.gap(0); gap < 40*time.Second || gap > 42*time.Second {
			t.Errorf("came back after %s, want 40 s and up to one more", gap)
		}
	})
}

func TestSessionBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(p *peer, _ *api.Hello) {}) // hangs up at once
		h := f.hold(client.SessionConfig{Token: new(tokens).next, MinBackoff: time.Second, MaxBackoff: 8 * time.Second})
		time.Sleep(10 * time.Minute)
		_ = h.end()
		// Full jitter: the mean wait is half the ceiling, 4 s.
		if n := f.count(); n < 100 || n > 300 {
			t.Errorf("%d attempts in ten minutes, want about 150", n)
		}
		first, late := f.gap(0), time.Duration(0)
		for i := range f.count() - 1 {
			late = max(late, f.gap(i))
		}
		if first > time.Second || late > 8*time.Second || late < 6*time.Second {
			t.Errorf("first wait %s, longest %s", first, late)
		}
	})
}

func TestSessionNoticesASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t,
			func(p *peer, _ *api.Hello) { p.welcome(); <-p.frames }, // never a ping
			func(p *peer, _ *api.Hello) { p.welcome(); p.stay() })
		h := f.hold(client.SessionConfig{Token: new(tokens).next})
		time.Sleep(55 * time.Second)
		if f.count() != 1 {
			t.Error("gave the server up before two pings were missed")
		}
		time.Sleep(time.Minute)
		if f.count() != 2 {
			t.Error("did not notice that the server is gone")
		}
		_ = h.end()
	})
}

func TestSessionWithoutWelcomeTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t,
			func(p *peer, _ *api.Hello) { <-p.frames },
			func(p *peer, _ *api.Hello) { p.welcome(); p.stay() })
		h := f.hold(client.SessionConfig{Token: new(tokens).next})
		time.Sleep(2 * time.Minute)
		if f.count() != 2 {
			t.Errorf("%d connections, want 2", f.count())
		}
		_ = h.end()
	})
}

func TestSessionSurvivesFramesOfAnotherVersion(t *testing.T) {
	for _, tc := range []struct {
		name, frame string
		connections int
	}{
		{"unknown type", `{"type":"later","x":1}`, 1},
		{"unknown field", `{"type":"error","code":"x","message":"y","z":[]}`, 1},
		{"no type", `{}`, 1},
		{"not JSON", `hello`, 2},
		{"not an object", `[1]`, 2},
		{"wrong type of a field", `{"type":"disconnect","code":"4100"}`, 2},
		{"wrong type of type", `{"type":7}`, 2},
		{"empty", ``, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t,
					func(p *peer, _ *api.Hello) { p.welcome(); p.send(tc.frame); p.stay() },
					func(p *peer, _ *api.Hello) { p.welcome(); p.stay() })
				h := f.hold(client.SessionConfig{Token: new(tokens).next})
				time.Sleep(time.Minute)
				if err := h.end(); err != nil || f.count() != tc.connections {
					t.Errorf("Run: %v after %d connections, want %d", err, f.count(), tc.connections)
				}
			})
		})
	}
}

func TestSessionUpgradeRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(p *peer, _ *api.Hello) { p.welcome(); p.stay() })
		n := 0
		f.refuse = func(w http.ResponseWriter, _ *http.Request) bool {
			if n++; n == 1 {
				w.Header().Set("Retry-After", "30")
				http.Error(w, `{"message":"draining","statusCode":503,"code":"unavailable"}`, http.StatusServiceUnavailable)
			}
			return n == 1
		}
		h := f.hold(client.SessionConfig{Token: new(tokens).next})
		time.Sleep(2 * time.Minute)
		_ = h.end()
		if f.count() != 2 || f.gap(0) < 30*time.Second {
			t.Errorf("%d connections", f.count())
		}

		f.refuse = func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, `{"message":"no such path","statusCode":404,"code":"not_found"}`, http.StatusNotFound)
			return true
		}
		err := <-f.hold(client.SessionConfig{Token: new(tokens).next}).done
		var refused *client.StatusError
		if !errors.As(err, &refused) || refused.Status != http.StatusNotFound || api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("Run: %v, want a StatusError", err)
		}
	})
}

func TestSessionUpdateOutlivesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []map[string]any
		var second api.Hello
		f := newFake(t,
			func(p *peer, _ *api.Hello) {
				p.welcome()
				sent = append(sent, <-p.frames)
			},
			func(p *peer, h *api.Hello) {
				second = *h
				p.welcome()
				p.stay()
			})
		h := f.hold(client.SessionConfig{Token: new(tokens).next, Name: "old", Hostname: "kept"})
		synctest.Wait()
		name := "new"
		if err := h.Update(t.Context(), api.Update{Name: &name}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		_ = h.end()
		if diff := cmp.Diff([]map[string]any{{"type": "update", "name": "new"}}, sent); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		if second.Name != "new" || second.Hostname != "kept" {
			t.Errorf("the second hello was %+v", second)
		}
	})
}

func TestSessionActivityIsThinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []map[string]any
		f := newFake(t, func(p *peer, _ *api.Hello) { p.welcome(); sent = p.stay() })
		h := f.hold(client.SessionConfig{Token: new(tokens).next})
		synctest.Wait()
		for range 600 { // a minute of typing
			if err := h.Activity(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		_ = h.end()
		synctest.Wait()
		n := len(slices.DeleteFunc(sent, func(f map[string]any) bool { return f["type"] != "activity" }))
		if n < 25 || n > 31 {
			t.Errorf("%d activity frames in a minute, want 30", n)
		}
		if err := h.Activity(t.Context()); err != nil {
			t.Errorf("without a connection: %v", err)
		}
		if err := h.Authorize(t.Context(), "t"); !errors.Is(err, client.ErrNotConnected) {
			t.Errorf("Authorize without a connection: %v", err)
		}
	})
}

func TestSessionByeBeforeRun(t *testing.T) {
	s, err := client.NewSession(client.SessionConfig{URL: "http://127.0.0.1:1", PublishableKey: "rca_x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bye(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err != nil {
		t.Errorf("Run after Bye: %v", err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("a second Run was accepted")
	}
}

func TestSessionConfigIsChecked(t *testing.T) {
	token := new(tokens).next
	for _, tc := range []struct {
		cfg  client.SessionConfig
		want string
	}{
		{client.SessionConfig{URL: "http://x"}, "Token or a PublishableKey"},
		{client.SessionConfig{Token: token, URL: "http://x", ClientInfo: json.RawMessage(`{`)}, "ClientInfo"},
		{client.SessionConfig{Token: token}, "must look like"},
		{client.SessionConfig{Token: token, URL: "127.0.0.1:8080"}, "URL"},
		{client.SessionConfig{Token: token, URL: "ftp://x"}, "must look like"},
		{client.SessionConfig{Token: token, URL: "http://"}, "must look like"},
		{client.SessionConfig{Token: token, URL: "http://%zz"}, "URL"},
	} {
		if _, err := client.NewSession(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want something about %q", tc.cfg, err, tc.want)
		}
	}
	for _, url := range []string{"http://x", "https://x/prefix", "ws://x:1", "wss://x"} {
		if _, err := client.NewSession(client.SessionConfig{Token: token, URL: url}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

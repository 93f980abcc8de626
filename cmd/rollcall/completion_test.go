package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

func TestCandidates(t *testing.T) {
	for _, tc := range []struct{ shell, words, want string }{
		{"bash", "sess", "sessions"},
		{"bash", "bench-", ""}, // those that bench starts are hidden
		{"bash", "sessions re", "revoke-all"},
		{"bash", "sessions list -o ", "table json csv"},
		{"bash", "sessions list -o c", "csv"},
		{"bash", "sessions list --output = t", "table"}, // as bash takes --output=t apart
		{"bash", "sessions list --output =", "table json csv"},
		{"bash", "sessions list --url http : //x sess", ""},
		{"bash", "sessions list --url http : //x --out", "--output"},
		{"fish", "sessions list --output=t", "--output=table"},
		{"fish", "sessions list --categories ", "license ip clientId"},
		{"fish", "sessions list --categories ip,", "ip,license ip,clientId"},
		{"fish", "sessions list --categories=ip,license,", "--categories=ip,license,clientId"},
		{"fish", "sessions list --key ", ""},
		{"fish", "sessions --key x list --live --stat", "--status"},
		{"fish", "sessions get x --applic", "--application"},
		{"fish", "sessions list -- --applic", ""},
		{"fish", "--config x completion ", "bash zsh fish"},
		{"fish", "completion fish ", ""},
		{"fish", "nonsense ", ""},
		{"fish", "--nonsense --nonsense=", ""},
		{"zsh", "version --h", "--help:Show context-sensitive help"},
		{"bash", "--__", ""},
	} {
		var out bytes.Buffer
		words := strings.Split(tc.words, " ")
		if code := run(append([]string{completeArg, tc.shell}, words...), nil, &out, &out); code != exitFine {
			t.Errorf("%s %q: exit code %d", tc.shell, tc.words, code)
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			got = append(got, word)
		}
		if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s %q (-want +got):\n%s", tc.shell, tc.words, diff)
		}
	}
}

// TestCandidatesAreKnown holds that every command and flag that is offered, anywhere, is one that the parser takes.
func TestCandidatesAreKnown(t *testing.T) {
	parser, err := kong.New(&cli{}, flagDefaults)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	var visit func(node *kong.Node, words []string)
	visit = func(node *kong.Node, words []string) {
		for _, c := range candidates(parser.Model.Node, words, "-") {
			if seen++; flagWritten(node, c.word) == nil && !strings.HasPrefix(c.word, "--no-") {
				t.Errorf("%v has no %s", words, c.word)
			}
		}
		for _, child := range node.Children {
			visit(child, append(slices.Clip(words), child.Name))
		}
	}
	visit(parser.Model.Node, nil)
	if seen < 200 {
		t.Errorf("only %d flags were offered", seen)
	}
}

//go:build unix

package pgserver

import (
	"os"
	"path/filepath"
	"testing"
)

func TestBinaries(t *testing.T) {
	t.Setenv("PATH", "")
	root := t.TempDir()
	pattern := filepath.Join(root, "*", "bin")
	if got := binaries(pattern); got != "" {
		t.Errorf("found %q in an empty directory", got)
	}
	for version, files := range map[string][]string{"9": {"initdb", "postgres"}, "15": {"initdb", "postgres"}, "17": {"initdb"}} {
		dir := filepath.Join(root, version, "bin")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(dir, f), nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, want := binaries(pattern), filepath.Join(root, "15", "bin"); got != want {
		t.Errorf("found %q, want %q: the newest with both", got, want)
	}
}

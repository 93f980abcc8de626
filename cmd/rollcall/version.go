package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set at link time for releases: -ldflags "-X main.version=1.2.3".
var version = ""

type versionCmd struct{}

// Run prints the version, the commit when the build knows it, and what it was built with.
func (versionCmd) Run(io *stdio) error {
	v, commit := version, ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if v == "" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = " " + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	_, err := fmt.Fprintf(io.out, "rollcall %s%s %s %s/%s\n", v, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

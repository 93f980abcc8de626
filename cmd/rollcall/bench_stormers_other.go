//go:build !linux

package main

import "context"

type benchStormersCmd struct{}

// Run refuses.
func (benchStormersCmd) Run(context.Context, *stdio) error {
	return usagef("storms of connects are measured on Linux, whose loopback has addresses for so many clients")
}

//go:build !unix

package server

import "os"

// tryLock does nothing where the system has no flock: there the operator keeps a data directory to one process.
func tryLock(*os.File) error { return nil }

//go:build unix

package server

import (
	"os"
	"syscall"
)

// tryLock takes an exclusive lock that the kernel drops with the process.
func tryLock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

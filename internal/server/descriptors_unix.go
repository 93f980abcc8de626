//go:build unix

package server

import "syscall"

// descriptorLimit returns how many files the process may open, 0 for no limit. The runtime has raised the soft limit to the hard
// one by now (package syscall, at start).
func descriptorLimit() int {
	const endless = 1 << 30 // RLIM_INFINITY is -1 on some systems and 2^63-1 or 2^64-1 on others
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	n := uint64(l.Cur) //nolint:unconvert // signed on some systems
	if n > endless {
		return 0
	}
	return int(n)
}

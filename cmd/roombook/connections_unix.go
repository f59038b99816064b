//go:build unix

package main

import "syscall"

// maxConnections is how many HTTP connections may be open: half as many as the process may have files, which leaves the rest to the
// stores, and no more than 16,384. Go has already raised the soft limit to the hard one.
func maxConnections() int {
	const limit = 16_384
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return limit
	}
	return int(max(1, min(uint64(files.Cur)/2, limit)))
}

//go:build unix

package node

import "golang.org/x/sys/unix"

// fileLimit is how many files the process may have open.
func fileLimit() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return assumedFileLimit
	}
	return uint64(limit.Cur)
}

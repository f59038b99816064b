//go:build unix

package main

import "syscall"

// maxConnections is how many HTTP connections are kept open: half as many as the process may have files, so that the stores have the
// rest, and no more than 16,384. Go has raised the limit as far as it goes.
func maxConnections() int {
	const most = 16_384
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return most
	}
	return int(max(1, min(uint64(files.Cur)/2, most)))
}

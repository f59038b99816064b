//go:build !unix

package node

// fileLimit is how many files the process may have open, see files_unix.go.
func fileLimit() uint64 { return assumedFileLimit }

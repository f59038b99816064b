//go:build !unix

package main

// maxConnections is how many HTTP connections may be open, on systems that do not limit a process's files.
func maxConnections() int { return 16_384 }

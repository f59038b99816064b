//go:build !unix

package main

// maxConnections is how many HTTP connections are kept open, where processes have no limit of files to speak of.
func maxConnections() int { return 16_384 }

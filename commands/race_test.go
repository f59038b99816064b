//go:build race

package commands

// interleavings is the default of interleaveMost: the race detector makes each course six times as long, and only one goroutine runs in it.
const interleavings = 1

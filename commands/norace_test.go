//go:build !race

package commands

// interleavings is the default of interleaveMost.
const interleavings = 2

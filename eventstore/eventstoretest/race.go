//go:build race

package eventstoretest

// Raced is whether the race detector is on.
const Raced = true

//go:build race

package sqlite

// raced says that the race detector is on.
const raced = true

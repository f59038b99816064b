//go:build race

package web_test

// raced says that the race detector is on: it looks at the server, for which the other half of the looks of a screen is the same.
const raced = true

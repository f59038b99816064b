package node_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"roombook/eventstore/node"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirVariable); dir != "" {
		os.Exit(writeUntilKilled(dir, os.Getenv(crashRoundVariable)))
	}
	if what := os.Getenv(node.StuckVariable); what != "" {
		os.Exit(node.ServeUntilStuck(what))
	}
	// Pebble leaves it behind where a database could not be opened.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/cockroachdb/pebble/v2.(*ConcurrencyLimitScheduler).periodicGranter"))
}

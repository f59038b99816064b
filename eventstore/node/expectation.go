package node

import "math"

// expectation is what an append expects of its stream: a revision, or one of the special values, numbered as in
// EventStoreDB's Data/ExpectedVersion.cs.
type expectation int64

const (
	expectNoStream     expectation = -1
	expectAny          expectation = -2
	expectStreamExists expectation = -4
)

// expectRevision reads a revision off the wire, where 2^64-1 stands for no stream. Other values that a stream cannot have are
// refused.
func expectRevision(revision uint64) (expectation, bool) {
	switch {
	case revision == math.MaxUint64:
		return expectNoStream, true
	case revision > math.MaxInt64:
		return 0, false
	}
	return expectation(revision), true
}

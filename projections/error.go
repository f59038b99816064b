package projections

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound means that the list has no document with the id.
	ErrNotFound = errors.New("the list has no such document")
	// ErrBehind means that the list did not reach the position that a query asked for in time.
	ErrBehind = errors.New("the list is behind the position asked for")
	// ErrNoSuchPosition means that the log has no event at the position that a query asked for: it is past the end or from another log.
	ErrNoSuchPosition = errors.New("the log has no event at the position asked for")
	// ErrTooWide means that a query would have to read more of a list than its time allows.
	ErrTooWide = errors.New("the query concerns too many documents")
	// ErrUnavailable means that the read store failed or that the list has not been built yet.
	ErrUnavailable = errors.New("the read store is not available")
)

// Parameter names a field of a [Query].
type Parameter string

const (
	ParameterSort   Parameter = "sort"
	ParameterStatus Parameter = "status"
	ParameterSize   Parameter = "size"
	ParameterCursor Parameter = "cursor"
	ParameterRoom   Parameter = "roomId"
	ParameterFrom   Parameter = "from"
	ParameterTo     Parameter = "to"
)

// InvalidQuery means that a query is invalid: it has a sort or status that the list does not have, a size out of range, or a cursor
// that is damaged or from another list or order.
type InvalidQuery struct {
	Parameter Parameter
	Detail    string // what would be valid
}

func (e *InvalidQuery) Error() string { return fmt.Sprintf("%s: %s", e.Parameter, e.Detail) }

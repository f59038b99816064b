package projections

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound means that the list has no document with this id.
	ErrNotFound = errors.New("the list has no such document")
	// ErrBehind means that the list has not reached the position that a query asked for within the time to wait for it.
	ErrBehind = errors.New("the list is behind the position asked for")
	// ErrNoSuchPosition means that a query asked for a position at which the log has no event: beyond its end, or of another log.
	ErrNoSuchPosition = errors.New("the log has no event at the position asked for")
	// ErrTooWide means that a query would have had to read more of a list than there was time for.
	ErrTooWide = errors.New("the query concerns too many documents")
	// ErrUnavailable means that the read store did not answer, or that the list has never been built.
	ErrUnavailable = errors.New("the read store is not available")
)

// Parameter names a value of a [Query].
type Parameter string

const (
	ParameterSort   Parameter = "sort"
	ParameterStatus Parameter = "status"
	ParameterSize   Parameter = "size"
	ParameterCursor Parameter = "cursor"
)

// InvalidQuery means that a query cannot be answered: a sort or status that the list does not have, a size out of range, or a
// cursor that is damaged or belongs to another list or order.
type InvalidQuery struct {
	Parameter Parameter
	Detail    string // says what would be accepted
}

func (e *InvalidQuery) Error() string { return fmt.Sprintf("%s: %s", e.Parameter, e.Detail) }

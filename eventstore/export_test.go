package eventstore

import (
	"context"

	"roombook/domain"
)

// WrongRevisionFor is what an append returns to whom the event store has answered so.
func (s *Store) WrongRevisionFor(ctx context.Context, stream string, expected domain.Revision, answer error) error {
	return s.wrongRevision(ctx, stream, expected, answer)
}

var ActualRevision = actualRevision

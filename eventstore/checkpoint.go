package eventstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
)

// checkpointType is the type of the events that keep a checkpoint.
const checkpointType = "CheckpointReached"

// checkpoint is their data.
type checkpoint struct {
	Position Position `json:"position"`
	// Event is the id of the event at the position, which tells one log from another. Checkpoints of the first version have none.
	Event uuid.UUID `json:"event,omitzero"`
}

// SaveCheckpoint stores the position up to which a follower of the log has nothing left to do, as the last event of a stream that holds
// nothing else. Give that stream a maximum count of 1, see [Store.SetMaxCount]. If several followers share a checkpoint the last to save
// wins, even if its position is lower. In a stream that was deleted for good nothing can be saved, which is no error: a follower goes on without.
// The errors are those of [Store.Append], and one if the log has no event at the position.
func (s *Store) SaveCheckpoint(ctx context.Context, stream string, p Position) error {
	if err := s.saveCheckpoint(ctx, stream, p); err != nil {
		return fmt.Errorf("save the checkpoint in %q: %w", stream, err)
	}
	return nil
}

func (s *Store) saveCheckpoint(ctx context.Context, stream string, p Position) error {
	id, found, err := s.EventAt(ctx, p)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("the log has no event at position %d", p)
	}
	data, err := json.Marshal(checkpoint{p, id}, storedJSON)
	if err != nil {
		return err
	}
	_, err = s.append(ctx, stream, Any, []proposed{newProposed(checkpointType, data, nil)})
	if errors.Is(err, ErrDeleted) {
		return nil // as LoadCheckpoint has logged
	}
	return err
}

// LoadCheckpoint is the position that was saved last, or in a cluster possibly one saved a little before; 0 if none was, if it was saved
// for another log, or if the stream was deleted for good. It is an error if the stream's last event is no checkpoint.
func (s *Store) LoadCheckpoint(ctx context.Context, stream string) (Position, error) {
	return s.loadPosition(ctx, stream, false)
}

// LoadPosition is [Store.LoadCheckpoint] for a follower that loses more by beginning at the end of the log than by beginning too early: it
// also returns a position at which the log has no event any more, as after a scavenge. That may be beyond the end of the log.
func (s *Store) LoadPosition(ctx context.Context, stream string) (Position, error) {
	return s.loadPosition(ctx, stream, true)
}

func (s *Store) loadPosition(ctx context.Context, stream string, gone bool) (Position, error) {
	c, err := s.loadCheckpoint(ctx, stream, gone)
	if err != nil {
		return 0, fmt.Errorf("load the checkpoint in %q: %w", stream, err)
	}
	return c.Position, nil
}

// loadCheckpoint loads a checkpoint; gone allows one whose event the log does not have.
func (s *Store) loadCheckpoint(ctx context.Context, stream string, gone bool) (c checkpoint, err error) {
	last, err := s.lastEvent(ctx, s.connections.lists, stream)
	if errors.Is(err, ErrDeleted) {
		s.logger.Warn("the stream of a checkpoint was deleted for good, so none is kept", "stream", stream)
		return c, nil
	}
	if err != nil || last == nil {
		return c, err
	}
	if err := json.Unmarshal(last.GetData(), &c, storedJSON); err != nil {
		return c, err
	}
	if c.Event == uuid.Nil {
		return c, nil
	}
	id, found, err := s.EventAt(ctx, c.Position)
	if err != nil {
		return c, err
	}
	if found && id != c.Event || !found && !gone {
		s.logger.Warn("the log does not have the event of a checkpoint, which is not used", "stream", stream, "position", c.Position)
		return checkpoint{}, nil
	}
	return c, nil
}

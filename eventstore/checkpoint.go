package eventstore

import (
	"context"
	"encoding/json"
	"fmt"
)

// checkpointType is the type of the events that keep a checkpoint.
const checkpointType = "CheckpointReached"

// checkpoint is the data of such an event.
type checkpoint struct {
	Position Position `json:"position"`
}

// SaveCheckpoint keeps the position up to which a follower of the log has nothing left to do, as the last event of a stream of
// its own. Give the stream a maximum count of 1, see [Store.SetMaxCount]. Of followers that share a checkpoint the last
// to save wins, whichever is further. Its errors are those of [Store.Append].
func (s *Store) SaveCheckpoint(ctx context.Context, stream string, p Position) error {
	data, err := json.Marshal(checkpoint{p})
	if err == nil {
		_, err = s.append(ctx, stream, Any, []proposed{newProposed(checkpointType, data, nil)})
	}
	if err != nil {
		return fmt.Errorf("save the checkpoint in %q: %w", stream, err)
	}
	return nil
}

// LoadCheckpoint is the position that was saved last, or in a cluster a little before, 0 if none was. What is there and is not a
// checkpoint is an error.
func (s *Store) LoadCheckpoint(ctx context.Context, stream string) (Position, error) {
	last, err := s.lastStored(ctx, s.connections.lists, stream)
	var c checkpoint
	if err == nil && last != nil {
		err = json.Unmarshal(last.GetData(), &c)
	}
	if err != nil {
		return 0, fmt.Errorf("load the checkpoint in %q: %w", stream, err)
	}
	return c.Position, nil
}

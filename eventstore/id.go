package eventstore

import "github.com/google/uuid"

// EventID is the id of an event that follows from something else: UUIDv5 of a name within a space, such as the index of
// an event within its command. The same append tried again thus carries the same ids, which is what EventStoreDB compares.
func EventID(space uuid.UUID, name string) uuid.UUID {
	return uuid.NewSHA1(space, []byte(name))
}

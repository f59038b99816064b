package node

// recentIDCount bounds the ids remembered, in about 6 MB.
const recentIDCount = 1 << 16

// recentIDs remembers under which position this process first wrote an event id, for the newest events only. It serves the
// idempotency of appends that expect no particular revision, which is best effort: the memory is empty after a restart, and an
// id belongs to the stream that it was written to first. Not safe for concurrent use.
type recentIDs struct {
	positions map[eventID]uint64
	ids       []eventID // of the event at position p: ids[p % recentIDCount]
}

func newRecentIDs() *recentIDs { return &recentIDs{positions: make(map[eventID]uint64)} }

// add remembers the id of the event at position, which follows the one added last.
func (r *recentIDs) add(id eventID, position uint64) {
	slot := int(position % recentIDCount)
	for len(r.ids) <= slot {
		r.ids = append(r.ids, eventID{})
	}
	if forgotten := r.ids[slot]; position > recentIDCount && r.positions[forgotten] == position-recentIDCount {
		delete(r.positions, forgotten)
	}
	r.ids[slot] = id
	if _, ok := r.positions[id]; !ok {
		r.positions[id] = position
	}
}

// position returns where id was first written, or 0 if it is not remembered.
func (r *recentIDs) position(id eventID) uint64 { return r.positions[id] }

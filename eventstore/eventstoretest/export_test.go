package eventstoretest

import "time"

// IndexAll makes all accepted appends readable now.
func (s *Servers) IndexAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.index.pending {
		t.ready = time.Time{}
	}
	s.index.advanceLocked()
}

// Pending is the number of accepted appends that cannot be read yet.
func (s *Servers) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.index.pending)
}

package eventstoretest

import "time"

// IndexAll has all that was taken be readable now.
func (s *Servers) IndexAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.index.taken {
		t.ready = time.Time{}
	}
	s.index.advanceLocked()
}

// Taken is the number of appends that were taken and cannot be read yet.
func (s *Servers) Taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.index.taken)
}

package eventstore

// AppendSingly makes the store's next appends calls of their own, until it connects again.
func (s *Store) AppendSingly() {
	m := s.connections.leader.current.Load()
	m.appendsSingly.Store(true)
}

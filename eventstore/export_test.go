package eventstore

import (
	"context"

	"google.golang.org/grpc/connectivity"
)

// AppendSingly makes the store's next appends calls of their own, until it connects again. It opens all connections before, each of which
// would look anew whether the event store offers more.
func (s *Store) AppendSingly(ctx context.Context) {
	m := s.connections.leader.current.Load()
	for _, conn := range m.connections {
		conn.Connect()
		for state := conn.GetState(); state != connectivity.Ready && conn.WaitForStateChange(ctx, state); state = conn.GetState() {
			conn.Connect()
		}
	}
	m.appendsSingly.Store(true)
}

package mongo_test

import (
	"strings"
	"syscall"
	"testing"

	"roombook/eventstore/eventstoretest"
	"roombook/projections/mongo"
	"roombook/projections/mongo/mongotest"
	"roombook/projections/storetest"
)

func TestTheServerGoesAway(t *testing.T) {
	s := &mortal{T: t, folder: t.TempDir()}
	s.start(eventstoretest.ClosedPort(t)) // which stays its own while it is down
	store, err := mongo.Open(s.Address + "roombook")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	storetest.RunOutage(t, store, s)
}

// mortal is a [storetest.Server].
type mortal struct {
	*testing.T
	*mongotest.Server
	folder string
}

func (m *mortal) start(at string) {
	server, err := mongotest.Start("ferretdb", m.folder, at)
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { _ = server.Stop() })
	m.Server = server
}

func (m *mortal) signal(s syscall.Signal) {
	if err := m.Signal(s); err != nil {
		m.Fatal(err)
	}
}

func (m *mortal) Silence() { m.signal(syscall.SIGSTOP) }

func (m *mortal) Kill() {
	m.signal(syscall.SIGKILL)
	_ = m.Stop()
}

func (m *mortal) Restart() {
	m.start(strings.TrimSuffix(strings.TrimPrefix(m.Address, "mongodb://"), "/"))
}

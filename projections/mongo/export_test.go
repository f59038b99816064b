package mongo

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"
)

// OpenPatient is Open with a command monitor, which may be nil, and with time for a server on a busy machine.
func OpenPatient(uri string, monitor *event.CommandMonitor) (*Store, error) {
	address, err := connstring.ParseAndValidate(uri)
	if err != nil {
		return nil, err
	}
	const patience = 5 * time.Minute
	return connect(clientOptions(uri, address).SetTimeout(patience).SetServerSelectionTimeout(patience).SetMonitor(monitor), address.Database)
}

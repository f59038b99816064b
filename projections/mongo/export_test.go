package mongo

import (
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"
)

// OpenWatched is Open with a command monitor.
func OpenWatched(uri string, monitor *event.CommandMonitor) (*Store, error) {
	address, err := connstring.ParseAndValidate(uri)
	if err != nil {
		return nil, err
	}
	return connect(clientOptions(uri, address).SetMonitor(monitor), address.Database)
}

package projections

import (
	"encoding/base64"
	"encoding/json"

	"roombook/eventstore"
)

// cursor says after which document a page begins, and in which order of which list.
type cursor struct {
	List       string `json:"l"`
	Sort       string `json:"s"`
	Descending bool   `json:"d,omitempty"`
	Mark
}

func (c cursor) String() string {
	text, _ := json.Marshal(c) // strings and numbers always have a JSON form
	return base64.RawURLEncoding.EncodeToString(text)
}

func parseCursor(s string) (cursor, bool) {
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return cursor{}, false
	}
	var c cursor
	if err := json.Unmarshal(text, &c); err != nil {
		return cursor{}, false
	}
	return c, true
}

// mark is the document's place in the order.
func (o Order) mark(k Keys, created eventstore.Position) Mark {
	m := Mark{Created: created}
	switch o.By {
	case ColumnBooking:
		m.By = k.Booking
	case ColumnRoom:
		m.By = k.Room
	case ColumnUser:
		m.By = k.User
	case ColumnStatus:
		m.By = k.Status
	}
	if o.Start {
		m.Start = k.Start
	}
	return m
}

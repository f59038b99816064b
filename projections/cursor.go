package projections

import (
	"encoding/base64"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// cursor says after which document a page starts, and in which order of which list.
type cursor struct {
	List       string `json:"l"`
	Sort       string `json:"s"`
	Descending bool   `json:"d,omitzero"`
	Mark       `json:",inline"`
}

func (c cursor) String() string {
	text, _ := json.Marshal(c, jsontext.AllowInvalidUTF8(true)) // strings and numbers can always be encoded
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

package domain

import (
	"errors"
	"time"
)

// The events of photos. They are stored forever.
type (
	// RoomPhotoChanged, in the calendar stream of a room, says which photo the room has from now on: the zero Photo is none.
	RoomPhotoChanged struct {
		RoomID RoomID    `json:"roomId"`
		Photo  Photo     `json:"photo,omitzero"`
		At     time.Time `json:"at"`
	}

	// PhotoStored is the only event of the stream of a picture, and is the picture itself. Rooms name it by its hash.
	PhotoStored struct {
		JPEG string    `json:"jpeg"` // in base64
		At   time.Time `json:"at"`
	}
)

func (RoomPhotoChanged) EventType() string { return "RoomPhotoChanged" }
func (PhotoStored) EventType() string      { return "PhotoStored" }

// PhotoHash is the SHA-256 of a picture, a JPEG, in lowercase hexadecimal.
type PhotoHash string

// Stream is the name of the picture's stream. It never changes once it has its event, so that several rooms may share it.
func (h PhotoHash) Stream() string { return PhotoCategory + "-" + string(h) }

// Photo is a picture of a room, without the picture itself. The zero value is none.
type Photo struct {
	Hash PhotoHash `json:"hash"`
	// Alt says what there is to be seen, for those who cannot see it, in normalization form C.
	Alt    string `json:"alt"`
	Width  int    `json:"width"` // in pixels
	Height int    `json:"height"`
}

// MaxAlt is the maximum length of [Photo].Alt, in characters.
const MaxAlt = 300

// ErrPhotoNotFound means that the room has no photo, or that its picture is not stored any more.
var ErrPhotoNotFound = errors.New("there is no such photo")

// DecidePhoto gives a room a photo, or takes it away.
//
//	given it has another photo, or another alternative text  then RoomPhotoChanged
//	given it has this one, or none that could be taken away  then nothing: a repeat
//	given an alternative text that is empty or too long      then *Invalid
//	given it is not registered                               then ErrRoomNotFound
func DecidePhoto(r Room, p Photo, at time.Time) ([]Event, error) {
	if r.ID == "" {
		return nil, ErrRoomNotFound
	}
	if p.Hash != "" {
		var fault string
		if p.Alt, fault = normalText(p.Alt, MaxAlt, false); p.Alt == "" {
			fault = "must say what there is to be seen, for those who cannot see it"
		}
		if fault != "" {
			return nil, &Invalid{[]Fault{{"alt", fault}}}
		}
	}
	if p == r.Photo {
		return nil, nil
	}
	return []Event{RoomPhotoChanged{RoomID: r.ID, Photo: p, At: at}}, nil
}

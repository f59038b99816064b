package commands

import (
	"bytes"
	"context"
	"errors"
	"hash/fnv"
	"image"
	"image/png"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"roombook/commands/picture"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// aPicture is a picture of 4 x 3 pixels that no other room has.
func aPicture(of domain.RoomID) []byte {
	sum := fnv.New64()
	_, _ = sum.Write([]byte(of))
	m := image.NewGray(image.Rect(0, 0, 4, 3))
	for i := range 4 { // noisily, so that no two look the same once they are a JPEG
		m.Pix[i], m.Pix[i+4] = byte(sum.Sum64()>>(8*i)), byte(sum.Sum64()>>(8*i+32))
	}
	var b bytes.Buffer
	_ = png.Encode(&b, m) // into a buffer, which takes everything
	return b.Bytes()
}

// pictureOf is what a room knows of aPicture.
func pictureOf(t *testing.T, of domain.RoomID) domain.Photo {
	t.Helper()
	converted, err := picture.Convert(aPicture(of))
	if err != nil {
		t.Fatal(err)
	}
	return photoOf(converted)
}

// withoutRooms is a store that breaks before each append to a room.
type withoutRooms struct{ Store }

func (s withoutRooms) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	if strings.HasPrefix(stream, domain.CalendarCategory) {
		return eventstore.Appended{}, eventstore.ErrUnavailable
	}
	return s.Store.Append(ctx, stream, expected, events...)
}

// A photo whose upload broke between its two appends is in no room, and a second try finds the picture and gives it to the room, once.
func TestAPhotoThatWasBroken(t *testing.T) {
	store := eventstoretest.Open(t)
	room := newRoom()
	if _, err := register(t)(newHandler(store), room); err != nil {
		t.Fatal(err)
	}
	c := SetPhoto{Request: request(), Room: room, Upload: aPicture(room), Alt: "a wall"}
	if _, err := newHandler(withoutRooms{store}).SetPhoto(t.Context(), c); !isAway(err) {
		t.Fatal(err)
	}
	converted, err := picture.Convert(c.Upload)
	if err != nil {
		t.Fatal(err)
	}
	h := newHandler(store)
	wantTypes(t, store, photoOf(converted).Hash.Stream(), "PhotoStored")
	if r, err := h.Room(t.Context(), room); err != nil || r.Photo != (domain.Photo{}) {
		t.Errorf("after the first try: %+v, %v", r.Photo, err)
	}
	r, err := h.SetPhoto(t.Context(), c)
	if err != nil || r.Photo.Alt != "a wall" || r.Photo.Width != 4 || r.Photo.Height != 3 {
		t.Fatalf("the second try: %+v, %v", r.Photo, err)
	}
	if again, err := h.SetPhoto(t.Context(), c); err != nil || again.Revision != r.Revision {
		t.Errorf("the third try: %+v, %v", again, err)
	}
	wantTypes(t, store, r.Photo.Hash.Stream(), "PhotoStored")
	wantTypes(t, store, room.Stream(), "RoomRegistered", "RoomPhotoChanged")
	if jpeg, err := h.Picture(t.Context(), r.Photo.Hash); err != nil || !bytes.Equal(jpeg, converted.JPEG) {
		t.Errorf("the picture has %d bytes, %v, want %d", len(jpeg), err, len(converted.JPEG))
	}
}

// Rooms may have the same picture, with texts of their own; a text is changed without an upload; and what is refused stores no picture.
func TestPhotos(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	red, blue := newRoom(), newRoom()
	for _, room := range []domain.RoomID{red, blue} {
		if _, err := register(t)(h, room); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(room domain.RoomID, upload []byte, alt string, revisions ...domain.Revision) (Room, error) {
		r := request()
		r.IfRevisions = revisions
		return h.SetPhoto(t.Context(), SetPhoto{Request: r, Room: room, Upload: upload, Alt: alt})
	}
	upload := aPicture(red)
	converted, err := picture.Convert(upload)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		room      domain.RoomID
		upload    []byte
		alt       string
		revisions []domain.Revision
		want      func(error) bool
	}{
		"no picture":     {red, []byte("GIF89a"), "a wall", nil, func(err error) bool { return errors.Is(err, picture.ErrUnreadable) }},
		"an empty one":   {red, []byte{}, "a wall", nil, func(err error) bool { return errors.Is(err, picture.ErrUnreadable) }},
		"no text":        {red, upload, " ", nil, func(err error) bool { return errors.As(err, new(*domain.Invalid)) }},
		"no room":        {newRoom(), upload, "a wall", nil, func(err error) bool { return errors.Is(err, domain.ErrRoomNotFound) }},
		"not any more":   {red, upload, "a wall", []domain.Revision{7}, func(err error) bool { return errors.As(err, new(*ConditionFailed)) }},
		"a text alone":   {red, nil, "a wall", nil, func(err error) bool { return errors.Is(err, domain.ErrPhotoNotFound) }},
		"a text nowhere": {newRoom(), nil, "a wall", nil, func(err error) bool { return errors.Is(err, domain.ErrRoomNotFound) }},
	} {
		if _, err := ask(row.room, row.upload, row.alt, row.revisions...); !row.want(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	hash := photoOf(converted).Hash
	if _, err := h.Picture(t.Context(), hash); !errors.Is(err, domain.ErrPhotoNotFound) {
		t.Errorf("what was refused is stored: %v", err)
	}

	first, err := ask(red, upload, "a wall", 0)
	if err != nil || first.Photo != (domain.Photo{Hash: hash, Alt: "a wall", Width: 4, Height: 3}) {
		t.Fatalf("%+v, %v", first.Photo, err)
	}
	if other, err := ask(blue, upload, "the same wall"); err != nil || other.Photo.Hash != hash || other.Photo.Alt != "the same wall" {
		t.Errorf("in another room: %+v, %v", other.Photo, err)
	}
	if told, err := ask(red, nil, "a white wall"); err != nil || told.Photo != (domain.Photo{Hash: hash, Alt: "a white wall", Width: 4, Height: 3}) {
		t.Errorf("another text: %+v, %v", told.Photo, err)
	}
	if none, err := h.RemovePhoto(t.Context(), RemovePhoto{Request: request(), Room: red}); err != nil || none.Photo != (domain.Photo{}) {
		t.Errorf("removed: %+v, %v", none.Photo, err)
	}
	wantTypes(t, store, hash.Stream(), "PhotoStored")
	wantTypes(t, store, red.Stream(), "RoomRegistered", "RoomPhotoChanged", "RoomPhotoChanged", "RoomPhotoChanged")
	audit := NewAudit()
	for r, err := range store.ReadStream(t.Context(), red.Stream(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		audit.Add(r)
	}
	if found := audit.Findings(); found != nil || audit.Unreadable() != nil {
		t.Errorf("%v, %v", found, audit.Unreadable())
	}
}

// A picture whose stream was deleted, though not for good, is stored again with the photo that the room still has.
func TestAPictureIsPutBack(t *testing.T) {
	n := openNode(t)
	h, room := newHandler(n.store), newRoom()
	if _, err := register(t)(h, room); err != nil {
		t.Fatal(err)
	}
	var revisions []domain.Revision
	for range 2 {
		r, err := h.SetPhoto(t.Context(), SetPhoto{Request: request(), Room: room, Upload: aPicture(room), Alt: "a wall"})
		if err != nil {
			t.Fatal(err)
		}
		revisions = append(revisions, r.Revision)
		if _, err := h.Picture(t.Context(), r.Photo.Hash); err != nil {
			t.Fatalf("it is not there: %v", err)
		}
		if _, err := eventstoretest.Client(t, n.address).DeleteStream(t.Context(), r.Photo.Hash.Stream(), esdb.DeleteStreamOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Picture(t.Context(), r.Photo.Hash); !errors.Is(err, domain.ErrPhotoNotFound) {
			t.Errorf("it is read: %v", err)
		}
	}
	if revisions[0] != revisions[1] {
		t.Errorf("the room has changed: %v", revisions)
	}
}

// A picture whose stream was deleted for good in the event store is not found, and cannot be stored again.
func TestAPictureThatWasDeleted(t *testing.T) {
	n := openNode(t)
	h, room := newHandler(n.store), newRoom()
	if _, err := register(t)(h, room); err != nil {
		t.Fatal(err)
	}
	ask := func() (Room, error) {
		return h.SetPhoto(t.Context(), SetPhoto{Request: request(), Room: room, Upload: aPicture(room), Alt: "a wall"})
	}
	r, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.RemovePhoto(t.Context(), RemovePhoto{Request: request(), Room: room}); err != nil {
		t.Fatal(err)
	}
	if _, err := eventstoretest.Client(t, n.address).TombstoneStream(t.Context(), r.Photo.Hash.Stream(), esdb.TombstoneStreamOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Picture(t.Context(), r.Photo.Hash); !errors.Is(err, domain.ErrPhotoNotFound) {
		t.Errorf("it is read: %v", err)
	}
	if _, err := ask(); !errors.As(err, new(*domain.Invalid)) {
		t.Errorf("it is stored again: %v", err)
	}
}

// The room of faults that somebody deleted for good has none, and takes no more.
func TestFaultsThatWereDeleted(t *testing.T) {
	n := openNode(t)
	h, room := newHandler(n.store), newRoom()
	if _, err := register(t)(h, room); err != nil {
		t.Fatal(err)
	}
	report := ReportFault{Request: request(), Room: room, Text: "a hole"}
	fault, err := h.ReportFault(t.Context(), report)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := eventstoretest.Client(t, n.address).TombstoneStream(t.Context(), room.FaultsStream(), esdb.TombstoneStreamOptions{}); err != nil {
		t.Fatal(err)
	}
	if f, err := h.Faults(t.Context(), room); err != nil || len(f.Open) > 0 {
		t.Errorf("%+v, %v", f, err)
	}
	report.Request = request()
	if _, err := h.ReportFault(t.Context(), report); !errors.As(err, new(*domain.Invalid)) {
		t.Errorf("reported: %v", err)
	}
	if _, err := h.SettleFault(t.Context(), SettleFault{Request: request(), Room: room, Fault: fault.ID}); !errors.Is(err, domain.ErrFaultNotFound) {
		t.Errorf("settled: %v", err)
	}
}

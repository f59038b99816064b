package commands

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"

	"roombook/commands/picture"
	"roombook/domain"
	"roombook/eventstore"
)

// SetPhoto gives a room a photo, or another alternative text to the one that it has. The picture is stored first, in a stream that is named
// after what it contains. If the command gets no further nothing refers to that stream, and another try finds it there. The errors
// are also those of [picture.Convert], and [domain.ErrPhotoNotFound] if there is neither an upload nor a photo.
func (h *Handler) SetPhoto(ctx context.Context, c SetPhoto) (Room, error) {
	if err := c.Actor.May(domain.ManageRooms, domain.SomebodyElse); err != nil {
		return Room{}, err
	}
	var uploaded domain.Photo
	var converted picture.Picture
	if c.Upload != nil {
		var err error
		if converted, err = h.convert(ctx, c.Upload); err != nil {
			return Room{}, err
		}
		uploaded = photoOf(converted)
	}
	decide := func(r domain.Room) ([]domain.Event, error) {
		photo := uploaded
		if c.Upload == nil {
			photo = r.Photo
		}
		if r.ID != "" && photo.Hash == "" {
			return nil, domain.ErrPhotoNotFound
		}
		photo.Alt = c.Alt
		return domain.DecidePhoto(r, photo, c.At)
	}

	stored := c.Upload == nil
	if !stored {
		now, err := h.Room(ctx, c.Room)
		if err != nil && !errors.Is(err, domain.ErrRoomNotFound) {
			return Room{}, err
		}
		if _, err := decide(now.Room); err == nil && c.allows(now.Revision) { // even if the room has it: its stream may have been deleted
			if err := h.storePicture(ctx, c.Request, uploaded.Hash, converted.JPEG); err != nil {
				return Room{}, err
			}
			stored = true
		}
	}
	return h.onRoom(ctx, c.Request, c.Room, c.At, func(r domain.Room) ([]domain.Event, error) {
		events, err := decide(r)
		if len(events) > 0 && !stored && c.allows(r.Revision) { // the room has changed since
			return nil, ErrContended
		}
		return events, err
	})
}

// photoOf is what a room knows of a picture, without a text.
func photoOf(p picture.Picture) domain.Photo {
	sum := sha256.Sum256(p.JPEG)
	return domain.Photo{Hash: domain.PhotoHash(hex.EncodeToString(sum[:])), Width: p.Width, Height: p.Height}
}

// RemovePhoto leaves a room without a photo. The picture stays stored, as the events of the room do.
func (h *Handler) RemovePhoto(ctx context.Context, c RemovePhoto) (Room, error) {
	return h.onRoom(ctx, c.Request, c.Room, c.At, func(r domain.Room) ([]domain.Event, error) {
		return domain.DecidePhoto(r, domain.Photo{}, c.At)
	})
}

// convert converts one upload at a time: a decoded picture takes much memory.
func (h *Handler) convert(ctx context.Context, upload []byte) (picture.Picture, error) {
	if err := h.pictures.Acquire(ctx, 1); err != nil {
		return picture.Picture{}, err
	}
	defer h.pictures.Release(1)
	return picture.Convert(upload)
}

// storePicture stores a picture, unless it is stored already.
func (h *Handler) storePicture(ctx context.Context, r Request, hash domain.PhotoHash, jpeg []byte) error {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	_, err = h.store.Append(ctx, hash.Stream(), eventstore.NoStream, r.propose([]domain.Event{domain.PhotoStored{JPEG: base64.StdEncoding.EncodeToString(jpeg), At: r.At}})...)
	if _, exists := errors.AsType[*eventstore.WrongRevision](err); exists {
		return nil
	}
	if errors.Is(err, eventstore.ErrDeleted) {
		return &domain.Invalid{Faults: []domain.Fault{{Field: "photo", Detail: "was deleted from the event store for good; choose another"}}}
	}
	return undecided(err)
}

// Picture reads the picture of a photo, a JPEG. It returns [domain.ErrPhotoNotFound] if it is not stored, or somebody deleted its stream.
func (h *Handler) Picture(ctx context.Context, hash domain.PhotoHash) ([]byte, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	for r, err := range h.store.ReadStream(ctx, hash.Stream(), 0) {
		if errors.Is(err, eventstore.ErrDeleted) {
			break
		}
		if err != nil {
			return nil, err
		}
		if stored, ok := r.Event.(domain.PhotoStored); ok {
			return base64.StdEncoding.DecodeString(stored.JPEG)
		}
	}
	return nil, domain.ErrPhotoNotFound
}

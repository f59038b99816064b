package api

import (
	"errors"
	"net/http"
	"time"

	"roombook/commands"
	"roombook/commands/picture"
	"roombook/domain"
)

func (s *Server) photoRoutes() []route {
	return []route{
		// The picture of a room.
		{method: "GET", path: "/rooms/{id}/photo", handle: s.photo, params: photoParams{}, raw: true},
		// Gives the room a photo.
		{method: "PUT", path: "/rooms/{id}/photo", handle: s.setPhoto, params: newPhotoParams{}, needs: domain.ManageRooms, upload: true},
		// Leaves the room without a photo.
		{method: "DELETE", path: "/rooms/{id}/photo", handle: s.removePhoto},
	}
}

// photoParams are the query parameters of a picture.
type photoParams struct {
	// The hash of the photo, as the room has it. An answer to the present one may be kept for a year; without it, it has to be asked for again whether there is another.
	Hash string `param:"hash"`
}

// newPhotoParams are the query parameters of a new photo.
type newPhotoParams struct {
	// What there is to be seen, for those who cannot see it: 1 to 300 characters.
	Alt string `param:"alt"`
}

// cacheForever is the Cache-Control of what never changes at its address, for those who may see it.
const cacheForever = "private, max-age=31536000, immutable"

func (s *Server) photo(x *exchange) error {
	var hash string
	err := x.params(func(name, value string) error {
		if name != "hash" {
			return errUnknownParameter
		}
		hash = value
		return nil
	})
	if err != nil {
		return err
	}
	r, err := x.room()
	if err != nil {
		return err
	}
	if r.Photo.Hash == "" {
		return domain.ErrPhotoNotFound
	}
	x.header("Etag", `"`+string(r.Photo.Hash)+`"`)
	if err := x.checkNotModified(); err != nil {
		return err
	}
	if x.status != http.StatusNotModified {
		jpeg, err := s.commands.Picture(x.ctx, r.Photo.Hash)
		if err != nil {
			return err
		}
		x.mediaType = "image/jpeg"
		x.out.Write(jpeg)
	}
	x.header("Cache-Control", "private, no-cache")
	if hash == string(r.Photo.Hash) {
		x.header("Cache-Control", cacheForever)
	}
	return nil
}

// uploadTimeout is how much longer than other requests one may take that brings a picture, which may come over a slow line.
const uploadTimeout = time.Minute

// allowUpload counts the request towards the limit of uploads, and gives the client the time for one. It is for those who may make one, before
// any of it is read.
func (x *exchange) allowUpload() error {
	if err := x.admit(x.server.uploadLimit); err != nil {
		return err
	}
	connection, now := http.NewResponseController(x.w), time.Now()
	_ = connection.SetReadDeadline(now.Add(uploadTimeout)) // fails only where there is no connection
	_ = connection.SetWriteDeadline(now.Add(uploadTimeout + x.server.timeout))
	return nil
}

func (s *Server) setPhoto(x *exchange) error {
	var c commands.SetPhoto
	err := x.params(func(name, value string) error {
		if name != "alt" {
			return errUnknownParameter
		}
		c.Alt = value
		return nil
	})
	if err != nil {
		return err
	}
	if err := x.checkContentType(picture.Types...); err != nil {
		return err
	}
	if err := x.allowUpload(); err != nil {
		return err
	}
	if err := x.readBody(picture.MaxUpload); err != nil {
		return err
	}
	c.Upload = x.in
	return roomHandler(func(x *exchange, id domain.RoomID) (_ commands.Room, err error) {
		c.Room = id
		if c.Request, err = x.request(""); err != nil {
			return commands.Room{}, err
		}
		r, err := s.commands.SetPhoto(x.ctx, c)
		if invalid, ok := errors.AsType[*domain.Invalid](err); ok {
			err = invalidParameter(string(invalid.Faults[0].Field), errors.New(invalid.Faults[0].Detail))
		}
		return r, err
	})(x)
}

func (s *Server) removePhoto(x *exchange) error {
	return roomHandler(func(x *exchange, id domain.RoomID) (commands.Room, error) {
		request, err := x.request("")
		if err != nil {
			return commands.Room{}, err
		}
		return s.commands.RemovePhoto(x.ctx, commands.RemovePhoto{Request: request, Room: id})
	})(x)
}

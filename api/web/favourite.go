package web

import (
	"errors"
	"slices"

	"roombook/commands/accounts"
	"roombook/domain"
	"roombook/projections"
)

func (p *Pages) favouriteRoutes() []Route {
	return []Route{
		// Makes a room one of the reader's favourites, or none of them.
		{"POST", "/rooms/{id}/favourite", false, p.setFavourite},
		// Signing in and the other language lead back here.
		{"GET", "/rooms/{id}/favourite", false, p.favouriteRoom},
	}
}

// maxFavourites is the maximum number of a reader's favourites. So many ids fit into a cookie.
const maxFavourites = 50

var errTooManyFavourites = errors.New("the reader has too many favourites already")

// readFavourites reads the reader's favourite rooms: those of the directory of users or, where nobody signs in, those of the browser. Rooms that
// are gone are left out.
func (v *view) readFavourites() error {
	known, err := v.readRooms()
	if err != nil {
		return err
	}
	var kept domain.Rooms
	if !v.Accounts() {
		if c, err := v.r.Cookie(cookieFavourites); err == nil {
			kept = domain.Rooms(c.Value)
		}
	} else if v.HasFavourites() {
		if kept, err = v.p.accounts.Favourites(v.r.Context(), accounts.Request{Actor: v.actor}); err != nil {
			return err
		}
	}
	v.Favourites = domain.NewRooms(slices.DeleteFunc(kept.List(), func(id domain.RoomID) bool { return known[id] == nil })...)
	return nil
}

// HasFavourites reports whether the reader may have favourites. The display at a door may not.
func (v *view) HasFavourites() bool { return v.may(domain.ReadRooms, v.actor.User, "") }

// Favourite reports whether a room is one of the reader's favourites.
func (v *view) Favourite(room domain.RoomID) bool { return v.Favourites.Has(room) }

func (p *Pages) setFavourite(v *view) error {
	id, err := v.roomID()
	if err != nil {
		return err
	}
	if err := v.readFavourites(); err != nil {
		return err
	}
	favourite := v.r.PostFormValue("favourite") == "yes"
	rooms := slices.DeleteFunc(v.Favourites.List(), func(room domain.RoomID) bool { return room == id })
	switch {
	case favourite && v.rooms[id] == nil:
		return domain.ErrRoomNotFound
	case favourite && len(rooms) >= maxFavourites:
		return errTooManyFavourites
	case favourite:
		rooms = append(rooms, id)
	}
	if v.Accounts() {
		err = p.accounts.SetFavourite(v.r.Context(), accounts.Request{Actor: v.actor}, id, favourite)
	} else {
		v.remember(cookieFavourites, string(domain.NewRooms(rooms...)), aYear)
	}
	if err != nil {
		return err
	}
	return v.redirect(v.back())
}

// favouriteRoom shows the room that was to become a favourite.
func (p *Pages) favouriteRoom(v *view) error {
	id, err := v.roomID()
	if err != nil {
		return err
	}
	return v.redirect("/rooms/" + string(id) + "/page")
}

// favouritesFirst sorts rooms, and otherwise leaves their order.
func (v *view) favouritesFirst(rooms []projections.RoomList) {
	slices.SortStableFunc(rooms, func(a, b projections.RoomList) int {
		switch first := v.Favourite(a.Room); {
		case first == v.Favourite(b.Room):
			return 0
		case first:
			return -1
		default:
			return 1
		}
	})
}

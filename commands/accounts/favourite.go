package accounts

import (
	"context"

	"roombook/domain"
)

// Favourites returns the actor's favourite rooms. Some of them may be gone.
func (a *Accounts) Favourites(ctx context.Context, r Request) (domain.Rooms, error) {
	if err := r.Actor.May(domain.ReadRooms, domain.Own); err != nil {
		return "", err
	}
	return a.directory.Favourites(ctx, r.Actor.User)
}

// SetFavourite adds a room to the actor's favourites, or removes it. How many they are is for the caller to limit.
func (a *Accounts) SetFavourite(ctx context.Context, r Request, room domain.RoomID, favourite bool) error {
	if err := r.Actor.May(domain.ReadRooms, domain.Own); err != nil {
		return err
	}
	return a.directory.SetFavourite(ctx, r.Actor.User, room, favourite)
}

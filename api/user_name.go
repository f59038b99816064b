package api

import "roombook/domain"

// bookedFor are the members of a reply that say who a booking is for. Private is set instead if the caller may not see that.
type bookedFor struct {
	BookingUserID   domain.UserID `json:"bookingUserId,omitzero"`
	BookingUserName **string      `json:"bookingUserName,omitzero"`
	Private         bool          `json:"private,omitzero"`
}

func (x *exchange) bookedFor(user domain.UserID) bookedFor {
	return bookedFor{user, x.userName(user), user == ""}
}

// concernedUser are the members of a reply that say whom it concerns. Private is set instead if the caller may not see that.
type concernedUser struct {
	UserID   domain.UserID `json:"userId,omitzero"`
	UserName **string      `json:"userName,omitzero"`
	Private  bool          `json:"private,omitzero"`
}

func (x *exchange) concernedUser(user domain.UserID) concernedUser {
	return concernedUser{user, x.userName(user), user == ""}
}

// userName is the name of a user. It is nil, which leaves the member out, if the name is not known, and points to nil, which is null, if the user
// has been erased.
func (x *exchange) userName(user domain.UserID) **string {
	if x.server.accounts == nil || user == "" {
		return nil
	}
	name, known := x.server.accounts.Name(x.ctx, user)
	switch {
	case !known:
		return nil
	case name == "":
		return new((*string)(nil))
	}
	return new(&name)
}

// person is a user in words, for texts that have one language.
func (x *exchange) person(user domain.UserID) string {
	name := x.userName(user)
	switch {
	case user == "":
		return "Busy"
	case name == nil:
		return string(user)
	case *name == nil:
		return "former user"
	}
	return **name
}

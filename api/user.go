package api

import (
	"errors"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"roombook/commands/accounts"
	"roombook/domain"
	"roombook/projections"
)

func (s *Server) userRoutes() []route {
	return []route{
		// The users.
		{method: "GET", path: "/users", handle: s.users, params: usersParams{}, query: true, needs: domain.ManageUsers},
		// Adds a user.
		{method: "POST", path: "/users", handle: s.addUser},
		// A user.
		{method: "GET", path: "/users/{id}", handle: s.user, query: true},
		// Changes who a user is, and what they are.
		{method: "PATCH", path: "/users/{id}", handle: s.changeUser},
		// Erases a user.
		{method: "DELETE", path: "/users/{id}", handle: s.eraseUser},
		// Changes a user's password.
		{method: "PUT", path: "/users/{id}/password", handle: s.setUsersPassword},
		// Makes a link with which a user can choose a password.
		{method: "POST", path: "/users/{id}/passwordLink", handle: s.linkPassword},
		// Ends all sessions of a user.
		{method: "DELETE", path: "/users/{id}/sessions", handle: s.endUsersSessions},
	}
}

// userReply is a user.
type userReply struct {
	UserID   domain.UserID   `json:"userId"`
	Name     string          `json:"name"`
	FullName string          `json:"fullName"`
	Address  string          `json:"address"`
	Language string          `json:"language"`
	Roles    []domain.Role   `json:"roles"`
	Rooms    []domain.RoomID `json:"rooms"`
	// WithoutMail are the kinds of notifications that are not mailed to the user.
	WithoutMail []domain.NotificationKind `json:"withoutMail"`
	Status      domain.UserPhase          `json:"status"`
	// PasswordLink is a link with which the user can choose a password, once, until it expires.
	PasswordLink          string    `json:"passwordLink,omitzero"`
	PasswordLinkExpiresAt timestamp `json:"passwordLinkExpiresAt,omitzero"`
	Links                 struct {
		Self   link `json:"self"`
		User   link `json:"user"`
		Tokens link `json:"tokens"`
	} `json:"_links"`
}

func (x *exchange) userReply(u *accounts.User) userReply {
	r := userReply{
		UserID: u.Person.User, Name: u.Name, FullName: u.FullName, Address: u.Address, Language: u.Language,
		Roles: u.Roles.List(), Rooms: u.Rooms.List(), WithoutMail: u.WithoutMail.List(), Status: u.Phase,
	}
	if r.Rooms == nil {
		r.Rooms = []domain.RoomID{}
	}
	if r.WithoutMail == nil {
		r.WithoutMail = []domain.NotificationKind{}
	}
	r.Links.Self = x.link("/users/", string(r.UserID))
	r.Links.User = r.Links.Self
	r.Links.Tokens = x.link("/tokens", "?userId="+string(r.UserID))
	return r
}

// usersParams are the query parameters of the list of users.
type usersParams struct {
	// The most items on the page.
	Size string `param:"size"`
	// Where the page begins; it comes from the link next of the page before and is of no other use.
	Cursor string `param:"cursor"`
}

// pageParams parses a parameter of a list whose cursors are ids of items.
func pageParams[ID ~string](size *int, cursor *ID, name, value string) (err error) {
	switch name {
	case "size":
		*size, err = parseSize(value)
	case "cursor":
		*cursor, err = parseID[ID](value)
	default:
		err = errUnknownParameter
	}
	return err
}

// users replies with a page of the users in the order of their names. The cursor is an id, because addresses must not contain names.
func (s *Server) users(x *exchange) error {
	if s.accounts == nil {
		return errNoAccounts
	}
	size, after := projections.DefaultSize, domain.UserID("")
	if err := x.params(func(name, value string) error { return pageParams(&size, &after, name, value) }); err != nil {
		return err
	}
	users, next, err := s.accounts.Users(x.ctx, accounts.Request{Actor: x.actor, At: x.now()}, after, size)
	if errors.Is(err, domain.ErrUserNotFound) {
		return invalidParameter("cursor", errors.New("is of a user who was erased meanwhile; begin with the first page"))
	}
	if err != nil {
		return err
	}
	items := make([]userReply, len(users))
	for i := range users {
		items[i] = x.userReply(&users[i])
	}
	r := pageReply[userReply]{Embedded: object[[]userReply]{{"users", items}}, Page: pageSize{Size: size}}
	r.Links.Self = x.linkHere(x.r.URL.RawQuery)
	r.Links.Users = r.Links.Self
	if next != "" {
		r.Links.Next = x.linkHere(withCursor(x.r.URL.RawQuery, string(next)))
	}
	return x.reply(&r)
}

// newUserRequest is the body that adds a user.
type newUserRequest struct {
	Name     field          `json:"name"`
	FullName field          `json:"fullName"`
	Address  field          `json:"address"`
	Language field          `json:"language"`
	Password field          `json:"password"`
	Roles    field          `json:"roles"`
	Rooms    field          `json:"rooms"`
	Others   jsontext.Value `json:",embed"`
}

// addUser adds a user, who has a password or gets a link to choose one.
func (s *Server) addUser(x *exchange) error {
	var in newUserRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	n := accounts.NewUser{Name: b.text(&in.Name, maxCredential), Roles: domain.NewRoles(domain.RoleUser)}
	for to, from := range map[*string]*field{&n.FullName: &in.FullName, &n.Address: &in.Address, &n.Language: &in.Language, &n.Password: &in.Password} {
		if from.given() {
			*to = b.text(from, maxCredential)
		}
	}
	if in.Roles.given() {
		n.Roles = b.roles(&in.Roles)
	}
	if in.Rooms.given() {
		n.Rooms = b.rooms(&in.Rooms)
	}
	if err := b.check(in.Others); err != nil {
		return err
	}
	r, err := x.account()
	if err != nil {
		return err
	}
	id, err := s.accounts.AddUser(x.ctx, r, n)
	if err != nil {
		return x.inBody(err, accountFields)
	}
	x.created("/users/", string(id))
	return x.replyUser(r, id, n.Password == "")
}

// replyUser replies with a user, and with a link to choose a password if they are to get one.
func (x *exchange) replyUser(r accounts.Request, id domain.UserID, withLink bool) error {
	u, err := x.server.accounts.User(x.ctx, r, id)
	if err != nil {
		return err
	}
	reply := x.userReply(&u)
	if withLink {
		code, expires, err := x.server.accounts.PasswordCode(x.ctx, r, id)
		if err != nil {
			return err
		}
		x.header("Cache-Control", "no-store")
		reply.PasswordLink, reply.PasswordLinkExpiresAt = x.base+"/password#"+code, x.time(expires)
	}
	return x.reply(&reply)
}

// userID is the user in the path.
func (x *exchange) userID() (domain.UserID, error) {
	id := domain.UserID(x.vars["id"])
	if !validID(string(id)) {
		return "", domain.ErrUserNotFound
	}
	return id, nil
}

func (s *Server) user(x *exchange) error {
	id, err := x.userID()
	if err != nil {
		return err
	}
	if s.accounts == nil {
		return errNoAccounts
	}
	return x.replyUser(accounts.Request{Actor: x.actor, At: x.now()}, id, false)
}

// userChangeRequest is the body that changes a user.
type userChangeRequest struct {
	Name        field          `json:"name"`
	FullName    field          `json:"fullName"`
	Address     field          `json:"address"`
	Language    field          `json:"language"`
	Roles       field          `json:"roles"`
	Rooms       field          `json:"rooms"`
	WithoutMail field          `json:"withoutMail"`
	Status      field          `json:"status"`
	Others      jsontext.Value `json:",embed"`
}

func (s *Server) changeUser(x *exchange) error {
	id, err := x.userID()
	if err != nil {
		return err
	}
	var in userChangeRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	var c accounts.Change
	for to, from := range map[**string]*field{&c.Name: &in.Name, &c.FullName: &in.FullName, &c.Address: &in.Address, &c.Language: &in.Language} {
		if from.given() {
			*to = new(b.text(from, maxCredential))
		}
	}
	if in.Roles.given() {
		c.Roles = new(b.roles(&in.Roles))
	}
	if in.Rooms.given() {
		c.Rooms = new(b.rooms(&in.Rooms))
	}
	if in.WithoutMail.given() {
		words := b.words(&in.WithoutMail)
		kinds := make([]domain.NotificationKind, len(words))
		for i, word := range words {
			kinds[i] = domain.NotificationKind(word)
		}
		c.WithoutMail = new(domain.NewKinds(kinds...))
		if len(c.WithoutMail.List()) != len(kinds) {
			b.fault(&in.WithoutMail, "must be different kinds of notifications: "+strings.Join(strings.Fields(string(domain.NewKinds(domain.NotificationKinds...))), ", "))
		}
	}
	if in.Status.given() {
		c.Disabled = new(b.oneOf(&in.Status, string(domain.UserPhaseActive), string(domain.UserPhaseDisabled)) == string(domain.UserPhaseDisabled))
	}
	if err := b.check(in.Others); err != nil {
		return err
	}
	r, err := x.account()
	if err != nil {
		return err
	}
	if err := s.accounts.ChangeUser(x.ctx, r, id, c); err != nil {
		return x.inBody(err, accountFields)
	}
	return x.replyUser(r, id, false)
}

// onUser carries out a command on the user in the path. The reply is 204 unless do makes another.
func (x *exchange) onUser(do func(r accounts.Request, id domain.UserID) error) error {
	id, err := x.userID()
	if err != nil {
		return err
	}
	r, err := x.account()
	if err != nil {
		return err
	}
	x.status = http.StatusNoContent
	return do(r, id)
}

func (s *Server) eraseUser(x *exchange) error {
	return x.onUser(func(r accounts.Request, id domain.UserID) error { return s.accounts.Erase(x.ctx, r, id) })
}

func (s *Server) endUsersSessions(x *exchange) error {
	return x.onUser(func(r accounts.Request, id domain.UserID) error { return s.accounts.SignOutEverywhere(x.ctx, r, id) })
}

func (s *Server) linkPassword(x *exchange) error {
	return x.onUser(func(r accounts.Request, id domain.UserID) error {
		x.status = http.StatusCreated
		return x.replyUser(r, id, true)
	})
}

// usersPasswordRequest is the body that changes a user's password.
type usersPasswordRequest struct {
	Password    field          `json:"password"`
	NewPassword field          `json:"newPassword"`
	Others      jsontext.Value `json:",embed"`
}

// setUsersPassword changes a password. Users need the current one to change their own.
func (s *Server) setUsersPassword(x *exchange) error {
	var in usersPasswordRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	password, old := b.text(&in.NewPassword, maxCredential), ""
	if in.Password.given() {
		old = b.text(&in.Password, maxCredential)
	}
	if err := b.check(in.Others); err != nil {
		return err
	}
	return x.onUser(func(r accounts.Request, id domain.UserID) error {
		return x.inBody(s.accounts.SetPassword(x.ctx, r, id, old, password), names{accounts.FieldPassword: "newPassword"})
	})
}

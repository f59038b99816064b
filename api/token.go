package api

import (
	"errors"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"roombook/commands/accounts"
	"roombook/domain"
	"roombook/projections"
)

func (s *Server) tokenRoutes() []route {
	return []route{
		// The caller's tokens, or others'.
		{method: "GET", path: "/tokens", handle: s.tokens, params: tokensParams{}, query: true},
		// Creates a token; the reply is the only one that has its secret.
		{method: "POST", path: "/tokens", handle: s.createToken},
		// Revokes a token.
		{method: "DELETE", path: "/tokens/{id}", handle: s.revokeToken},
	}
}

// newTokenRequest is the body that creates a token.
type newTokenRequest struct {
	Label     field          `json:"label"`
	Roles     field          `json:"roles"`
	Rooms     field          `json:"rooms"`
	Feeds     field          `json:"feeds"`
	ExpiresAt field          `json:"expiresAt"`
	UserID    field          `json:"userId"`
	Others    jsontext.Value `json:",embed"`
}

// tokenReply is a token.
type tokenReply struct {
	TokenID   domain.TokenID  `json:"tokenId"`
	UserID    domain.UserID   `json:"userId"`
	Label     string          `json:"label"`
	Roles     []domain.Role   `json:"roles"`
	Rooms     []domain.RoomID `json:"rooms"`
	Feeds     bool            `json:"feeds"` // opens calendar feeds and nothing else
	IssuedAt  timestamp       `json:"issuedAt"`
	ExpiresAt timestamp       `json:"expiresAt"`
	UsedAt    *timestamp      `json:"usedAt"`
	Token     string          `json:"token,omitzero"` // its secret
	Links     struct {
		Self  link `json:"self"`
		Token link `json:"token"`
	} `json:"_links"`
}

func (x *exchange) tokenReply(t *accounts.Token) (r tokenReply) {
	r.TokenID, r.UserID, r.Label = t.ID, t.User, t.Label
	r.Roles, r.Rooms = t.Roles.List(), t.Rooms.List()
	if r.Rooms == nil {
		r.Rooms = []domain.RoomID{}
	}
	r.Feeds = t.Feeds
	r.IssuedAt, r.ExpiresAt, r.UsedAt = x.time(t.IssuedAt), x.time(t.ExpiresAt), x.timeOrNull(t.UsedAt)
	r.Links.Self = x.link("/tokens/", string(t.ID))
	r.Links.Token = r.Links.Self
	return r
}

// tokensReply are tokens.
type tokensReply struct {
	Embedded struct {
		Tokens []tokenReply `json:"tokens"`
	} `json:"_embedded"`
	Links struct {
		Self   link `json:"self"`
		Tokens link `json:"tokens"`
		Next   link `json:"next,omitzero"`
	} `json:"_links"`
}

// tokensParams are the query parameters of the list of tokens.
type tokensParams struct {
	// Whose tokens: the id of a user, who has 100 at most, or all for those of all users in pages. The caller's if it is left out.
	UserID string `param:"userId"`
	// The most items on the page, if it is of all users.
	Size string `param:"size"`
	// Where the page begins; it comes from the link next of the page before and is of no other use.
	Cursor string `param:"cursor"`
}

// allUsers is the value of the parameter userId that selects everybody's tokens.
const allUsers domain.UserID = "all"

func (s *Server) tokens(x *exchange) error {
	if s.accounts == nil {
		return errNoAccounts
	}
	size, after, user := projections.DefaultSize, domain.TokenID(""), x.actor.User
	err := x.params(func(name, value string) (err error) {
		if name != "userId" {
			return pageParams(&size, &after, name, value)
		}
		user, err = parseID[domain.UserID](value)
		return err
	})
	if err != nil {
		return err
	}
	var tokens []accounts.Token
	var next domain.TokenID
	request := accounts.Request{Actor: x.actor, At: x.now()}
	if user == allUsers {
		tokens, next, err = s.accounts.AllTokens(x.ctx, request, after, size)
	} else {
		tokens, err = s.accounts.Tokens(x.ctx, request, user)
	}
	if err != nil {
		return err
	}
	r := tokensReply{}
	r.Embedded.Tokens = make([]tokenReply, len(tokens))
	for i := range tokens {
		r.Embedded.Tokens[i] = x.tokenReply(&tokens[i])
	}
	r.Links.Self = x.linkHere(x.r.URL.RawQuery)
	r.Links.Tokens = r.Links.Self
	if next != "" {
		r.Links.Next = x.linkHere(withCursor(x.r.URL.RawQuery, string(next)))
	}
	return x.reply(&r)
}

// words returns an array of strings.
func (b *body) words(f *field) (words []string) {
	if err := json.Unmarshal(f.value, &words, lenient); err != nil || f.value.Kind() != jsontext.KindBeginArray {
		b.fault(f, "must be an array of strings")
		return nil
	}
	return words
}

// roles returns an array of roles.
func (b *body) roles(f *field) domain.Roles {
	words := b.words(f)
	roles := make([]domain.Role, len(words))
	for i, word := range words {
		roles[i] = domain.Role(word)
	}
	set := domain.NewRoles(roles...)
	if len(set.List()) != len(words) {
		b.fault(f, "must be different roles: user, approver, admin, door or machine")
	}
	return set
}

// rooms returns an array of rooms, or of "*" alone, for all of them.
func (b *body) rooms(f *field) domain.Rooms {
	words := b.words(f)
	if len(words) == 1 && words[0] == string(domain.AllRooms) {
		return domain.AllRooms
	}
	rooms := make([]domain.RoomID, len(words))
	for i, word := range words {
		if !validID(word) {
			b.fault(f, `must be ids of rooms, or "*" alone`)
			return ""
		}
		rooms[i] = domain.RoomID(word)
	}
	return domain.NewRooms(rooms...)
}

func (s *Server) createToken(x *exchange) error {
	var in newTokenRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	n := accounts.NewToken{User: x.actor.User, ExpiresAt: b.time(&in.ExpiresAt)}
	if in.Label.given() {
		n.Label = b.text(&in.Label, maxCredential)
	}
	if in.Roles.given() {
		n.Roles = b.roles(&in.Roles)
	}
	if in.Rooms.given() {
		n.Rooms = b.rooms(&in.Rooms)
	}
	b.value(&in.Feeds, &n.Feeds)
	if in.UserID.given() {
		n.User = domain.UserID(b.id(&in.UserID))
	}
	if err := b.check(in.Others); err != nil {
		return err
	}
	r, err := x.account()
	if err != nil {
		return err
	}
	secret, token, err := s.accounts.CreateToken(x.ctx, r, n)
	if err != nil {
		return x.inBody(tokenFault(err), accountFields)
	}
	x.created("/tokens/", string(token.ID))
	x.header("Cache-Control", "no-store")
	reply := x.tokenReply(&token)
	reply.Token = secret
	return x.reply(&reply)
}

// tokenFault converts an error about a value of a token into a fault of that value.
func tokenFault(err error) error {
	switch {
	case errors.Is(err, domain.ErrTokenLife):
		return &domain.Invalid{Faults: []domain.Fault{{Field: accounts.FieldExpires, Detail: "must be in the future, within two years"}}}
	case errors.Is(err, domain.ErrBeyondUser), errors.Is(err, domain.ErrNoRoles):
		return &domain.Invalid{Faults: []domain.Fault{{Field: accounts.FieldRoles, Detail: "must be, with rooms, what the user has"}}}
	default:
		return err
	}
}

func (s *Server) revokeToken(x *exchange) error {
	id := domain.TokenID(x.vars["id"])
	if !validID(string(id)) {
		return domain.ErrTokenNotFound
	}
	r, err := x.account()
	if err != nil {
		return err
	}
	if err := s.accounts.RevokeToken(x.ctx, r, id); err != nil {
		return err
	}
	x.status = http.StatusNoContent
	return nil
}

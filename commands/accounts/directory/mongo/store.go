// Package mongo keeps the directory in a MongoDB database, in the collections people, identities, sessions, tokens and codes.
package mongo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"

	"roombook/commands/accounts/directory"
	"roombook/domain"
)

// defaultDatabase is the database if the address names none.
const defaultDatabase = "roombook"

// Limits of an operation and of the search for a server.
const (
	timeout         = 10 * time.Second
	serverSelection = 2 * time.Second
)

// Store is a [directory.Store] in a MongoDB database. What is acknowledged is on a majority of the servers, and reads see it.
type Store struct {
	client                                      *mongo.Client
	people, identities, sessions, tokens, codes *mongo.Collection
}

var _ directory.Store = (*Store)(nil)

// Open returns a Store at the address of a server or replica set, mongodb://host/database. It does no I/O.
func Open(uri string) (*Store, error) {
	address, err := connstring.ParseAndValidate(uri)
	if err != nil {
		return nil, fmt.Errorf("the address of MongoDB: %w", err)
	}
	name := address.Database
	if name == "" {
		name = defaultDatabase
	}
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetAppName("roombook").SetTimeout(timeout).SetServerSelectionTimeout(serverSelection).
		SetReadPreference(readpref.Primary()).SetReadConcern(readconcern.Majority()).SetWriteConcern(writeconcern.Majority()))
	if err != nil {
		return nil, fmt.Errorf("connect to MongoDB: %w", err)
	}
	database := client.Database(name)
	return &Store{client, database.Collection("people"), database.Collection("identities"), database.Collection("sessions"), database.Collection("tokens"), database.Collection("codes")}, nil
}

// Prepare creates the collections and indexes that are missing.
func (s *Store) Prepare(ctx context.Context) error {
	_, err := s.people.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: "name", Value: 1}}, Options: options.Index().SetUnique(true).SetName("name")})
	for _, c := range []*mongo.Collection{s.identities, s.sessions, s.tokens, s.codes} {
		if err == nil {
			_, err = c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: "user", Value: 1}}})
		}
	}
	if err != nil {
		return fmt.Errorf("prepare the directory in MongoDB: %w", err)
	}
	return nil
}

// Close implements [directory.Store].
func (s *Store) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.client.Disconnect(ctx)
}

// Ping implements [directory.Store].
func (s *Store) Ping(ctx context.Context) error { return failed(s.client.Ping(ctx, nil)) }

// The documents.
type (
	person struct {
		User     domain.UserID `bson:"_id"`
		Name     string        `bson:"name"`
		FullName string        `bson:"fullName"`
		Address  string        `bson:"address"`
		Language string        `bson:"language"`
		Password string        `bson:"password"`
	}
	// favourites is a part of the document of a person.
	favourites struct {
		Rooms []domain.RoomID `bson:"favourites"`
	}
	identity struct {
		ID   string        `bson:"_id"` // the issuer, which has no spaces, a space, and the subject
		User domain.UserID `bson:"user"`
	}
	session struct {
		ID        string        `bson:"_id"`
		User      domain.UserID `bson:"user"`
		Epoch     int64         `bson:"epoch"`
		CreatedAt time.Time     `bson:"created"`
		SeenAt    time.Time     `bson:"seen"`
		Issuer    string        `bson:"issuer,omitempty"`
		Subject   string        `bson:"subject,omitempty"`
		Provider  string        `bson:"providerId,omitempty"`
		IDToken   string        `bson:"idToken,omitempty"`
	}
	token struct {
		ID     domain.TokenID `bson:"_id"`
		User   domain.UserID  `bson:"user"`
		Label  string         `bson:"label"`
		UsedAt *time.Time     `bson:"used"`
	}
	code struct {
		ID        string        `bson:"_id"`
		User      domain.UserID `bson:"user"`
		Room      domain.RoomID `bson:"room"`
		Token     string        `bson:"token"`
		ExpiresAt time.Time     `bson:"expires"`
	}
)

func (p person) value() directory.Person { return directory.Person(p) }

func (d favourites) value() domain.Rooms { return domain.NewRooms(d.Rooms...) }

func (d identity) value() domain.UserID { return d.User }

func (d session) value() directory.Session {
	return directory.Session{
		ID: d.ID, User: d.User, Epoch: d.Epoch, CreatedAt: d.CreatedAt.UTC(), SeenAt: d.SeenAt.UTC(),
		Provider: directory.ProviderSession{Identity: directory.Identity{Issuer: d.Issuer, Subject: d.Subject}, ID: d.Provider, IDToken: d.IDToken},
	}
}

func (d token) value() directory.Token {
	t := directory.Token{ID: d.ID, User: d.User, Label: d.Label}
	if d.UsedAt != nil {
		t.UsedAt = d.UsedAt.UTC()
	}
	return t
}

func (d code) value() directory.Code {
	d.ExpiresAt = d.ExpiresAt.UTC()
	return directory.Code(d)
}

// document is a stored form of a T.
type document[T any] interface{ value() T }

// failed translates an error into those of [directory.Store].
func failed(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, directory.ErrUnknown), errors.Is(err, directory.ErrNameTaken):
		return err
	case errors.Is(err, mongo.ErrNoDocuments):
		return directory.ErrUnknown
	default:
		return fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
	}
}

// one reads a single document.
func one[D document[T], T any](ctx context.Context, c *mongo.Collection, field string, value any) (T, error) {
	var d D
	err := c.FindOne(ctx, bson.D{{Key: field, Value: value}}).Decode(&d)
	return d.value(), failed(err)
}

// all reads the documents that match, and no more than limit of them unless that is 0.
func all[D document[T], T any](ctx context.Context, c *mongo.Collection, filter bson.D, limit int, order ...bson.E) ([]T, error) {
	found, err := c.Find(ctx, filter, options.Find().SetSort(bson.D(order)).SetLimit(int64(limit)))
	if err != nil {
		return nil, failed(err)
	}
	var documents []D
	if err := found.All(ctx, &documents); err != nil {
		return nil, failed(err)
	}
	items := make([]T, len(documents))
	for i, d := range documents {
		items[i] = d.value()
	}
	return items, nil
}

// AddPerson implements [directory.Store].
func (s *Store) AddPerson(ctx context.Context, p directory.Person) error {
	_, err := s.people.InsertOne(ctx, person(p))
	if mongo.IsDuplicateKeyError(err) {
		if _, known := s.Person(ctx, p.User); errors.Is(known, directory.ErrUnknown) {
			return directory.ErrNameTaken
		}
	}
	return failed(err)
}

// Person implements [directory.Store].
func (s *Store) Person(ctx context.Context, user domain.UserID) (directory.Person, error) {
	return one[person](ctx, s.people, "_id", user)
}

// Named implements [directory.Store].
func (s *Store) Named(ctx context.Context, name string) (directory.Person, error) {
	return one[person](ctx, s.people, "name", name)
}

// People implements [directory.Store].
func (s *Store) People(ctx context.Context, after string, limit int) ([]directory.Person, error) {
	return all[person](ctx, s.people, bson.D{{Key: "name", Value: bson.D{{Key: "$gt", Value: after}}}}, limit, bson.E{Key: "name", Value: 1})
}

// ChangePerson implements [directory.Store].
func (s *Store) ChangePerson(ctx context.Context, were, p directory.Person) error {
	changed := bson.D{{Key: "_id", Value: p.User}} // so that it is never empty
	for _, value := range [][3]string{{"name", were.Name, p.Name}, {"fullName", were.FullName, p.FullName}, {"address", were.Address, p.Address}, {"language", were.Language, p.Language}} {
		if value[1] != value[2] {
			changed = append(changed, bson.E{Key: value[0], Value: value[2]})
		}
	}
	result, err := s.people.UpdateByID(ctx, p.User, bson.D{{Key: "$set", Value: changed}})
	if err == nil && result.MatchedCount == 0 {
		return directory.ErrUnknown
	}
	if err != nil { // not every server says that it is because of the index
		if other, known := s.Named(ctx, p.Name); known == nil && other.User != p.User {
			return directory.ErrNameTaken
		}
	}
	return failed(err)
}

// SetPassword implements [directory.Store].
func (s *Store) SetPassword(ctx context.Context, user domain.UserID, former, hash string) error {
	if _, err := s.codes.DeleteMany(ctx, bson.D{{Key: "user", Value: user}}); err != nil {
		return failed(err)
	}
	whose := bson.D{{Key: "_id", Value: user}}
	if former != "" {
		whose = append(whose, bson.E{Key: "password", Value: former})
	}
	result, err := s.people.UpdateOne(ctx, whose, bson.D{{Key: "$set", Value: bson.D{{Key: "password", Value: hash}}}})
	if err == nil && result.MatchedCount == 0 {
		return directory.ErrUnknown
	}
	if err == nil {
		_, err = s.sessions.DeleteMany(ctx, bson.D{{Key: "user", Value: user}})
	}
	return failed(err)
}

// Identify implements [directory.Store].
func (s *Store) Identify(ctx context.Context, i directory.Identity, user domain.UserID) (domain.UserID, error) {
	id := i.Issuer + " " + i.Subject
	if has, err := one[identity](ctx, s.identities, "_id", id); !errors.Is(err, directory.ErrUnknown) {
		return has, err
	}
	if _, err := s.identities.InsertOne(ctx, identity{id, user}); err != nil && !mongo.IsDuplicateKeyError(err) {
		return "", failed(err)
	}
	return one[identity](ctx, s.identities, "_id", id)
}

// SetFavourite implements [directory.Store].
func (s *Store) SetFavourite(ctx context.Context, user domain.UserID, room domain.RoomID, favourite bool) error {
	change := "$pull"
	if favourite {
		change = "$addToSet"
	}
	_, err := s.people.UpdateByID(ctx, user, bson.D{{Key: change, Value: bson.D{{Key: "favourites", Value: room}}}})
	return failed(err)
}

// Favourites implements [directory.Store].
func (s *Store) Favourites(ctx context.Context, user domain.UserID) (domain.Rooms, error) {
	rooms, err := one[favourites](ctx, s.people, "_id", user)
	if errors.Is(err, directory.ErrUnknown) {
		err = nil
	}
	return rooms, err
}

// Forget implements [directory.Store]. The person is removed last, so that a call after a failure still finds what is left.
func (s *Store) Forget(ctx context.Context, user domain.UserID) error {
	for _, c := range []*mongo.Collection{s.identities, s.sessions, s.tokens, s.codes} {
		if _, err := c.DeleteMany(ctx, bson.D{{Key: "user", Value: user}}); err != nil {
			return failed(err)
		}
	}
	_, err := s.people.DeleteOne(ctx, bson.D{{Key: "_id", Value: user}})
	return failed(err)
}

// AddSession implements [directory.Store].
func (s *Store) AddSession(ctx context.Context, n directory.Session) error {
	p := n.Provider
	_, err := s.sessions.InsertOne(ctx, session{n.ID, n.User, n.Epoch, n.CreatedAt, n.SeenAt, p.Issuer, p.Subject, p.ID, p.IDToken})
	return failed(err)
}

// Session implements [directory.Store].
func (s *Store) Session(ctx context.Context, id string) (directory.Session, error) {
	return one[session](ctx, s.sessions, "_id", id)
}

// Sessions implements [directory.Store].
func (s *Store) Sessions(ctx context.Context, user domain.UserID) ([]directory.Session, error) {
	return all[session](ctx, s.sessions, bson.D{{Key: "user", Value: user}}, 0, bson.E{Key: "created", Value: -1}, bson.E{Key: "_id", Value: 1})
}

// SeeSession implements [directory.Store].
func (s *Store) SeeSession(ctx context.Context, id string, at time.Time) error {
	_, err := s.sessions.UpdateByID(ctx, id, bson.D{{Key: "$max", Value: bson.D{{Key: "seen", Value: at}}}})
	return failed(err)
}

// EndSession implements [directory.Store].
func (s *Store) EndSession(ctx context.Context, id string) error {
	_, err := s.sessions.DeleteOne(ctx, bson.D{{Key: "_id", Value: id}})
	return failed(err)
}

// EndProviderSessions implements [directory.Store].
func (s *Store) EndProviderSessions(ctx context.Context, i directory.Identity, id string) error {
	of := bson.D{{Key: "issuer", Value: i.Issuer}}
	if i.Subject != "" {
		of = append(of, bson.E{Key: "subject", Value: i.Subject})
	}
	if id != "" {
		of = append(of, bson.E{Key: "providerId", Value: id})
	}
	_, err := s.sessions.DeleteMany(ctx, of)
	return failed(err)
}

// PruneSessions implements [directory.Store].
func (s *Store) PruneSessions(ctx context.Context, begunBefore, seenBefore time.Time) error {
	for field, before := range map[string]time.Time{"created": begunBefore, "seen": seenBefore} {
		if _, err := s.sessions.DeleteMany(ctx, bson.D{{Key: field, Value: bson.D{{Key: "$lt", Value: before}}}}); err != nil {
			return failed(err)
		}
	}
	return nil
}

// AddToken implements [directory.Store].
func (s *Store) AddToken(ctx context.Context, t directory.Token) error {
	d := token{ID: t.ID, User: t.User, Label: t.Label}
	if !t.UsedAt.IsZero() {
		d.UsedAt = &t.UsedAt
	}
	_, err := s.tokens.InsertOne(ctx, d)
	return failed(err)
}

// Token implements [directory.Store].
func (s *Store) Token(ctx context.Context, id domain.TokenID) (directory.Token, error) {
	return one[token](ctx, s.tokens, "_id", id)
}

// Tokens implements [directory.Store].
func (s *Store) Tokens(ctx context.Context, user domain.UserID, after domain.TokenID, limit int) ([]directory.Token, error) {
	filter := bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: after}}}}
	if user != "" {
		filter = append(filter, bson.E{Key: "user", Value: user})
	}
	return all[token](ctx, s.tokens, filter, limit, bson.E{Key: "_id", Value: 1})
}

// SeeToken implements [directory.Store].
func (s *Store) SeeToken(ctx context.Context, id domain.TokenID, at time.Time) error {
	_, err := s.tokens.UpdateByID(ctx, id, bson.D{{Key: "$max", Value: bson.D{{Key: "used", Value: at}}}})
	return failed(err)
}

// RemoveToken implements [directory.Store].
func (s *Store) RemoveToken(ctx context.Context, id domain.TokenID) error {
	_, err := s.tokens.DeleteOne(ctx, bson.D{{Key: "_id", Value: id}})
	return failed(err)
}

// AddCode implements [directory.Store].
func (s *Store) AddCode(ctx context.Context, c directory.Code) error {
	_, err := s.codes.InsertOne(ctx, code(c))
	return failed(err)
}

// Code implements [directory.Store].
func (s *Store) Code(ctx context.Context, id string) (directory.Code, error) {
	return one[code](ctx, s.codes, "_id", id)
}

// TakeCode implements [directory.Store].
func (s *Store) TakeCode(ctx context.Context, id string) error {
	result, err := s.codes.DeleteOne(ctx, bson.D{{Key: "_id", Value: id}})
	if err == nil && result.DeletedCount == 0 {
		return directory.ErrUnknown
	}
	return failed(err)
}

// PruneCodes implements [directory.Store].
func (s *Store) PruneCodes(ctx context.Context, before time.Time) error {
	_, err := s.codes.DeleteMany(ctx, bson.D{{Key: "expires", Value: bson.D{{Key: "$lt", Value: before}}}})
	return failed(err)
}

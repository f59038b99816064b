package notify

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/mail"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v4"

	"roombook/domain"
	"roombook/eventstore"
)

// DefaultAddress is the default template for mail addresses.
const DefaultAddress = "{user}@example.com"

// person is an entry of the directory.
type person struct {
	User     domain.UserID             `yaml:"user"`
	Mail     string                    `yaml:"mail"`     // empty: from the template
	Language string                    `yaml:"language"` // empty: the default
	OptOut   []domain.NotificationKind `yaml:"opt-out"`  // kinds that are not sent to the user
	Approves []domain.RoomID           `yaml:"approves"` // rooms; "*" for all
	Name     string                    `yaml:"-"`        // to be shown in place of the id; empty for the id
	Gone     bool                      `yaml:"-"`        // gets nothing any more
}

// wants reports whether the user is to get messages of a kind.
func (p person) wants(kind domain.NotificationKind) bool {
	return !p.Gone && !slices.Contains(p.OptOut, kind)
}

// Person is who a user is.
type Person struct {
	Name     string       // to be shown
	Address  string       // of mail; empty for a user who gets none
	Language string       // of mail; empty for that of Options
	Without  domain.Kinds // of notifications, which are not sent to the user
}

// People looks users up in place of the file and the address template. An error means that the lookup should be repeated: messages wait
// meanwhile. Implementations are safe for concurrent use.
type People interface {
	// Person returns false for a user who gets no messages any more: one who is disabled, or erased, or was never there.
	Person(ctx context.Context, user domain.UserID) (p Person, active bool, err error)
	// Keepers returns the users who have the role approver, with their rooms, or admin.
	Keepers(ctx context.Context) ([]domain.Actor, error)
}

// keepersFresh is for how long the keepers that People has returned are taken to be all.
const keepersFresh = 10 * time.Second

// directoryFile is the content of the file.
type directoryFile struct {
	Users []person `yaml:"users"`
}

// directory looks users up: in People if there is one, or in a file, which is reloaded when it changes. It is safe for concurrent use.
type directory struct {
	known    People                                                                                           // nil: the file
	byRoom   func(ctx context.Context, room domain.RoomID, booking domain.BookingID) ([]domain.UserID, error) // as in Options
	rooms    func(ctx context.Context) (func(domain.RoomID) string, error)                                    // names of rooms, may be nil
	away     *eventstore.Trouble
	path     string // empty: no file
	template string // of addresses
	language string // default language
	texts    *texts
	log      *slog.Logger
	broken   *eventstore.Trouble

	mu      sync.Mutex
	seen    time.Time // modification time of what was read
	size    int64
	people  map[domain.UserID]person
	ordered []person

	keepers      []domain.Actor // those of People
	keepersSince time.Time
}

// openDirectory reads the file. The error describes what is wrong with it or with the template.
func openDirectory(path, template, language string, t *texts, log *slog.Logger) (*directory, error) {
	d := &directory{
		path:     path,
		template: template,
		language: language,
		texts:    t,
		log:      log,
		away:     eventstore.NewTrouble(log, slog.LevelError, "it cannot be looked up who is to be told, and messages wait", "it can be looked up again who is to be told"),
		broken:   eventstore.NewTrouble(log, slog.LevelError, "the directory cannot be read and is used as it was", "the directory is read again"),
	}
	if _, err := d.byTemplate("user"); err != nil || !strings.Contains(template, "{user}") {
		return nil, fmt.Errorf("%q is not a template of mail addresses; it must be like %s", template, DefaultAddress)
	}
	if path == "" {
		return d, nil
	}
	if err := d.read(); err != nil {
		return nil, fmt.Errorf("the directory of users: %w", err)
	}
	return d, nil
}

// read reads the file if it has changed.
func (d *directory) read() error {
	info, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	if info.ModTime().Equal(d.seen) && info.Size() == d.size {
		return nil
	}
	text, err := os.ReadFile(d.path)
	if err != nil {
		return err
	}
	file, err := parseDirectory(text)
	if err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	d.seen, d.size = info.ModTime(), info.Size()
	d.ordered = file.Users
	d.people = make(map[domain.UserID]person, len(file.Users))
	without := map[string]bool{}
	for _, p := range file.Users {
		d.people[p.User] = p
		if _, ok := d.texts.languages[cmp.Or(p.Language, d.language)]; !ok && !without[p.Language] {
			without[p.Language] = true
			d.log.Warn("the directory names a language that has no texts; its users get those of the default language", "language", p.Language, "user", p.User, "default", DefaultLanguage)
		}
	}
	return nil
}

func parseDirectory(text []byte) (file directoryFile, err error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return file, nil
	}
	if err := yaml.Load(text, &file, yaml.WithKnownFields()); err != nil {
		return file, err
	}
	known := map[domain.UserID]bool{}
	for _, p := range file.Users {
		switch {
		case p.User == "":
			return file, fmt.Errorf("an entry has no user")
		case known[p.User]:
			return file, fmt.Errorf("user %s has two entries", p.User)
		}
		known[p.User] = true
		if p.Mail != "" {
			if _, err := mail.ParseAddress(p.Mail); err != nil {
				return file, fmt.Errorf("user %s: %q is not a mail address", p.User, p.Mail)
			}
		}
		for _, kind := range p.OptOut {
			if !slices.Contains(domain.NotificationKinds, kind) {
				return file, fmt.Errorf("user %s: there is no kind of notifications %q", p.User, kind)
			}
		}
	}
	return file, nil
}

// refresh reads the file if it has changed. On failure the previous content stays in use. d.mu must be held.
func (d *directory) refresh() {
	if d.path == "" {
		return
	}
	if err := d.read(); err != nil {
		d.broken.Failed(err)
		return
	}
	d.broken.Over()
}

// person returns the entry of a user, with defaults.
func (d *directory) person(user domain.UserID) person {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refresh()
	p := d.people[user]
	p.User, p.Language = user, cmp.Or(p.Language, d.language)
	return p
}

// approvers returns the users who confirm bookings of a room.
func (d *directory) approvers(room domain.RoomID) (users []domain.UserID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refresh()
	for _, p := range d.ordered {
		if slices.Contains(p.Approves, room) || slices.Contains(p.Approves, "*") {
			users = append(users, p.User)
		}
	}
	return users
}

// find looks a user up, in People if there is one.
func (d *directory) find(ctx context.Context, user domain.UserID) (person, error) {
	if d.known == nil {
		return d.person(user), nil
	}
	p, active, err := d.known.Person(ctx, user)
	if err != nil {
		return person{}, err
	}
	return person{User: user, Mail: p.Address, Language: cmp.Or(p.Language, d.language), OptOut: p.Without.List(), Name: p.Name, Gone: !active || p.Address == ""}, nil
}

// findAsked returns the users who are asked to act on a request: those of the directory who answer for its room, and then those whom the room
// itself names. With accounts those who are not active are left out, nobody is asked about a booking of their own unless they are an
// administrator, and administrators are asked where that leaves nobody, and about a fault of a room for which nobody answers.
func (d *directory) findAsked(ctx context.Context, request domain.Notice) (users []domain.UserID, err error) {
	var administrators []domain.UserID
	own := false
	if d.known == nil {
		users = d.approvers(request.Room)
	} else if users, administrators, own, err = d.knownAsked(ctx, request); err != nil {
		return nil, err
	}
	if d.byRoom != nil {
		named, err := d.byRoom(ctx, request.Room, request.Booking)
		if err != nil {
			return nil, err
		}
		for _, user := range named {
			if slices.Contains(users, user) {
				continue
			}
			if d.known != nil {
				if _, active, err := d.known.Person(ctx, user); err != nil {
					return nil, err
				} else if !active {
					continue
				}
				if request.Kind == domain.KindConfirmRequested && user == request.User {
					own = true
					continue
				}
			}
			users = append(users, user)
		}
	}
	if users == nil && (own || request.Kind == domain.KindFaultReported) {
		users = administrators
	}
	return users, nil
}

// knownAsked returns those of People who can act on a request because they answer for its room, and the administrators. own reports that
// somebody who answers for the room cannot because the booking is their own.
func (d *directory) knownAsked(ctx context.Context, request domain.Notice) (users, administrators []domain.UserID, own bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.keepersSince) > keepersFresh {
		if d.keepers, err = d.known.Keepers(ctx); err != nil {
			return nil, nil, false, err
		}
		d.keepersSince = now
	}
	for _, k := range d.keepers {
		may := request.Kind != domain.KindConfirmRequested || k.May(domain.AnswerBooked, k.To(request.User, request.Room)) == nil
		if k.Roles.Has(domain.RoleApprover) && k.Rooms.Has(request.Room) {
			if may {
				users = append(users, k.User)
			} else {
				own = true
			}
		}
		if k.Roles.Has(domain.RoleAdmin) {
			administrators = append(administrators, k.User)
		}
	}
	return users, administrators, own, nil
}

// named returns the message with the ids of users and rooms replaced by their names.
func (d *directory) named(ctx context.Context, m Message) (Message, error) {
	if d.rooms != nil {
		// Where the names cannot be read rooms have none, which is better than no message.
		if nameOf, err := d.rooms(ctx); err == nil {
			m.place = m.Room
			m.Room, m.OldRoom = cmp.Or(domain.RoomID(nameOf(m.Room)), m.Room), cmp.Or(domain.RoomID(nameOf(m.OldRoom)), m.OldRoom)
		}
	}
	if d.known == nil {
		return m, nil
	}
	by := domain.UserID(m.By)
	for _, user := range []*domain.UserID{&m.To, &m.User, &by} {
		if *user == "" {
			continue
		}
		p, err := d.find(ctx, *user)
		if err != nil {
			return m, err
		}
		*user = cmp.Or(domain.UserID(p.Name), *user)
	}
	m.By = string(by)
	return m, nil
}

// address returns the mail address of a person.
func (d *directory) address(p person) (*mail.Address, error) {
	if p.Mail != "" {
		return mail.ParseAddress(p.Mail)
	}
	return d.byTemplate(p.User)
}

func (d *directory) byTemplate(user domain.UserID) (*mail.Address, error) {
	text := strings.ReplaceAll(d.template, "{user}", string(user))
	// A user id that is not a valid local part is quoted, so that it cannot contain a second address.
	if local, host, ok := cutLast(text, "@"); ok && strings.ContainsFunc(local, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, fmt.Errorf("user %q has no mail address", user)
	} else if ok {
		text = (&mail.Address{Address: local + "@" + host}).String()
	}
	address, err := mail.ParseAddress(text)
	if err != nil {
		return nil, fmt.Errorf("user %q has no mail address: %w", user, err)
	}
	return address, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

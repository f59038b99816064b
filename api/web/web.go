package web

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"roombook/commands"
	"roombook/commands/accounts"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// Lists are the read models that screens show; the contract is that of [projections.Queries].
type Lists interface {
	BookingLists(context.Context, projections.Query) (projections.Page[projections.BookingList], error)
	BookingList(context.Context, domain.BookingID, eventstore.Position) (projections.BookingList, error)
	RoomUseLists(context.Context, projections.Query) (projections.Page[projections.RoomUseList], error)
	Notifications(context.Context, projections.Query) (projections.Page[projections.Notification], error)
	Rooms(context.Context, projections.RoomQuery) (projections.Page[projections.RoomList], error)
	Occupancy(context.Context, projections.OccupancyQuery) (projections.Occupancy, error)
	Availability(context.Context, projections.AvailabilityQuery) (projections.Availability, error)
}

// Bookings are bookings as the visitor may see them, who is the actor of the context. One of which they may not see who it is for has no
// user; of its events there is only what happened when, and private is true. The contract is else that of [commands.Handler].
type Bookings interface {
	Booking(context.Context, domain.BookingID) (commands.Booking, error)
	BookingAsOf(context.Context, domain.BookingID, commands.AsOf) (commands.Booking, error)
	History(context.Context, domain.BookingID) (events []eventstore.Recorded, private bool, err error)
	RoomConflicts(context.Context, domain.RoomID, time.Time) ([]commands.Conflict, int, error)
	Faults(context.Context, domain.RoomID) (commands.Faults, error)
}

// Options configure [Pages].
type Options struct {
	Commands *commands.Handler
	Bookings Bookings
	Lists    Lists
	// Accounts are those of the users; nil if nobody signs in.
	Accounts *accounts.Accounts
	// Name returns what a user is called; empty for a former user, and none for who is not known. Nil knows nobody.
	Name func(context.Context, domain.UserID) (name string, known bool)
	// Zone is the time zone of rooms that have none of their own. Nil is UTC.
	Zone *time.Location
}

// Pages are the screens. They are safe for concurrent use.
type Pages struct {
	commands  *commands.Handler
	bookings  Bookings
	lists     Lists
	accounts  *accounts.Accounts // nil if nobody signs in
	name      func(context.Context, domain.UserID) (name string, known bool)
	zone      *time.Location
	templates map[string]*template.Template // by screen
	assets    *assets
}

//go:embed templates
var templateFiles embed.FS

// New returns the screens.
func New(o Options) *Pages {
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.Name == nil {
		o.Name = func(context.Context, domain.UserID) (string, bool) { return "", false }
	}
	p := &Pages{
		commands: o.Commands, bookings: o.Bookings, lists: o.Lists, accounts: o.Accounts, name: o.Name, zone: o.Zone, assets: embeddedAssets,
	}
	p.templates = parsedTemplates
	return p
}

// parsedTemplates has a set of templates for each screen: its own, the layout, and the parts that screens share.
var parsedTemplates = func() map[string]*template.Template {
	shared := template.Must(template.New("").Funcs(template.FuncMap{"arg": arg}).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html"))
	screens := make(map[string]*template.Template)
	files, _ := fs.Glob(templateFiles, "templates/*.html")
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "templates/"), ".html")
		if name != "layout" && name != "parts" {
			screens[name] = template.Must(template.Must(shared.Clone()).ParseFS(templateFiles, file))
		}
	}
	return screens
}()

// part is the data of a template that is a part of a screen.
type part struct {
	View  *screen
	Value any
}

// arg makes the data of a part of a screen.
func arg(s *screen, value any) part { return part{s, value} }

// Route is an address of the page.
type Route struct {
	Method string
	Path   string // as of [http.ServeMux]; a variable is a request's PathValue
	Public bool   // needs nobody to be signed in
	serve  func(*view) error
}

// Routes are all addresses of the page.
func (p *Pages) Routes() []Route {
	return slices.Concat(
		[]Route{
			// The files that screens load.
			{"GET", "/assets/{hash}/{file}", true, p.asset},
			// Who the reader is, in which language and by which clock.
			{"GET", "/settings", true, p.settings},
			{"POST", "/settings", true, p.changeSettings},
			// Signs in and out.
			{"GET", "/signin", true, p.signInForm},
			{"POST", "/signin", true, p.signIn},
			{"POST", "/signout", true, p.signOut},
			// Signs in at the identity provider, which sends the browser back.
			{"GET", "/signin/oidc", true, p.beginSignIn},
			{"GET", ReturnPath, true, p.finishSignIn},
		},
		p.boardRoutes(), p.bookRoutes(), p.bookingRoutes(), p.myRoutes(), p.approvalRoutes(), p.roomRoutes(), p.doorRoutes(), p.lobbyRoutes(), p.messageRoutes(), p.houseRoutes(), p.reportRoutes(), p.tokenRoutes(), p.userRoutes())
}

// Visitor is who a request is from.
type Visitor struct {
	Actor domain.Actor
	// Accounts is set if people sign in. If not, an actor is whoever the reader says to be.
	Accounts bool
	// Provider is set if they do so at an identity provider.
	Provider bool
	// Client is the network that the request came from, as commands keep it; empty if they are not to.
	Client string
	// Refused is why the visitor may not see the screen; nil if they may.
	Refused error
	Session Session
}

// Session is what a visitor signs in to.
type Session interface {
	SignIn(name, password string) error
	SignOut() error
	// Begin returns the address of the provider to which the visitor is sent, who then goes to the path back.
	Begin(back string) (address string, err error)
	// Finish signs the visitor in who comes back from the provider with an answer, and returns the path that Begin was given.
	Finish(answer url.Values) (back string, err error)
	// EndSession is the address for signing out at the provider; empty if there is none.
	EndSession() string
	// Renew begins another session in place of the one that ended when the visitor changed their password.
	Renew() error
	// ID is the id of the session; that of no session if there is none.
	ID() string
	// ChoosePassword sets the password of the user who got a code.
	ChoosePassword(code, password string) error
	// ShowCode returns the code that the display at the door of a room shows until it is paired.
	ShowCode(room domain.RoomID) (code string, err error)
}

// Serve replies to a request of a visitor for a route. Base is the address at which the client reached the server, without a trailing slash.
// The error, if any, is for the log: the reader has been answered.
func (p *Pages) Serve(w http.ResponseWriter, r *http.Request, route Route, visitor Visitor, base string) error {
	v := &view{p: p, w: w, r: r, visitor: visitor, actor: visitor.Actor, base: base, Now: time.Now().UTC().Truncate(time.Millisecond), status: http.StatusOK}
	v.prefix = base
	if u, err := url.Parse(base); err == nil {
		v.prefix = u.EscapedPath()
	}
	v.read()
	err := visitor.Refused
	if err == nil && r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if r.ParseForm() != nil {
			err = errForm
		}
	}
	if err == nil {
		err = route.serve(v)
	}
	if err != nil {
		return v.fail(err)
	}
	return nil
}

// Board replies with the board, for the root of the server.
func (p *Pages) Board() Route { return Route{"GET", "/", false, p.board} }

// maxForm is the upper bound of a form, in bytes.
const maxForm = 256 << 10

// policy is the content security policy of all screens.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types roombook"

// view is a request for a screen, and what its template can use. Only the request's goroutine may use it.
type view struct {
	p       *Pages
	w       http.ResponseWriter
	r       *http.Request
	visitor Visitor
	actor   domain.Actor
	base    string // the address of the server
	prefix  string // its path: links start with it
	status  int

	Language   Language
	ClockHours string        // of the clock that the reader chose, 12 or 24; empty if they did not
	Reader     domain.UserID // empty if the reader has not said
	Now        time.Time
	rooms      map[domain.RoomID]*projections.RoomList // once they were needed
}

// Names of cookies. None of them is a secret.
const (
	cookieName     = "roombook-name"
	cookieLanguage = "roombook-language"
	cookieHours    = "roombook-hours"
	cookiePosition = "roombook-position"
)

// read takes who the reader is and in which language from the request.
func (v *view) read() {
	if v.visitor.Accounts {
		v.Reader = v.actor.User
	} else if c, err := v.r.Cookie(cookieName); err == nil && validID(c.Value) {
		v.Reader = domain.UserID(c.Value)
	}
	chosen, _ := v.r.Cookie(cookieLanguage)
	v.Language = languageOf(chosen, v.r.Header["Accept-Language"])
	if c, err := v.r.Cookie(cookieHours); err == nil && (c.Value == "12" || c.Value == "24") {
		v.ClockHours = c.Value
	}
}

// Accounts reports whether readers sign in.
func (v *view) Accounts() bool { return v.visitor.Accounts }

// may reports whether the reader is permitted to do something with what belongs to a user and is in a room; either may be empty. It knows the
// approvers of rooms once those have been read.
func (v *view) may(action domain.Action, owner domain.UserID, room domain.RoomID) bool {
	var approvers []domain.UserID
	if r := v.rooms[room]; r != nil {
		approvers = r.Approvers
	}
	return v.actor.May(action, v.actor.To(owner, room, approvers...)) == nil
}

// ManagesRooms reports whether the reader looks after rooms.
func (v *view) ManagesRooms() bool { return v.may(domain.ManageRooms, "", "") }

// validID reports whether a text can be the id of a room, a booking or a user.
func validID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// remember sets a cookie.
func (v *view) remember(name, value string, seconds int) {
	http.SetCookie(v.w, &http.Cookie{
		Name: name, Value: value, Path: v.prefix + "/", MaxAge: seconds, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: strings.HasPrefix(v.base, "https://"),
	})
}

const (
	aYear           = 365 * 24 * 60 * 60 // in seconds
	positionSeconds = 30                 // for which lists are asked to show what the reader has just done
)

// seen is the position of what the reader has just done, which lists have to have reached.
func (v *view) seen() eventstore.Position {
	c, err := v.r.Cookie(cookiePosition)
	if err != nil {
		return 0
	}
	position, _ := strconv.ParseUint(c.Value, 10, 64)
	return eventstore.Position(position)
}

// request is the metadata of a command of the reader. A form that has an id is carried out once, however often it is sent.
func (v *view) request() (commands.Request, error) {
	r := commands.Request{At: v.Now, Actor: v.actor, Client: v.visitor.Client, CorrelationID: v.RequestID()}
	if r.Actor.User == "" {
		r.Actor.User = cmp.Or(v.Reader, anonymous)
	}
	var err error
	r.ID, err = uuid.NewV7()
	return r, err
}

const anonymous domain.UserID = "anonymous"

// done ends a command: what is shown next has its effect, and says so by a text of the catalogue.
func (v *view) done(position eventstore.Position, path, text string) error {
	v.remember(cookiePosition, strconv.FormatUint(uint64(position), 10), positionSeconds)
	if text != "" {
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		path += separator + "done=" + text
	}
	return v.redirect(path)
}

// redirect sends the reader to another screen.
func (v *view) redirect(path string) error {
	v.w.Header().Set("Location", v.prefix+path)
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// roomID returns the room in the path.
func (v *view) roomID() (domain.RoomID, error) {
	id := v.r.PathValue("id")
	if !validID(id) {
		return "", domain.ErrRoomNotFound
	}
	return domain.RoomID(id), nil
}

// readRooms reads all registered rooms, by their ids, retired ones too.
func (v *view) readRooms() (map[domain.RoomID]*projections.RoomList, error) {
	if v.rooms != nil {
		return v.rooms, nil
	}
	all, err := v.findRooms(projections.RoomFilter{})
	if err != nil {
		return nil, err
	}
	v.rooms = make(map[domain.RoomID]*projections.RoomList, len(all))
	for i := range all {
		v.rooms[all[i].Room] = &all[i]
	}
	return v.rooms, nil
}

// findRooms returns the rooms that a filter selects, by building, floor and name.
func (v *view) findRooms(f projections.RoomFilter) ([]projections.RoomList, error) {
	var all []projections.RoomList
	q := projections.RoomQuery{RoomFilter: f, Sort: "building", Size: projections.MaxSize, MinPosition: v.seen()}
	for {
		page, err := v.p.lists.Rooms(v.r.Context(), q)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if q.Cursor = page.Next; q.Cursor == "" {
			return all, nil
		}
	}
}

// RoomName is the name of a room, or its id if it has none.
func (v *view) RoomName(id domain.RoomID) string {
	if r := v.rooms[id]; r != nil {
		return r.Name
	}
	return string(id)
}

// zoneOf is the time zone of a room.
func (v *view) zoneOf(id domain.RoomID) *time.Location {
	if r := v.rooms[id]; r != nil && r.Zone != "" {
		if zone, err := time.LoadLocation(r.Zone); err == nil {
			return zone
		}
	}
	return v.p.zone
}

// screen is the data of a template.
type screen struct {
	*view
	Title string
	Name  string // of the template
	Data  any
}

// show replies with a screen.
func (v *view) show(name, title string, data any) error {
	var b bytes.Buffer
	if err := v.p.templates[name].ExecuteTemplate(&b, "layout", &screen{v, title, name, data}); err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept, Accept-Encoding, Accept-Language, Cookie")
	if v.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	return v.send("text/html; charset=utf-8", b.Bytes())
}

// send replies with a body, compressed if the client wants that.
func (v *view) send(media string, body []byte) error {
	h := v.w.Header()
	h.Set("Content-Type", media)
	if acceptsGzip(v.r) && len(body) > 1000 {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(body) // a buffer takes everything
		_ = z.Close()
		h.Set("Content-Encoding", "gzip")
		body = b.Bytes()
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	v.w.WriteHeader(v.status)
	if v.r.Method != http.MethodHead {
		_, _ = v.w.Write(body) // a client that has gone needs no reply
	}
	return nil
}

// What templates use of a screen.

// Link is the address of a path of the server.
func (v *view) Link(path string) string { return v.prefix + path }

// Address is the same with scheme and host, for other programs.
func (v *view) Address(path string) string { return v.base + path }

// Here is the present path and query, for a form that comes back to it. Each path that takes a form shows one too.
func (v *view) Here() string { return v.r.URL.RequestURI() }

// Done is the text of what the reader has just done, if anything.
func (v *view) Done() string {
	key := "done." + v.r.URL.Query().Get("done")
	if !known(key) {
		return ""
	}
	return v.T(key)
}

// Asset is the address of a file that screens load; empty if there is no such file.
func (v *view) Asset(name string) string {
	if path := v.p.Asset(name); path != "" {
		return v.prefix + path
	}
	return ""
}

// Asset is the path of a file that screens load; empty if there is no such file.
func (p *Pages) Asset(name string) string { return p.assets.path(name) }

// RequestID is the id by which the log knows the request.
func (v *view) RequestID() string { return v.w.Header().Get("X-Request-Id") }

// ServerZone is the time zone of rooms that have none of their own.
func (v *view) ServerZone() *time.Location { return v.p.zone }

var (
	errForm   = errors.New("a form cannot be read")
	errNoPage = errors.New("there is no such page")
)

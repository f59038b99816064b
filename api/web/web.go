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
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"roombook/commands"
	"roombook/commands/accounts"
	"roombook/commands/picture"
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

// Bookings reads bookings on behalf of the visitor, who is the actor of the context. A booking has no user if the visitor may not see whom it is
// for; its events then only tell what happened when, and private is true. Otherwise the contract is that of [commands.Handler].
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
	// Accounts authenticates users; nil if nobody signs in.
	Accounts *accounts.Accounts
	// Name returns the name of a user: empty for a former user, and false if it is not known. Nil knows nobody.
	Name func(context.Context, domain.UserID) (name string, known bool)
	// Problem returns the type of problem that the API makes of an error. Nil takes every error for a fault of the program.
	Problem func(error) ProblemType
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
	problem   func(error) ProblemType
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
	if o.Problem == nil {
		o.Problem = func(error) ProblemType {
			return ProblemType{Name: "internal-error", Status: http.StatusInternalServerError}
		}
	}
	return &Pages{
		commands: o.Commands, bookings: o.Bookings, lists: o.Lists, accounts: o.Accounts, name: o.Name, problem: o.Problem, zone: o.Zone,
		templates: parsedTemplates, assets: embeddedAssets,
	}
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

// arg returns the data of a part of a screen.
func arg(s *screen, value any) part { return part{s, value} }

// AssetPath is the path of the files that screens load.
const AssetPath = "/assets/{hash}/{file}"

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
			{"GET", AssetPath, true, p.asset},
			// The reader's name, language and clock.
			{"GET", "/settings", true, p.settings},
			{"POST", "/settings", true, p.changeSettings},
			// Signs in and out.
			{"GET", "/signin", true, p.signInForm},
			{"POST", "/signin", true, p.signIn},
			{"POST", "/signout", true, p.signOut},
			// Signs in at the identity provider, which sends the browser back.
			{"GET", "/signin/oidc", true, p.beginSignIn},
			{"GET", ReturnPath, true, p.finishSignIn},
			// The provider says that somebody has signed out there.
			{"POST", "/signin/oidc/logout", true, p.endedAtProvider},
		},
		p.boardRoutes(), p.bookRoutes(), p.bookingRoutes(), p.myRoutes(), p.approvalRoutes(), p.roomRoutes(), p.favouriteRoutes(), p.doorRoutes(), p.lobbyRoutes(), p.messageRoutes(), p.houseRoutes(), p.reportRoutes(), p.tokenRoutes(), p.userRoutes())
}

// Visitor is who a request is from.
type Visitor struct {
	Actor domain.Actor
	// Accounts is set if people sign in. If not, the actor is whoever the reader claims to be.
	Accounts bool
	// Provider is set if they do so at an identity provider.
	Provider bool
	// Client is the network that the request came from, as commands keep it; empty if they are not to.
	Client string
	// Refused is why the visitor may not see the screen; nil if they may.
	Refused error
	// Upload is set if the form of the visitor may bring a picture.
	Upload  bool
	Session Session
}

// Session is what a visitor signs in to.
type Session interface {
	SignIn(name, password string) error
	SignOut() error
	// Begin starts a sign-in at the provider and returns the address to send the visitor to. Back is the path that they go to afterwards.
	Begin(back string) (address string, err error)
	// Finish signs in a visitor who comes back from the provider with an answer, and returns the path that Begin was given.
	Finish(answer url.Values) (back string, err error)
	// EndSession is the address for signing out at the provider, of a visitor who is still signed in here; empty if there is none.
	EndSession() (address string, err error)
	// EndedAtProvider ends the sessions of which a logout token of the provider says that they are over.
	EndedAtProvider(token string) error
	// Renew begins another session in place of the one that ended when the visitor changed their password.
	Renew() error
	// ID is the id of the session. Without a session it is an id that no session has.
	ID() string
	// ChoosePassword sets the password of the user who got a code.
	ChoosePassword(code, password string) error
	// ShowCode returns the code that the display at the door of a room shows until it is paired.
	ShowCode(room domain.RoomID) (code string, err error)
}

// Serve replies to a request of a visitor for a route. Base is the address at which the client reached the server, without a trailing slash.
// The error, if any, is for the log: the reader has been answered.
func (p *Pages) Serve(w http.ResponseWriter, r *http.Request, route Route, visitor Visitor, base string) error {
	v := p.view(w, r, visitor, base)
	err := visitor.Refused
	if err == nil && r.Method == http.MethodPost {
		err = v.parseForm(visitor.Upload)
	}
	if err == nil {
		err = route.serve(v)
	}
	if err != nil {
		return v.fail(err)
	}
	return nil
}

// Fail replies to a request that is no route's, or that a route has failed, with the page of an error. If that fails nothing has been sent.
func (p *Pages) Fail(w http.ResponseWriter, r *http.Request, visitor Visitor, base string, status int, err error) error {
	v := p.view(w, r, visitor, base)
	why := v.problemOf(err)
	why.status = status
	return v.showProblem(why)
}

func (p *Pages) view(w http.ResponseWriter, r *http.Request, visitor Visitor, base string) *view {
	v := &view{
		p: p, w: w, r: r, visitor: visitor, actor: visitor.Actor, base: base, prefix: base, policy: policy,
		Now: time.Now().UTC().Truncate(time.Millisecond), status: http.StatusOK,
	}
	if u, err := url.Parse(base); err == nil {
		v.prefix = u.EscapedPath()
	}
	v.read()
	return v
}

// formError is what is wrong with a form that could not be read.
func formError(err error) error {
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case err == nil:
		return nil
	case tooLarge:
		return errFormTooLarge
	case ok && timeout.Timeout():
		return errFormTooSlow
	}
	return errForm
}

// Board replies with the board, for the root of the server.
func (p *Pages) Board() Route { return Route{"GET", "/", false, p.board} }

// maxForm is the upper bound of a form, in bytes.
const maxForm = 256 << 10

// parseForm reads the form of the request, which may bring a picture if an upload is permitted. All of it is kept in memory.
func (v *view) parseForm(upload bool) error {
	maxBytes := int64(maxForm)
	if upload {
		maxBytes += picture.MaxUpload
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxBytes)
	err := v.r.ParseForm()
	if err == nil && upload {
		if err = v.r.ParseMultipartForm(maxBytes); errors.Is(err, http.ErrNotMultipart) {
			err = nil
		}
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large && upload {
		return picture.ErrTooLarge
	}
	return formError(err)
}

// policy is the content security policy of screens.
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
	policy  string // the content security policy

	Language   Language
	ClockHours string        // of the clock that the reader chose, 12 or 24; empty if they did not
	Reader     domain.UserID // empty if the reader has not said
	Now        time.Time
	Position   eventstore.Position                     // up to which the page contains every event, if it is told of later ones
	rooms      map[domain.RoomID]*projections.RoomList // once they were needed
	roomsAt    eventstore.Position                     // up to which those that were read first contain every event
	Favourites domain.Rooms                            // once they were needed
}

// Names of cookies. None of them is a secret.
const (
	cookieName       = "roombook-name"
	cookieLanguage   = "roombook-language"
	cookieHours      = "roombook-hours"
	cookieFavourites = "roombook-favourites"
	cookiePosition   = "roombook-position"
)

// read takes the reader's name, language and clock from the request.
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

// permit is an error if the reader may not do something with what belongs to a user and a room, either of which may be empty. Approvers that
// rooms name are only considered once rooms have been read.
func (v *view) permit(action domain.Action, owner domain.UserID, room domain.RoomID) error {
	var approvers []domain.UserID
	if r := v.rooms[room]; r != nil {
		approvers = r.Approvers
	}
	return v.actor.May(action, v.actor.To(owner, room, approvers...))
}

// may reports whether [view.permit] permits it.
func (v *view) may(action domain.Action, owner domain.UserID, room domain.RoomID) bool {
	return v.permit(action, owner, room) == nil
}

// ManagesRooms reports whether the reader may manage rooms.
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

// seen is the position that lists must have reached: that of the reader's last command, or of the change that a script was told of.
func (v *view) seen() eventstore.Position {
	told := []string{v.r.Header.Get("Roombook-Position")}
	if c, err := v.r.Cookie(cookiePosition); err == nil {
		told = append(told, c.Value)
	}
	var seen eventstore.Position
	for _, text := range told {
		if position, err := strconv.ParseUint(text, 10, 64); err == nil {
			seen = max(seen, eventstore.Position(position))
		}
	}
	return seen
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

// done ends a command with a redirect to a screen that shows its effect and a text of the catalogue.
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
		if v.roomsAt == 0 {
			v.roomsAt = page.Position
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
	h.Set("Content-Security-Policy", v.policy)
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept, Accept-Encoding, Accept-Language, Cookie")
	if v.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	return v.send("text/html; charset=utf-8", b.Bytes())
}

// compressors are kept because a new one takes longer than what it compresses.
var compressors = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// send replies with a body, compressed if the client wants that.
func (v *view) send(media string, body []byte) error {
	h := v.w.Header()
	h.Set("Content-Type", media)
	if acceptsGzip(v.r) && len(body) > 1000 {
		var b bytes.Buffer
		z := compressors.Get().(*gzip.Writer)
		z.Reset(&b)
		_, _ = z.Write(body) // a buffer takes everything
		_ = z.Close()
		compressors.Put(z)
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

// Here is the path and query of the request, for forms that come back to it. Paths that accept POST can also be read.
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
	errForm         = errors.New("a form cannot be read")
	errFormTooLarge = errors.New("a form is too large")
	errFormTooSlow  = errors.New("a form did not come in time")
	errNoPage       = errors.New("there is no such page")
)

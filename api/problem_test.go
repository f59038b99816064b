package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"html/template"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// Errors of the packages below, and the problems that clients get.
func TestFailures(t *testing.T) {
	inside := errors.New("dial tcp 10.0.0.1:2113: secret")
	for _, tt := range []struct {
		name    string
		err     error
		status  int
		problem string
	}{
		{"event store away", fmt.Errorf("append: %w: %w", eventstore.ErrUnavailable, inside), 503, "event-store-unavailable"},
		{"event store refuses the user", fmt.Errorf("append: %w", &eventstore.Refused{User: "roombook", Reason: "Unauthenticated"}), 503, "event-store-unavailable"},
		{"event store silent in the middle", fmt.Errorf("append: %w: %w", eventstore.ErrOutcomeUnknown, context.DeadlineExceeded), 503, "outcome-unknown"},
		{"shutting down", eventstore.ErrClosed, 503, "shutting-down"},
		{"a newer version's event", fmt.Errorf("load: %w", &commands.Unreadable{Stream: "booking-x", Revision: 3, Type: "BookingCreated"}), 503, "unreadable-event"},
		{"contention", commands.ErrContended, 503, "too-much-contention"},
		{"too much of long ago", commands.ErrHistoryBusy, 503, "history-busy"},
		{"too slow", context.DeadlineExceeded, 503, "timeout"},
		{"what nobody thought of", inside, 500, "internal-error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t)
			s.log.setFail(func(context.Context) error { return tt.err })
			for _, c := range []call{booked, {"GET", "/bookings/x", ""}, {"DELETE", "/bookings/x", ""}, {"GET", "/bookings/x/history", ""}, {"PATCH", "/realuses/x", ""}} {
				r := s.do(t, c.method, c.path, c.body, "X-Request-Id: q7")
				if tt.problem == "outcome-unknown" || tt.problem == "too-much-contention" {
					if c.method == "GET" {
						continue // reads append nothing
					}
				}
				if r.status != tt.status || r.at(t, "type") != "/problems/"+tt.problem {
					t.Errorf("%s %s: %s", c.method, c.path, r.body)
				}
				if (r.header.Get("Retry-After") != "") != (tt.status == 503) {
					t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
				}
				if r.at(t, "instance") != c.path || r.at(t, "requestId") != "q7" || strings.Contains(r.body, "secret") {
					t.Error(r.body)
				}
			}
		})
	}
	s := newService(t)
	s.lists.err = projections.ErrNoSuchPosition
	for _, path := range []string{"/bookingLists", "/bookingLists/b1"} {
		r := s.do(t, "GET", path, "", "Roombook-Position: 999").want(t, 400)
		if r.at(t, "type") != "/problems/no-such-position" || r.header.Get("Retry-After") != "" {
			t.Error(r.body)
		}
	}
	for _, tt := range []struct {
		err     error
		problem string
	}{
		{projections.ErrBehind, "list-behind"},
		{fmt.Errorf("find: %w: %w", projections.ErrTooWide, inside), "query-too-wide"},
		{fmt.Errorf("find: %w: %w", projections.ErrUnavailable, inside), "lists-unavailable"},
	} {
		s := newService(t)
		s.lists.err = tt.err
		r := s.do(t, "GET", "/bookingLists", "", "Roombook-Position: 1").want(t, 503)
		if r.at(t, "type") != "/problems/"+tt.problem || r.header.Get("Retry-After") == "" || r.header.Get("Roombook-Position") != "" {
			t.Error(r.body)
		}
	}
}

func TestAPanicIsAProblemWithItsStackInTheLog(t *testing.T) {
	var lines bytes.Buffer
	s := newService(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&lines, nil)) })
	s.log.setFail(func(context.Context) error { panic("no such luck") })
	r := s.do(t, "POST", "/bookings", morning, "X-Request-Id: q7").want(t, 500)
	if r.at(t, "type") != "/problems/internal-error" || strings.Contains(r.body, "luck") {
		t.Error(r.body)
	}
	for _, want := range []string{"level=ERROR", "no such luck", "problem_test.go", "request=q7", "route=/bookings"} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("no %s in the log: %s", want, &lines)
		}
	}
	s.log.setFail(nil)
	s.do(t, "POST", "/bookings", morning).want(t, 201)
}

func TestNowhere(t *testing.T) {
	s := newService(t)
	for _, path := range []string{"/nothing", "/nothing/", "/bookings//", "//bookings/", "/bookings//history", "//bookings", "/bookings/x/y", "/bookings/../bookings", "/Bookings"} {
		r := s.do(t, "GET", path, "").want(t, 404)
		if r.at(t, "type") != "/problems/no-such-path" || r.header.Get("Content-Type") != mediaProblem {
			t.Errorf("%s: %s", path, r.body)
		}
	}
}

func TestMethods(t *testing.T) {
	s := newService(t)
	for path, allow := range map[string]string{
		"/bookings":     "GET, HEAD, OPTIONS, POST",
		"/bookings/x":   "DELETE, GET, HEAD, OPTIONS, PATCH, PUT",
		"/confirms/x":   "GET, HEAD, OPTIONS, PATCH",
		"/bookingLists": "GET, HEAD, OPTIONS",
		"/healthz":      "GET, HEAD, OPTIONS",
	} {
		for _, method := range []string{"TRACE", "BREW"} {
			r := s.do(t, method, path, "").want(t, 405)
			if r.header.Get("Allow") != allow || r.at(t, "type") != "/problems/method-not-allowed" {
				t.Errorf("%s %s: Allow %s, %s", method, path, r.header.Get("Allow"), r.body)
			}
		}
		if r := s.do(t, "OPTIONS", path, ""); r.status != 204 || r.header.Get("Allow") != allow || r.body != "" {
			t.Errorf("OPTIONS %s: %v", path, r)
		}
	}
}

func TestHead(t *testing.T) {
	s := newService(t)
	id := s.book(t, morning)
	for _, path := range []string{"/", "/bookings", "/bookings/" + id, "/bookings/" + id + "/history", "/bookingLists", "/version", "/openapi.json", "/bookings/none"} {
		get, head := s.do(t, "GET", path, "", "X-Request-Id: q1"), s.do(t, "HEAD", path, "", "X-Request-Id: q1")
		if head.body != "" || head.status != get.status {
			t.Errorf("HEAD %s: %v", path, head)
		}
		for _, name := range []string{"Content-Length", "Content-Type", "Etag", "Roombook-Position"} {
			if head.header.Get(name) != get.header.Get(name) {
				t.Errorf("HEAD %s: %s %q, of GET %q", path, name, head.header.Get(name), get.header.Get(name))
			}
		}
	}
}

// Each problem type has a page at the address that is its type.
func TestProblemPages(t *testing.T) {
	s := newService(t)
	all := s.do(t, "GET", "/problems", "").want(t, 200)
	if n := len(all.at(t, "_embedded.problems").([]any)); n != len(problemTypes) {
		t.Errorf("%d problems", n)
	}
	names := make(map[string]bool)
	for _, p := range problemTypes {
		if names[p.name] {
			t.Errorf("two problems are called %s", p.name)
		}
		names[p.name] = true
		r := s.do(t, "GET", "/problems/"+p.name, "").want(t, 200)
		if r.at(t, "title") != p.title || r.at(t, "status") != float64(p.status) || r.at(t, "about") != p.about {
			t.Error(r.body)
		}
		html := s.do(t, "GET", "/problems/"+p.name, "", "Accept: text/html,application/xhtml+xml,*/*;q=0.8").want(t, 200)
		if !strings.Contains(html.body, "<h1 id=\""+p.name+"\">"+template.HTMLEscapeString(p.title)+"</h1>") || !strings.Contains(html.body, `<a href="/problems">`) || html.header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Error(html)
		}
	}
	s.do(t, "GET", "/problems/none", "").want(t, 404)
	s.do(t, "GET", "/problems", "", "Accept: image/png").want(t, 406)
}

// Every error of the packages below has a row in the table, or is known never to reach a client.
func TestEveryErrorHasItsProblem(t *testing.T) {
	unheard := "" // of those who call this package
	problems := map[string]string{
		"domain.ErrBookingNotFound": "booking-not-found", "domain.ErrRealUseNotFound": "real-use-not-found", "domain.ErrConfirmationPending": "confirmation-pending",
		"domain.UseOffSlot": "use-off-slot", "domain.ErrRoomNotFound": "room-not-found", "domain.ErrClosureNotFound": "closure-not-found", "domain.ErrFaultNotFound": "fault-not-found", "domain.TooManyFaults": "too-many-faults", "domain.RoomExists": "room-exists",
		"domain.RuleBroken": "rule-broken", "domain.RoomClosed": "room-closed", "domain.Retired": "room-retired",
		"domain.SlotTaken": "slot-taken", "domain.AlreadyCancelled": "booking-cancelled", "domain.AlreadyInUse": "booking-in-use", "domain.TooManyChanges": "too-many-changes",
		"domain.AlreadyConfirmed": "already-confirmed", "domain.AlreadyEnded": "already-ended",
		"domain.Invalid":               unheard, // handlers turn it into the faults of their body
		"domain.EndBeforeStart":        unheard, // likewise
		"commands.ErrContended":        "too-much-contention",
		"commands.ErrHistoryBusy":      "history-busy",
		"commands.ErrKeyReused":        "key-reused",
		"commands.ConditionFailed":     "precondition-failed",
		"commands.OtherPhase":          unheard, // a handler turns it into a fault of its body
		"commands.Readable":            unheard, // of an operator at the command line
		"commands.RefusedBefore":       unheard, // the problem that was kept is told again
		"commands.Unreadable":          "unreadable-event",
		"eventstore.ErrUnavailable":    "event-store-unavailable",
		"eventstore.Refused":           "event-store-unavailable",
		"eventstore.ErrOutcomeUnknown": "outcome-unknown",
		"eventstore.ErrReplaced":       "event-store-replaced",
		"eventstore.ErrClosed":         "shutting-down",
		"eventstore.ErrTooLarge":       unheard, // bodies are much smaller
		"eventstore.ErrDeleted":        unheard, // nothing here deletes a stream for good: somebody has damaged the log
		"eventstore.WrongRevision":     unheard, // commands decide again
		"eventstore.NoGroup":           unheard, // of who sends notifications, to nobody
		"eventstore.ErrNoPosition":     unheard, // a handler turns it into a fault of its query
		"projections.ErrNotFound":      "not-in-list", "projections.ErrBehind": "list-behind", "projections.ErrUnavailable": "lists-unavailable", "projections.ErrTooWide": "query-too-wide",
		"projections.ErrNoSuchPosition": "no-such-position",
		"projections.InvalidQuery":      unheard, // lists turn it into the faults of their query
		"commands/notify.ErrNotFailed":  unheard, // there is nothing to do
		"domain.Forbidden":              "forbidden",
		"domain.ErrUserNotFound":        "user-not-found", "domain.ErrTokenNotFound": "token-not-found",
		"domain.ErrTokenLife":                   unheard, // a handler turns it into a fault of its body
		"domain.ErrBeyondUser":                  unheard, // likewise
		"domain.ErrNoRoles":                     unheard, // likewise
		"commands/accounts.ErrWrongCredentials": "wrong-credentials", "commands/accounts.TooManyTries": "too-many-tries",
		"commands/accounts.ErrBusy": "overloaded", "commands/accounts.ErrTooManyTokens": "too-many-tokens",
		"commands/accounts.ErrDisabled":         unheard, // of the page
		"commands/accounts/oidc.ErrUnavailable": "provider-unavailable", "commands/accounts/oidc.ErrNoRole": "no-role",
		"commands/accounts/oidc.ErrRefused":  unheard, // the request is not authenticated
		"commands/accounts/oidc.ErrNotBegun": unheard, // of the page
		"commands/accounts.ErrNoDisplay":     "no-display", "commands/accounts.ErrSessionNotFound": "session-not-found",
		"commands/accounts/directory.ErrUnavailable": "accounts-unavailable",
		"commands/accounts/directory.ErrUnknown":     unheard, // package accounts says what it means
		"commands/accounts/directory.ErrNameTaken":   "name-taken",
	}
	for pkg, files := range map[string]string{"domain": "*.go", "commands": "*.go", "commands/accounts": "*.go", "commands/notify": "*.go", "commands/accounts/directory": "*.go", "commands/accounts/oidc": "*.go", "eventstore": "*.go", "projections": "error.go"} { // the rest is of its workers
		for _, name := range exportedErrors(t, filepath.Join("..", pkg, files)) {
			problem, known := problems[pkg+"."+name]
			if !known {
				t.Errorf("%s.%s is not in this table", pkg, name)
			}
			if problem != unheard && !slices.ContainsFunc(problemTypes, func(p problemType) bool { return p.name == problem }) {
				t.Errorf("%s.%s: there is no problem %s", pkg, name, problem)
			}
			delete(problems, pkg+"."+name)
		}
	}
	for name := range problems {
		t.Errorf("there is no %s", name)
	}
}

// exportedErrors returns the names of the error values and error types in a package's files.
func exportedErrors(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for n := range ast.Preorder(file) {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for _, id := range n.Names {
					if strings.HasPrefix(id.Name, "Err") {
						names = append(names, id.Name)
					}
				}
			case *ast.FuncDecl:
				if n.Name.Name != "Error" || n.Recv == nil {
					continue
				}
				receiver := n.Recv.List[0].Type
				if star, ok := receiver.(*ast.StarExpr); ok {
					receiver = star.X
				}
				if id, ok := receiver.(*ast.Ident); ok && id.IsExported() {
					names = append(names, id.Name)
				}
			}
		}
	}
	return names
}

// The first row that matches an error applies.
func TestTheFirstRowWins(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("%w: %w", eventstore.ErrOutcomeUnknown, eventstore.ErrUnavailable), "outcome-unknown"},
		{fmt.Errorf("%w: %w", eventstore.ErrUnavailable, context.DeadlineExceeded), "event-store-unavailable"},
		{&useOfCancelled{&domain.AlreadyCancelled{}}, "use-of-cancelled-booking"},
		{&domain.Invalid{}, "internal-error"}, // a handler says which fields a body's faults are of
		{errors.New("x"), "internal-error"},
	} {
		for _, p := range problemTypes {
			if p.match(tt.err, &problem{zone: zone(t, "UTC")}) {
				if p.name != tt.want {
					t.Errorf("%v is %s, want %s", tt.err, p.name, tt.want)
				}
				break
			}
		}
	}
}

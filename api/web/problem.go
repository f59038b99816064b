package web

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"roombook/commands"
	"roombook/commands/accounts"
	"roombook/commands/accounts/directory"
	"roombook/commands/accounts/oidc"
	"roombook/commands/picture"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// problem tells the reader why something was not done.
type problem struct {
	status int
	// Sentences say what was wrong, and what to do next.
	Sentences []string
	// Type is the name of the problem type that describes it to programmers; empty if there is none.
	Type string
}

// shown reports whether the form that led to it is shown again with the problem and what was typed. It is not if its subject may be gone, or if
// the program is at fault.
func (p problem) shown() bool {
	return p.status != http.StatusNotFound && p.status != http.StatusBadRequest && p.status != http.StatusInternalServerError
}

// Again reports whether the same request may succeed later.
func (p problem) Again() bool {
	return p.status == http.StatusServiceUnavailable || p.status == http.StatusTooManyRequests
}

// SignIn reports whether the reader has to sign in first.
func (p problem) SignIn() bool { return p.status == http.StatusUnauthorized }

// Elsewhere reports whether this is not the address of the server: none of its links would lead anywhere.
func (p problem) Elsewhere() bool { return p.status == http.StatusMisdirectedRequest }

// sentinels are the errors that are fully described by a text of the catalogue.
var sentinels = []struct {
	err    error
	key    string
	status int
}{
	{errNoPage, "no-such-path", http.StatusNotFound},
	{errForm, "form", http.StatusBadRequest},
	{errFormTooLarge, "form-too-large", http.StatusRequestEntityTooLarge},
	{errFormTooSlow, "form-too-slow", http.StatusRequestTimeout},
	{errNoTime, "no-time", http.StatusUnprocessableEntity},
	{errSkipped, "skipped-time", http.StatusUnprocessableEntity},
	{errTwice, "time-twice", http.StatusUnprocessableEntity},
	{errNoReason, "no-reason", http.StatusUnprocessableEntity},
	{errTooManyFavourites, "too-many-favourites", http.StatusConflict},
	{accounts.ErrWrongCredentials, "wrong-credentials", http.StatusForbidden},
	{accounts.ErrDisabled, "user-disabled", http.StatusForbidden},
	{oidc.ErrNotBegun, "sign-in-not-begun", http.StatusBadRequest},
	{oidc.ErrRefused, "sign-in-refused", http.StatusForbidden},
	{oidc.ErrNoRole, "no-role", http.StatusForbidden},
	{oidc.ErrUnavailable, "provider-away", http.StatusServiceUnavailable},
	{accounts.ErrBusy, "signing-in", http.StatusServiceUnavailable},
	{accounts.ErrNoDisplay, "no-display", http.StatusUnprocessableEntity},
	{accounts.ErrSessionNotFound, "no-session", http.StatusNotFound},
	{accounts.ErrByToken, "by-token", http.StatusForbidden},
	{accounts.ErrTooManyTokens, "too-many-tokens", http.StatusConflict},
	{directory.ErrNameTaken, "name-taken", http.StatusConflict},
	{directory.ErrUnavailable, "unavailable", http.StatusServiceUnavailable},
	{domain.ErrUserNotFound, "no-user", http.StatusNotFound},
	{domain.ErrTokenNotFound, "no-token", http.StatusNotFound},
	{domain.ErrBeyondUser, "beyond-user", http.StatusUnprocessableEntity},
	{errNoName, "no-name", http.StatusUnprocessableEntity},
	{errNobodyChosen, "none-chosen", http.StatusUnprocessableEntity},
	{domain.ErrPhotoNotFound, "no-photo", http.StatusUnprocessableEntity},
	{picture.ErrTooLarge, "picture-too-large", http.StatusRequestEntityTooLarge},
	{picture.ErrTooDetailed, "picture-too-detailed", http.StatusUnprocessableEntity},
	{picture.ErrUnreadable, "picture-unreadable", http.StatusUnprocessableEntity},
	{errHours, "hours", http.StatusUnprocessableEntity},
	{errNumber, "number", http.StatusUnprocessableEntity},
	{domain.ErrBookingNotFound, "no-booking", http.StatusNotFound},
	{domain.ErrRealUseNotFound, "no-use", http.StatusNotFound},
	{domain.ErrRoomNotFound, "no-room", http.StatusNotFound},
	{domain.ErrClosureNotFound, "no-closure", http.StatusNotFound},
	{domain.ErrFaultNotFound, "no-fault", http.StatusNotFound},
	{domain.ErrConfirmationPending, "pending", http.StatusConflict},
	{commands.ErrContended, "contended", http.StatusServiceUnavailable},
	{commands.ErrHistoryBusy, "busy", http.StatusServiceUnavailable},
	{commands.ErrKeyReused, "sent-before", http.StatusConflict},
	{eventstore.ErrOutcomeUnknown, "unknown-outcome", http.StatusServiceUnavailable},
	{eventstore.ErrReplaced, "unavailable", http.StatusServiceUnavailable},
	{eventstore.ErrUnavailable, "unavailable", http.StatusServiceUnavailable},
	{eventstore.ErrClosed, "shutting-down", http.StatusServiceUnavailable},
	{projections.ErrNotFound, "no-booking", http.StatusNotFound},
	{projections.ErrBehind, "behind", http.StatusServiceUnavailable},
	{projections.ErrNoSuchPosition, "behind", http.StatusBadRequest},
	{projections.ErrTooWide, "too-wide", http.StatusServiceUnavailable},
	{projections.ErrUnavailable, "unavailable", http.StatusServiceUnavailable},
	{context.DeadlineExceeded, "timeout", http.StatusServiceUnavailable},
	{context.Canceled, "shutting-down", http.StatusServiceUnavailable},
}

// problemOf says an error in the reader's language: in the words of screens or, if they have none, in those that describe the problem to
// programmers. What neither knows is a fault of the program, of which the reader is told no more.
func (v *view) problemOf(err error) problem {
	p := v.knownProblem(err)
	t := v.p.problem(err)
	if p.Sentences == nil {
		p = problem{status: t.Status, Sentences: []string{v.T("problem." + t.Name)}}
		if !known("problem." + t.Name) {
			t = v.describe(t)
			p.Sentences = []string{t.Title + ".", t.About}
		}
	}
	if t.Status == p.status {
		p.Type = t.Name
	}
	return p
}

// knownProblem says an error for which screens have words of their own. For any other there are no sentences.
func (v *view) knownProblem(err error) problem {
	conflict := func(key string, values ...any) problem {
		return problem{status: http.StatusConflict, Sentences: []string{v.T("problem."+key, values...)}}
	}
	if taken, ok := errors.AsType[*domain.SlotTaken](err); ok {
		p := problem{status: http.StatusConflict}
		for _, r := range taken.By {
			p.Sentences = append(p.Sentences, v.T("problem.taken", "room", v.RoomName(taken.Room), "when", v.When(r.Slot, taken.Room)))
		}
		if taken.More > 0 {
			p.Sentences = append(p.Sentences, v.N("problem.taken-more", taken.More))
		}
		p.Sentences = append(p.Sentences, v.T("problem.choose-other"))
		return p
	}
	if broken, ok := errors.AsType[*domain.RuleBroken](err); ok {
		p := problem{status: http.StatusConflict}
		for _, b := range broken.Broken {
			next := v.T("problem.choose-other")
			if !b.Earliest.IsZero() {
				next = v.T("problem.earliest", "when", v.At(b.Earliest, broken.Room))
			}
			p.Sentences = append(p.Sentences, v.broken(b)+" "+next)
		}
		return p
	}
	if closed, ok := errors.AsType[*domain.RoomClosed](err); ok {
		p := problem{status: http.StatusConflict}
		for _, c := range closed.By {
			sentence := v.T("problem.closed", "room", v.RoomName(closed.Room), "when", v.When(c.Slot, closed.Room))
			if c.Reason != "" {
				sentence += " (" + c.Reason + ")"
			}
			p.Sentences = append(p.Sentences, sentence)
		}
		next := v.T("problem.choose-other")
		if !closed.Earliest.IsZero() {
			next = v.T("problem.earliest", "when", v.At(closed.Earliest, closed.Room))
		}
		p.Sentences = append(p.Sentences, next)
		return p
	}
	if retired, ok := errors.AsType[*domain.Retired](err); ok {
		p := conflict("retired", "room", v.RoomName(retired.Room), "when", v.At(retired.From, retired.Room))
		p.Sentences = append(p.Sentences, v.T("problem.choose-other"))
		return p
	}
	if exists, ok := errors.AsType[*domain.RoomExists](err); ok {
		return conflict("room-exists", "room", exists.Room)
	}
	if over, ok := errors.AsType[*domain.AlreadyCancelled](err); ok {
		return conflict("over", "when", v.Moment(over.At.In(v.p.zone)), "why", v.T("reason."+string(over.Reason)))
	}
	if _, ok := errors.AsType[*domain.AlreadyInUse](err); ok {
		return conflict("in-use")
	}
	if _, ok := errors.AsType[*domain.TooManyChanges](err); ok {
		return conflict("too-many-changes", "n", domain.MaxChanges)
	}
	if _, ok := errors.AsType[*domain.TooManyFaults](err); ok {
		return conflict("too-many-faults", "n", domain.MaxOpenFaults)
	}
	if confirmed, ok := errors.AsType[*domain.AlreadyConfirmed](err); ok {
		return conflict("confirmed", "who", v.Person(confirmed.By))
	}
	if ended, ok := errors.AsType[*domain.AlreadyEnded](err); ok {
		return conflict("ended", "when", v.Moment(ended.At.In(v.p.zone)))
	}
	if early, ok := errors.AsType[*domain.EndBeforeStart](err); ok {
		return conflict("end-before-start", "when", v.Moment(early.StartedAt.In(v.p.zone)))
	}
	if off, ok := errors.AsType[*domain.UseOffSlot](err); ok {
		if off.Latest.IsZero() || off.StartedAt.Before(off.Earliest) {
			return conflict("use-early", "when", v.Moment(off.Earliest.In(v.p.zone)))
		}
		return conflict("use-late", "when", v.Moment(off.Latest.In(v.p.zone)))
	}
	if _, ok := errors.AsType[*commands.ConditionFailed](err); ok {
		return conflict("changed-meanwhile")
	}
	if _, ok := errors.AsType[*commands.RefusedBefore](err); ok {
		return conflict("sent-before")
	}
	if _, ok := errors.AsType[*commands.Unreadable](err); ok {
		return problem{status: http.StatusServiceUnavailable, Sentences: []string{v.T("problem.unavailable")}}
	}
	if _, ok := errors.AsType[*domain.Forbidden](err); ok {
		sentence := v.T("problem.forbidden")
		if at := domain.RoomID(v.r.PathValue("id")); v.atDoor() && v.actor.Roles == domain.NewRoles(domain.RoleDoor) && v.actor.Rooms != "" && !v.actor.Rooms.Has(at) {
			_, _ = v.readRooms() // while their names cannot be read the ids have to do
			var rooms []string
			for _, room := range v.actor.Rooms.List() {
				rooms = append(rooms, v.RoomName(room))
			}
			sentence = v.T("problem.other-door", "room", strings.Join(rooms, ", "))
		}
		return problem{status: http.StatusForbidden, Sentences: []string{sentence}}
	}
	if _, ok := errors.AsType[*accounts.TooManyTries](err); ok {
		return problem{status: http.StatusTooManyRequests, Sentences: []string{v.T("problem.too-many-tries")}}
	}
	if invalid, ok := errors.AsType[*domain.Invalid](err); ok {
		p := problem{status: http.StatusUnprocessableEntity}
		for _, f := range invalid.Faults {
			p.Sentences = append(p.Sentences, v.fault(f))
		}
		return p
	}
	if invalid, ok := errors.AsType[*projections.InvalidQuery](err); ok {
		return problem{status: http.StatusBadRequest, Sentences: []string{v.T("problem.query", "field", invalid.Parameter)}}
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return problem{status: s.status, Sentences: []string{v.T("problem." + s.key)}}
		}
	}
	return problem{}
}

// fault describes a faulty value in the reader's language or, if the catalogue has no text for it, in the domain's words.
func (v *view) fault(f domain.Fault) string {
	field, _, _ := strings.Cut(string(f.Field), "/")
	if key := "fault." + field; known(key) {
		return v.T(key)
	}
	return v.T("fault.other", "field", v.field(field), "detail", f.Detail)
}

func (v *view) field(name string) string {
	if key := "field." + name; known(key) {
		return v.T(key)
	}
	return name
}

// broken says which rule a slot breaks.
func (v *view) broken(b domain.BrokenRule) string {
	switch limit := b.Limit.(type) {
	case []domain.Hours:
		if len(limit) == 0 {
			return v.T("broken.hours-none")
		}
		return v.T("broken.hours", "hours", v.hours(limit))
	case int:
		return v.T("broken."+string(b.Rule), "n", limit, "length", v.Length(limit))
	}
	return b.Detail
}

// retrySeconds is the interval at which browsers load a screen again that is not available for now, or, on a display, for whatever reason.
const retrySeconds = 30

// fail replies with the page of an error, and returns the error if it is one for the log.
func (v *view) fail(err error) error {
	p := v.problemOf(err)
	if errors.Is(err, projections.ErrBehind) || errors.Is(err, projections.ErrNoSuchPosition) {
		v.remember(cookiePosition, "", -1) // what it was made for is lost or late
	}
	if shown := v.showProblem(p); shown != nil {
		return errors.Join(err, shown)
	}
	if p.status == http.StatusInternalServerError {
		return err
	}
	return nil
}

// atDoor reports whether the path is that of the display at a door.
func (v *view) atDoor() bool {
	path := v.r.URL.EscapedPath()
	return strings.HasPrefix(path, "/rooms/") && strings.HasSuffix(path, "/door")
}

// showProblem replies with the page of a problem.
func (v *view) showProblem(p problem) error {
	v.status = p.status
	switch {
	case v.r.URL.EscapedPath() == "/lobby" || v.atDoor(): // nobody is there to leave the page
		v.w.Header().Set("Refresh", strconv.Itoa(retrySeconds)+"; url="+v.Link(v.Here()))
	case p.status == http.StatusServiceUnavailable && v.r.Method == http.MethodGet:
		v.w.Header().Set("Refresh", strconv.Itoa(retrySeconds))
	}
	title := "title.problem"
	if p.status == http.StatusNotFound {
		title = "title.not-found"
	}
	return v.show("problem", v.T(title), p)
}

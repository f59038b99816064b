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
	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// problem is why something was not done, for the reader.
type problem struct {
	status int
	// Sentences say what was wrong, and what would do.
	Sentences []string
}

// shown reports whether it is said beside the form that led to it, with what was typed. What the form is about may be gone, and a fault of the
// program is for the log.
func (p problem) shown() bool {
	return p.status != http.StatusNotFound && p.status != http.StatusBadRequest && p.status != http.StatusInternalServerError
}

// Again reports whether the same may be done a little later.
func (p problem) Again() bool {
	return p.status == http.StatusServiceUnavailable || p.status == http.StatusTooManyRequests
}

// sentinels are the errors that a text of the catalogue says everything about.
var sentinels = []struct {
	err    error
	key    string
	status int
}{
	{errNoPage, "no-page", http.StatusNotFound},
	{errForm, "form", http.StatusBadRequest},
	{errNoTime, "no-time", http.StatusUnprocessableEntity},
	{errSkipped, "skipped-time", http.StatusUnprocessableEntity},
	{errTwice, "time-twice", http.StatusUnprocessableEntity},
	{errNoReason, "no-reason", http.StatusUnprocessableEntity},
	{accounts.ErrWrongCredentials, "wrong-credentials", http.StatusForbidden},
	{accounts.ErrDisabled, "user-disabled", http.StatusForbidden},
	{oidc.ErrNotBegun, "sign-in-not-begun", http.StatusBadRequest},
	{oidc.ErrRefused, "sign-in-refused", http.StatusForbidden},
	{oidc.ErrNoRole, "no-role", http.StatusForbidden},
	{oidc.ErrUnavailable, "provider-away", http.StatusServiceUnavailable},
	{accounts.ErrBusy, "signing-in", http.StatusServiceUnavailable},
	{accounts.ErrNoDisplay, "no-display", http.StatusUnprocessableEntity},
	{accounts.ErrSessionNotFound, "no-session", http.StatusNotFound},
	{accounts.ErrTooManyTokens, "too-many-tokens", http.StatusConflict},
	{directory.ErrNameTaken, "name-taken", http.StatusConflict},
	{directory.ErrUnavailable, "unavailable", http.StatusServiceUnavailable},
	{domain.ErrUserNotFound, "no-user", http.StatusNotFound},
	{domain.ErrTokenNotFound, "no-token", http.StatusNotFound},
	{domain.ErrBeyondUser, "beyond-user", http.StatusUnprocessableEntity},
	{errNoName, "no-name", http.StatusUnprocessableEntity},
	{errNobodyChosen, "none-chosen", http.StatusUnprocessableEntity},
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
	{eventstore.ErrClosed, "unavailable", http.StatusServiceUnavailable},
	{projections.ErrNotFound, "no-booking", http.StatusNotFound},
	{projections.ErrBehind, "behind", http.StatusServiceUnavailable},
	{projections.ErrNoSuchPosition, "behind", http.StatusServiceUnavailable},
	{projections.ErrTooWide, "too-wide", http.StatusServiceUnavailable},
	{projections.ErrUnavailable, "unavailable", http.StatusServiceUnavailable},
	{context.DeadlineExceeded, "unavailable", http.StatusServiceUnavailable},
	{context.Canceled, "unavailable", http.StatusServiceUnavailable},
}

// problemOf says an error in the reader's language. What it does not know is a fault of the program, of which the reader is told no more.
func (v *view) problemOf(err error) problem {
	conflict := func(key string, values ...any) problem {
		return problem{http.StatusConflict, []string{v.T("problem."+key, values...)}}
	}
	if taken, ok := errors.AsType[*domain.SlotTaken](err); ok {
		p := problem{status: http.StatusConflict}
		for _, r := range taken.By {
			p.Sentences = append(p.Sentences, v.T("problem.taken", "room", v.RoomName(taken.Room), "when", v.When(r.Slot, taken.Room)))
		}
		if taken.More > 0 {
			p.Sentences = append(p.Sentences, v.N("problem.taken-more", taken.More))
		}
		return p
	}
	if broken, ok := errors.AsType[*domain.RuleBroken](err); ok {
		p := problem{status: http.StatusConflict}
		for _, b := range broken.Broken {
			sentence := v.broken(b)
			if !b.Earliest.IsZero() {
				sentence += " " + v.T("problem.earliest", "when", v.At(b.Earliest, broken.Room))
			}
			p.Sentences = append(p.Sentences, sentence)
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
		if !closed.Earliest.IsZero() {
			p.Sentences = append(p.Sentences, v.T("problem.earliest", "when", v.At(closed.Earliest, closed.Room)))
		}
		return p
	}
	if retired, ok := errors.AsType[*domain.Retired](err); ok {
		return conflict("retired", "room", v.RoomName(retired.Room), "when", v.At(retired.From, retired.Room))
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
		return problem{http.StatusServiceUnavailable, []string{v.T("problem.unavailable")}}
	}
	if _, ok := errors.AsType[*domain.Forbidden](err); ok {
		return problem{http.StatusForbidden, []string{v.T("problem.forbidden")}}
	}
	if _, ok := errors.AsType[*accounts.TooManyTries](err); ok {
		return problem{http.StatusTooManyRequests, []string{v.T("problem.too-many-tries")}}
	}
	if invalid, ok := errors.AsType[*domain.Invalid](err); ok {
		p := problem{status: http.StatusUnprocessableEntity}
		for _, f := range invalid.Faults {
			p.Sentences = append(p.Sentences, v.fault(f))
		}
		return p
	}
	if invalid, ok := errors.AsType[*projections.InvalidQuery](err); ok {
		return problem{http.StatusBadRequest, []string{v.T("problem.query", "field", invalid.Parameter)}}
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return problem{s.status, []string{v.T("problem." + s.key)}}
		}
	}
	return problem{http.StatusInternalServerError, []string{v.T("problem.internal")}}
}

// fault says what is wrong with a value: which one in the reader's language and, where the catalogue does not know it, what in the domain's words.
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
		var hours []string
		for _, h := range limit {
			hours = append(hours, h.From+"–"+h.To)
		}
		return v.T("broken.hours", "hours", strings.Join(hours, ", "))
	case int:
		return v.T("broken."+string(b.Rule), "n", limit, "length", v.Length(limit))
	}
	return b.Detail
}

// retrySeconds is after how long browsers ask again for a screen that could not be shown.
const retrySeconds = 30

// fail replies with the page of an error, and returns the error if it is one for the log.
func (v *view) fail(err error) error {
	p := v.problemOf(err)
	v.status = p.status
	if errors.Is(err, projections.ErrBehind) || errors.Is(err, projections.ErrNoSuchPosition) {
		v.remember(cookiePosition, "", -1) // what it was made for is lost or late
	}
	if v.status == http.StatusServiceUnavailable && v.r.Method == http.MethodGet {
		v.w.Header().Set("Refresh", strconv.Itoa(retrySeconds))
	}
	if shown := v.show("problem", v.T("title.problem"), p); shown != nil {
		return errors.Join(err, shown)
	}
	if p.status == http.StatusInternalServerError {
		return err
	}
	return nil
}

package domain

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// Rules restrict the bookings of a room. The zero value restricts nothing. They are decided where a slot is decided, on the same calendar.
type Rules struct {
	// Hours are when the room can be booked, by weekday, in the zone of the room. A weekday without any is closed. Nil is always.
	Hours *WeekHours `json:"hours,omitzero"`
	// StepMinutes is the grid on which slots start and end, counted from midnight by the wall clock in the zone of the room.
	StepMinutes int `json:"stepMinutes,omitzero"`
	// ShortestMinutes and LongestMinutes bound the length of a slot.
	ShortestMinutes int `json:"shortestMinutes,omitzero"`
	LongestMinutes  int `json:"longestMinutes,omitzero"`
	// GapMinutes is the least time between two bookings.
	GapMinutes int `json:"gapMinutes,omitzero"`
	// NoticeMinutes is how long before its start a slot has to be booked at the latest, HorizonDays how long at the earliest.
	NoticeMinutes int `json:"noticeMinutes,omitzero"`
	HorizonDays   int `json:"horizonDays,omitzero"`
	// Approval says whether an administrator confirms bookings. Empty is [ApprovalRequired].
	Approval Approval `json:"approval,omitzero"`
	// EarlyUseMinutes is how long before its slot the use of a booking may start at the earliest. Nil is as the policy says.
	EarlyUseMinutes *int `json:"earlyUseMinutes,omitzero"`
	// UpcomingPerUser is how many bookings that have not ended a user may have in the room, and WeeklyMinutesPerUser how much time in a
	// week from Monday to Sunday in the zone of the room. A booking that was handed over while there was no such rule counts for its
	// former user.
	UpcomingPerUser      int `json:"upcomingPerUser,omitzero"`
	WeeklyMinutesPerUser int `json:"weeklyMinutesPerUser,omitzero"`
}

// Approval says who answers requests for confirmation.
type Approval string

const (
	ApprovalRequired Approval = "required" // an administrator
	ApprovalNone     Approval = "none"     // nobody: bookings are confirmed as they are made
)

// WeekHours are the bookable hours of each weekday.
type WeekHours struct {
	Monday    []Hours `json:"monday,omitempty"`
	Tuesday   []Hours `json:"tuesday,omitempty"`
	Wednesday []Hours `json:"wednesday,omitempty"`
	Thursday  []Hours `json:"thursday,omitempty"`
	Friday    []Hours `json:"friday,omitempty"`
	Saturday  []Hours `json:"saturday,omitempty"`
	Sunday    []Hours `json:"sunday,omitempty"`
}

// Hours is a part of a day, [From, To), as HH:MM of the wall clock from 00:00 to 24:00.
type Hours struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// on are the bookable hours of a weekday.
func (h *WeekHours) on(day time.Weekday) []Hours {
	return [...][]Hours{h.Sunday, h.Monday, h.Tuesday, h.Wednesday, h.Thursday, h.Friday, h.Saturday}[day]
}

// span is the part of a day as times since midnight by the wall clock. It is empty if they cannot be read.
func (h Hours) span() (from, to time.Duration) {
	from, ok := wallClock(h.From)
	to, valid := wallClock(h.To)
	if !ok || !valid {
		return 0, 0
	}
	return from, to
}

// wallClock reads HH:MM, from 00:00 to 24:00, as a time since midnight.
func wallClock(text string) (time.Duration, bool) {
	if text == "24:00" {
		return day, true
	}
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, false
	}
	return sinceMidnight(t), true
}

// RuleName names a rule, as its member of [Rules] is stored.
type RuleName string

const (
	RuleHours    RuleName = "hours"
	RuleStep     RuleName = "stepMinutes"
	RuleShortest RuleName = "shortestMinutes"
	RuleLongest  RuleName = "longestMinutes"
	RuleGap      RuleName = "gapMinutes"
	RuleNotice   RuleName = "noticeMinutes"
	RuleHorizon  RuleName = "horizonDays"
	RuleUpcoming RuleName = "upcomingPerUser"
	RuleWeekly   RuleName = "weeklyMinutesPerUser"
)

const (
	day          = 24 * time.Hour
	dayMinutes   = 24 * 60
	yearMinutes  = 366 * dayMinutes
	weekMinutes  = 7 * dayMinutes
	maxHorizon   = 3660 // days
	maxUpcoming  = 1000
	maxIntervals = 24 // of a day
)

// Check lists everything that is wrong with the rules; nil if nothing is.
func (r Rules) Check() []Fault {
	var faults []Fault
	bound := func(rule RuleName, value, most int) {
		if value < 0 || value > most {
			faults = append(faults, Fault{Field(rule), fmt.Sprintf("must be from 0, which is no rule, to %d", most)})
		}
	}
	if r.Hours != nil {
		open := false
		for i := range 7 {
			weekday := (time.Monday + time.Weekday(i)) % 7
			hours := r.Hours.on(weekday)
			open = open || len(hours) > 0
			faults = append(faults, checkHours(Field("hours/"+strings.ToLower(weekday.String())), hours)...)
		}
		if !open {
			faults = append(faults, Fault{Field(RuleHours), "must have hours on some day; close or retire a room that cannot be booked"})
		}
	}
	if bound(RuleStep, r.StepMinutes, dayMinutes); r.StepMinutes > 0 && dayMinutes%r.StepMinutes != 0 {
		faults = append(faults, Fault{Field(RuleStep), "must divide a day of 1440 minutes"})
	}
	bound(RuleShortest, r.ShortestMinutes, yearMinutes)
	if bound(RuleLongest, r.LongestMinutes, yearMinutes); r.LongestMinutes > 0 && r.LongestMinutes < max(r.ShortestMinutes, r.StepMinutes) {
		faults = append(faults, Fault{Field(RuleLongest), "must not be less than the shortest and the step"})
	}
	bound(RuleGap, r.GapMinutes, dayMinutes)
	bound(RuleNotice, r.NoticeMinutes, yearMinutes)
	if bound(RuleHorizon, r.HorizonDays, maxHorizon); r.HorizonDays > 0 && r.NoticeMinutes > r.HorizonDays*dayMinutes {
		faults = append(faults, Fault{Field(RuleHorizon), "must not be less than the notice"})
	}
	if !slices.Contains([]Approval{"", ApprovalRequired, ApprovalNone}, r.Approval) {
		faults = append(faults, Fault{"approval", "must be " + string(ApprovalRequired) + " or " + string(ApprovalNone)})
	}
	if early := r.EarlyUseMinutes; early != nil && (*early < 0 || *early > weekMinutes) {
		faults = append(faults, Fault{"earlyUseMinutes", fmt.Sprintf("must be from 0 to %d", weekMinutes)})
	}
	bound(RuleUpcoming, r.UpcomingPerUser, maxUpcoming)
	bound(RuleWeekly, r.WeeklyMinutesPerUser, weekMinutes-1)
	return faults
}

func checkHours(field Field, hours []Hours) (faults []Fault) {
	if len(hours) > maxIntervals {
		return []Fault{{field, fmt.Sprintf("may have at most %d parts", maxIntervals)}}
	}
	for i, h := range hours {
		of := func(member string) Field { return Field(fmt.Sprintf("%s/%d/%s", field, i, member)) }
		from, ok := wallClock(h.From)
		if !ok {
			faults = append(faults, Fault{of("from"), "must be HH:MM, from 00:00 to 24:00"})
		}
		to, valid := wallClock(h.To)
		if !valid {
			faults = append(faults, Fault{of("to"), "must be HH:MM, from 00:00 to 24:00"})
		}
		if ok && valid && from >= to {
			faults = append(faults, Fault{of("to"), "must be after from"})
		}
	}
	return faults
}

// LimitUsers reports whether a rule counts what a user has.
func (r Rules) LimitUsers() bool { return r.UpcomingPerUser > 0 || r.WeeklyMinutesPerUser > 0 }

// Bookable reports whether all of the slot is within the bookable hours of the room, given the program's time zone.
func (r Room) Bookable(s Slot, zone *time.Location) bool {
	return r.Rules.Hours == nil || r.Rules.Hours.cover(s, r.in(zone))
}

// cover reports whether all of the slot is within the hours, which no slot is that is longer than a year.
func (h *WeekHours) cover(s Slot, zone *time.Location) bool {
	if s.Length() > yearMinutes*time.Minute {
		return false
	}
	for t := s.Start.In(zone); t.Before(s.End); {
		until := h.openUntil(t)
		if !until.After(t) {
			return false
		}
		t = until
	}
	return true
}

// openUntil is a time until which the hours last from t on without a break, in the zone of t; not after t if t is not in them.
func (h *WeekHours) openUntil(t time.Time) time.Time {
	wall, until := sinceMidnight(t), t
	for _, hours := range h.on(t.Weekday()) {
		if from, to := hours.span(); from <= wall && wall < to {
			until = latest(until, t.Add(to-wall))
		}
	}
	return beforeClockChange(t, until)
}

// openAfter is the next time after t at which hours begin, or go on on another day or after a change of the clocks; zero if there is none
// within weeks.
func (h *WeekHours) openAfter(t time.Time) time.Time {
	for range 32 {
		wall := sinceMidnight(t)
		next := beforeClockChange(t, t.Add(day-wall))
		begin := next
		for _, hours := range h.on(t.Weekday()) {
			if from, to := hours.span(); from > wall && from < to && t.Add(from-wall).Before(begin) {
				begin = t.Add(from - wall)
			}
		}
		if begin.Before(next) || h.openUntil(next).After(next) {
			return begin
		}
		t = next
	}
	return time.Time{}
}

// During yields the hours in a window, in their order.
func (h *WeekHours) During(window Slot, zone *time.Location) iter.Seq[Slot] {
	return func(yield func(Slot) bool) {
		for t := window.Start.In(zone); !t.IsZero() && t.Before(window.End); {
			until := h.openUntil(t)
			if !until.After(t) {
				t = h.openAfter(t)
			} else if !yield(Slot{t, until}) {
				return
			} else {
				t = until
			}
		}
	}
}

// beforeClockChange is until, or the time between t and that when the clocks of its zone are changed: up to then the wall clock runs evenly.
func beforeClockChange(t, until time.Time) time.Time {
	if _, change := t.ZoneBounds(); !change.IsZero() && change.Before(until) {
		return change
	}
	return until
}

// sinceMidnight is the time of day by the wall clock.
func sinceMidnight(t time.Time) time.Duration {
	hour, minute, second := t.Clock()
	return time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second + time.Duration(t.Nanosecond())
}

// onGrid reports whether the wall clock is at a multiple of the step since midnight.
func onGrid(t time.Time, step time.Duration) bool { return sinceMidnight(t)%step == 0 }

// nextOnGrid is the first time after t at which the wall clock is at a multiple of the step since midnight.
func nextOnGrid(t time.Time, step time.Duration) time.Time {
	for {
		next := beforeClockChange(t, t.Add(step-sinceMidnight(t)%step))
		if onGrid(next, step) {
			return next
		}
		t = next
	}
}

// weekOf is the week of t, from Monday to Sunday in its zone.
func weekOf(t time.Time) Slot {
	monday := t.Day() - int(t.Weekday()+6)%7
	return Slot{Midnight(t.Year(), t.Month(), monday, t.Location()), Midnight(t.Year(), t.Month(), monday+7, t.Location())}
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// BrokenRule is a rule that a slot breaks.
type BrokenRule struct {
	Rule  RuleName
	Limit any // the value of the rule: an int of minutes, days or bookings, or the [Hours] of the day of the slot's start
	// Earliest is the earliest start, not before the requested one, of a slot of the same length, or of the nearest length that the rules
	// allow, that is free and breaks no rule; zero if none was found.
	Earliest time.Time
	Detail   string
}

// objection is why a slot cannot be booked.
type objection struct {
	rule   RuleName // empty if it is no rule
	limit  any
	detail func() string  // in words
	by     []*Reservation // that it is about
	// until is a start of the slot, after its own, before which this goes on; zero if that is for good.
	until time.Time
}

// admission decides whether a reservation can be made in a room that has events of its own.
type admission struct {
	calendar Calendar
	room     Room
	ask      SlotReserved
	user     uint64
	own      *entry // the reservation that is replaced, if it is in this calendar
	policy   Policy
	zone     *time.Location

	upcoming, inWeek userHas // as they were counted last
}

// userHas is the reservations of a user's other bookings that overlap a slot.
type userHas struct {
	in  Slot
	has []*Reservation
}

func (c Calendar) admission(ask SlotReserved, p Policy) *admission {
	room := c.About()
	a := &admission{calendar: c, room: room, ask: ask, user: userKey(ask), policy: p, zone: room.in(p.Zone)}
	if ask.Replaces != "" {
		a.own = c.held(ask.BookingID, ask.Replaces)
	}
	return a
}

// decide returns the reservation as it is to be made, or why it cannot be, apart from slots that are taken.
func (a *admission) decide() (SlotReserved, error) {
	ask, slot, rules := a.ask, a.ask.Slot, a.room.Rules
	if retired, by := a.outOfUse(slot); retired {
		return ask, &Retired{Room: ask.RoomID, From: a.room.Retirement.From}
	} else if by != nil {
		return ask, &RoomClosed{Room: ask.RoomID, Slot: slot, By: by, Earliest: a.earliest()}
	}
	broken, by := a.broken(slot)
	switch {
	case broken == nil:
		ask.Override = false
	case !ask.Override:
		earliest := a.earliest()
		for i := range broken {
			broken[i].Earliest = earliest
		}
		return ask, &RuleBroken{Room: ask.RoomID, Slot: slot, Broken: broken, By: by}
	}
	if rules.Approval == ApprovalNone {
		ask.Approval = ApprovalNone
	}
	if early := rules.EarlyUseMinutes; early != nil {
		ask.UseFrom = slot.Start.Add(-time.Duration(*early) * time.Minute)
	}
	return ask, nil
}

// outOfUse reports whether the room is retired before the slot ends, and lists the closures that overlap it. A booking that stays in a
// closed period may be handed over, which takes a reservation of the same slot.
func (a *admission) outOfUse(s Slot) (retired bool, by []Closure) {
	if retired, by = a.room.retired(s), a.room.closed(s); !a.keeps(s) {
		return retired, by
	}
	if _, cancels := a.room.Cancels(s); cancels {
		return retired, by
	}
	return false, nil
}

// keeps reports whether the booking has the slot already.
func (a *admission) keeps(s Slot) bool { return a.own != nil && a.own.slot().Equal(s) }

// broken lists the rules that a slot breaks, and the reservations because of which it does.
func (a *admission) broken(s Slot) (broken []BrokenRule, by []*Reservation) {
	for _, o := range a.objections(s) {
		if o.rule != "" {
			broken = append(broken, BrokenRule{Rule: o.rule, Limit: o.limit, Detail: o.detail()})
			by = append(by, o.by...)
		}
	}
	return broken, by
}

// objections lists the rules that a slot breaks. What the change of a booking leaves as it is breaks none.
func (a *admission) objections(s Slot) []objection {
	if a.keeps(s) {
		if a.own.user == a.user {
			return nil
		}
		return a.overLimits(s)
	}
	objections := slices.Concat(a.misfits(s), a.tooNear(s), a.overLimits(s))
	if a.own == nil || !a.own.slot().Start.Equal(s.Start) {
		objections = append(objections, a.untimely(s)...)
	}
	return objections
}

// misfits lists the rules that a slot breaks by its place in the day and its length.
func (a *admission) misfits(s Slot) (objections []objection) {
	rules := a.room.Rules
	start, end := s.Start.In(a.zone), s.End.In(a.zone)
	if !a.room.Bookable(s, a.policy.Zone) {
		hours := rules.Hours.on(start.Weekday())
		objections = append(objections, objection{rule: RuleHours, limit: hours, until: rules.Hours.openAfter(start),
			detail: func() string {
				return fmt.Sprintf("the room can be booked in its hours only: on a %s they are %s (%s)", start.Weekday(), hoursInWords(hours), a.zone)
			}})
	}
	if step := time.Duration(rules.StepMinutes) * time.Minute; step > 0 && !(onGrid(start, step) && onGrid(end, step)) {
		objections = append(objections, objection{rule: RuleStep, limit: rules.StepMinutes, until: nextOnGrid(start, step),
			detail: func() string {
				return fmt.Sprintf("a booking starts and ends at a multiple of %s from midnight (%s)", inWords(step), a.zone)
			}})
	}
	if shortest := time.Duration(rules.ShortestMinutes) * time.Minute; s.Length() < shortest {
		objections = append(objections, objection{rule: RuleShortest, limit: rules.ShortestMinutes,
			detail: func() string {
				return fmt.Sprintf("a booking is at least %s long, this one is %s", inWords(shortest), inWords(s.Length()))
			}})
	}
	if longest := time.Duration(rules.LongestMinutes) * time.Minute; longest > 0 && s.Length() > longest {
		objections = append(objections, objection{rule: RuleLongest, limit: rules.LongestMinutes,
			detail: func() string {
				return fmt.Sprintf("a booking is at most %s long, this one is %s", inWords(longest), inWords(s.Length()))
			}})
	}
	return objections
}

// hoursInWords spells out the bookable hours of a day.
func hoursInWords(hours []Hours) string {
	if len(hours) == 0 {
		return "none"
	}
	var words []string
	for _, h := range hours {
		words = append(words, h.From+" to "+h.To)
	}
	return strings.Join(words, " and ")
}

// untimely lists the rules that a slot breaks by how soon, or how late, it starts.
func (a *admission) untimely(s Slot) (objections []objection) {
	rules := a.room.Rules
	if soonest := a.ask.At.Add(time.Duration(rules.NoticeMinutes) * time.Minute); rules.NoticeMinutes > 0 && s.Start.Before(soonest) {
		objections = append(objections, objection{rule: RuleNotice, limit: rules.NoticeMinutes, until: soonest,
			detail: func() string {
				return fmt.Sprintf("a booking is made at least %s before it starts", inWords(time.Duration(rules.NoticeMinutes)*time.Minute))
			}})
	}
	if rules.HorizonDays > 0 && s.Start.After(a.ask.At.In(a.zone).AddDate(0, 0, rules.HorizonDays)) {
		from := s.Start.In(a.zone).AddDate(0, 0, -rules.HorizonDays)
		objections = append(objections, objection{rule: RuleHorizon, limit: rules.HorizonDays,
			detail: func() string {
				return fmt.Sprintf("a booking is made at most %d days before it starts, this one from %s on", rules.HorizonDays, from.Format(time.RFC3339))
			}})
	}
	return objections
}

// tooNear is the gap that a slot does not keep from others, which it does not overlap.
func (a *admission) tooNear(s Slot) []objection {
	near := a.calendar.WithinGap(a.ask.BookingID, s)
	if near == nil {
		return nil
	}
	gap := time.Duration(a.room.Rules.GapMinutes) * time.Minute
	until := near[len(near)-1].Slot.End
	for _, r := range near {
		until = latest(until, r.Slot.End)
	}
	until = until.Add(gap)
	return []objection{{rule: RuleGap, limit: a.room.Rules.GapMinutes, by: near, until: until,
		detail: func() string {
			return fmt.Sprintf("there are at least %s between two bookings; after these the room can be booked from %s on", inWords(gap), until.In(a.zone).Format(time.RFC3339))
		}}}
}

// WithinGap lists the reservations of other bookings that do not overlap the slot and are less than the room's gap before or after it.
func (c Calendar) WithinGap(except BookingID, s Slot) []*Reservation {
	gap := time.Duration(c.About().Rules.GapMinutes) * time.Minute
	if gap == 0 {
		return nil
	}
	near := c.Overlapping(Slot{s.Start.Add(-gap), s.End.Add(gap)}, except)
	near = slices.DeleteFunc(near, func(r *Reservation) bool { return r.Slot.Overlaps(s) })
	if len(near) == 0 {
		return nil
	}
	return near
}

// overLimits lists the limits of the user that a slot exceeds.
func (a *admission) overLimits(s Slot) (objections []objection) {
	rules := a.room.Rules
	if rules.UpcomingPerUser > 0 && s.End.After(a.ask.At) && (a.own == nil || a.own.user != a.user) {
		has := a.count(&a.upcoming, Slot{a.ask.At, endOfTime}, false)
		if len(has) >= rules.UpcomingPerUser {
			objections = append(objections, objection{rule: RuleUpcoming, limit: rules.UpcomingPerUser, by: has,
				detail: func() string {
					return fmt.Sprintf("a user has at most %d bookings in this room that have not ended, this one has %d already", rules.UpcomingPerUser, len(has))
				}})
		}
	}
	if rules.WeeklyMinutesPerUser > 0 {
		limit := time.Duration(rules.WeeklyMinutesPerUser) * time.Minute
		for week := weekOf(s.Start.In(a.zone)); week.Start.Before(s.End); week = weekOf(week.End) {
			sum := week.common(s)
			has := a.count(&a.inWeek, week, true)
			for _, r := range has {
				sum += week.common(r.Slot)
			}
			if sum > limit {
				left := max(0, limit-sum+week.common(s))
				objections = append(objections, objection{rule: RuleWeekly, limit: rules.WeeklyMinutesPerUser, by: has, until: week.End.Add(-left),
					detail: func() string {
						return fmt.Sprintf("a user has at most %s a week in this room, and would have %s in the week of %s", inWords(limit), inWords(sum), week.Start.Format(time.DateOnly))
					}})
				break
			}
		}
	}
	return objections
}

// endOfTime is after all slots.
var endOfTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)

// count lists the reservations of the user's other bookings that overlap the slot, by start; those of bookings that are over too if used. They
// are counted anew if the last count was for another slot.
func (a *admission) count(last *userHas, s Slot, used bool) []*Reservation {
	if last.in == s {
		return last.has
	}
	*last = userHas{in: s}
	own, _ := asUUID(string(a.ask.BookingID))
	a.calendar.overlapping(s, func(e *entry) {
		if e.user == a.user && a.user != 0 && e.booking != own && (used || !e.used) {
			last.has = append(last.has, a.calendar.reservation(e))
		}
	})
	return last.has
}

// maxSteps is how many starts are tried, each after an obstacle to the one before.
const maxSteps = 300

// earliest is [BrokenRule].Earliest.
func (a *admission) earliest() time.Time {
	slot, ok := a.fit()
	for range maxSteps {
		if !ok || a.policy.tooLong(slot) {
			break
		}
		next := a.obstacle(slot)
		if next.IsZero() {
			return slot.Start
		}
		ok = next.Before(endOfTime)
		slot = Slot{next, next.Add(slot.Length())}
	}
	return time.Time{}
}

// NextFree is the first slot that can be booked from the start of the one asked for on: of the same length, or of the nearest length that the
// rules allow. There may be none.
func (c Calendar) NextFree(ask SlotReserved, p Policy) (next Slot, ok bool) {
	a := c.admission(ask, p)
	start := a.earliest()
	fit, _ := a.fit()
	return Slot{start, start.Add(fit.Length())}, !start.IsZero()
}

// fit is the slot that starts when it was asked for, with the nearest length that the rules allow.
func (a *admission) fit() (s Slot, ok bool) {
	rules := a.room.Rules
	length := max(a.ask.Slot.Length(), time.Duration(rules.ShortestMinutes)*time.Minute)
	if longest := time.Duration(rules.LongestMinutes) * time.Minute; longest > 0 {
		length = min(length, longest)
	}
	if step := time.Duration(rules.StepMinutes) * time.Minute; step > 0 {
		if length = (length + step - 1) / step * step; rules.LongestMinutes > 0 && length > time.Duration(rules.LongestMinutes)*time.Minute {
			length -= step
		}
	}
	return Slot{a.ask.Slot.Start, a.ask.Slot.Start.Add(length)}, length >= time.Duration(rules.ShortestMinutes)*time.Minute && length > 0
}

// obstacle is zero for a slot that can be booked; otherwise it is the start to be tried next, or the end of time if there is none.
func (a *admission) obstacle(s Slot) (next time.Time) {
	if a.policy.RefusePast && s.Start.Before(a.ask.At) {
		next = a.ask.At
	}
	retired, closed := a.outOfUse(s)
	if retired {
		return endOfTime
	}
	for _, c := range closed {
		next = latest(next, c.Slot.End)
	}
	gap := time.Duration(a.room.Rules.GapMinutes) * time.Minute
	for _, r := range a.calendar.Overlapping(s, a.ask.BookingID) {
		next = latest(next, r.Slot.End.Add(gap))
	}
	for _, o := range a.objections(s) {
		if o.until.IsZero() {
			return endOfTime
		}
		next = latest(next, o.until)
	}
	return next
}

// BreaksNow is what speaks by now against a reservation that is held: rules, but for the notice that was given, closures, and the retirement
// of the room.
func (c Calendar) BreaksNow(r *Reservation, p Policy, now time.Time) (broken []BrokenRule, closures []Closure, retired bool) {
	e := c.held(r.BookingID, r.ReservationID)
	if e == nil {
		return nil, nil, false
	}
	a := c.admission(SlotReserved{BookingID: r.BookingID, RoomID: r.RoomID, Slot: r.Slot, At: now}, p)
	a.user = e.user
	for _, o := range slices.Concat(a.misfits(r.Slot), a.tooNear(r.Slot), a.overLimits(r.Slot), a.untimely(r.Slot)) {
		if o.rule != RuleNotice {
			broken = append(broken, BrokenRule{Rule: o.rule, Limit: o.limit, Detail: o.detail()})
		}
	}
	return broken, a.room.closed(r.Slot), a.room.retired(r.Slot)
}

// common is how long both slots last at the same time.
func (s Slot) common(o Slot) time.Duration {
	return max(0, Slot{latest(s.Start, o.Start), earliest(s.End, o.End)}.Length())
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// reach is how far back a decision on a slot looks that starts at a time or later, given the program's time zone.
func (r Room) reach(from time.Time, zone *time.Location) time.Time {
	reach := from.Add(-time.Duration(r.Rules.GapMinutes) * time.Minute)
	if r.Rules.WeeklyMinutesPerUser > 0 {
		return earliest(reach, weekOf(from.In(r.in(zone))).Start)
	}
	return reach
}

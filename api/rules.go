package api

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"roombook/commands"
	"roombook/domain"
)

func (s *Server) ruleRoutes() []route {
	return []route{
		// The rules of a room.
		{method: "GET", path: "/rooms/{id}/rules", handle: s.rules},
		// Sets the rules of a room, all of them.
		{method: "PUT", path: "/rooms/{id}/rules", handle: s.setRules},
	}
}

// rulesReply is the rules of a room; those that it does not have are left out.
type rulesReply struct {
	Hours                *domain.WeekHours `json:"hours,omitzero"`
	StepMinutes          int               `json:"stepMinutes,omitzero"`
	ShortestMinutes      int               `json:"shortestMinutes,omitzero"`
	LongestMinutes       int               `json:"longestMinutes,omitzero"`
	GapMinutes           int               `json:"gapMinutes,omitzero"`
	NoticeMinutes        int               `json:"noticeMinutes,omitzero"`
	HorizonDays          int               `json:"horizonDays,omitzero"`
	Approval             domain.Approval   `json:"approval,omitzero"`
	EarlyUseMinutes      *int              `json:"earlyUseMinutes,omitzero"`
	UpcomingPerUser      int               `json:"upcomingPerUser,omitzero"`
	WeeklyMinutesPerUser int               `json:"weeklyMinutesPerUser,omitzero"`
	Links                struct {
		Self  link `json:"self"`
		Rules link `json:"rules"`
		Room  link `json:"room"`
	} `json:"_links"`
}

// replyRules replies with the rules of a room.
func (x *exchange) replyRules(room commands.Room) error {
	x.setValidators(room.Revision, room.Position)
	d := room.Rules
	r := rulesReply{
		Hours: d.Hours, StepMinutes: d.StepMinutes, ShortestMinutes: d.ShortestMinutes, LongestMinutes: d.LongestMinutes, GapMinutes: d.GapMinutes, NoticeMinutes: d.NoticeMinutes,
		HorizonDays: d.HorizonDays, Approval: d.Approval, EarlyUseMinutes: d.EarlyUseMinutes, UpcomingPerUser: d.UpcomingPerUser, WeeklyMinutesPerUser: d.WeeklyMinutesPerUser,
	}
	r.Links.Room = x.link("/rooms/", string(room.ID))
	r.Links.Self = x.link("/rooms/", string(room.ID)+"/rules")
	r.Links.Rules = r.Links.Self
	return x.reply(&r)
}

func (s *Server) rules(x *exchange) error {
	r, err := x.room()
	if err != nil {
		return err
	}
	return x.replyRules(r)
}

// rulesRequest is the body that sets the rules of a room. Links are read-only.
type rulesRequest struct {
	Hours                field          `json:"hours"`
	StepMinutes          field          `json:"stepMinutes"`
	ShortestMinutes      field          `json:"shortestMinutes"`
	LongestMinutes       field          `json:"longestMinutes"`
	GapMinutes           field          `json:"gapMinutes"`
	NoticeMinutes        field          `json:"noticeMinutes"`
	HorizonDays          field          `json:"horizonDays"`
	Approval             field          `json:"approval"`
	EarlyUseMinutes      field          `json:"earlyUseMinutes"`
	UpcomingPerUser      field          `json:"upcomingPerUser"`
	WeeklyMinutesPerUser field          `json:"weeklyMinutesPerUser"`
	Links                field          `json:"_links"`
	Others               jsontext.Value `json:",embed"`
}

func (s *Server) setRules(x *exchange) error {
	var in rulesRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	var rules domain.Rules
	b.value(&in.Hours, &rules.Hours)
	b.value(&in.StepMinutes, &rules.StepMinutes)
	b.value(&in.ShortestMinutes, &rules.ShortestMinutes)
	b.value(&in.LongestMinutes, &rules.LongestMinutes)
	b.value(&in.GapMinutes, &rules.GapMinutes)
	b.value(&in.NoticeMinutes, &rules.NoticeMinutes)
	b.value(&in.HorizonDays, &rules.HorizonDays)
	b.value(&in.Approval, &rules.Approval)
	b.value(&in.EarlyUseMinutes, &rules.EarlyUseMinutes)
	b.value(&in.UpcomingPerUser, &rules.UpcomingPerUser)
	b.value(&in.WeeklyMinutesPerUser, &rules.WeeklyMinutesPerUser)
	b.domainFaults(rules.Check())
	if err := b.check(in.Others); err != nil {
		return err
	}
	id, request, err := x.roomRequest()
	if err != nil {
		return err
	}
	r, err := s.commands.SetRules(x.ctx, commands.SetRules{Request: request, Room: id, Rules: rules})
	if err != nil {
		return x.inBody(err, nil)
	}
	return x.replyRules(r)
}

// brokenRule is a rule that a slot breaks: its value, which is hours for the rule hours, and the earliest start of a slot that would do.
type brokenRule struct {
	Rule     domain.RuleName `json:"rule"`
	Limit    int             `json:"limit,omitzero"`
	Hours    []domain.Hours  `json:"hours,omitzero"`
	Earliest timestamp       `json:"earliest,omitzero"`
	Detail   string          `json:"detail"`
}

func brokenRules(broken []domain.BrokenRule, zone *time.Location) []brokenRule {
	replies := make([]brokenRule, len(broken))
	for i, b := range broken {
		r := brokenRule{Rule: b.Rule, Detail: b.Detail, Earliest: timestampOrZero(b.Earliest, zone)}
		switch limit := b.Limit.(type) {
		case int:
			r.Limit = limit
		case []domain.Hours:
			r.Hours = limit
		}
		replies[i] = r
	}
	return replies
}

// timestampOrZero is a time in a zone, or the zero timestamp.
func timestampOrZero(t time.Time, zone *time.Location) timestamp {
	if t.IsZero() {
		return timestamp{}
	}
	return timestamp(t.In(zone))
}

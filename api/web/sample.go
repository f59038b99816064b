package web

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
)

// What a sample house consists of.
var sampleRooms = []struct {
	id       domain.RoomID
	details  domain.Details
	rules    domain.Rules
	closedIn int // days, if it is closed for a morning
}{
	{"harbour", domain.Details{Name: "Harbour", Building: "East", Floor: "1", Capacity: 4, Equipment: []string{"Screen"}}, domain.Rules{Approval: domain.ApprovalNone}, 0},
	{"lantern", domain.Details{Name: "Lantern", Building: "East", Floor: "1", Capacity: 6, Equipment: []string{"Screen", "Whiteboard"}}, domain.Rules{Approval: domain.ApprovalNone}, 0},
	{"atlas", domain.Details{Name: "Atlas", Building: "East", Floor: "2", Capacity: 10, Equipment: []string{"Projector", "Video conference", "Whiteboard"}}, domain.Rules{LongestMinutes: 240, GapMinutes: 15}, 0},
	{"garden", domain.Details{Name: "Garden", Building: "East", Floor: "2", Capacity: 8, Equipment: []string{"Screen", "Whiteboard"}}, domain.Rules{}, 2},
	{"summit", domain.Details{Name: "Summit", Building: "East", Floor: "3", Capacity: 20, Equipment: []string{"Projector", "Video conference"}, Approvers: []domain.UserID{"lee"}, Note: "Lunch can be ordered until 10:00."}, domain.Rules{LongestMinutes: 480, GapMinutes: 30, HorizonDays: 90}, 0},
	{"quiet", domain.Details{Name: "Quiet", Building: "East", Floor: "3", Capacity: 2}, domain.Rules{Approval: domain.ApprovalNone, LongestMinutes: 120}, 0},
	{"birch", domain.Details{Name: "Birch", Building: "West", Floor: "1", Capacity: 4, Equipment: []string{"Whiteboard"}}, domain.Rules{Approval: domain.ApprovalNone}, 0},
	{"cedar", domain.Details{Name: "Cedar", Building: "West", Floor: "1", Capacity: 6, Equipment: []string{"Screen"}}, domain.Rules{Approval: domain.ApprovalNone, GapMinutes: 15}, 0},
	{"maple", domain.Details{Name: "Maple", Building: "West", Floor: "1", Capacity: 8, Equipment: []string{"Screen", "Video conference"}}, domain.Rules{}, 0},
	{"studio", domain.Details{Name: "Studio", Building: "West", Floor: "2", Capacity: 12, Equipment: []string{"Projector", "Whiteboard"}, Approvers: []domain.UserID{"kim"}}, domain.Rules{LongestMinutes: 240}, 1},
	{"hanok", domain.Details{Name: "한옥", Building: "West", Floor: "2", Capacity: 6, Equipment: []string{"Screen"}, Note: "신발을 벗는 방입니다."}, domain.Rules{Approval: domain.ApprovalNone}, 0},
	{"library", domain.Details{Name: "Library", Building: "West", Floor: "3", Capacity: 16, Equipment: []string{"Screen", "Video conference"}, Approvers: []domain.UserID{"lee", "kim"}}, domain.Rules{LongestMinutes: 300}, 0},
}

// LoadSampleHouse registers a house of 12 rooms with rules, and returns the position of its last event. Loading it again changes nothing.
func LoadSampleHouse(ctx context.Context, h *commands.Handler, by domain.Actor, now time.Time) (last eventstore.Position, err error) {
	hours := []domain.Hours{{From: "08:00", To: "20:00"}}
	for i := range sampleRooms {
		s := &sampleRooms[i]
		if _, err := h.RegisterRoom(ctx, commands.RegisterRoom{Request: sampleRequest(by, now), Room: s.id, Details: s.details}); err != nil {
			return last, err
		}
		rules := s.rules
		rules.StepMinutes = 15
		rules.Hours = &domain.WeekHours{Monday: hours, Tuesday: hours, Wednesday: hours, Thursday: hours, Friday: hours, Saturday: hours, Sunday: hours}
		room, err := h.SetRules(ctx, commands.SetRules{Request: sampleRequest(by, now), Room: s.id, Rules: rules})
		if err != nil {
			return last, err
		}
		last = max(last, room.Position)
	}
	return last, nil
}

// SampleActor is the actor of the events of a sample house.
var SampleActor = domain.Anyone("sample")

func sampleRequest(by domain.Actor, now time.Time) commands.Request {
	return commands.Request{ID: uuid.Must(uuid.NewV7()), Actor: by, At: now}
}

// sampleUsers book the sample house.
var sampleUsers = []domain.UserID{"ann", "ben", "choi", "dana", "emil", "han", "jung", "kim", "lee", "mina", "park", "yoon"}

// The days around the present one that a sample house has bookings on.
const (
	sampleDaysBefore = 2
	sampleDaysAfter  = 5
)

// BookSampleHouse books a sample house for a week: what is past was used, but for some that nobody came to, and some of what is to come
// waits for an answer. The same now gives the same bookings.
func BookSampleHouse(ctx context.Context, h *commands.Handler, now time.Time, zone *time.Location) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	today := dayFrom(now.In(zone)).Start
	for i := range sampleRooms {
		g.Go(func() error {
			s := &sampleRooms[i]
			if s.closedIn > 0 {
				day := midnight(today, s.closedIn)
				closed := domain.Slot{Start: day.Add(8 * time.Hour), End: day.Add(12 * time.Hour)}
				if _, err := h.ClosePeriod(ctx, commands.ClosePeriod{Request: sampleRequest(SampleActor, now), Room: s.id, Slot: closed, Reason: "Carpet cleaning"}); err != nil {
					return err
				}
			}
			random := rand.New(rand.NewPCG(uint64(today.Unix()), uint64(i)))
			for day := -sampleDaysBefore; day <= sampleDaysAfter; day++ {
				if err := bookSampleDay(ctx, h, now, s.id, midnight(today, day), random); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// bookSampleDay books a room for a day.
func bookSampleDay(ctx context.Context, h *commands.Handler, now time.Time, room domain.RoomID, day time.Time, random *rand.Rand) error {
	for at := 8*60 + 15*random.IntN(9); at < 18*60; {
		length := []int{30, 45, 60, 60, 90, 120}[random.IntN(6)]
		start := day.Add(time.Duration(at) * time.Minute)
		slot := domain.Slot{Start: start, End: start.Add(time.Duration(length) * time.Minute)}
		at += length + 15*(2+random.IntN(12))
		user := sampleUsers[random.IntN(len(sampleUsers))]
		fate := random.IntN(10)
		b, err := h.CreateBooking(ctx, commands.CreateBooking{Request: sampleRequest(SampleActor, now), Room: room, User: user, Slot: slot})
		if isRefusal(err) {
			continue // the room is closed then
		}
		if err != nil {
			return err
		}
		if b.Confirm.Answer == domain.AnswerPending && (fate < 6 || slot.Start.Before(now)) {
			if b, err = h.AnswerConfirm(ctx, commands.AnswerConfirm{Request: sampleRequest(SampleActor, now), Booking: b.ID, Answer: domain.Confirmed, By: "lee", AnsweredAt: now}); err != nil {
				return err
			}
		}
		if slot.Start.After(now) || fate >= 8 {
			continue
		}
		started := slot.Start.Add(time.Duration(random.IntN(8)) * time.Minute)
		if started.After(now) {
			started = slot.Start
		}
		if _, err := h.StartUse(ctx, commands.StartUse{Request: sampleRequest(SampleActor, now), Booking: b.ID, StartedAt: started}); err != nil {
			return err
		}
		if ended := slot.End.Add(-time.Duration(random.IntN(20)) * time.Minute); ended.Before(now) && ended.After(started) {
			if _, err := h.EndUse(ctx, commands.EndUse{Request: sampleRequest(SampleActor, now), RealUse: domain.RealUseOf(b.ID), EndedAt: ended}); err != nil {
				return err
			}
		}
	}
	return nil
}

// isRefusal reports whether a booking was refused by the room's calendar.
func isRefusal(err error) bool {
	_, closed := errors.AsType[*domain.RoomClosed](err)
	_, taken := errors.AsType[*domain.SlotTaken](err)
	_, broken := errors.AsType[*domain.RuleBroken](err)
	return closed || taken || broken
}

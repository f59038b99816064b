package web

import (
	"slices"
	"strings"

	"roombook/commands"
	"roombook/domain"
	"roombook/projections"
)

// faults is what is broken in a room, and the equipment of which that is not known.
func (v *view) faults(r *projections.RoomList) (broken, whole []string) {
	whole = slices.Clone(r.Equipment)
	for _, f := range r.Faults {
		broken = append(broken, v.Broken(domain.RoomFault{Equipment: f.Equipment, Text: f.Text}))
		whole = slices.DeleteFunc(whole, func(equipment string) bool { return equipment == f.Equipment })
	}
	return broken, whole
}

// Faults is what is broken in a room.
func (v *view) Faults(id domain.RoomID) []string {
	r := v.rooms[id]
	if r == nil {
		return nil
	}
	broken, _ := v.faults(r)
	return broken
}

// Broken says what is broken.
func (v *view) Broken(f domain.RoomFault) string {
	if what := f.What(); what != "" {
		return what
	}
	return v.T("trouble.something")
}

// Listed is a list in words.
func (v *view) Listed(texts []string) string { return strings.Join(texts, " · ") }

// Since says since when something is broken in a room, and who said so, if the reader may see that and they said who they are.
func (v *view) Since(f domain.RoomFault, room domain.RoomID) string {
	if f.By == "" || f.By == anonymous {
		return v.T("trouble.since", "when", v.At(f.At, room))
	}
	return v.T("trouble.since-by", "when", v.At(f.At, room), "who", v.Person(f.By))
}

// SettledBy says when a fault was settled, and by whom, if the reader may see that.
func (v *view) SettledBy(f domain.RoomFault, room domain.RoomID) string {
	if f.Settlement.By == "" || f.Settlement.By == anonymous {
		return v.T("trouble.settled-at", "when", v.At(f.Settlement.At, room))
	}
	return v.T("trouble.settled-by", "when", v.At(f.Settlement.At, room), "who", v.Person(f.Settlement.By))
}

// settledShown is how many settled faults a room's page shows.
const settledShown = 10

// Settled are the faults that were settled last, the latest first.
func (d *roomPage) Settled() []domain.RoomFault {
	settled := slices.Clone(d.Faults.Settled)
	slices.Reverse(settled)
	return settled[:min(settledShown, len(settled))]
}

// reportFault reports the fault of a room that a form has.
func (v *view) reportFault(room domain.RoomID) (commands.Fault, error) {
	c := commands.ReportFault{Room: room, Equipment: v.r.PostFormValue("equipment"), Text: v.r.PostFormValue("text")}
	var err error
	if c.Request, err = v.request(); err != nil {
		return commands.Fault{}, err
	}
	return v.p.commands.ReportFault(v.r.Context(), c)
}

func (p *Pages) actOnFault(v *view) error {
	id, err := v.roomID()
	if err != nil {
		return err
	}
	f, done, err := v.actOnFault(id)
	if err != nil {
		why := v.problemOf(err)
		if !why.shown() {
			return err
		}
		v.status = why.status
		return v.showRoom(&why)
	}
	return v.done(f.Position, "/rooms/"+string(id)+"/page", done)
}

// actOnFault does what the form asks for, and names the text that says so.
func (v *view) actOnFault(room domain.RoomID) (f commands.Fault, done string, err error) {
	switch v.r.PostFormValue("do") {
	case "report":
		if f, err = v.reportFault(room); err == nil && f.At.Before(v.Now) {
			return f, "fault-known", nil
		}
		return f, "fault-reported", err
	case "settle":
		c := commands.SettleFault{Room: room, Fault: domain.FaultID(v.r.PostFormValue("fault")), Note: v.r.PostFormValue("note")}
		if c.Request, err = v.request(); err != nil {
			return f, "", err
		}
		f, err = v.p.commands.SettleFault(v.r.Context(), c)
		return f, "fault-settled", err
	}
	return f, "", errForm
}

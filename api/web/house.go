package web

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"roombook/commands"
	"roombook/commands/picture"
	"roombook/domain"
	"roombook/projections"
)

// HouseRoomPath is the path of a room to look after, whose forms may bring a picture.
const HouseRoomPath = "/house/{id}"

func (p *Pages) houseRoutes() []Route {
	return []Route{
		// The rooms of the house, to look after.
		{"GET", "/house", false, p.house},
		// Adds a room, or a sample house.
		{"POST", "/house", false, p.addRoom},
		// A room, to look after.
		{"GET", HouseRoomPath, false, p.houseRoom},
		// Changes what is known of the room, its photo, rules, closed periods or retirement.
		{"POST", HouseRoomPath, false, p.changeRoom},
	}
}

// housePage is the data of the rooms to look after.
type housePage struct {
	Rooms     []projections.RoomList
	Buildings []string
	Form      roomForm
	Problem   *problem
}

// roomForm is a form with the details of a room.
type roomForm struct {
	ID, Name, Building, Floor, Capacity, Equipment, Zone, Note, Approvers string
	Colour                                                                string
}

func (p *Pages) house(v *view) error { return v.showHouse(&housePage{}) }

func (v *view) showHouse(data *housePage) (err error) {
	if _, err = v.readRooms(); err != nil {
		return err
	}
	if data.Rooms, err = v.findRooms(projections.RoomFilter{}); err != nil {
		return err
	}
	for _, r := range data.Rooms { // which are by building
		if n := len(data.Buildings); r.Building != "" && (n == 0 || data.Buildings[n-1] != r.Building) {
			data.Buildings = append(data.Buildings, r.Building)
		}
	}
	return v.show("house", v.T("title.house"), data)
}

func (v *view) readRoomForm() roomForm {
	f := v.r.PostFormValue
	return roomForm{f("id"), f("name"), f("building"), f("floor"), f("capacity"), f("equipment"), f("zone"), f("note"), f("approvers"), f("colour")}
}

// details are the details in the form.
func (f roomForm) details() (d domain.Details, err error) {
	capacity, ok := number(f.Capacity)
	if !ok {
		return d, &domain.Invalid{Faults: []domain.Fault{{Field: "capacity"}}}
	}
	d = domain.Details{Name: f.Name, Building: f.Building, Floor: f.Floor, Capacity: capacity, Zone: f.Zone, Note: strings.ReplaceAll(f.Note, "\r\n", "\n"), Colour: f.Colour, Equipment: entries(f.Equipment, "\n")}
	for _, user := range listed(f.Approvers) {
		if !validID(user) {
			return d, &domain.Invalid{Faults: []domain.Fault{{Field: "approvers"}}}
		}
		d.Approvers = append(d.Approvers, domain.UserID(user))
	}
	return d, nil
}

// listed are the entries of a list that are separated by commas.
func listed(text string) []string { return entries(text, ",") }

// entries are the entries of a list with a separator between.
func entries(text, separator string) []string {
	var all []string
	for entry := range strings.SplitSeq(text, separator) {
		if entry = strings.TrimSpace(entry); entry != "" {
			all = append(all, entry)
		}
	}
	return all
}

func formOf(id domain.RoomID, d domain.Details) roomForm {
	f := roomForm{ID: string(id), Name: d.Name, Building: d.Building, Floor: d.Floor, Equipment: strings.Join(d.Equipment, "\n"), Zone: d.Zone, Note: d.Note, Colour: d.Colour}
	if d.Capacity > 0 {
		f.Capacity = strconv.Itoa(d.Capacity)
	}
	for i, user := range d.Approvers {
		if i > 0 {
			f.Approvers += ", "
		}
		f.Approvers += string(user)
	}
	return f
}

func (p *Pages) addRoom(v *view) error {
	if err := v.permit(domain.ManageRooms, "", ""); err != nil {
		return err
	}
	if v.r.PostFormValue("do") == "sample" {
		r, err := v.request()
		if err != nil {
			return err
		}
		position, err := LoadSampleHouse(v.r.Context(), p.commands, r.Actor, v.Now)
		if err != nil {
			return err
		}
		return v.done(position, "/", "sample")
	}
	f := v.readRoomForm()
	room, err := v.register(f)
	if err != nil {
		why := v.problemOf(err)
		if !why.shown() {
			return err
		}
		v.status = why.status
		return v.showHouse(&housePage{Form: f, Problem: &why})
	}
	return v.done(room.Position, "/house/"+string(room.ID), "room-added")
}

func (v *view) register(f roomForm) (commands.Room, error) {
	d, err := f.details()
	if err != nil {
		return commands.Room{}, err
	}
	if !validID(f.ID) {
		return commands.Room{}, &domain.Invalid{Faults: []domain.Fault{{Field: "room"}}}
	}
	request, err := v.request()
	if err != nil {
		return commands.Room{}, err
	}
	return v.p.commands.RegisterRoom(v.r.Context(), commands.RegisterRoom{Request: request, Room: domain.RoomID(f.ID), Details: d})
}

// houseRoomPage is the data of a room to look after.
type houseRoomPage struct {
	Photo     *photo
	Alt       string // of the photo, as it is or was typed
	MaxAlt    int
	Types     string // of pictures that can be uploaded
	Room      commands.Room
	Form      roomForm
	Rules     domain.Rules
	Hours     []hoursField
	Early     string
	Zone      *time.Location
	Conflicts []commands.Conflict
	More      int
	Problem   *problem
}

// hoursField are the hours of a day of the week, as a form has them: 08:00-12:00, 13:00-18:00.
type hoursField struct {
	Name, Day, Value string
}

func (p *Pages) houseRoom(v *view) error { return v.showHouseRoom(nil) }

func (v *view) showHouseRoom(why *problem) error {
	if err := v.permit(domain.ManageRooms, "", ""); err != nil {
		return err
	}
	id, err := v.roomID()
	if err != nil {
		return err
	}
	if _, err := v.readRooms(); err != nil {
		return err
	}
	data := &houseRoomPage{Problem: why, Zone: v.zoneOf(id)}
	if data.Room, err = v.p.commands.Room(v.r.Context(), id); err != nil {
		return err
	}
	if data.Conflicts, data.More, err = v.p.bookings.RoomConflicts(v.r.Context(), id, v.Now); err != nil {
		return err
	}
	data.Photo, data.Alt, data.MaxAlt, data.Types = v.photo(data.Room), data.Room.Photo.Alt, domain.MaxAlt, strings.Join(picture.Types, ",")
	data.Form, data.Rules = formOf(id, data.Room.Details), data.Room.Rules
	if data.Rules.EarlyUseMinutes != nil {
		data.Early = strconv.Itoa(*data.Rules.EarlyUseMinutes)
	}
	for i := range 7 {
		f := hoursField{Name: "hours" + strconv.Itoa(i), Day: v.Weekday(i)}
		if data.Rules.Hours != nil {
			var parts []string
			for _, h := range weekdays(data.Rules.Hours)[i] {
				parts = append(parts, h.From+"-"+h.To)
			}
			f.Value = strings.Join(parts, ", ")
		}
		if v.r.PostForm.Has(f.Name) {
			f.Value = v.r.PostFormValue(f.Name)
		}
		data.Hours = append(data.Hours, f)
	}
	switch v.r.PostFormValue("do") { // what was typed is shown again
	case "details":
		data.Form = v.readRoomForm()
		data.Form.ID = string(id)
	case "photo":
		data.Alt = v.r.PostFormValue("alt")
	case "rules":
		data.Early, data.Rules.Approval = v.r.PostFormValue("earlyUseMinutes"), domain.Approval(v.r.PostFormValue("approval"))
	}
	return v.show("house-room", data.Room.Details.Name, data)
}

// Typed is the value of a field in the form that has just been sent, if its button was do; else empty.
func (v *view) Typed(do, field string) string {
	if v.r.PostFormValue("do") != do {
		return ""
	}
	return v.r.PostFormValue(field)
}

func (p *Pages) changeRoom(v *view) error {
	id, err := v.roomID()
	if err != nil {
		return err
	}
	room, err := v.changeRoom(id)
	if err != nil {
		why := v.problemOf(err)
		if !why.shown() {
			return err
		}
		v.status = why.status
		return v.showHouseRoom(&why)
	}
	return v.done(room.Position, "/house/"+string(id), "room-changed")
}

// changeRoom does what the form asks for.
func (v *view) changeRoom(id domain.RoomID) (commands.Room, error) {
	if _, err := v.readRooms(); err != nil {
		return commands.Room{}, err
	}
	request, err := v.request()
	if err != nil {
		return commands.Room{}, err
	}
	revision, ok := number(v.r.PostFormValue("revision"))
	if !ok {
		return commands.Room{}, errForm
	}
	request.IfRevisions = []domain.Revision{domain.Revision(revision)}
	bookings := domain.KeepBookings
	if v.r.PostFormValue("bookings") == string(domain.CancelBookings) {
		bookings = domain.CancelBookings
	}
	ctx, h := v.r.Context(), v.p.commands
	switch v.r.PostFormValue("do") {
	case "details":
		d, err := v.readRoomForm().details()
		if err != nil {
			return commands.Room{}, err
		}
		return h.ChangeRoom(ctx, commands.ChangeRoom{Request: request, Room: id, Details: d})
	case "rules":
		rules, err := v.readRules()
		if err != nil {
			return commands.Room{}, err
		}
		return h.SetRules(ctx, commands.SetRules{Request: request, Room: id, Rules: rules})
	case "photo":
		upload, err := v.upload("photo")
		if err != nil {
			return commands.Room{}, err
		}
		return h.SetPhoto(ctx, commands.SetPhoto{Request: request, Room: id, Upload: upload, Alt: v.r.PostFormValue("alt")})
	case "remove-photo":
		return h.RemovePhoto(ctx, commands.RemovePhoto{Request: request, Room: id})
	case "close":
		zone := v.zoneOf(id)
		start, err := parseTime(v.r.PostFormValue("start"), zone)
		if err != nil {
			return commands.Room{}, err
		}
		end, err := parseTime(v.r.PostFormValue("end"), zone)
		if err != nil {
			return commands.Room{}, err
		}
		return h.ClosePeriod(ctx, commands.ClosePeriod{Request: request, Room: id, Slot: domain.Slot{Start: start, End: end}, Reason: v.r.PostFormValue("reason"), Bookings: bookings})
	case "reopen":
		return h.ReopenPeriod(ctx, commands.ReopenPeriod{Request: request, Room: id, Closure: domain.ClosureID(v.r.PostFormValue("closure"))})
	case "retire":
		return h.RetireRoom(ctx, commands.RetireRoom{Request: request, Room: id, Bookings: bookings})
	case "reinstate":
		return h.ReinstateRoom(ctx, commands.ReinstateRoom{Request: request, Room: id})
	}
	return commands.Room{}, errForm
}

// upload is the file of a field of the form; nil if none was chosen.
func (v *view) upload(field string) ([]byte, error) {
	f, _, err := v.r.FormFile(field)
	if errors.Is(err, http.ErrMissingFile) {
		return nil, nil
	}
	if err != nil {
		return nil, errForm
	}
	defer f.Close()
	return io.ReadAll(f)
}

var errHours = errors.New("hours cannot be read")

// readRules reads the rules of a room. A form without any hours has no rule about them.
func (v *view) readRules() (domain.Rules, error) {
	var r domain.Rules
	for _, rule := range numbers(&r) {
		n, ok := number(v.r.PostFormValue(string(rule.name)))
		if !ok {
			return r, &domain.Invalid{Faults: []domain.Fault{{Field: domain.Field(rule.name)}}}
		}
		*rule.value = n
	}
	if early := v.r.PostFormValue("earlyUseMinutes"); early != "" {
		n, ok := number(early)
		if !ok {
			return r, &domain.Invalid{Faults: []domain.Fault{{Field: "earlyUseMinutes"}}}
		}
		r.EarlyUseMinutes = &n
	}
	if v.r.PostFormValue("approval") == string(domain.ApprovalNone) {
		r.Approval = domain.ApprovalNone
	}
	var hours domain.WeekHours
	days := [...]*[]domain.Hours{&hours.Monday, &hours.Tuesday, &hours.Wednesday, &hours.Thursday, &hours.Friday, &hours.Saturday, &hours.Sunday}
	for i, day := range days {
		for _, part := range listed(v.r.PostFormValue("hours" + strconv.Itoa(i))) {
			from, to, ok := strings.Cut(strings.ReplaceAll(part, "–", "-"), "-")
			if !ok {
				return r, errHours
			}
			*day = append(*day, domain.Hours{From: strings.TrimSpace(from), To: strings.TrimSpace(to)})
			r.Hours = &hours
		}
	}
	if faults := r.Check(); faults != nil {
		if slices.ContainsFunc(faults, func(f domain.Fault) bool { return strings.HasPrefix(string(f.Field), "hours") }) {
			return r, errHours
		}
		return r, &domain.Invalid{Faults: faults}
	}
	return r, nil
}

// ruleField is a rule that is a number, in a form.
type ruleField struct {
	Name, Label string
	Value       string
}

// RuleFields are the rules that are numbers, as they are or as they were typed.
func (v *view) RuleFields(r domain.Rules) []ruleField {
	var fields []ruleField
	for _, rule := range numbers(&r) {
		f := ruleField{Name: string(rule.name), Label: v.T("field." + string(rule.name))}
		if *rule.value > 0 {
			f.Value = strconv.Itoa(*rule.value)
		}
		if v.r.PostForm.Has(f.Name) {
			f.Value = v.r.PostFormValue(f.Name)
		}
		fields = append(fields, f)
	}
	return fields
}

// numberRule is a rule that is a number.
type numberRule struct {
	name  domain.RuleName
	value *int
}

func numbers(r *domain.Rules) []numberRule {
	return []numberRule{
		{domain.RuleStep, &r.StepMinutes}, {domain.RuleShortest, &r.ShortestMinutes}, {domain.RuleLongest, &r.LongestMinutes}, {domain.RuleGap, &r.GapMinutes},
		{domain.RuleNotice, &r.NoticeMinutes}, {domain.RuleHorizon, &r.HorizonDays}, {domain.RuleUpcoming, &r.UpcomingPerUser}, {domain.RuleWeekly, &r.WeeklyMinutesPerUser},
	}
}

// Why are the reasons why a room would no longer allow one of its bookings.
func (v *view) Why(c commands.Conflict) []string {
	var why []string
	for _, b := range c.Broken {
		why = append(why, v.broken(b))
	}
	for _, closed := range c.Closures {
		why = append(why, v.T("problem.closed", "room", v.RoomName(c.Booking.Room), "when", v.When(closed.Slot, c.Booking.Room)))
	}
	if c.Retired {
		why = append(why, v.T("house.retired"))
	}
	return why
}

package web

import (
	"errors"
	"net/http"
	"strings"

	"roombook/commands/accounts"
	"roombook/domain"
)

func (p *Pages) userRoutes() []Route {
	return []Route{
		// The users, for administrators.
		{"GET", "/people", false, p.people},
		// Adds a user.
		{"POST", "/people", false, p.addPerson},
		// A user, for administrators.
		{"GET", "/people/{id}", false, p.person},
		// Changes a user's details or roles, disables or erases them.
		{"POST", "/people/{id}", false, p.changePerson},
		// Chooses a password with a code.
		{"GET", "/password", true, p.passwordForm},
		{"POST", "/password", true, p.choosePassword},
	}
}

// account is the metadata of a command on accounts, or [errNoPage] where there are none.
func (v *view) account() (accounts.Request, error) {
	if v.p.accounts == nil {
		return accounts.Request{}, errNoPage
	}
	return accounts.Request{Actor: v.actor, Client: v.visitor.Client, At: v.Now, CorrelationID: v.w.Header().Get("X-Request-Id")}, nil
}

// Manages reports whether the reader may manage users.
func (v *view) Manages() bool {
	return v.p.accounts != nil && v.actor.May(domain.ManageUsers, domain.SomebodyElse) == nil
}

// accountProblem is problemOf for values of users and tokens, whose fields have texts of their own.
func (v *view) accountProblem(err error) problem {
	invalid, ok := errors.AsType[*domain.Invalid](err)
	if !ok {
		return v.problemOf(err)
	}
	p := problem{status: http.StatusUnprocessableEntity}
	for _, f := range invalid.Faults {
		p.Sentences = append(p.Sentences, v.T("account-fault."+string(f.Field)))
	}
	return p
}

// showWhy shows a screen again with why a command was refused. Other failures, and what was not found, have a screen of their own.
func (v *view) showWhy(err error, show func(why *problem) error) error {
	why := v.accountProblem(err)
	if why.status >= http.StatusInternalServerError || why.status == http.StatusNotFound {
		return err
	}
	v.status = why.status
	return show(&why)
}

// personForm is a form with the details and roles of a user.
type personForm struct {
	Name, FullName, Address, Language string
	Roles                             domain.Roles
	Rooms                             string
}

// readPersonForm reads the form, from fields whose names have a prefix.
func (v *view) readPersonForm(prefix string) personForm {
	f := func(name string) string { return v.r.PostFormValue(prefix + name) }
	return personForm{f("name"), f("fullName"), f("address"), f("language"), v.readRoles(prefix + "role"), f("rooms")}
}

// readRoles are the roles that are ticked in a form.
func (v *view) readRoles(field string) domain.Roles {
	var roles []domain.Role
	for _, role := range v.r.PostForm[field] {
		roles = append(roles, domain.Role(role))
	}
	return domain.NewRoles(roles...)
}

// rooms are the rooms in the form: ids separated by commas, or * for all. The error is a *[domain.Invalid].
func (f personForm) rooms() (domain.Rooms, error) {
	ids := listed(f.Rooms)
	if len(ids) == 1 && ids[0] == string(domain.AllRooms) {
		return domain.AllRooms, nil
	}
	rooms := make([]domain.RoomID, len(ids))
	for i, id := range ids {
		if !validID(id) {
			return "", &domain.Invalid{Faults: []domain.Fault{{Field: accounts.FieldRooms}}}
		}
		rooms[i] = domain.RoomID(id)
	}
	return domain.NewRooms(rooms...), nil
}

// shownPrefix is the prefix of the names of fields with what a form showed.
const shownPrefix = "shown-"

// changes are the changes in the form to what it showed. What was left as it was is not written, or it would undo what others have changed
// meanwhile. The error is a *[domain.Invalid].
func (f personForm) changes(shown personForm) (c accounts.Change, err error) {
	for _, text := range []struct {
		to         **string
		now, shown string
	}{{&c.Name, f.Name, shown.Name}, {&c.FullName, f.FullName, shown.FullName}, {&c.Address, f.Address, shown.Address}, {&c.Language, f.Language, shown.Language}} {
		if text.now != text.shown {
			*text.to = &text.now
		}
	}
	if f.Roles != shown.Roles {
		c.Roles = &f.Roles
	}
	if f.Rooms != shown.Rooms {
		rooms, err := f.rooms()
		if err != nil {
			return c, err
		}
		c.Rooms = &rooms
	}
	return c, nil
}

func formOfPerson(u *accounts.User) personForm {
	return personForm{u.Name, u.FullName, u.Address, u.Language, u.Roles, strings.ReplaceAll(string(u.Rooms), " ", ", ")}
}

// AllRoles are all roles.
func (v *view) AllRoles() []domain.Role { return domain.AllRoles }

// Disabled reports whether a user is disabled.
func (v *view) Disabled(u *accounts.User) bool { return u.Phase == domain.UserPhaseDisabled }

// peoplePage is the data of the list of users.
type peoplePage struct {
	Users   []accounts.User
	Next    domain.UserID // after whom more come
	Form    personForm
	Added   *accounts.User // who has just been added
	Link    string         // with which they choose a password
	Problem *problem
}

// peopleSize is the number of users on a screen.
const peopleSize = 50

func (p *Pages) people(v *view) error {
	return v.showPeople(&peoplePage{Form: personForm{Roles: domain.NewRoles(domain.RoleUser)}})
}

func (v *view) showPeople(data *peoplePage) error {
	r, err := v.account()
	if err != nil {
		return err
	}
	data.Users, data.Next, err = v.p.accounts.Users(v.r.Context(), r, domain.UserID(v.r.URL.Query().Get("cursor")), peopleSize)
	if err != nil {
		return err
	}
	return v.show("people", v.T("title.people"), data)
}

// addPerson adds a user, and shows the link with which they choose a password. The link is not stored, so the reply shows it without a redirect.
func (p *Pages) addPerson(v *view) error {
	r, err := v.account()
	if err != nil {
		return err
	}
	data := &peoplePage{Form: v.readPersonForm("")}
	if err := v.addPerson(r, data); err != nil {
		return v.showWhy(err, func(why *problem) error {
			data.Problem = why
			return v.showPeople(data)
		})
	}
	data.Form = personForm{Roles: domain.NewRoles(domain.RoleUser)}
	return v.showPeople(data)
}

func (v *view) addPerson(r accounts.Request, data *peoplePage) error {
	f, all := data.Form, v.p.accounts
	rooms, err := f.rooms()
	if err != nil {
		return err
	}
	id, err := all.AddUser(v.r.Context(), r, accounts.NewUser{Name: f.Name, FullName: f.FullName, Address: f.Address, Language: f.Language, Roles: f.Roles, Rooms: rooms})
	if err != nil {
		return err
	}
	u, err := all.User(v.r.Context(), r, id)
	if err != nil {
		return err
	}
	data.Added = &u
	data.Link, err = v.passwordLink(r, id)
	return err
}

// passwordLink makes a link with which a user chooses a password. Browsers do not send what is behind the #, so it gets into no log.
func (v *view) passwordLink(r accounts.Request, id domain.UserID) (string, error) {
	code, _, err := v.p.accounts.PasswordCode(v.r.Context(), r, id)
	return v.Address("/password#" + code), err
}

// personPage is the data of a user's screen for administrators.
type personPage struct {
	User    accounts.User
	Form    personForm
	Shown   personForm // what the form showed before it was changed
	Link    string     // with which they choose a password
	Self    bool       // it is the reader
	Problem *problem
}

// userID returns the user in the path.
func (v *view) userID() (domain.UserID, error) {
	id := v.r.PathValue("id")
	if !validID(id) {
		return "", domain.ErrUserNotFound
	}
	return domain.UserID(id), nil
}

func (p *Pages) person(v *view) error { return v.showPerson("", nil) }

func (v *view) showPerson(link string, why *problem) error {
	r, err := v.account()
	if err != nil {
		return err
	}
	if err := v.actor.May(domain.ManageUsers, domain.SomebodyElse); err != nil {
		return err
	}
	id, err := v.userID()
	if err != nil {
		return err
	}
	u, err := v.p.accounts.User(v.r.Context(), r, id)
	if err != nil {
		return err
	}
	data := &personPage{User: u, Form: formOfPerson(&u), Link: link, Self: u.ID == v.actor.User, Problem: why}
	data.Shown = data.Form
	if why != nil && v.r.PostFormValue("do") == "save" {
		data.Form, data.Shown = v.readPersonForm(""), v.readPersonForm(shownPrefix)
	}
	return v.show("person", u.Name, data)
}

func (p *Pages) changePerson(v *view) error {
	r, err := v.account()
	if err != nil {
		return err
	}
	id, err := v.userID()
	if err != nil {
		return err
	}
	ctx, all := v.r.Context(), p.accounts
	do := v.r.PostFormValue("do")
	link := ""
	switch do {
	case "save":
		var c accounts.Change
		if c, err = v.readPersonForm("").changes(v.readPersonForm(shownPrefix)); err == nil {
			err = all.ChangeUser(ctx, r, id, c)
		}
	case "disable", "enable":
		err = all.Disable(ctx, r, id, do == "disable")
	case "sign-out":
		err = all.SignOutEverywhere(ctx, r, id)
	case "link":
		link, err = v.passwordLink(r, id)
	case "erase":
		err = all.Erase(ctx, r, id)
	default:
		return errForm
	}
	switch {
	case err != nil:
		return v.showWhy(err, func(why *problem) error { return v.showPerson("", why) })
	case do == "erase":
		return v.redirect("/people?done=erased")
	case link != "":
		return v.showPerson(link, nil)
	}
	return v.redirect("/people/" + string(id) + "?done=saved")
}

// passwordPage is the data of the form that a password is chosen with.
type passwordPage struct {
	Code    string
	Problem *problem
}

func (p *Pages) passwordForm(v *view) error {
	if p.accounts == nil {
		return errNoPage
	}
	return v.show("password", v.T("title.password"), &passwordPage{})
}

func (p *Pages) choosePassword(v *view) error {
	if p.accounts == nil {
		return errNoPage
	}
	data := &passwordPage{Code: v.r.PostFormValue("code")}
	if err := v.visitor.Session.ChoosePassword(data.Code, v.r.PostFormValue("password")); err != nil {
		return v.showWhy(err, func(why *problem) error {
			if errors.Is(err, accounts.ErrWrongCredentials) {
				why.Sentences = []string{v.T("problem.wrong-code")}
			}
			data.Problem = why
			return v.show("password", v.T("title.password"), data)
		})
	}
	return v.redirect("/signin?done=password")
}

// Languages are the languages that mail is offered in.
func (v *view) Languages() []Language { return []Language{English, Korean} }

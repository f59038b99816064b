package web

import (
	"errors"
	"net/http"

	"roombook/commands/accounts"
)

// setUpPage is the data of the form that adds the first user.
type setUpPage struct {
	Code, Name, FullName, Address string
	Problem                       *problem
}

// SetUp shows the form that adds the first user, and with POST adds them.
func (p *Pages) SetUp(method string) Route {
	if method == http.MethodPost {
		return Route{method, "/setup", true, p.setUp}
	}
	return Route{method, "/setup", true, func(v *view) error { return v.show("setup", v.T("title.setup"), &setUpPage{}) }}
}

func (p *Pages) setUp(v *view) error {
	if p.accounts == nil {
		return errNoPage
	}
	f := v.r.PostFormValue
	data := &setUpPage{Code: f("code"), Name: f("name"), FullName: f("fullName"), Address: f("address")}
	user := accounts.NewUser{Name: data.Name, Password: f("password"), FullName: data.FullName, Address: data.Address}
	if _, err := p.accounts.SetUp(v.r.Context(), data.Code, user, v.Now); err != nil {
		return v.showWhy(err, func(why *problem) error {
			if errors.Is(err, accounts.ErrWrongCredentials) {
				why.Sentences = []string{v.T("problem.wrong-setup-code")}
			}
			data.Problem = why
			return v.show("setup", v.T("title.setup"), data)
		})
	}
	return v.redirect("/signin?done=set-up")
}

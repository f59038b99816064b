package web

import (
	"net/http"
	"net/url"
)

// signInPage is the data of the sign-in form.
type signInPage struct {
	Back, Name string
	Problem    *problem
}

// SignInPath is the path of the form that a visitor signs in with, who then gets what they asked for, or the form that they sent, with what
// they typed.
func SignInPath(r *http.Request) string {
	back := r.URL.RequestURI()
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(nil, r.Body, maxForm)
		typed := url.Values{}
		for _, field := range []string{"room", "start", "end", "reason"} {
			if value := r.PostFormValue(field); value != "" && len(value) <= maxReason {
				typed.Set(field, value)
			}
		}
		if back = r.URL.Path; len(typed) > 0 {
			back += "?" + typed.Encode()
		}
	}
	return "/signin?back=" + url.QueryEscape(back)
}

func (p *Pages) signInForm(v *view) error {
	if !v.visitor.Accounts {
		return v.redirect("/settings")
	}
	return v.show("signin", v.T("title.signin"), &signInPage{Back: v.r.URL.Query().Get("back")})
}

func (p *Pages) signIn(v *view) error {
	data := &signInPage{Back: v.r.PostFormValue("back"), Name: v.r.PostFormValue("name")}
	if len(data.Name) > maxReason {
		return errForm
	}
	if err := v.visitor.Session.SignIn(data.Name, v.r.PostFormValue("password")); err != nil {
		why := v.problemOf(err)
		if why.status >= http.StatusInternalServerError {
			return err
		}
		v.status, data.Problem = why.status, &why
		return v.show("signin", v.T("title.signin"), data)
	}
	if !safeBack(data.Back) {
		data.Back = "/"
	}
	return v.redirect(data.Back)
}

func (p *Pages) signOut(v *view) error {
	if err := v.visitor.Session.SignOut(); err != nil {
		return err
	}
	return v.redirect("/signin")
}

package web

import (
	"errors"
	"net/http"
	"net/url"

	"roombook/commands/accounts"
	"roombook/commands/accounts/oidc"
	"roombook/domain"
)

// signInPage is the data of the sign-in form.
type signInPage struct {
	Back, Name string
	Problem    *problem
	EndSession string // the address for signing out at the provider, of somebody who has just signed out here
	SignedOut  bool   // somebody has just signed out, and leaves nothing that they typed
}

// ReturnPath is the path at which visitors come back from the identity provider.
const ReturnPath = "/signin/oidc/callback"

// maxTyped is the maximum length of a name to sign in with, and of what is kept of a form meanwhile, in bytes.
const maxTyped = 1000

// SignInPath is the path of the sign-in form, from which the visitor gets back to the screen that they asked for, or to the form that they sent,
// with what they had typed.
func SignInPath(r *http.Request) string {
	back := r.URL.RequestURI()
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(nil, r.Body, maxForm)
		typed := r.URL.Query()
		typed.Del("done") // which is not what was asked for now
		for _, field := range []string{"room", "start", "end", "reason"} {
			if value := r.PostFormValue(field); value != "" && len(value) <= maxTyped {
				typed.Set(field, value)
			}
		}
		if back = r.URL.EscapedPath(); len(typed) > 0 {
			back += "?" + typed.Encode()
		}
	}
	return "/signin?back=" + url.QueryEscape(back)
}

// signedOutPath is the path of the sign-in form for somebody who has just signed out.
const signedOutPath = "/signin?done=signed-out"

func (p *Pages) signInForm(v *view) error {
	if !v.visitor.Accounts {
		return v.redirect("/settings")
	}
	query := v.r.URL.Query()
	return v.show("signin", v.T("title.signin"), &signInPage{Back: query.Get("back"), SignedOut: v.Reader == "" && query.Get("done") == "signed-out"})
}

// Provider reports whether readers sign in at an identity provider.
func (v *view) Provider() bool { return v.visitor.Provider }

func (p *Pages) beginSignIn(v *view) error {
	if !v.Provider() {
		return errNoPage
	}
	address, err := v.visitor.Session.Begin(v.r.URL.Query().Get("back"))
	if err != nil {
		return err
	}
	v.w.Header().Set("Location", address)
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

func (p *Pages) finishSignIn(v *view) error {
	if !v.Provider() {
		return errNoPage
	}
	back, err := v.visitor.Session.Finish(v.r.URL.Query())
	if err != nil {
		return err
	}
	return v.goBack(back)
}

// goBack sends the reader to where they came from, if that is a path of this server, and else to the board.
func (v *view) goBack(back string) error {
	if !safeBack(back) {
		back = "/"
	}
	return v.redirect(back)
}

func (p *Pages) signIn(v *view) error {
	if v.Provider() {
		return errNoPage
	}
	data := &signInPage{Back: v.r.PostFormValue("back"), Name: v.r.PostFormValue("name")}
	if len(data.Name) > maxTyped {
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
	return v.goBack(data.Back)
}

func (p *Pages) signOut(v *view) error {
	address := ""
	if v.Provider() {
		var err error
		if address, err = v.visitor.Session.EndSession(); err != nil {
			return err
		}
	}
	if err := v.visitor.Session.SignOut(); err != nil {
		return err
	}
	if address == "" {
		return v.redirect(signedOutPath)
	}
	// A redirect of the form that signs out would be against the content security policy, which is for this server's forms.
	v.w.Header().Set("Refresh", "0; url="+address)
	v.Reader, v.actor = "", domain.Actor{}
	return v.show("signin", v.T("title.signin"), &signInPage{EndSession: address, SignedOut: true})
}

// endedAtProvider is called by the provider, and answers as it is to (OpenID Connect Back-Channel Logout 1.0).
func (p *Pages) endedAtProvider(v *view) error {
	if !v.Provider() {
		return errNoPage
	}
	err := v.visitor.Session.EndedAtProvider(v.r.PostFormValue("logout_token"))
	if errors.Is(err, oidc.ErrRefused) || errors.Is(err, accounts.ErrLogoutUsed) {
		return errForm
	}
	return err
}

package web

import (
	"errors"
	"slices"
	"time"

	"roombook/commands/accounts"
	"roombook/domain"
)

func (p *Pages) tokenRoutes() []Route {
	return []Route{
		// The reader's password, sessions and tokens.
		{"GET", "/account", false, p.account},
		// Changes or ends one of them.
		{"POST", "/account", false, p.changeAccount},
		// Everybody's tokens, and displays beside doors.
		{"GET", "/people/tokens", false, p.tokens},
		// Revokes a token, or pairs a display.
		{"POST", "/people/tokens", false, p.changeTokens},
	}
}

// accountPage is the data of the reader's account.
type accountPage struct {
	User     accounts.User
	Sessions []accounts.Session
	Current  string // the id of the session that the screen was asked for by
	Tokens   []accounts.Token
	Secret   string // of the token that has just been created
	Feed     bool   // which is for calendar programs
	Label    string
	Days     []int // for which a token can be valid
	Kinds    []domain.NotificationKind
	Problem  *problem
}

// tokenDays are the days for which a token can be valid.
var tokenDays = []int{30, 90, 365}

// feedDays are the days for which a password for calendar programs is valid.
const feedDays = 730

func (p *Pages) account(v *view) error { return v.showAccount(&accountPage{}) }

func (v *view) showAccount(data *accountPage) error {
	r, err := v.account()
	if err != nil {
		return err
	}
	ctx, all := v.r.Context(), v.p.accounts
	if data.User, err = all.User(ctx, r, v.actor.User); err != nil {
		return err
	}
	if data.Sessions, err = all.Sessions(ctx, r, v.actor.User); err != nil {
		return err
	}
	if data.Tokens, err = all.Tokens(ctx, r, v.actor.User); err != nil {
		return err
	}
	data.Current, data.Days, data.Kinds = v.visitor.Session.ID(), tokenDays, domain.NotificationKinds
	return v.show("account", v.T("title.account"), data)
}

// changeAccount carries out what the form asks for. The secret of a new token is not stored, so the reply shows it without a redirect.
func (p *Pages) changeAccount(v *view) error {
	r, err := v.account()
	if err != nil {
		return err
	}
	ctx, all, id, f := v.r.Context(), p.accounts, v.actor.User, v.r.PostFormValue
	data := &accountPage{Label: f("label")}
	switch f("do") {
	case "mail":
		without := slices.DeleteFunc(slices.Clone(domain.NotificationKinds), func(kind domain.NotificationKind) bool {
			return slices.Contains(v.r.PostForm["kind"], string(kind))
		})
		err = all.ChangeUser(ctx, r, id, accounts.Change{Language: new(f("language")), WithoutMail: new(domain.NewKinds(without...))})
	case "password":
		if err = all.SetPassword(ctx, r, id, f("old"), f("password")); err == nil {
			err = v.visitor.Session.Renew()
		}
	case "end":
		err = all.EndSession(ctx, r, id, f("session"))
	case "sign-out":
		if err = all.SignOutEverywhere(ctx, r, id); err == nil {
			return v.redirect(signedOutPath)
		}
	case "revoke":
		err = v.revoke(r)
	case "create", "feed":
		days, ok := number(f("days"))
		if data.Feed = f("do") == "feed"; data.Feed {
			days, ok = feedDays, true
		}
		if !ok || days == 0 || days > feedDays {
			return errForm
		}
		n := accounts.NewToken{User: id, Label: data.Label, Roles: v.readRoles("role"), Feeds: data.Feed, ExpiresAt: v.Now.Add(time.Duration(days) * 24 * time.Hour)}
		if data.Secret, _, err = all.CreateToken(ctx, r, n); err == nil {
			return v.showAccount(data)
		}
	default:
		return errForm
	}
	if err != nil {
		return v.showWhy(err, func(why *problem) error {
			data.Problem = why
			return v.showAccount(data)
		})
	}
	return v.redirect("/account?done=saved")
}

// revoke revokes the token in the form.
func (v *view) revoke(r accounts.Request) error {
	id := v.r.PostFormValue("token")
	if !validID(id) {
		return domain.ErrTokenNotFound
	}
	return v.p.accounts.RevokeToken(v.r.Context(), r, domain.TokenID(id))
}

// tokensPage is the data of everybody's tokens.
type tokensPage struct {
	Tokens  []accounts.Token
	Names   map[domain.UserID]string
	Next    domain.TokenID // after which more come
	Problem *problem
}

func (p *Pages) tokens(v *view) error { return v.showTokens(nil) }

func (v *view) showTokens(why *problem) error {
	r, err := v.account()
	if err != nil {
		return err
	}
	data := &tokensPage{Problem: why, Names: map[domain.UserID]string{}}
	data.Tokens, data.Next, err = v.p.accounts.AllTokens(v.r.Context(), r, domain.TokenID(v.r.URL.Query().Get("cursor")), peopleSize)
	if err != nil {
		return err
	}
	for _, t := range data.Tokens {
		if data.Names[t.User] != "" {
			continue
		}
		u, err := v.p.accounts.User(v.r.Context(), r, t.User)
		if errors.Is(err, domain.ErrUserNotFound) { // erased meanwhile
			u.Name, err = v.T("former-user"), nil
		}
		if err != nil {
			return err
		}
		data.Names[t.User] = u.Name
	}
	return v.show("tokens", v.T("title.tokens"), data)
}

func (p *Pages) changeTokens(v *view) error {
	r, err := v.account()
	if err != nil {
		return err
	}
	ctx, done := v.r.Context(), "revoked"
	switch v.r.PostFormValue("do") {
	case "revoke":
		err = v.revoke(r)
	case "pair":
		_, err = p.accounts.PairDisplay(ctx, r, v.r.PostFormValue("code"))
		done = "paired"
	default:
		return errForm
	}
	if err != nil {
		return v.showWhy(err, v.showTokens)
	}
	return v.redirect("/people/tokens?done=" + done)
}

// Day is the day of a time in the server's zone; empty for the zero time.
func (v *view) Day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return v.Date(t.In(v.p.zone))
}

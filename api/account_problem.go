package api

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"roombook/commands/accounts"
	"roombook/commands/accounts/directory"
	"roombook/commands/accounts/oidc"
	"roombook/domain"
)

// accountProblems are the problem types of authentication, permissions and accounts.
var accountProblems = []problemType{
	{
		name: "unauthenticated", status: http.StatusUnauthorized, title: "The request does not say who it is by",
		about: "This server has accounts. A request needs a token (Authorization: Bearer, with one of this server's, rbk_…, or, where people sign in at an identity provider, with an access token that the provider issued for this server) or the cookie of a session (POST /session) that is valid: not expired, revoked or signed out, and of a user who is not disabled.",
		match: func(err error, p *problem) bool {
			p.challenge = sentinel(errUnauthenticated, "There is no valid token in the Authorization header, and no valid session in the cookie.")(err, p)
			return p.challenge
		},
	},
	{
		name: "cross-origin", status: http.StatusForbidden, title: "The request comes from a page of another site",
		about: "A browser sent the request for a page that is not this server's. If the page is, its address must be told with --public-url. Programs are no browsers, and send neither Origin nor Sec-Fetch-Site.",
		match: sentinel(errCrossOrigin, "The headers Origin and Sec-Fetch-Site say that the page of another site made the browser send the request."),
	},
	{
		name: "forbidden", status: http.StatusForbidden, title: "The caller may not do this",
		about: "The caller is known, and their roles do not permit what they ask for. The detail says who may do it, and what the caller may do instead.",
		match: typed(func(e *domain.Forbidden, p *problem) { p.Detail = forbidden(e) }),
	},
	{
		name: "no-accounts", status: http.StatusNotFound, title: "This server has no accounts",
		about: "The server was started with --auth none and authenticates nobody, so there is nobody to sign in and there are no tokens. Start it with --auth accounts, or oidc.",
		match: sentinel(errNoAccounts, "The server authenticates nobody."),
	},
	{
		name: "sign-in-at-provider", status: http.StatusForbidden, title: "People sign in at the identity provider",
		about: "The server was started with --auth oidc: a browser signs in at /signin, which leads to the identity provider. A program needs a token.",
		match: sentinel(errSignInAtProvider, "Nobody signs in by a password here; /signin leads to the identity provider."),
	},
	{
		name: "no-role", status: http.StatusForbidden, title: "The identity provider gives the caller no role",
		about: "The access token is valid, and the claim that --oidc-roles-claim names has no role of this server: user, approver, admin, door or machine, with or without roombook- before it. Whoever looks after the identity provider can give one.",
		match: sentinel(oidc.ErrNoRole, "The access token has no role of this server in the claim for roles."),
	},
	{
		name: "provider-unavailable", status: http.StatusServiceUnavailable, title: "The identity provider is not available", retry: true,
		about: "The access token cannot be checked, because the identity provider does not answer. Sessions and tokens of this server go on. Send the request again later.",
		match: sentinel(oidc.ErrUnavailable, "The identity provider does not answer, so the access token cannot be checked."),
	},
	{
		name: "wrong-credentials", status: http.StatusForbidden, title: "The credentials are wrong",
		about: "Nobody who may sign in has this name and password; or, where a password is changed, the present one is another; or, where the first user is added, the code is not the one that the server printed, or there is a user already.",
		match: sentinel(accounts.ErrWrongCredentials, "The name and password, or the code, are not valid."),
	},
	{
		name: "too-many-tries", status: http.StatusTooManyRequests, title: "Too many tries have failed", retry: true,
		about: "Sign-ins with this name or from this address failed too often. Each further try has to wait twice as long as the one before. The header Retry-After says how long.",
		match: tooManyTries,
	},
	{
		name: "user-not-found", status: http.StatusNotFound, title: "There is no such user",
		about: "No user has this id, or they were erased.",
		match: sentinel(domain.ErrUserNotFound, "No user has this id, or they were erased."),
	},
	{
		name: "name-taken", status: http.StatusConflict, title: "Another user has the name",
		about: "Users sign in with their names, so each has another; upper and lower case are the same. Choose another name. The name door- and the id of a room is for the displays of that room.",
		match: sentinel(directory.ErrNameTaken, "Another user signs in with this name."),
	},
	{
		name: "session-not-found", status: http.StatusNotFound, title: "There is no such session",
		about: "The caller has no session with this id.",
		match: sentinel(accounts.ErrSessionNotFound, "The caller has no session with this id."),
	},
	{
		name: "no-display", status: http.StatusNotFound, title: "No display shows the code",
		about: "A display shows its code at /rooms/{id}/door until it is paired, and a new one every ten minutes. Read it again.",
		match: sentinel(accounts.ErrNoDisplay, "No display shows this code, or not any more."),
	},
	{
		name: "needs-session", status: http.StatusForbidden, title: "A token cannot do this",
		about: "Who acts by a token creates no tokens, pairs no displays, and gets no link to choose a password of their own: that would be valid after the token has expired or been revoked, for whoever had got hold of it. Sign in (POST /session, or /signin), or use roombook token on the server's machine.",
		match: sentinel(accounts.ErrByToken, "The request is by a token, which makes nothing that outlives it. Sign in to do this."),
	},
	{
		name: "token-not-found", status: http.StatusNotFound, title: "There is no such token",
		about: "The caller has no token with this id.",
		match: sentinel(domain.ErrTokenNotFound, "The caller has no token with this id."),
	},
	{
		name: "too-many-tokens", status: http.StatusConflict, title: "The user has too many tokens",
		about: "A user has at most 100 tokens that are not revoked. Revoke those that are not needed: DELETE /tokens/{id}.",
		match: sentinel(accounts.ErrTooManyTokens, "The user has 100 tokens; revoke one first."),
	},
	{
		name: "accounts-unavailable", status: http.StatusServiceUnavailable, title: "Accounts are not available", retry: true,
		about: "The store of users and sessions does not answer, so nobody can be recognised. A command has not been carried out, unless it was one on accounts. Send the request again later.",
		match: sentinel(directory.ErrUnavailable, "The store of users and sessions does not answer."),
	},
}

// forbidden says what the caller may not do, who may, and what the caller may do instead.
func forbidden(e *domain.Forbidden) string {
	whose := map[domain.Relation]string{
		domain.Own: "what is the caller's own", domain.OfOwnRoom: "what is in rooms that the caller answers for", domain.SomebodyElse: "what is somebody else's or the system's",
	}
	words := func(n int, word func(int) string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = word(i)
		}
		return strings.Join(all, " or ")
	}
	detail := fmt.Sprintf("The caller may not %s: %s.", e.Action, whose[e.Relation])
	if len(e.Roles) > 0 {
		detail += fmt.Sprintf(" It takes the role %s.", words(len(e.Roles), func(i int) string { return string(e.Roles[i]) }))
	}
	if len(e.Instead) > 0 {
		detail += fmt.Sprintf(" The caller may do so with %s.", words(len(e.Instead), func(i int) string { return whose[e.Instead[i]] }))
	}
	return detail
}

// seconds is a duration in whole seconds, rounded up.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

package accounts

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"roombook/commands/accounts/directory"
	"roombook/domain"
)

// TokenPrefix is the prefix of every token, by which scanners find tokens that were published by mistake.
const TokenPrefix = "rbk_"

// The lengths of the parts of a token after its prefix: 32 bytes in base64url, and their CRC-32 in hexadecimal.
const (
	tokenSecretLength = 43
	tokenSumLength    = 8
)

// newToken returns the secret of a new token.
func newToken() string {
	secret := newSecret()
	return TokenPrefix + secret + tokenSum(secret)
}

func tokenSum(secret string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(secret))) }

// wellFormed reports whether a text can be a token. Truncated and mistyped ones are rejected without a look-up.
func wellFormed(token string) bool {
	rest, ok := strings.CutPrefix(token, TokenPrefix)
	return ok && len(rest) == tokenSecretLength+tokenSumLength && tokenSum(rest[:tokenSecretLength]) == rest[tokenSecretLength:]
}

// idOf is the id of the token with a hash.
func idOf(hash string) domain.TokenID { return domain.TokenID(hash[:24]) }

// Token is a token without its secret.
type Token struct {
	domain.Token
	Label  string
	UsedAt time.Time
}

// NewToken is a token to be issued.
type NewToken struct {
	User      domain.UserID
	Label     string       // what the user calls it, may be empty
	Roles     domain.Roles // empty for those of the user
	Rooms     domain.Rooms // empty for those of the user
	Feeds     bool         // it opens calendar feeds and nothing else
	ExpiresAt time.Time
}

// maxTokens is the most tokens that a user may have, not counting revoked ones.
const maxTokens = 100

// ErrByToken means that somebody who acts by a token asked for a secret that would be valid after the token has expired or been revoked.
var ErrByToken = errors.New("a token makes no tokens, displays or passwords for its user")

// ErrTooManyTokens means that the user has as many tokens as they may.
var ErrTooManyTokens = errors.New("the user has 100 tokens already")

// CreateToken issues a token and returns its secret, which is not stored. The error is [ErrByToken], [domain.ErrUserNotFound],
// [domain.ErrTokenLife], [domain.ErrBeyondUser], [ErrTooManyTokens] or *[domain.Invalid].
func (a *Accounts) CreateToken(ctx context.Context, r Request, n NewToken) (secret string, _ Token, err error) {
	if err := r.Actor.May(domain.ManageTokens, r.Actor.To(n.User, "")); err != nil {
		return "", Token{}, err
	}
	if r.Actor.ByToken {
		return "", Token{}, ErrByToken
	}
	if err := invalid(checkText(FieldLabel, n.Label)); err != nil {
		return "", Token{}, err
	}
	u, err := a.user(ctx, n.User)
	if err != nil {
		return "", Token{}, err
	}
	if n.Roles == "" {
		n.Roles = u.Roles
	}
	if n.Rooms == "" {
		n.Rooms = u.Rooms
	}
	secret = newToken()
	t, err := a.issue(ctx, r, u, hashOf(secret), n)
	return secret, t, err
}

// issue issues the token whose secret has a hash.
func (a *Accounts) issue(ctx context.Context, r Request, u domain.User, hash string, n NewToken) (Token, error) {
	issue := domain.TokenIssued{TokenID: idOf(hash), Hash: hash, UserID: n.User, Roles: n.Roles, Rooms: n.Rooms, Feeds: n.Feeds, ExpiresAt: n.ExpiresAt, At: r.At}
	if _, err := domain.DecideIssue(domain.Token{}, u, issue); err != nil {
		return Token{}, err
	}
	// The directory comes first, so that there is no valid token that no list shows, and tokens that are issued at the same time count each other.
	if err := a.directory.AddToken(ctx, directory.Token{ID: issue.TokenID, User: n.User, Label: n.Label}); err != nil {
		return Token{}, err
	}
	present, err := a.directory.Tokens(ctx, n.User, "", maxTokens+1)
	if err == nil && len(present) > maxTokens {
		err = ErrTooManyTokens
	}
	// The user that was decided on may be cached, and erased by another process, which has removed what the directory had of them before this.
	if err == nil {
		u, _, err = load[domain.User](ctx, a.streams, n.User.Stream())
	}
	if err == nil {
		_, err = domain.DecideIssue(domain.Token{}, u, issue)
	}
	if err != nil {
		return Token{}, errors.Join(err, a.directory.RemoveToken(ctx, issue.TokenID))
	}
	t, err := transact(ctx, a, r, issue.TokenID.Stream(), func(t domain.Token) ([]domain.Event, error) { return domain.DecideIssue(t, u, issue) })
	return Token{Token: t, Label: n.Label}, err
}

// RevokeToken revokes a token. The error is [domain.ErrTokenNotFound], also for callers who may not revoke it.
func (a *Accounts) RevokeToken(ctx context.Context, r Request, id domain.TokenID) error {
	defer a.tokens.forget(id)
	_, err := transact(ctx, a, r, id.Stream(), func(t domain.Token) ([]domain.Event, error) {
		if r.Actor.May(domain.ManageTokens, r.Actor.To(t.User, "")) != nil {
			return nil, domain.ErrTokenNotFound
		}
		return domain.DecideRevoke(t, r.At)
	})
	if err != nil {
		return err
	}
	return a.directory.RemoveToken(ctx, id)
}

// Tokens returns the tokens of a user that are not revoked, the newest first.
func (a *Accounts) Tokens(ctx context.Context, r Request, user domain.UserID) ([]Token, error) {
	tokens, _, err := a.tokensAfter(ctx, r, user, "", 0)
	slices.SortStableFunc(tokens, func(a, b Token) int { return b.IssuedAt.Compare(a.IssuedAt) })
	return tokens, err
}

// AllTokens returns the tokens of all users that are not revoked and whose ids come after an id, in the order of their ids: at most n of
// them, or all if n is 0. Next is the one after which the following come; empty if there are none.
func (a *Accounts) AllTokens(ctx context.Context, r Request, after domain.TokenID, n int) (tokens []Token, next domain.TokenID, err error) {
	return a.tokensAfter(ctx, r, "", after, n)
}

func (a *Accounts) tokensAfter(ctx context.Context, r Request, user domain.UserID, after domain.TokenID, n int) (tokens []Token, next domain.TokenID, err error) {
	if err := r.Actor.May(domain.ManageTokens, r.Actor.To(user, "")); err != nil {
		return nil, "", err
	}
	limit := 0
	if n > 0 {
		limit = n + 1
	}
	rows, err := a.directory.Tokens(ctx, user, after, limit)
	if err != nil {
		return nil, "", err
	}
	if n > 0 && len(rows) > n {
		rows = rows[:n]
		next = rows[n-1].ID
	}
	for _, row := range rows {
		t, _, err := load[domain.Token](ctx, a.streams, row.ID.Stream())
		if err != nil {
			return nil, "", err
		}
		if t.ID != "" {
			tokens = append(tokens, Token{t, row.Label, row.UsedAt})
		}
	}
	return tokens, next, nil
}

// ByToken returns who a token acts as. The error is [ErrWrongCredentials]; tokens for calendar feeds are refused.
func (a *Accounts) ByToken(ctx context.Context, secret string, at time.Time) (domain.Actor, error) {
	return a.byToken(ctx, secret, false, at)
}

// ByFeedToken returns who a token for calendar feeds acts as; other tokens are refused. The error is [ErrWrongCredentials].
func (a *Accounts) ByFeedToken(ctx context.Context, secret string, at time.Time) (domain.Actor, error) {
	return a.byToken(ctx, secret, true, at)
}

func (a *Accounts) byToken(ctx context.Context, secret string, feeds bool, at time.Time) (domain.Actor, error) {
	if !wellFormed(secret) {
		return domain.Actor{}, ErrWrongCredentials
	}
	hash := hashOf(secret)
	t, err := a.tokens.get(idOf(hash), func() (Token, error) {
		row, err := a.directory.Token(ctx, idOf(hash))
		if err != nil {
			return Token{}, err
		}
		t, _, err := load[domain.Token](ctx, a.streams, row.ID.Stream())
		return Token{t, row.Label, row.UsedAt}, err
	})
	if errors.Is(err, directory.ErrUnknown) {
		return domain.Actor{}, ErrWrongCredentials
	}
	if err != nil {
		return domain.Actor{}, err
	}
	u, err := a.user(ctx, t.User)
	if err != nil {
		return domain.Actor{}, err
	}
	actor, valid := t.Actor(u, at)
	if !valid || t.Feeds != feeds || subtle.ConstantTimeCompare([]byte(t.Hash), []byte(hash)) != 1 {
		return domain.Actor{}, ErrWrongCredentials
	}
	if at.Sub(t.UsedAt) >= seenEvery {
		if err := a.directory.SeeToken(ctx, t.ID, at); err != nil {
			return domain.Actor{}, err
		}
		a.tokens.forget(t.ID)
	}
	return actor, nil
}

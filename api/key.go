package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"roombook/commands"
	"roombook/domain"
)

// keySpace is the UUIDv5 name space of the ids of commands with an idempotency key.
var keySpace = uuid.MustParse("6f1d2f0e-5f0a-5b3c-8a54-1c0f6f0a9d37")

// maxKeyLength is the upper bound of an Idempotency-Key, in characters.
const maxKeyLength = 255

// idempotencyKey returns the request's idempotency key, or the empty string. The header has it bare, or as a quoted string (RFC 8941,
// section 3.3.3) as in draft-ietf-httpapi-idempotency-key-header.
func idempotencyKey(h http.Header) (string, error) {
	lines := h["Idempotency-Key"]
	if len(lines) == 0 {
		return "", nil
	}
	if len(lines) > 1 {
		return "", errors.New("must be given only once")
	}
	key := lines[0]
	if strings.HasPrefix(key, `"`) {
		var ok bool
		if key, ok = quotedString(key); !ok {
			return "", errors.New(`must be a string as RFC 8941 has them if it begins with a quote: "…", with \" and \\ as only escapes, and nothing after it`)
		}
	}
	visible := strings.IndexFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) < 0
	if !visible || key == "" || len(key) > maxKeyLength {
		return "", fmt.Errorf("must be 1 to %d visible ASCII characters; a random UUID is a good key", maxKeyLength)
	}
	return key, nil
}

// quotedString parses an RFC 8941 string.
func quotedString(s string) (text string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), i == len(s)-1
		case '\\':
			i++
			if i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", false
}

// commandID returns the id of the command with an idempotency key. Where callers are authenticated, each has keys of their own: nobody is
// answered what another was.
func (x *exchange) commandID(key string) uuid.UUID {
	if x.server.accounts != nil {
		key = string(x.actor.User) + " " + key // in neither of which there is a space
	}
	return uuid.NewSHA1(keySpace, []byte(key))
}

// keys serializes the commands of a server that have the same idempotency key. It is safe for concurrent use.
type keys struct {
	mu    sync.Mutex
	inUse map[uuid.UUID]chan struct{} // by command; closed when the command is done
}

// acquire waits until no other attempt of the command is in progress on this server, so that a second attempt gets the outcome of the first,
// and then holds the key until release is called.
func (k *keys) acquire(ctx context.Context, command uuid.UUID) (release func(), err error) {
	for {
		k.mu.Lock()
		other, inUse := k.inUse[command]
		if !inUse {
			done := make(chan struct{})
			k.inUse[command] = done
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				defer k.mu.Unlock()
				delete(k.inUse, command)
				close(done)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// storeRefusal stores the reply that refuses a command with an idempotency key, so that every attempt gets the same reply: a client that
// retries has not seen it, and must not succeed by accident with what was refused. Refusals by the policy are not stored, because the policy
// is a setting of this server and may change, nor are those for want of permission, since what the caller may do changes. It returns the error that the reply reports.
func (x *exchange) storeRefusal(err error) error {
	refused := x.status >= http.StatusBadRequest && x.status < http.StatusInternalServerError
	if x.command.Digest == "" || !refused || errors.Is(err, commands.ErrKeyReused) {
		return err
	}
	if _, before := errors.AsType[*commands.RefusedBefore](err); before {
		return err
	}
	if _, policy := errors.AsType[*domain.Invalid](err); policy {
		return err
	}
	if _, forbidden := errors.AsType[*domain.Forbidden](err); forbidden {
		return err
	}
	answer, failed := x.server.commands.Refused(x.ctx, x.command, x.out.String())
	if failed != nil {
		x.fail(failed)
		return failed
	}
	x.replayRefusal(answer)
	return err
}

// replayRefusal replies with a problem that storeRefusal has stored.
func (x *exchange) replayRefusal(answer string) {
	var stored struct {
		Type   string `json:"type"`
		Status int    `json:"status"`
		ETag   string `json:"etag"`
	}
	_ = json.Unmarshal([]byte(answer), &stored) // this package has written it
	if stored.ETag != "" {
		x.header("Etag", stored.ETag)
	}
	x.status, x.mediaType, x.problem = stored.Status, mediaProblem, strings.TrimPrefix(stored.Type, "/problems/")
	x.out.Reset()
	x.out.WriteString(answer)
}

// digest returns a hash of what a request asks for: its method, its path with the query, and its body without insignificant white space. The
// body must have been decoded.
func (x *exchange) digest() string {
	h := sha256.New()
	// Writing to a hash never fails. The body, if there is one, is JSON, or a picture, which stays as it is.
	target := x.r.URL.Path
	if x.r.URL.RawQuery != "" {
		target += "?" + x.r.URL.RawQuery
	}
	_, _ = io.WriteString(h, x.r.Method+" "+target+"\n")
	compact := jsontext.Value(x.in).Clone()
	_ = compact.Compact()
	_, _ = h.Write(compact)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

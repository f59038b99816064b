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

// keySpace is the UUIDv5 name space of commands whose callers chose a key for them.
var keySpace = uuid.MustParse("6f1d2f0e-5f0a-5b3c-8a54-1c0f6f0a9d37")

// longestKey bounds an Idempotency-Key, in characters.
const longestKey = 255

// idempotencyKey is the key under which the caller may send a command again, or empty. It is given as it is, or as a string in
// quotes (RFC 8941, section 3.3.3), which is the form of draft-ietf-httpapi-idempotency-key-header.
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
	if !visible || key == "" || len(key) > longestKey {
		return "", fmt.Errorf("must be 1 to %d visible ASCII characters; a random UUID is a good key", longestKey)
	}
	return key, nil
}

// quotedString is the text of an RFC 8941 string.
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

// commandID is the id of the command that has the key.
func commandID(key string) uuid.UUID { return uuid.NewSHA1(keySpace, []byte(key)) }

// keys are those of the commands that a server has under way. Goroutines may share them.
type keys struct {
	mu    sync.Mutex
	inUse map[uuid.UUID]chan struct{} // closed when the command is over
}

// take waits until no other try of the command is under way here, so that the second hears what became of the first, and takes the key until
// free is called.
func (k *keys) take(ctx context.Context, command uuid.UUID) (free func(), err error) {
	for {
		k.mu.Lock()
		other, inUse := k.inUse[command]
		if !inUse {
			over := make(chan struct{})
			k.inUse[command] = over
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				defer k.mu.Unlock()
				delete(k.inUse, command)
				close(over)
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

// keepRefusal keeps the reply that refuses a command with a key, so that every try of the command is answered alike: somebody who
// asks again did not hear it, and must not get by accident what was refused. What the policy says no to is decided anew each time: it is
// this server's, and may be another tomorrow. It returns the error that the reply is about.
func (x *exchange) keepRefusal(err error) error {
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
	answer, failed := x.server.commands.Refused(x.ctx, x.command, x.out.String())
	if failed != nil {
		x.fail(failed)
		return failed
	}
	x.failAgain(answer)
	return err
}

// failAgain replies with the problem that was kept.
func (x *exchange) failAgain(answer string) {
	var kept struct {
		Type   string `json:"type"`
		Status int    `json:"status"`
		ETag   string `json:"etag"`
	}
	// What was kept is a problem of this package's own.
	_ = json.Unmarshal([]byte(answer), &kept)
	if kept.ETag != "" {
		x.header("Etag", kept.ETag)
	}
	x.status, x.mediaType, x.problem = kept.Status, mediaProblem, strings.TrimPrefix(kept.Type, "/problems/")
	x.out.Reset()
	x.out.WriteString(answer)
}

// digest is one of all that a request asks for: its method, its path, and its body but for the white space that means nothing.
// The body has been decoded.
func (x *exchange) digest() string {
	h := sha256.New()
	// Writing to a hash never fails, and the body, if there is one, is known to be JSON.
	_, _ = io.WriteString(h, x.r.Method+" "+x.r.URL.Path+"\n")
	compact := jsontext.Value(x.in).Clone()
	_ = compact.Compact()
	_, _ = h.Write(compact)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/uuid"
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

// digest is one of all that a request asks for: its method, its path, and its body but for the white space that means nothing.
// The body has been decoded.
func (x *exchange) digest() string {
	h := sha256.New()
	// A hash can be written to without fail, and the body is JSON.
	_, _ = io.WriteString(h, x.r.Method+" "+x.r.URL.Path+"\n")
	if len(x.in) > 0 {
		var compact bytes.Buffer
		_ = json.Compact(&compact, x.in)
		_, _ = h.Write(compact.Bytes())
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

package api

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"

	"github.com/google/uuid"

	"roombook/commands"
	"roombook/domain"
)

// request returns the metadata of a command: who asks, when, under which id and condition. Handlers call it right before the command,
// because from then on the request counts towards the limit of concurrent commands.
func (x *exchange) request(actor domain.UserID) (commands.Request, error) {
	var faults []fault
	key, err := idempotencyKey(x.r.Header)
	if err != nil {
		faults = append(faults, fault{Parameter: "Idempotency-Key", Detail: err.Error()})
	}
	var match, noneMatch *condition
	if x.r.Method != http.MethodPost { // a resource that does not exist yet has no revision
		if match, err = parseCondition(x.r.Header["If-Match"]); err != nil {
			faults = append(faults, fault{Parameter: "If-Match", Detail: err.Error()})
		}
		if noneMatch, err = parseCondition(x.r.Header["If-None-Match"]); err != nil {
			faults = append(faults, fault{Parameter: "If-None-Match", Detail: err.Error()})
		}
	}
	if faults != nil {
		return commands.Request{}, &invalidParameters{faults}
	}
	if err := x.admit(x.server.commandLimit); err != nil {
		return commands.Request{}, err
	}

	r := commands.Request{At: x.now(), IfRevisions: match.revisions(false), UnlessRevisions: noneMatch.revisions(true)}
	if noneMatch != nil && noneMatch.any { // forbids any change of an existing resource (RFC 9110, section 13.1.2)
		r.IfRevisions = []domain.Revision{}
	}
	if key != "" {
		r.ID, r.Digest = x.commandID(key), x.digest()
		if x.releaseKey, err = x.server.keys.acquire(x.ctx, r.ID); err != nil {
			return commands.Request{}, err
		}
	} else if r.ID, err = uuid.NewV7(); err != nil {
		return commands.Request{}, fmt.Errorf("make a command id: %w", err)
	}
	if x.server.accounts == nil {
		x.actor = domain.Anyone(cmp.Or(actor, anonymous))
	}
	r.Actor, r.Client, r.CorrelationID, r.TraceParent = x.actor, x.keptNetwork(), x.correlation(), x.traceParent()
	x.command = r
	return r, nil
}

// anonymous is the actor of a command whose body names no user, where nobody is authenticated: there the actor is whoever the body names.
const anonymous = "anonymous"

// correlation returns the correlation id of the request: its X-Correlation-Id, else the id of its trace, else its own id.
func (x *exchange) correlation() string {
	if id := identifier(x.r.Header.Get("X-Correlation-Id")); id != "" {
		return id
	}
	if trace := x.traceParent(); trace != "" {
		return trace[3:35]
	}
	return x.id
}

// requestID returns the client's X-Request-Id, or a new id.
func requestID(r *http.Request) string {
	if id := identifier(r.Header.Get("X-Request-Id")); id != "" {
		return id
	}
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
	return hex.EncodeToString(b[:])
}

// identifier returns an id that a client sent if it can be logged and stored, that is, up to 128 visible ASCII characters. Otherwise it returns
// the empty string.
func identifier(s string) string {
	if len(s) > 128 {
		return ""
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return ""
		}
	}
	return s
}

// traceParent returns the request's W3C trace context (level 2, section 3.2), or the empty string if there is no valid one.
func traceParent(r *http.Request) string {
	v := r.Header.Get("Traceparent")
	if len(v) < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' || len(v) > 128 {
		return ""
	}
	version, trace, parent, flags := v[:2], v[3:35], v[36:52], v[53:55]
	if version == "ff" || (version == "00" && len(v) != 55) || (len(v) > 55 && v[55] != '-') {
		return ""
	}
	zeros := func(s string) bool {
		for i := range len(s) {
			if s[i] != '0' {
				return false
			}
		}
		return true
	}
	for _, part := range []string{version, trace, parent, flags} {
		for i := range len(part) {
			if c := part[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return ""
			}
		}
	}
	if zeros(trace) || zeros(parent) || identifier(v) == "" {
		return ""
	}
	return v
}

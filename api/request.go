package api

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"

	"github.com/google/uuid"

	"roombook/commands"
	"roombook/domain"
)

// request is a command's request: who asks, when, under which id and condition. It is what a handler does last before the
// command, since from here on the request counts among those that are being carried out.
func (x *exchange) request(actor domain.UserID) (commands.Request, error) {
	var faults []fault
	key, err := idempotencyKey(x.r.Header)
	if err != nil {
		faults = append(faults, fault{Parameter: "Idempotency-Key", Detail: err.Error()})
	}
	var match, noneMatch *condition
	if x.r.Method != http.MethodPost { // what does not exist yet has no revision
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
	if noneMatch != nil && noneMatch.any { // lets nothing be changed that is there (RFC 9110, section 13.1.2)
		r.IfRevisions = []domain.Revision{}
	}
	if key != "" {
		r.ID, r.Digest = commandID(key), x.digest()
		if x.freeKey, err = x.server.keys.take(x.ctx, r.ID); err != nil {
			return commands.Request{}, err
		}
	} else if r.ID, err = uuid.NewV7(); err != nil {
		return commands.Request{}, fmt.Errorf("make a command id: %w", err)
	}
	trace := traceParent(x.r)
	correlation := identifier(x.r.Header.Get("X-Correlation-Id"))
	if correlation == "" && trace != "" {
		correlation = trace[3:35]
	}
	if correlation == "" {
		correlation = x.id
	}
	if actor == "" {
		actor = anonymous
	}
	r.Actor, r.CorrelationID, r.TraceParent = string(actor), correlation, trace
	x.command = r
	return r, nil
}

// anonymous is the actor of a command whose body names nobody. Callers are not authenticated: the actor is who the body says.
const anonymous = "anonymous"

// requestID is the id that the caller gave the request, or a new one.
func requestID(r *http.Request) string {
	if id := identifier(r.Header.Get("X-Request-Id")); id != "" {
		return id
	}
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
	return hex.EncodeToString(b[:])
}

// identifier is a caller's id if it is fit to be logged and stored: up to 128 visible ASCII characters. Else it is empty.
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

// traceParent is the request's W3C trace context (level 2, section 3.2), or empty if it has none that is valid.
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

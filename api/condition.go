package api

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"roombook/domain"
)

// etag is a revision as an entity tag. It is a strong one: what is answered follows from the events up to there, and differs by media type.
func etag(r domain.Revision, mediaType string) string {
	tag := strconv.FormatInt(int64(r), 10)
	if mediaType == mediaJSON {
		tag += tagJSON
	}
	return `"` + tag + `"`
}

// tagJSON ends the tag of an answer in plain JSON.
const tagJSON = "-json"

// condition is what If-Match and If-None-Match say of a resource (RFC 9110, sections 13.1.1 and 13.1.2).
type condition struct {
	any  bool // "*": whatever there is
	tags []entityTag
}

type entityTag struct {
	tag  string // with its quotes
	weak bool
}

var errNotEntityTags = errors.New(`must be * or entity tags with commas between, as answers have them in ETag: "3", or "3", "5"`)

// parseCondition reads the lines of a header: nil if there are none. Empty elements are passed over (RFC 9110, section 5.6.1).
func parseCondition(lines []string) (*condition, error) {
	if len(lines) == 0 {
		return nil, nil
	}
	rest := strings.Trim(strings.Join(lines, ","), " \t")
	if rest == "*" {
		return &condition{any: true}, nil
	}
	var c condition
	for {
		rest = strings.TrimLeft(rest, ", \t")
		if rest == "" {
			break
		}
		var t entityTag
		rest, t.weak = strings.CutPrefix(rest, "W/")
		n := entityTagLength(rest)
		if n == 0 {
			return nil, errNotEntityTags
		}
		t.tag, rest = rest[:n], strings.TrimLeft(rest[n:], " \t")
		if rest != "" && rest[0] != ',' {
			return nil, errNotEntityTags
		}
		c.tags = append(c.tags, t)
	}
	if c.tags == nil {
		return nil, errNotEntityTags
	}
	return &c, nil
}

// entityTagLength is the length of the opaque tag that s begins with, or 0.
func entityTagLength(s string) int {
	if s == "" || s[0] != '"' {
		return 0
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return i + 1
		case c < 0x21 || c == 0x7f:
			return 0
		}
	}
	return 0
}

// revisions are those that the condition names; nil if it names none in particular. By the strong comparison a weak tag is none, and by
// either a tag is none that no answer ever had.
func (c *condition) revisions(weak bool) []domain.Revision {
	if c == nil || c.any {
		return nil
	}
	revisions := make([]domain.Revision, 0, len(c.tags))
	for _, t := range c.tags {
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.Trim(t.tag, `"`), tagJSON), 10, 64)
		if r := domain.Revision(n); (weak || !t.weak) && err == nil && n >= 0 && (etag(r, mediaHAL) == t.tag || etag(r, mediaJSON) == t.tag) {
			revisions = append(revisions, r)
		}
	}
	return revisions
}

// has reports whether the condition names the tag, by the weak comparison.
func (c *condition) has(tag string) bool {
	if c.any {
		return true
	}
	for _, t := range c.tags {
		if t.tag == tag {
			return true
		}
	}
	return false
}

// unlessKnown leaves the document out of the reply if the caller has it already, by its If-None-Match.
func (x *exchange) unlessKnown() error {
	tag := x.w.Header()["Etag"]
	if tag == nil {
		return nil
	}
	known, err := parseCondition(x.r.Header["If-None-Match"])
	if err != nil {
		return invalidParameter("If-None-Match", err)
	}
	if known != nil && known.has(tag[0]) {
		x.status = http.StatusNotModified
		x.out.Reset()
	}
	return nil
}

package api

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"roombook/domain"
)

// etag returns the entity tag of a resource at a revision. It is a strong one: the events up to the revision determine the reply, but for
// its media type, which is part of the tag.
func etag(r domain.Revision, mediaType string) string {
	tag := strconv.FormatInt(int64(r), 10)
	if mediaType == mediaJSON {
		tag += tagJSON
	}
	return `"` + tag + `"`
}

// tagJSON is the suffix of the tags of replies in plain JSON.
const tagJSON = "-json"

// condition is the value of an If-Match or If-None-Match header (RFC 9110, sections 13.1.1 and 13.1.2).
type condition struct {
	any  bool // "*", which matches every existing resource
	tags []entityTag
}

type entityTag struct {
	tag  string // including the quotes
	weak bool
}

var errNotEntityTags = errors.New(`must be * or entity tags with commas between, as answers have them in ETag: "3", or "3", "5"`)

// parseCondition parses the lines of a header. It returns nil if there are none. Empty list elements are ignored (RFC 9110, section 5.6.1).
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

// entityTagLength returns the length of the opaque tag at the start of s, or 0 if there is none.
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

// revisions returns the revisions that the condition names, or nil if there is no condition or it is *. Tags that no reply ever had are
// left out, and so are weak tags unless the weak comparison is asked for.
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

// has reports whether the condition matches the tag by the weak comparison.
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

// checkNotModified makes the reply a 304 without a body if If-None-Match shows that the client already has it.
func (x *exchange) checkNotModified() error {
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

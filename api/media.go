package api

import (
	"regexp"
	"strings"

	"github.com/munnerz/goautoneg"
)

// acceptable negotiates the media type of a reply (RFC 9110, section 12.5.1): HAL unless the client prefers plain JSON.
func acceptable(accept []string) (string, error) {
	if len(accept) == 0 || len(accept) == 1 && (accept[0] == "*/*" || accept[0] == mediaHAL) {
		return mediaHAL, nil
	}
	ranges := parseAccept(accept)
	hal, json := preferenceFor(ranges, mediaHAL), preferenceFor(ranges, mediaJSON)
	switch {
	case hal.quality > 0 && hal.quality >= json.quality && (hal.specific >= json.specific || hal.quality > json.quality):
		return mediaHAL, nil
	case json.quality > 0:
		return mediaJSON, nil
	case hal.quality > 0:
		return mediaHAL, nil
	}
	return "", errNotAcceptable
}

// prefersHTML reports whether the client prefers a page to HAL, as browsers do.
func prefersHTML(accept []string) bool {
	ranges := parseAccept(accept)
	html := preferenceFor(ranges, "text/html")
	return html.specific == 3 && html.quality > 0 && html.quality >= preferenceFor(ranges, mediaHAL).quality
}

// invalidQuality matches a weight that is no number. goautoneg would take it for 0, which excludes the range.
var invalidQuality = regexp.MustCompile(`;q=[^0-9.,;][^,;]*`)

// parseAccept parses Accept headers. goautoneg is case-sensitive and only trims spaces.
func parseAccept(accept []string) []goautoneg.Accept {
	header := strings.ToLower(strings.Join(strings.Fields(strings.Join(accept, ",")), ""))
	return goautoneg.ParseAccept(invalidQuality.ReplaceAllString(header, ""))
}

// preference is the quality of a media type, and how specific the range is that it comes from.
type preference struct {
	specific int
	quality  float64
}

// preferenceFor returns the quality of the most specific range that includes the media type. [goautoneg.Negotiate] does not do this: it goes
// by the highest quality, and may choose a type that q=0 excludes.
func preferenceFor(ranges []goautoneg.Accept, mediaType string) (p preference) {
	major, minor, _ := strings.Cut(mediaType, "/")
	for _, r := range ranges {
		var specific int
		switch {
		case r.Type == major && r.SubType == minor:
			specific = 3
		case r.Type == major && r.SubType == "*":
			specific = 2
		case r.Type == "*" && r.SubType == "*": // or a single *, as java.net sends it
			specific = 1
		default:
			continue
		}
		if specific > p.specific || specific == p.specific && r.Q > p.quality {
			p = preference{specific, r.Q}
		}
	}
	return p
}

package api

import (
	"regexp"
	"strings"

	"github.com/munnerz/goautoneg"
)

// acceptable picks the media type of an answer by the request's Accept headers (RFC 9110, section 12.5.1): HAL unless plain JSON
// is preferred.
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

// prefersHTML reports whether an answer for people is preferred to one for programs, as browsers do.
func prefersHTML(accept []string) bool {
	ranges := parseAccept(accept)
	html := preferenceFor(ranges, "text/html")
	return html.specific == 3 && html.quality > 0 && html.quality >= preferenceFor(ranges, mediaHAL).quality
}

// invalidQuality is a weight that is no number. goautoneg takes it for 0, which would exclude its range.
var invalidQuality = regexp.MustCompile(`;q=[^0-9.,;][^,;]*`)

// parseAccept parses Accept headers. goautoneg compares letters as they are and trims spaces only.
func parseAccept(accept []string) []goautoneg.Accept {
	header := strings.ToLower(strings.Join(strings.Fields(strings.Join(accept, ",")), ""))
	return goautoneg.ParseAccept(invalidQuality.ReplaceAllString(header, ""))
}

// preference is the quality that a caller gives a media type, and how specific the range is that says so.
type preference struct {
	specific int
	quality  float64
}

// preferenceFor finds the most specific range that the media type falls into, whose quality is that of the type. [goautoneg.Negotiate] does
// not know that: it answers with what is excluded (q=0), and takes the range of the highest quality first.
func preferenceFor(ranges []goautoneg.Accept, mediaType string) (p preference) {
	major, minor, _ := strings.Cut(mediaType, "/")
	for _, r := range ranges {
		var specific int
		switch {
		case r.Type == major && r.SubType == minor:
			specific = 3
		case r.Type == major && r.SubType == "*":
			specific = 2
		case r.Type == "*" && r.SubType == "*": // also what java.net sends, a single *
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

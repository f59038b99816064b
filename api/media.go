package api

import (
	"strconv"
	"strings"
)

// acceptable picks the media type of an answer by the request's Accept headers (RFC 9110, section 12.5.1): HAL unless plain JSON
// is liked better.
func acceptable(accept []string) (string, error) {
	if len(accept) == 0 || len(accept) == 1 && (accept[0] == "*/*" || accept[0] == mediaHAL) {
		return mediaHAL, nil
	}
	hal, json := preferenceFor(accept, mediaHAL), preferenceFor(accept, mediaJSON)
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

// prefersHTML reports whether an answer for people is liked better than one for programs, as browsers do.
func prefersHTML(accept []string) bool {
	html := preferenceFor(accept, "text/html")
	return html.specific == 3 && html.quality > 0 && html.quality >= preferenceFor(accept, mediaHAL).quality
}

// preference is the quality that a caller gives a media type, and how specific the range is that says so.
type preference struct {
	specific int
	quality  float64
}

// preferenceFor finds the most specific range that the media type falls into.
func preferenceFor(accept []string, mediaType string) preference {
	major, _, _ := strings.Cut(mediaType, "/")
	var p preference
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			media, params, _ := strings.Cut(item, ";")
			media = strings.TrimSpace(media)
			specific := 0
			switch {
			case strings.EqualFold(media, mediaType):
				specific = 3
			case strings.EqualFold(media, major+"/*"):
				specific = 2
			case media == "*/*", media == "*": // the latter is what java.net sends
				specific = 1
			}
			if specific > p.specific {
				p = preference{specific, quality(params)}
			}
		}
	}
	return p
}

// quality is the parameter q; 1 if there is none that can be read.
func quality(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if strings.EqualFold(name, "q") {
			if q, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil && q >= 0 && q <= 1 {
				return q
			}
		}
	}
	return 1
}

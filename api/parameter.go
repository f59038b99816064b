package api

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"roombook/eventstore"
)

// invalidParameters lists every fault of a query.
type invalidParameters struct{ faults []fault }

func (e *invalidParameters) Error() string {
	var b strings.Builder
	b.WriteString("the query is invalid")
	for _, f := range e.faults {
		fmt.Fprintf(&b, "; %s %s", f.Parameter, f.Detail)
	}
	return b.String()
}

func invalidParameter(name string, err error) error {
	return &invalidParameters{[]fault{{Parameter: name, Detail: err.Error()}}}
}

// errUnknownParameter is what is wrong with a parameter that a route does not have. It is refused: a filter that is misspelt and passed
// over would answer another question than the one that was asked.
var errUnknownParameter = errors.New("is not a parameter of this address")

// params hands the query's parameters to set, one after the other, and collects everything that is wrong with them: nil, or an
// *invalidParameters.
func (x *exchange) params(set func(name, value string) error) error {
	var faults []fault
	var seen []string
	for part := range strings.SplitSeq(x.r.URL.RawQuery, "&") {
		if part == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		switch {
		case err != nil || err2 != nil:
			err = errors.New("is not escaped as a query must be")
		case slices.Contains(seen, name):
			err = errors.New("must be given only once")
		default:
			err = set(name, value)
		}
		seen = append(seen, name)
		if err != nil {
			faults = append(faults, fault{Parameter: name, Detail: err.Error()})
		}
		if len(faults) == maxFaults {
			break
		}
	}
	if faults != nil {
		return &invalidParameters{faults}
	}
	return nil
}

// queryTime is a time as the query has it, where an offset's plus sign that is not escaped arrives as a space.
func queryTime(value string) []byte {
	if i := strings.LastIndexByte(value, ' '); i == len(value)-len(" 09:00") && i > 0 {
		value = value[:i] + "+" + value[i+1:]
	}
	return []byte(value)
}

// parseBound reads the beginning of a time that is asked for, or its end: a time, or a date, which is from its beginning to its end.
func parseBound(value string, zone *time.Location, end bool) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, "20060102"} {
		if date, err := time.Parse(layout, value); err == nil && len(value) == len(layout) {
			if end {
				date = date.AddDate(0, 0, 1)
			}
			return inYears(startOfDay(date, zone))
		}
	}
	if end {
		return parseEnd(queryTime(value), zone)
	}
	return parseTime(queryTime(value), zone)
}

// minPosition is the position that the caller's last command had: a list is to show what it did.
func (x *exchange) minPosition() (eventstore.Position, error) {
	v := x.r.Header.Get("Roombook-Position")
	if v == "" {
		return 0, nil
	}
	p, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return 0, errors.New("must be the Roombook-Position of a command's answer, a whole number")
	}
	return eventstore.Position(p), nil
}

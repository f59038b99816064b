package api

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
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

// invalidParameter reports a fault of a single parameter or header.
func invalidParameter(name string, err error) error {
	return &invalidParameters{[]fault{{Parameter: name, Detail: err.Error()}}}
}

// errUnknownParameter is the fault of a parameter that a route does not have. Ignoring a misspelt filter would answer another question than
// the client asked.
var errUnknownParameter = errors.New("is not a parameter of this address")

// params calls set for each parameter of the query, of which those that are repeatable may be given several times. It returns nil, or all
// faults as an *invalidParameters.
func (x *exchange) params(set func(name, value string) error, repeatable ...string) error {
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
		case slices.Contains(seen, name) && !slices.Contains(repeatable, name):
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

// listParams is params for a query of a list, with the position that the list must have reached.
func (x *exchange) listParams(min *eventstore.Position, set func(name, value string) error, repeatable ...string) error {
	err := x.params(set, repeatable...)
	var headerErr error
	if *min, headerErr = x.minPosition(); headerErr != nil {
		err = faultIf(err, true, "Roombook-Position", headerErr.Error())
	}
	return err
}

// faultIf adds a fault of a parameter to those of err, which is nil or an *invalidParameters, unless that has one of the parameter already.
func faultIf(err error, is bool, parameter, detail string) error {
	if !is {
		return err
	}
	invalid, _ := errors.AsType[*invalidParameters](err)
	if invalid == nil {
		invalid = new(invalidParameters)
	}
	if !slices.ContainsFunc(invalid.faults, func(f fault) bool { return f.Parameter == parameter }) {
		invalid.faults = append(invalid.faults, fault{Parameter: parameter, Detail: detail})
	}
	return invalid
}

// asParameters converts the error of an invalid query into a fault of a parameter. Other errors are returned unchanged.
func asParameters(err error) error {
	if invalid, ok := errors.AsType[*projections.InvalidQuery](err); ok {
		return invalidParameter(string(invalid.Parameter), errors.New(invalid.Detail))
	}
	return err
}

func parseBool(value string) (bool, error) {
	if value != "true" && value != "false" {
		return false, errors.New("must be true or false")
	}
	return value == "true", nil
}

// parseNames parses texts with commas between.
func parseNames(value string) ([]string, error) {
	if len(value) > maxText {
		return nil, errTextTooLong
	}
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' }), nil
}

// maxText is the maximum length of a text in a query, in bytes.
const maxText = 1000

var errTextTooLong = fmt.Errorf("must be at most %d bytes long", maxText)

func parseText(value string) (string, error) {
	if len(value) > maxText {
		return "", errTextTooLong
	}
	return value, nil
}

// queryTime restores the plus sign of an offset, which arrives as a space if the client did not escape it.
func queryTime(value string) []byte {
	if i := strings.LastIndexByte(value, ' '); i == len(value)-len(" 09:00") && i > 0 {
		value = value[:i] + "+" + value[i+1:]
	}
	return []byte(value)
}

// parseBound parses the start or the end of a period: a time, or a date, which stands for its first or its last instant.
func parseBound(value string, zone *time.Location, end bool) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, "20060102"} {
		if date, err := time.Parse(layout, value); err == nil && len(value) == len(layout) {
			if end {
				date = date.AddDate(0, 0, 1)
			}
			return inYears(domain.Midnight(date.Year(), date.Month(), date.Day(), zone).UTC())
		}
	}
	if end {
		return parseEnd(queryTime(value), zone)
	}
	return parseTime(queryTime(value), zone)
}

// minPosition returns the position that the list must have reached, which is that of a command whose effect the client wants to see.
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

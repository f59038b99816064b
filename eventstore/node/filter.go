package node

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/dlclark/regexp2"
)

// matchTimeout bounds what one event may cost a filter's backtracking. A clock of regexp2's, one for the process, watches over
// it and runs on for a while; Close stops it.
const matchTimeout = 200 * time.Millisecond

// defaultWindow is the window where a client leaves it to the server, and the number of chosen events that fill a page.
const defaultWindow = 32

// filter chooses events of $all by stream name or by type: by prefix, or by a regular expression of .NET, which may match
// anywhere.
type filter struct {
	byType   bool
	prefixes [][]byte
	regex    *regexp2.Regexp
	// window is the number of events, chosen or not, that are searched before a page ends.
	window uint64
	// interval is the number of events, chosen or not, from one checkpoint to the next.
	interval uint64
}

func parseFilter(options *streams.ReadReq_Options_FilterOptions) (*filter, error) {
	var f filter
	var expression *streams.ReadReq_Options_FilterOptions_Expression
	switch by := options.GetFilter().(type) {
	case *streams.ReadReq_Options_FilterOptions_StreamIdentifier:
		expression = by.StreamIdentifier
	case *streams.ReadReq_Options_FilterOptions_EventType:
		f.byType = true
		expression = by.EventType
	default:
		return nil, invalidArgument(fmt.Sprintf("'%s' is not a valid EventStore.Client.Streams.ReadReq+Types+Options+Types+FilterOptions", windowText(options)))
	}
	switch window := options.GetWindow().(type) {
	case *streams.ReadReq_Options_FilterOptions_Max:
		f.window = uint64(window.Max)
	case *streams.ReadReq_Options_FilterOptions_Count:
		f.window = defaultWindow
	default:
		return nil, noneIsInvalid("Streams.ReadReq+Types+Options+Types+FilterOptions+Window")
	}
	f.interval = f.window * uint64(options.GetCheckpointIntervalMultiplier())
	if expression.GetRegex() != "" {
		regex, err := regexp2.Compile(expression.GetRegex(), regexp2.None)
		if err != nil {
			return nil, errHandler
		}
		regex.MatchTimeout = matchTimeout
		f.regex = regex
		return &f, nil
	}
	for _, prefix := range expression.GetPrefix() {
		f.prefixes = append(f.prefixes, []byte(prefix))
	}
	return &f, nil
}

// windowText is a filter that chooses by nothing, as EventStoreDB prints it.
func windowText(options *streams.ReadReq_Options_FilterOptions) string {
	var fields []string
	switch window := options.GetWindow().(type) {
	case *streams.ReadReq_Options_FilterOptions_Max:
		fields = append(fields, fmt.Sprintf(`"max": %d`, window.Max))
	case *streams.ReadReq_Options_FilterOptions_Count:
		fields = append(fields, `"count": { }`)
	}
	if multiplier := options.GetCheckpointIntervalMultiplier(); multiplier != 0 {
		fields = append(fields, fmt.Sprintf(`"checkpointIntervalMultiplier": %d`, multiplier))
	}
	if fields == nil {
		return "{ }"
	}
	return "{ " + strings.Join(fields, ", ") + " }"
}

// match reports whether the filter chooses the event. A nil filter chooses all that $all shows. It fails if the regular expression takes too long,
// which is the client's fault, or if ctx has ended.
func (f *filter) match(ctx context.Context, r record) (bool, error) {
	if f == nil || r.hidden() {
		return !r.hidden(), nil
	}
	text := r.stream()
	if f.byType {
		text = r.eventType()
	}
	if f.regex != nil {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		ok, err := f.regex.MatchString(string(text))
		if err != nil {
			return false, invalidArgument(fmt.Sprintf("The filter's regular expression takes too long on '%s'.", text))
		}
		return ok, nil
	}
	for _, prefix := range f.prefixes {
		if bytes.HasPrefix(text, prefix) {
			return true, nil
		}
	}
	return false, nil
}

package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/dlclark/regexp2"
)

// allStream is the name by which a group's source is $all.
const allStream = "$all"

// groupSettings are a group's, as they are stored: in JSON as an entry of EventStoreDB's configuration. Times are in milliseconds.
type groupSettings struct {
	Stream                string       `json:"stream"`
	Group                 string       `json:"group"`
	Filter                *groupFilter `json:"filter,omitempty"`
	ResolveLinkTos        bool         `json:"resolveLinkTos"`
	ExtraStatistics       bool         `json:"extraStatistics"`
	MessageTimeout        int32        `json:"messageTimeout"`
	StartPosition         place        `json:"startPosition"`
	LiveBufferSize        int32        `json:"liveBufferSize"`
	HistoryBufferSize     int32        `json:"historyBufferSize"`
	MaxRetryCount         int32        `json:"maxRetryCount"`
	ReadBatchSize         int32        `json:"readBatchSize"`
	CheckPointAfter       int32        `json:"checkPointAfter"`
	MinCheckPointCount    int32        `json:"minCheckPointCount"`
	MaxCheckPointCount    int32        `json:"maxCheckPointCount"`
	MaxSubscriberCount    int32        `json:"maxSubscriberCount"`
	NamedConsumerStrategy string       `json:"namedConsumerStrategy"`
}

// place is a revision of a group's stream or a position of the log: where it starts, inclusive.
type place int64

const endPlace place = -1

// MarshalJSON writes the place as text, as EventStoreDB does with a revision.
func (p place) MarshalJSON() ([]byte, error) { return json.Marshal(strconv.FormatInt(int64(p), 10)) }

// UnmarshalJSON reads what MarshalJSON writes.
func (p *place) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	*p = place(n)
	return err
}

// groupFilter is the filter of a group on $all.
type groupFilter struct {
	ByType   bool     `json:"byType"`
	Regex    string   `json:"regex,omitempty"`
	Prefixes []string `json:"prefixes,omitempty"`
	Interval uint64   `json:"interval"`
}

func (f *groupFilter) compile() (*filter, error) {
	if f == nil {
		return nil, nil
	}
	compiled := &filter{byType: f.ByType, interval: f.Interval}
	if f.Regex != "" {
		regex, err := regexp2.Compile(f.Regex, regexp2.None)
		if err != nil {
			return nil, errHandler
		}
		regex.MatchTimeout = matchTimeout
		compiled.regex = regex
	}
	for _, prefix := range f.Prefixes {
		compiled.prefixes = append(compiled.prefixes, []byte(prefix))
	}
	return compiled, nil
}

func (s *groupSettings) all() bool { return s.Stream == allStream }

// key is the group's name together with its source's.
func (s *groupSettings) key() string { return s.Stream + "::" + s.Group }

// placeText is a revision or a position as EventStoreDB writes it.
func (s *groupSettings) placeText(p int64) string {
	if s.all() {
		return fmt.Sprintf("C:%d/P:%d", p, p)
	}
	return strconv.FormatInt(p, 10)
}

func (s *groupSettings) placeJSON(p int64) string { return strconv.Quote(s.placeText(p)) }

// parsePlace reads a checkpoint. False: there is none.
func parsePlace(checkpoint *event) (int64, bool) {
	if checkpoint == nil {
		return 0, false
	}
	text := string(bytes.Trim(checkpoint.data(), `"`))
	if _, prepare, ok := strings.Cut(text, "/P:"); ok {
		text = prepare
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0
}

// check refuses what EventStoreDB refuses. The reason is a text of its own.
func (s *groupSettings) check() (reason string) {
	switch s.NamedConsumerStrategy {
	case dispatchToSingle, roundRobin, pinnedToStream, pinnedToCorrelation:
	default:
		return fmt.Sprintf("Consumer strategy %s does not exist.", s.NamedConsumerStrategy)
	}
	if s.ReadBatchSize >= s.HistoryBufferSize {
		return "Specified argument was out of the range of valid values. (Parameter 'ReadBatchSize may not be greater than or equal to BufferSize')"
	}
	return ""
}

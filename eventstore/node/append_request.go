package node

import (
	"errors"
	"unicode/utf16"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
)

// maxAppendSize is the most that one append may hold, in bytes as proposedEvent.size counts them.
const maxAppendSize = 1 << 20

// appendRequest gathers the messages of one Append call: options first, then the events.
type appendRequest struct {
	stream     string
	expected   expectation
	byRevision bool // the expectation came as a number
	events     []*event
	size       int
	begun      bool
	named      bool // it has a stream identifier
	// fault is what is wrong with the request. Messages that follow are dropped, but taken: a client that is answered while it
	// still sends reports the broken stream in place of the answer.
	fault error

	one [1]*event // room for the usual number of events
}

// take adds the next message. It fails if it is not one.
func (r *appendRequest) take(message []byte) error {
	var content field
	if len(message) > maxReceiveSize {
		r.fault = &callError{code: codes.ResourceExhausted, text: "Received message exceeds the maximum configured message size."}
	}
	for len(message) > 0 {
		f, rest, err := nextField(message)
		if err != nil {
			return err
		}
		if f.number == appendReqOptions || f.number == appendReqProposed {
			content = f
		}
		message = rest
	}
	switch {
	case r.fault != nil:
		r.begun = true
		return nil
	case !r.begun && content.number == appendReqOptions:
		r.begun = true
		return r.takeOptions(content.bytes)
	case r.begun && content.number == appendReqProposed:
		return r.takeProposed(content.bytes)
	}
	r.fault = errHandler
	return nil
}

func (r *appendRequest) takeOptions(options []byte) error {
	var name []byte
	expected := false
	for len(options) > 0 {
		f, rest, err := nextField(options)
		if err != nil {
			return err
		}
		switch f.number {
		case optionsStream:
			r.named = true
			if name, err = parseStreamIdentifier(f.bytes); err != nil {
				return err
			}
		case optionsRevision:
			if r.expected, expected = expectRevision(f.varint); !expected {
				r.fault = errHandler
				return nil
			}
			r.byRevision = true
		case optionsNoStream:
			r.expected, expected = expectNoStream, true
		case optionsAny:
			r.expected, expected = expectAny, true
		case optionsStreamExists:
			r.expected, expected = expectStreamExists, true
		}
		options = rest
	}
	r.stream = string(name)
	if r.fault = checkWritable(r.stream); r.fault == nil && !expected {
		r.fault = noneIsInvalid("Streams.AppendReq+Types+Options+ExpectedStreamRevision")
	}
	r.events = r.one[:0]
	return nil
}

func parseStreamIdentifier(message []byte) (name []byte, err error) {
	for len(message) > 0 {
		var f field
		if f, message, err = nextField(message); err != nil {
			return nil, err
		}
		if f.number == streamIdentifierName {
			name = f.bytes
		}
	}
	return name, nil
}

// proposedEvent is an event as a client sends it. Its slices belong to the message.
type proposedEvent struct {
	id             []byte // a UUID message, nil if missing
	eventType      []byte // nil if missing
	contentType    []byte // nil if missing
	customMetadata []byte
	data           []byte
}

func (r *appendRequest) takeProposed(message []byte) error {
	p, err := parseProposed(message)
	if err != nil {
		return err
	}
	switch {
	case p.eventType == nil:
		r.fault = missingMetadata(keyType)
		return nil
	case p.contentType == nil:
		r.fault = missingMetadata(keyContentType)
		return nil
	}
	if r.size += p.size(); r.size > maxAppendSize {
		r.fault = appendTooLarge(maxAppendSize)
		r.events = nil
		return nil
	}
	id, err := parseUUID(p.id)
	if err != nil || id == (eventID{}) || len(p.eventType) == 0 {
		r.fault = errHandler
		return nil
	}
	json := string(p.contentType) == contentTypeJSON
	r.events = append(r.events, &event{record: newRecord(r.stream, id, p.eventType, json, p.customMetadata, p.data)})
	return nil
}

func parseProposed(message []byte) (p proposedEvent, err error) {
	for len(message) > 0 {
		var f field
		if f, message, err = nextField(message); err != nil {
			return p, err
		}
		switch f.number {
		case proposedID:
			p.id = f.bytes
		case proposedMetadata:
			err = p.takeMetadata(f.bytes)
		case proposedCustomMetadata:
			p.customMetadata = f.bytes
		case proposedData:
			p.data = f.bytes
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// errNotUTF8 refuses text that the client could not read back.
var errNotUTF8 = errors.New("string field contains invalid UTF-8")

// takeMetadata reads one entry of an event's metadata. Those that are not the event's type or content type are dropped.
func (p *proposedEvent) takeMetadata(entry []byte) (err error) {
	key, value := []byte{}, []byte{}
	for len(entry) > 0 {
		var f field
		if f, entry, err = nextField(entry); err != nil {
			return err
		}
		if f.bytes == nil {
			continue
		}
		switch f.number {
		case mapKey:
			key = f.bytes
		case mapValue:
			value = f.bytes
		}
	}
	if !utf8.Valid(value) {
		return errNotUTF8
	}
	switch string(key) {
	case keyType:
		p.eventType = value
	case keyContentType:
		p.contentType = value
	}
	return nil
}

// size is what the event counts against the limit of an append (Data/Event.cs, SizeOnDisk).
func (p *proposedEvent) size() int {
	return len(p.data) + len(p.customMetadata) + 2*utf16Length(p.eventType)
}

func utf16Length(text []byte) int {
	n := 0
	for _, r := range string(text) {
		n += utf16.RuneLen(r)
	}
	return n
}

package node_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/EventStore/EventStore-Client-Go/v4/protos/projections" // its messages are looked up by name
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"roombook/eventstore/node"
)

// answeredOtherwise are the conversations that this node does not have as EventStoreDB has, and what differs.
var answeredOtherwise = map[string]string{
	"batchappend/half-close-after-answers":  "a call that is half-closed ends",
	"batchappend/half-close-unfinished":     "a call that is half-closed ends",
	"other/supported-methods":               "only what is served is announced",
	"other/unary-without-message":           "the text is gRPC's",
	"persistent/ack-bad-id":                 "an ack of what is no id does no harm to later ones",
	"persistent/replay-parked-stop-at-zero": "a replay of nothing does no harm to later ones",
	"read/all-odd-positions":                "every number up to the end is a position",
}

// conversationsAtOnce is the number of conversations under way at a time: they mostly wait.
const conversationsAtOnce = 16

// TestConversations plays what was recorded of a real EventStoreDB, each conversation with a node of its own. The format is
// told in testdata/conversations/README.md.
func TestConversations(t *testing.T) {
	files, err := filepath.Glob("testdata/conversations/*/*.json")
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]chan error{}
	free := make(chan struct{}, conversationsAtOnce)
	for _, file := range files {
		name, _ := strings.CutSuffix(strings.TrimPrefix(file, "testdata/conversations/"), ".json")
		result := make(chan error, 1)
		results[name] = result
		go func() {
			free <- struct{}{}
			result <- playInTime(file)
			<-free
		}()
	}
	for name := range answeredOtherwise {
		if results[name] == nil {
			t.Errorf("there is no conversation %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		t.Run(name, func(t *testing.T) {
			err := <-results[name]
			why, known := answeredOtherwise[name]
			switch {
			case !known && err != nil:
				t.Error(err)
			case known && err == nil:
				t.Errorf("is answered as by EventStoreDB, though it is listed: %s", why)
			}
		})
	}
}

// conversation is one recording.
type conversation struct {
	Steps []step   `json:"steps"`
	Order []string `json:"order"`
}

type step struct {
	Call       string            `json:"call"`
	Open       string            `json:"open"`
	On         string            `json:"on"`
	Connection string            `json:"connection"`
	Metadata   map[string]string `json:"metadata"`
	DeadlineMS int               `json:"deadline_ms"`
	Cleanup    bool              `json:"cleanup"`
	Send       []json.RawMessage `json:"send"`
	HalfClose  bool              `json:"half_close"`
	Cancel     bool              `json:"cancel"`
	Expect     any               `json:"expect"`
	MS         int               `json:"ms"`
	Ignore     []string          `json:"ignore"`
	AnyOrder   bool              `json:"any_order"`
	Wait       int               `json:"wait"`
	Got        *answer           `json:"got"`
	Sleep      int               `json:"sleep"`
	Drop       string            `json:"drop"`
}

// answer is what came back on a call.
type answer struct {
	Messages []any             `json:"messages"`
	Code     string            `json:"code"`
	Details  string            `json:"details"`
	Trailers map[string]string `json:"trailers"`
}

// playInTime plays a conversation, and again if it waits for a time only that a busy machine exceeds.
func playInTime(file string) error {
	const attempts = 3
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for range attempts {
		if err = playWith(text); err == nil || !bytes.Contains(text, []byte(`"sleep"`)) {
			return err
		}
	}
	return err
}

// playWith plays a conversation with a node of its own.
func playWith(text []byte) error {
	n, err := node.Open(node.Options{})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx, l) }()
	p := player{address: l.Addr().String(), bound: map[string]string{}, calls: map[string]*openCall{}, connections: map[string]*connection{}}
	err = p.play(text)
	for _, c := range p.connections {
		err = errors.Join(err, c.Close())
	}
	cancel()
	return errors.Join(err, <-served, n.Close())
}

// player plays one conversation.
type player struct {
	address     string
	bound       map[string]string // values of placeholders
	calls       map[string]*openCall
	connections map[string]*connection
}

var placeholder = regexp.MustCompile(`\$\{([a-zA-Z]+\d+)(\.msb|\.lsb|[+-]\d+)?\}`)

// chosen puts in the values of the placeholders that the client chooses, and leaves those that answers bind.
func (p *player) chosen(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		parts := placeholder.FindStringSubmatch(found)
		name := parts[1]
		switch kind := strings.TrimRight(name, "0123456789"); kind {
		case "P", "U":
			return found
		case "x":
			length, _ := strconv.Atoi(name[1:])
			return strings.Repeat("x", length)
		case "id":
			if p.bound[name] == "" {
				p.bound[name] = uuid.NewString()
			}
		default:
			if p.bound[name] == "" {
				p.bound[name] = kind + "-" + uuid.NewString()[:13]
			}
		}
		id := uuid.UUID{}
		if parts[2] != "" {
			id = uuid.MustParse(p.bound[name])
		}
		switch parts[2] {
		case ".msb":
			return strconv.FormatInt(int64(be64(id[:8])), 10)
		case ".lsb":
			return strconv.FormatInt(int64(be64(id[8:])), 10)
		}
		return p.bound[name]
	})
}

func be64(b []byte) (n uint64) {
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return n
}

// known puts in the values that answers have bound. Others stay.
func (p *player) known(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		parts := placeholder.FindStringSubmatch(found)
		value, ok := p.bound[parts[1]]
		if !ok {
			return found
		}
		if parts[2] != "" {
			n, _ := strconv.ParseInt(value, 10, 64)
			more, _ := strconv.ParseInt(parts[2], 10, 64)
			value = strconv.FormatInt(n+more, 10)
		}
		return value
	})
}

func (p *player) play(text []byte) error {
	var c conversation
	if err := json.Unmarshal([]byte(p.chosen(string(text))), &c); err != nil {
		return err
	}
	for i, s := range c.Steps {
		if err := p.step(s); err != nil {
			return fmt.Errorf("step %d: %s %s%s: %w", i+1, s.Call, s.Open, s.On, err)
		}
	}
	for i := range len(c.Order) - 1 {
		before, _ := strconv.ParseInt(p.bound[c.Order[i]], 10, 64)
		after, _ := strconv.ParseInt(p.bound[c.Order[i+1]], 10, 64)
		if before >= after {
			return fmt.Errorf("%s is %d and %s is %d", c.Order[i], before, c.Order[i+1], after)
		}
	}
	return nil
}

func (p *player) step(s step) error {
	wait := time.Duration(s.Wait) * time.Millisecond
	switch {
	case s.Wait > 0:
	case s.Got != nil && s.Got.Code != "": // it is known to end
		wait = 30 * time.Second
	default:
		wait = 6 * time.Second
	}
	if s.MS == 0 {
		s.MS = 500
	}
	switch {
	case s.Sleep > 0:
		time.Sleep(time.Duration(s.Sleep) * time.Millisecond)
		return nil
	case s.Drop != "":
		return p.connections[s.Drop].drop()
	case s.On != "":
		c := p.calls[s.On]
		if err := c.send(p, s.Send); err != nil {
			return err
		}
		if s.HalfClose {
			if err := c.stream.CloseSend(); err != nil {
				return err
			}
		}
		if s.Cancel {
			c.cancel()
		}
		if s.Expect == nil {
			return nil
		}
		if s.Expect == "nothing" {
			return p.compare(s, c.receiveFor("end", time.Duration(s.MS)*time.Millisecond, *s.Got, s.Ignore))
		}
		return p.compare(s, c.receiveFor(s.Expect, wait, *s.Got, s.Ignore))
	}
	c, err := p.open(s)
	if err != nil {
		return err
	}
	if err := c.send(p, s.Send); err != nil {
		return err
	}
	if s.Open == "" || s.HalfClose || s.Call == "Streams.Read" {
		if err := c.stream.CloseSend(); err != nil {
			return err
		}
	}
	if s.Open != "" {
		p.calls[s.Open] = c
		return nil
	}
	defer c.cancel()
	if s.Cleanup {
		c.receive("end", s.Ignore, wait)
		return nil
	}
	return p.compare(s, c.receiveFor("end", wait, *s.Got, s.Ignore))
}

// connection is one TCP connection.
type connection struct {
	*grpc.ClientConn
	mu  sync.Mutex
	tcp net.Conn
}

// drop breaks the connection without a goodbye.
func (c *connection) drop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.tcp.(*net.TCPConn).SetLinger(0); err != nil {
		return err
	}
	return c.tcp.Close()
}

func (p *player) connection(name string) (*connection, error) {
	if c := p.connections[name]; c != nil {
		return c, nil
	}
	c := &connection{}
	var err error
	c.ClientConn, err = grpc.NewClient(p.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			tcp, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.tcp = tcp
			return tcp, err
		}))
	p.connections[name] = c
	return c, err
}

// openCall is a call under way.
type openCall struct {
	method   protoreflect.MethodDescriptor // nil: a raw path
	stream   grpc.ClientStream
	cancel   context.CancelFunc
	messages chan any // closed when the call has ended
	ended    *answer  // set before
}

func (p *player) open(s step) (*openCall, error) {
	connection, err := p.connection(s.Connection)
	if err != nil {
		return nil, err
	}
	c := &openCall{messages: make(chan any, 1<<16)}
	path := "/" + s.Call
	if !strings.Contains(s.Call, "/") {
		if c.method, err = findMethod(s.Call); err != nil {
			return nil, err
		}
		path = fmt.Sprintf("/%s/%s", c.method.Parent().FullName(), c.method.Name())
	}
	ctx := metadata.NewOutgoingContext(context.Background(), metadata.New(s.Metadata))
	if s.DeadlineMS > 0 {
		ctx, c.cancel = context.WithTimeout(ctx, time.Duration(s.DeadlineMS)*time.Millisecond)
	} else {
		ctx, c.cancel = context.WithCancel(ctx)
	}
	description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	if c.stream, err = connection.NewStream(ctx, description, path, grpc.MaxCallRecvMsgSize(17<<20)); err != nil {
		return nil, err
	}
	go c.read()
	return c, nil
}

// read takes the answers until the call has ended.
func (c *openCall) read() {
	defer close(c.messages)
	for {
		m := newMessage(c.method, false)
		if err := c.stream.RecvMsg(m); err != nil {
			c.ended = &answer{Code: "OK", Trailers: map[string]string{}}
			if err != io.EOF {
				s := status.Convert(err)
				c.ended.Code, c.ended.Details = codeName(s.Code()), s.Message()
			}
			for key, values := range c.stream.Trailer() {
				if key != "content-type" && key != "date" && key != "server" && !strings.HasPrefix(key, "grpc-") {
					c.ended.Trailers[key] = strings.Join(values, ",")
				}
			}
			return
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			text, _ = json.Marshal(err.Error())
		}
		var message any
		if err := json.Unmarshal(text, &message); err != nil {
			message = err.Error()
		}
		c.messages <- message
	}
}

var letters = regexp.MustCompile(`([a-z])([A-Z])`)

// codeName is the name of a code as protocol buffers have it.
func codeName(c codes.Code) string {
	if c == codes.Canceled {
		return "CANCELLED"
	}
	return strings.ToUpper(letters.ReplaceAllString(c.String(), "${1}_${2}"))
}

func (c *openCall) send(p *player, messages []json.RawMessage) error {
	for _, text := range messages {
		var content any
		if err := json.Unmarshal([]byte(p.known(string(text))), &content); err != nil {
			return err
		}
		text, err := json.Marshal(mapStrings("", content, func(_, s string) string {
			if rest, ok := strings.CutPrefix(s, "text:"); ok {
				return base64.StdEncoding.EncodeToString([]byte(rest))
			}
			return s
		}))
		if err != nil {
			return err
		}
		m := newMessage(c.method, true)
		if err := protojson.Unmarshal(text, m); err != nil {
			return err
		}
		if err := c.stream.SendMsg(m); err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

// receiveFor takes what comes within a time, and on a slow machine what is known to come.
func (c *openCall) receiveFor(expect any, within time.Duration, want answer, ignore []string) answer {
	got := c.receive(expect, ignore, within)
	if missing := len(want.Messages) - len(got.Messages); got.Code == "" && (missing > 0 || want.Code != "") {
		expect = float64(missing)
		if want.Code != "" {
			expect = "end"
		}
		rest := c.receive(expect, ignore, time.Minute)
		rest.Messages = append(got.Messages, rest.Messages...)
		return rest
	}
	return got
}

// receive takes messages: so many, or up to the first of a kind, or to the end.
func (c *openCall) receive(expect any, ignore []string, wait time.Duration) answer {
	got := answer{Messages: []any{}}
	timeout := time.After(wait)
	for {
		if n, ok := expect.(float64); ok && len(got.Messages) >= int(n) {
			return got
		}
		select {
		case m, ok := <-c.messages:
			if !ok {
				got.Code, got.Details, got.Trailers = c.ended.Code, c.ended.Details, c.ended.Trailers
				return got
			}
			if slices.ContainsFunc(ignore, func(kind string) bool { return hasKind(m, kind) }) {
				continue
			}
			got.Messages = append(got.Messages, m)
			if kind, ok := expect.(string); ok && hasKind(m, kind) {
				return got
			}
		case <-timeout:
			return got
		}
	}
}

func hasKind(message any, kind string) bool {
	_, ok := message.(map[string]any)[kind]
	return ok
}

// compare holds an answer against what was recorded.
func (p *player) compare(s step, got answer) error {
	want := *s.Got
	difference := func(what string) error {
		return fmt.Errorf("%s: got %s\nwant %s", what, jsonText(got), p.known(jsonText(want)))
	}
	// The texts of the client that recorded.
	if want.Details == "Cancelled on client" || want.Details == "Received HTTP status code 404" {
		got.Details = want.Details
	}
	switch {
	case want.Code != got.Code:
		return difference("code")
	case len(want.Messages) != len(got.Messages):
		return difference("number of messages")
	case want.Details != "" && !p.match(want.Details, got.Details):
		return difference("details")
	case len(want.Trailers) != len(got.Trailers):
		return difference("trailers")
	}
	for key, text := range want.Trailers {
		if !p.match(text, got.Trailers[key]) {
			return difference("trailer " + key)
		}
	}
	left := slices.Clone(got.Messages)
	for _, w := range want.Messages {
		matched := false
		for i, g := range left {
			if s.AnyOrder {
				sortMethods(g)
			}
			before := maps.Clone(p.bound)
			if matched = p.match(w, g); matched {
				left = slices.Delete(left, i, i+1)
				break
			}
			p.bound = before
			if !s.AnyOrder {
				break
			}
		}
		if !matched {
			return difference("message " + p.known(jsonText(w)))
		}
	}
	return nil
}

// sortMethods sorts a list of methods as it was recorded.
func sortMethods(message any) {
	methods, _ := message.(map[string]any)["methods"].([]any)
	slices.SortFunc(methods, func(a, b any) int { return strings.Compare(methodKey(a), methodKey(b)) })
}

func methodKey(method any) string {
	m := method.(map[string]any)
	return fmt.Sprint(m["service_name"], " ", m["method_name"])
}

func jsonText(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

// match reports whether got is as was recorded, and binds the placeholders that it meets first.
func (p *player) match(want, got any) bool {
	if want == "*" {
		return true
	}
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			return false
		}
		for key, value := range got {
			// The recordings leave "0" out, be it a number or a text.
			if _, ok := want[key]; !ok && value != "0" {
				return false
			}
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			value, ok := got[key]
			if !ok && want[key] != "*" {
				return false
			}
			if bytesFields[key] {
				if !p.match(plain(want[key]), decoded(value)) {
					return false
				}
			} else if !p.match(want[key], value) {
				return false
			}
		}
		return true
	case []any:
		got, ok := got.([]any)
		if !ok || len(want) != len(got) {
			return false
		}
		for i := range want {
			if !p.match(want[i], got[i]) {
				return false
			}
		}
		return true
	case string:
		got, ok := got.(string)
		return ok && p.matchText(want, got)
	}
	return reflect.DeepEqual(want, got)
}

// bytesFields are the fields of type bytes.
var bytesFields = map[string]bool{"stream_name": true, "data": true, "custom_metadata": true}

// plain is a bytes field of a recording as a string.
func plain(v any) any {
	s, ok := v.(string)
	if !ok || s == "*" {
		return v
	}
	if text, ok := strings.CutPrefix(s, "text:"); ok {
		return text
	}
	return decoded(v)
}

// decoded is a bytes field of an answer as a string.
func decoded(v any) any {
	s, _ := v.(string)
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return v
	}
	return string(b)
}

// star is what an asterisk stands for within a text.
const star = `(?:\d{4}-\d\d-\d\d[T ][0-9:.]+(?:Z|[+-]\d\d:\d\d)?|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27})`

func (p *player) matchText(want, got string) bool {
	want = p.known(want)
	if want == got {
		return true
	}
	if !strings.Contains(want, "*") && !strings.Contains(want, "${") {
		return false
	}
	var expression strings.Builder
	var names []string
	at := 0
	for _, found := range placeholder.FindAllStringSubmatchIndex(want, -1) {
		expression.WriteString(strings.ReplaceAll(regexp.QuoteMeta(want[at:found[0]]), `\*`, star))
		name := want[found[2]:found[3]]
		names = append(names, name)
		if strings.HasPrefix(name, "P") {
			expression.WriteString(`(\d+)`)
		} else {
			expression.WriteString(`([0-9a-f]{8}-[0-9a-f-]{27})`)
		}
		at = found[1]
	}
	expression.WriteString(strings.ReplaceAll(regexp.QuoteMeta(want[at:]), `\*`, star))
	values := regexp.MustCompile(`(?s)^` + expression.String() + `$`).FindStringSubmatch(got)
	if values == nil {
		return false
	}
	for i, name := range names {
		if bound, ok := p.bound[name]; ok && bound != values[i+1] {
			return false
		}
		p.bound[name] = values[i+1]
	}
	return true
}

// mapStrings replaces the strings in a JSON value.
func mapStrings(key string, v any, f func(key, s string) string) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = mapStrings(k, v[k], f)
		}
	case []any:
		for i := range v {
			v[i] = mapStrings(key, v[i], f)
		}
	case string:
		return f(key, v)
	}
	return v
}

// newMessage returns an empty request or answer of the method.
func newMessage(m protoreflect.MethodDescriptor, request bool) proto.Message {
	if m == nil {
		return &shared.Empty{}
	}
	d := m.Output()
	if request {
		d = m.Input()
	}
	if t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName()); err == nil {
		return t.New().Interface()
	}
	return dynamicpb.NewMessage(d)
}

// findMethod finds Service.Method in one of EventStoreDB's packages.
func findMethod(call string) (protoreflect.MethodDescriptor, error) {
	service, method, _ := strings.Cut(call, ".")
	for _, name := range []string{"streams", "persistent_subscriptions", "server_features", "gossip", "projections"} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("event_store.client." + name + "." + service))
		if err == nil {
			return d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method)), nil
		}
	}
	file, err := operationsFile()
	if err != nil {
		return nil, err
	}
	if s := file.Services().ByName(protoreflect.Name(service)); s != nil {
		return s.Methods().ByName(protoreflect.Name(method)), nil
	}
	return nil, fs.ErrNotExist
}

// operationsFile describes the service of operators as far as it is recorded; the client has no code for it.
var operationsFile = sync.OnceValues(func() (protoreflect.FileDescriptor, error) {
	var d descriptorpb.FileDescriptorProto
	const text = `{"name":"operations.proto","package":"event_store.client.operations","syntax":"proto3","dependency":["shared.proto"],
		"message_type":[{"name":"SetNodePriorityReq","field":[{"name":"priority","number":1,"type":"TYPE_INT32","label":"LABEL_OPTIONAL"}]},
			{"name":"StopScavengeReq","field":[{"name":"options","number":1,"type":"TYPE_MESSAGE","type_name":".event_store.client.operations.StopScavengeReq.Options","label":"LABEL_OPTIONAL"}],
				"nested_type":[{"name":"Options","field":[{"name":"scavenge_id","number":1,"type":"TYPE_STRING","label":"LABEL_OPTIONAL"}]}]}],
		"service":[{"name":"Operations","method":[
			{"name":"SetNodePriority","input_type":".event_store.client.operations.SetNodePriorityReq","output_type":".event_store.client.Empty"},
			{"name":"StopScavenge","input_type":".event_store.client.operations.StopScavengeReq","output_type":".event_store.client.Empty"},
			{"name":"MergeIndexes","input_type":".event_store.client.Empty","output_type":".event_store.client.Empty"},
			{"name":"RestartPersistentSubscriptions","input_type":".event_store.client.Empty","output_type":".event_store.client.Empty"}]}]}`
	if err := protojson.Unmarshal([]byte(text), &d); err != nil {
		return nil, err
	}
	return protodesc.NewFile(&d, protoregistry.GlobalFiles)
})

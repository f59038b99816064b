package eventstoretest_test

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func proposed() eventstore.Proposed {
	return eventstore.Proposed{Event: domain.UseEnded{At: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}}
}

// A process dies while one or many append, each on a connection of its own. They retry until they time out, and none of that goes through.
func TestNothingPassesAfterDeath(t *testing.T) {
	t.Parallel()
	const n = 20
	for name, test := range map[string]struct {
		die     func(*eventstoretest.Controlled, string, int) <-chan struct{}
		writers int
		passed  int // at least; exactly if only one appends
	}{
		"at a request":         {(*eventstoretest.Controlled).DieAtRequest, 1, n - 1},
		"at an answer":         {(*eventstoretest.Controlled).DieAtAnswer, 1, n},
		"at a request of many": {(*eventstoretest.Controlled).DieAtRequest, 8, n - 1},
		"at an answer to many": {(*eventstoretest.Controlled).DieAtAnswer, 8, n},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := eventstoretest.ConnectionString(t)
			network := eventstoretest.BeforeStore(t, address)
			dead := test.die(network, eventstoretest.Append, n)
			streams := make([]string, test.writers)
			var writing sync.WaitGroup
			for i := range streams {
				streams[i] = "death-" + uuid.NewString()
				store := network.Open(t, eventstore.Options{Connections: 1, Timeout: 3 * time.Second})
				writing.Go(func() {
					var err error
					revision := eventstore.NoStream
					for ; err == nil && revision < 10*n; revision++ {
						_, err = store.Append(t.Context(), streams[i], revision, proposed())
					}
					if !errors.Is(err, eventstore.ErrUnavailable) && !errors.Is(err, eventstore.ErrOutcomeUnknown) {
						t.Errorf("at revision %d: %v, want that the event store cannot be reached", revision, err)
					}
					select {
					case <-dead:
					default:
						t.Errorf("before death: %v", err)
					}
				})
			}
			writing.Wait()

			witness := eventstoretest.BeforeStore(t, address).Open(t, eventstore.Options{})
			stored := func() (stored int) {
				for _, stream := range streams {
					for _, err := range witness.ReadStream(t.Context(), stream, 0) {
						if err != nil {
							t.Fatal(err)
						}
						stored++
					}
				}
				return stored
			}
			passed, done := network.Calls(eventstoretest.Append), stored()
			if passed < test.passed || done > passed || test.writers == 1 && (passed != test.passed || done != test.passed) {
				t.Errorf("%d appends passed and %d are stored; %d passed before death", passed, done, test.passed)
			}

			network.Start()
			alive := network.Open(t, eventstore.Options{})
			if _, err := alive.Append(t.Context(), "death-"+uuid.NewString(), eventstore.NoStream, proposed()); err != nil {
				t.Errorf("after a new start: %v", err)
			}
			if now := network.Calls(eventstoretest.Append); now != passed+1 {
				t.Errorf("%d appends have passed, want one more than %d", now, passed)
			}
			if now := stored(); now != done {
				t.Errorf("%d appends are stored, and were %d", now, done)
			}
		})
	}
}

// An answer that is to be lost never comes, because the event store ends the call at its deadline.
func TestTheAnswerToLoseNeverComes(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		<-end
		return nil
	}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		close(end)
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	network := eventstoretest.Before(t, listener.Addr().String())
	lost := network.LoseAnswer(eventstoretest.Append, 1)
	conn, err := net.Dial("tcp", network.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var headers bytes.Buffer
	encoder := hpack.NewEncoder(&headers)
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", eventstoretest.Append}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"grpc-timeout", "1m"}, // a millisecond, kept by the server alone
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			t.Fatal(err)
		}
	}
	framer := http2.NewFramer(conn, conn)
	_, err = conn.Write([]byte(http2.ClientPreface))
	err = errors.Join(err, framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: headers.Bytes(), EndHeaders: true,
	}))
	if err != nil {
		t.Fatal(err)
	}
	<-lost
}

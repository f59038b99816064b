package eventstoretest

import (
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Client is the official client, for what this program would not do. It is closed at the end of the test.
func Client(t testing.TB, connectionString string) *esdb.Client {
	t.Helper()
	config, err := esdb.ParseConnectionString(connectionString)
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// AppendRaw appends an event that this program would not write, at any revision.
func AppendRaw(t testing.TB, connectionString, stream, eventType, data, metadata string) {
	t.Helper()
	e := esdb.EventData{EventID: uuid.New(), EventType: eventType, ContentType: esdb.ContentTypeJson, Data: []byte(data), Metadata: []byte(metadata)}
	if _, err := Client(t, connectionString).AppendToStream(t.Context(), stream, esdb.AppendToStreamOptions{}, e); err != nil {
		t.Fatal(err)
	}
}

// DeleteGroup deletes a persistent subscription to $all. The official client does that only where it is told that it can.
func DeleteGroup(t testing.TB, connectionString, group string) {
	t.Helper()
	conn, err := grpc.NewClient(single(t, connectionString), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = persistent.NewPersistentSubscriptionsClient(conn).Delete(t.Context(), &persistent.DeleteReq{Options: &persistent.DeleteReq_Options{
		StreamOption: &persistent.DeleteReq_Options_All{All: &shared.Empty{}}, GroupName: group,
	}})
	if err != nil {
		t.Fatal(err)
	}
}

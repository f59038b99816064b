package node

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
)

// serverVersion is the version of EventStoreDB whose behaviour is served. Clients switch features on by it.
const serverVersion = "24.10.4"

// featuresService tells clients what they can use: only what is served, so that they do not choose anything else.
type featuresService struct {
	serverfeatures.UnimplementedServerFeaturesServer
}

func (featuresService) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	methods := []*serverfeatures.SupportedMethod{
		{ServiceName: "event_store.client.streams.streams", MethodName: "read", Features: []string{"position", "events"}},
		{ServiceName: "event_store.client.streams.streams", MethodName: "append"},
		{ServiceName: "event_store.client.streams.streams", MethodName: "batchappend", Features: []string{"deadline_duration"}},
		{ServiceName: "event_store.client.streams.streams", MethodName: "delete"},
		{ServiceName: "event_store.client.streams.streams", MethodName: "tombstone"},
		{ServiceName: "event_store.client.server_features.serverfeatures", MethodName: "getsupportedmethods"},
		{ServiceName: "event_store.client.gossip.gossip", MethodName: "read"},
	}
	for _, method := range []string{"create", "update", "delete", "read", "getinfo", "replayparked", "list", "restartsubsystem"} {
		methods = append(methods, &serverfeatures.SupportedMethod{
			ServiceName: "event_store.client.persistent_subscriptions.persistentsubscriptions", MethodName: method, Features: []string{"stream", "all"},
		})
	}
	for _, name := range slices.Sorted(maps.Keys(operations)) {
		methods = append(methods, &serverfeatures.SupportedMethod{ServiceName: strings.ToLower(operationsName), MethodName: strings.ToLower(name)})
	}
	return &serverfeatures.SupportedMethods{EventStoreServerVersion: serverVersion, Methods: methods}, nil
}

package node

import (
	"context"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// operationsName is the service for operators.
const operationsName = "event_store.client.operations.Operations"

// operation is one of its methods. No answer has fields, and no request has one that matters here.
type operation func(s *persistentService) error

// operations are those that mean something on a single node without scavenges.
var operations = map[string]operation{
	"MergeIndexes":                   func(*persistentService) error { return nil }, // there is nothing to merge
	"SetNodePriority":                func(*persistentService) error { return nil }, // nor anybody to come before
	"RestartPersistentSubscriptions": func(s *persistentService) error { return s.groups.restart() },
	"StopScavenge": func(*persistentService) error {
		return &callError{code: codes.NotFound, text: "Scavenge id was invalid.", trailers: metadata.Pairs("exception", "scavenge-not-found")}
	},
}

// registerOperations serves the operations. The client's module has no generated code for them.
func registerOperations(server *grpc.Server, service *persistentService) {
	description := &grpc.ServiceDesc{ServiceName: operationsName, HandlerType: (*any)(nil)}
	for name, run := range operations {
		description.Methods = append(description.Methods, grpc.MethodDesc{
			MethodName: name,
			Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				if err := decode(&shared.Empty{}); err != nil {
					return nil, err
				}
				return &shared.Empty{}, service.answer(ctx, name, run(service))
			},
		})
	}
	server.RegisterService(description, service)
}

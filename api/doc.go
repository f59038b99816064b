// Package api is the HTTP side: JSON in, HAL out, problems (RFC 9457) for everything that goes wrong.
//
// Three ideas:
//
//   - A route is a line at the top of its noun's file, and its handler decodes, calls, encodes, and returns an error. One
//     adapter, [operation], does everything else: the time limit, the panic, the reply, the log, the metrics.
//   - One ordered table, in problem.go, says which problem an error is. What is not in it is a 500 that says nothing of the
//     inside.
//   - A reply is a struct, …Reply, and so is a command's body, …Request; their tags are the members' names. A body gives up every
//     fault it has.
//
// The contract for callers is openapi.json, which tests hold to the routes and to the structs in both directions.
//
// The program that embeds the package should import time/tzdata, so that the zone that local times are read in is known
// wherever it runs.
//
//	server := api.New(api.Options{Commands: handler, Lists: queries, Zone: seoul, Registry: registry})
//	listener, err := net.Listen("tcp", "127.0.0.1:8080")
//	…
//	err = server.Run(ctx, listener)
package api

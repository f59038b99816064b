// Package api is the HTTP side: JSON in, HAL out, problems (RFC 9457) for everything that goes wrong.
//
// Three ideas:
//
//   - Each noun's file lists its routes at the top. A handler decodes the request, calls a command or query, encodes the reply, and returns
//     an error. One adapter, [operation], does everything else: time limit, panics, sending, logging, metrics.
//   - One ordered table, in problem.go, maps errors to problems. An error that is not in the table is a 500 that discloses nothing.
//   - Replies are structs named …Reply, bodies of commands are structs named …Request, and their tags are the API's names. Every fault of a
//     body is reported at once.
//
// The contract with clients is openapi.json. Tests compare it with the routes and the structs, in both directions.
//
// A program that uses the package should import time/tzdata, so that the server's time zone is known wherever it runs.
//
//	server := api.New(api.Options{Commands: handler, Lists: queries, Zone: seoul, Registry: registry})
//	listener, err := net.Listen("tcp", "127.0.0.1:8080")
//	…
//	err = server.Run(ctx, listener)
package api

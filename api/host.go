package api

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// errMisdirected means that the request names another server than this one.
var errMisdirected = errors.New("the request is for another host")

// allowedHost reports whether the request's Host is a name of this server. That a name resolves to it is not enough: otherwise the page of
// an attacker, whose own name resolves to this server, could read its replies (DNS rebinding).
//
// Allowed are the names in Options.Hosts, loopback names and addresses, the local address of the connection, every address if the server
// listens on all of them, and an empty Host. Requests of a trusted proxy are not checked.
func (s *Server) allowedHost(r *http.Request) bool {
	host := r.Host
	if host == "" || s.trusted(r) {
		return true
	}
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	if address, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		address = address.Unmap()
		if address.IsLoopback() || s.anyAddress.Load() {
			return true
		}
		at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if ok && at.AddrPort().Addr().Unmap().WithZone("") == address.WithZone("") {
			return true
		}
	}
	host = strings.TrimSuffix(host, ".")
	return equalFold(host, "localhost") || hasSuffixFold(host, ".localhost") ||
		slices.ContainsFunc(s.hosts, func(h string) bool { return equalFold(host, h) })
}

// equalFold is strings.EqualFold for host names, which are ASCII.
func equalFold(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && equalFold(s[len(s)-len(suffix):], suffix)
}

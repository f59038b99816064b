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

// expected reports whether the request's Host is one under which this server is asked: that a name leads here is not enough, or else a
// foreign page could have its own name lead here and so have browsers take what is answered for its own (DNS rebinding).
//
// Good are the names in Options.Hosts, loopback names and addresses, the address at which the connection came in, any address where the
// server listens at all of them, and none at all. What a trusted proxy lets through is the proxy's to judge.
func (s *Server) expected(r *http.Request) bool {
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

// equalFold is strings.EqualFold for ASCII, in which hosts are written.
func equalFold(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && equalFold(s[len(s)-len(suffix):], suffix)
}

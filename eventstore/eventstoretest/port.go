package eventstoretest

import (
	"net"
	"strconv"
	"syscall"
	"testing"
)

// Nowhere is an address of loopback at which nobody listens until the end of the test.
func Nowhere(t testing.TB) (address string) { return reserve(t) }

// reserve is a free address of loopback that nobody else gets until the end of the test, also while nobody listens there: a socket
// that is bound and does not listen holds it. Whoever connects is refused.
func reserve(t testing.TB) (address string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	syscall.CloseOnExec(fd)
	t.Cleanup(func() {
		if err := syscall.Close(fd); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	// The listener, which has this option as all of package net, may then share the address.
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(bound.(*syscall.SockaddrInet4).Port))
}

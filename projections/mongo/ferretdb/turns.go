package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// turns passes MongoDB messages between clients and a server, one request and its reply at a time.
type turns struct {
	upstream string
	turn     sync.Mutex // held from a request to its reply
}

func (t *turns) serve(listener net.Listener) error {
	for {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		go t.pass(client)
	}
}

func (t *turns) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", t.upstream)
	if err != nil {
		return
	}
	defer server.Close()
	for {
		request, err := message(client)
		if err != nil {
			return
		}
		reply, err := t.ask(server, request)
		if err != nil {
			return
		}
		if _, err := client.Write(reply); err != nil {
			return
		}
	}
}

func (t *turns) ask(server net.Conn, request []byte) ([]byte, error) {
	t.turn.Lock()
	defer t.turn.Unlock()
	if _, err := server.Write(request); err != nil {
		return nil, err
	}
	return message(server)
}

// largest is the largest message that MongoDB accepts.
const largest = 48_000_000

// message reads one message: its length, little-endian and with itself, and the rest.
func message(from io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n < 16 || n > largest {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	m := make([]byte, n)
	copy(m, length[:])
	_, err := io.ReadFull(from, m[4:])
	return m, err
}

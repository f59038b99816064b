// Package mongotest starts the server that tests of MongoDB stores use where ROOMBOOK_TEST_MONGO names none.
package mongotest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Server is a process of FerretDB, and of the go command that runs it, in a process group of their own.
type Server struct {
	Address string // mongodb://host:port/
	command *exec.Cmd
	stdin   io.Closer
}

// Start starts a server of the module in the folder ferretdb, given by its path, with its data in a folder, at host:port. The first time it
// is built, which takes a minute or two.
func Start(ferretdb, data, at string) (*Server, error) {
	command := exec.Command("go", "run", ".", data, at)
	command.Dir = ferretdb
	command.Env = append(os.Environ(), "GOWORK=off")
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it starts can be signalled, and a Ctrl-C is for the tests
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	// This is less than the ten minutes that tests have, so that the failure is reported here.
	tooLong := time.AfterFunc(8*time.Minute, func() { _ = command.Process.Kill() })
	defer tooLong.Stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, command.Wait())
	}
	return &Server{Address: strings.TrimSpace(line), command: command, stdin: stdin}, nil
}

// Signal sends a signal to the server and to the go command that runs it.
func (s *Server) Signal(signal syscall.Signal) error {
	return syscall.Kill(-s.command.Process.Pid, signal)
}

// Stop ends the server, and returns how it ended.
func (s *Server) Stop() error {
	s.stdin.Close()
	return s.command.Wait()
}

// Run runs tests with the address of the server that ROOMBOOK_TEST_MONGO names, or of one of the module in the folder ferretdb that is
// started for them.
func Run(ferretdb string, tests func(address string) int) (code int, err error) {
	if address := os.Getenv("ROOMBOOK_TEST_MONGO"); address != "" {
		return tests(address), nil
	}
	data, err := os.MkdirTemp("", "ferretdb")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(data)
	server, err := Start(ferretdb, data, "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("FerretDB, which serves these tests where ROOMBOOK_TEST_MONGO names no server: %w", err)
	}
	defer func() {
		if ended := server.Stop(); ended != nil {
			err = errors.Join(err, fmt.Errorf("FerretDB ended with %w", ended))
		}
	}()
	return tests(server.Address), nil
}

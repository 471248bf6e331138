//go:build !unix

package llmstatsd

import (
	"errors"
	"net"
	"os"
	"time"
)

// maxSocketPathBytes is what a path may have on Windows, with room for the NUL behind it.
const maxSocketPathBytes = 107

// brokenSocket are errors of the kernel that package net has not wrapped: none here.
var brokenSocket []error

// patience is how long a full buffer may hold up a caller where sockets cannot be asked not to wait.
const patience = time.Millisecond

// A socket is a connected datagram socket that hardly waits.
type socket struct{ conn net.Conn }

func newSocket(conn rawConn) (*socket, error) { return &socket{conn}, nil }

func (s *socket) send(datagram []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := s.conn.Write(datagram)
	return err
}

func (s *socket) close() { s.conn.Close() }

// outcomeOf says what became of a datagram, from the error of connecting or sending.
func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return sent
	case errors.Is(err, os.ErrDeadlineExceeded):
		return full
	case errors.Is(err, os.ErrNotExist):
		return unreachable
	}
	return failed
}

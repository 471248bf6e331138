//go:build unix

package llmstatsd

import (
	"errors"
	"net"
	"syscall"
)

// maxSocketPathBytes is what a path may have, with room for the NUL behind it.
const maxSocketPathBytes = len(syscall.RawSockaddrUnix{}.Path) - 1

// brokenSocket are errors of the kernel that package net has not wrapped.
var brokenSocket = []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE}

// A socket is a connected datagram socket that never waits.
type socket struct {
	conn     net.Conn
	raw      syscall.RawConn
	write    func(fd uintptr) bool // the method writeOnce, bound here once: binding allocates
	datagram []byte
	err      error
}

func newSocket(conn rawConn) (*socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	s := &socket{conn: conn, raw: raw}
	s.write = s.writeOnce
	return s, nil
}

// send writes past net.Conn, whose Write would wait for room in a full buffer.
func (s *socket) send(datagram []byte) error {
	s.datagram = datagram
	err := s.raw.Write(s.write)
	s.datagram = nil
	if err != nil {
		return err
	}
	return s.err
}

// writeOnce returns true, for done, whatever comes of it; net's sockets are O_NONBLOCK.
func (s *socket) writeOnce(fd uintptr) bool {
	for {
		_, s.err = syscall.Write(int(fd), s.datagram)
		if s.err != syscall.EINTR {
			return true
		}
	}
}

func (s *socket) close() { s.conn.Close() }

// outcomeOf says what became of a datagram, from the error of connecting or sending.
func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return sent
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOBUFS):
		return full
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return unreachable
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.ENOTCONN):
		return unreachable // the reader of a unix socket has gone, on BSD and macOS
	}
	return failed
}

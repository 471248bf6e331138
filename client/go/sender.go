package llmstatsd

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// reopenAfter is the least time between two attempts to open a socket that cannot be opened.
	reopenAfter = time.Second

	// maxWaitingBytes bounds what is kept for an address that is being looked up: about 1,000 calls.
	maxWaitingBytes = 1 << 20
)

// An outcome is what became of a datagram.
type outcome int

const (
	sent outcome = iota
	full
	unresolved
	unreachable
	failed
)

// A sender sends datagrams to one destination, never waits, and counts what becomes of them.
// Its methods are called with mu locked.
type sender struct {
	mu    *sync.Mutex
	now   func() time.Time
	to    destination
	host  resolver
	stats Stats

	socket   *socket   // nil before the first datagram and after an error
	reopenAt time.Time // while socket is nil after an error of opening it
	reason   outcome   // of that error

	waiting      [][]byte // for an address
	waitingBytes int
}

// send sends a datagram, or keeps a copy while the address is looked up for the first time.
func (s *sender) send(datagram []byte) {
	if s.host.host != "" {
		s.lookIfDue()
		if s.keep(datagram) {
			return
		}
	}
	s.sendNow(datagram)
}

func (s *sender) lookIfDue() {
	if now := s.now(); s.host.due(now) {
		s.host.look(now, s.looked)
	}
}

// keep returns false if there is nothing to wait for, or no room.
func (s *sender) keep(datagram []byte) bool {
	if s.host.addr.IsValid() || s.host.ended == nil || s.waitingBytes+len(datagram) > maxWaitingBytes {
		return false
	}
	s.waiting = append(s.waiting, append([]byte(nil), datagram...))
	s.waitingBytes += len(datagram)
	return true
}

// looked takes the end of a lookup; unlike the other methods it locks mu itself.
func (s *sender) looked(addr netip.Addr, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.host.end(addr, err) {
		s.shut()
	}
	s.settle()
}

// settle sends what has waited for the address, or drops it if there still is none.
func (s *sender) settle() {
	for _, datagram := range s.waiting {
		s.sendNow(datagram)
	}
	s.waiting, s.waitingBytes = nil, 0
}

func (s *sender) sendNow(datagram []byte) {
	became := s.attempt(datagram)
	if became == unreachable || became == failed {
		s.shut()
		s.host.doubt()
	}
	s.stats.count(became, len(datagram))
}

// attempt sends a datagram, and once more after a refusal.
// UDP refuses for an earlier datagram, by ICMP, and this one is still to be sent;
// a unix socket refuses when its reader has gone, and there may be a new one at its path.
func (s *sender) attempt(datagram []byte) outcome {
	if became := s.open(); became != sent {
		return became
	}
	became := outcomeOf(s.socket.send(datagram))
	if became != unreachable {
		return became
	}
	if s.to.socket != "" {
		s.shut()
		if became := s.open(); became != sent {
			return became
		}
	}
	return outcomeOf(s.socket.send(datagram))
}

// open returns sent if there is a socket to send on, else why there is none.
func (s *sender) open() outcome {
	if s.socket != nil {
		return sent
	}
	if !s.sendable() {
		return unresolved
	}
	if !s.reopenAt.IsZero() && s.now().Before(s.reopenAt) {
		return s.reason
	}
	opened, err := s.connect()
	if err != nil {
		s.reopenAt, s.reason = s.now().Add(reopenAfter), outcomeOf(err)
		return s.reason
	}
	s.socket, s.reopenAt = opened, time.Time{}
	return sent
}

// sendable returns false for a destination that cannot be: no address, no port, no path.
func (s *sender) sendable() bool {
	if s.to.socket != "" {
		return len(s.to.socket) <= maxSocketPathBytes && strings.IndexByte(s.to.socket, 0) < 0
	}
	return s.host.addr.IsValid() && s.to.port >= 1 && s.to.port <= 65535
}

// A rawConn is a connection of package net with its file descriptor.
type rawConn interface {
	net.Conn
	syscall.Conn
}

// connect connects a datagram socket, which waits for nobody.
func (s *sender) connect() (*socket, error) {
	if s.to.socket != "" {
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.to.socket, Net: "unixgram"})
		if err != nil {
			return nil, err
		}
		return newSocket(conn)
	}
	to := netip.AddrPortFrom(s.host.addr, uint16(s.to.port))
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return nil, err
	}
	return newSocket(conn)
}

// shut closes the socket; the next datagram opens another one.
func (s *sender) shut() {
	if s.socket != nil {
		s.socket.close()
		s.socket = nil
	}
}

// close ends everything that is under way. What waits for an address counts as unresolved.
func (s *sender) close() {
	if s.host.cancel != nil {
		s.host.cancel()
	}
	s.settle()
	s.shut()
}

package llmstatsd

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"
)

const (
	lookupEvery   = 60 * time.Second
	lookupAgain   = time.Second // after an error
	lookupTimeout = 5 * time.Second
)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// A resolver holds the address of a host.
// An IP address is never looked up; a name is, off the caller's path.
type resolver struct {
	host  string     // empty if addr is all there is
	addr  netip.Addr // the latest one known
	began time.Time  // of the latest lookup
	next  time.Time  // when there may be another one

	ended  chan struct{} // closed at the end of the lookup under way; nil if there is none
	cancel context.CancelFunc
	find   func(context.Context, string) (netip.Addr, error)
}

func newResolver(host string) resolver {
	if strings.EqualFold(host, "localhost") {
		return resolver{addr: loopback} // RFC 6761, 6.3: no need to ask anyone
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return resolver{addr: addr.Unmap()}
	}
	return resolver{host: host, find: find}
}

// find returns an address of host, of IPv4 if there is one.
func find(ctx context.Context, host string) (netip.Addr, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(addrs) == 0 {
		return netip.Addr{}, errors.New("a name without addresses")
	}
	for _, addr := range addrs {
		if addr = addr.Unmap(); addr.Is4() {
			return addr, nil
		}
	}
	return addrs[0], nil
}

func (r *resolver) due(now time.Time) bool {
	return r.ended == nil && !now.Before(r.next)
}

// look starts a lookup and calls done with what comes of it, from another goroutine.
func (r *resolver) look(now time.Time, done func(netip.Addr, error)) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	r.began, r.cancel, r.ended = now, cancel, make(chan struct{})
	find, host := r.find, r.host
	go func() {
		defer cancel()
		done(find(ctx, host))
	}()
}

// end takes what came of the lookup, and says whether the address is another one than before.
// After a failure the latest address known stays.
func (r *resolver) end(addr netip.Addr, err error) (changed bool) {
	close(r.ended)
	r.ended, r.cancel = nil, nil
	if err == nil {
		changed = addr != r.addr
		r.addr = addr
	}
	r.next = r.began.Add(lookupEvery)
	if !r.addr.IsValid() {
		r.doubt()
	}
	return changed
}

// doubt lets the next lookup come early.
func (r *resolver) doubt() { r.next = r.began.Add(lookupAgain) }

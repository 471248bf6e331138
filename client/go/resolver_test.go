package llmstatsd

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"
)

// Names are looked up by a function of the test, which answers once for each send on answers.
type names struct {
	asked   chan string
	answers chan netip.Addr // an invalid address is an error
}

func (n names) find(ctx context.Context, host string) (netip.Addr, error) {
	n.asked <- host
	select {
	case addr := <-n.answers:
		if !addr.IsValid() {
			return addr, errors.New("no such host")
		}
		return addr, nil
	case <-ctx.Done():
		return netip.Addr{}, ctx.Err()
	}
}

var (
	nowhere = netip.Addr{}
	home    = loopback
)

// named returns a client for a host whose name is looked up in the names it returns.
func named(t *testing.T, o Options) (*Client, names, *clock) {
	n := names{asked: make(chan string, 100), answers: make(chan netip.Addr)}
	o.Host = "daemon.example"
	c := newClient(t, o)
	c.sender.host.find = n.find
	return c, n, control(c)
}

// answer answers the lookup under way and waits for its end.
func (n names) answer(t *testing.T, c *Client, addr netip.Addr) {
	t.Helper()
	c.mu.Lock()
	ended := c.sender.host.ended
	c.mu.Unlock()
	if ended == nil {
		t.Fatal("no lookup is under way")
	}
	n.answers <- addr
	select {
	case <-ended:
	case <-time.After(patienceOfTests):
		t.Fatal("the lookup has not ended")
	}
}

func (n names) mustBeAsked(t *testing.T, times int) {
	t.Helper()
	if got := len(n.asked); got != times {
		t.Errorf("%d lookups, want %d", got, times)
	}
}

func TestAnAddressIsNotLookedUp(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1%lo"} {
		if r := newResolver(address); r.host != "" || !r.addr.IsValid() || r.addr.Is4In6() {
			t.Errorf("%s: %+v", address, r)
		}
	}
}

func TestLocalhostIsNotLookedUp(t *testing.T) {
	for _, name := range []string{"localhost", "LocalHost"} {
		if r := newResolver(name); r.host != "" || r.addr != loopback {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestNothingIsLookedUpBeforeTheFirstEvent(t *testing.T) {
	c, n, _ := named(t, Options{Port: 1})
	c.Start("m", "chat")
	c.Flush()
	n.mustBeAsked(t, 0)
}

func TestEventsWaitForTheAddress(t *testing.T) {
	d := listenUDP(t)
	c, n, _ := named(t, Options{Port: d.port()})
	c.Send(Event{Model: "a"})
	c.Send(Event{Model: "b"})
	checkStats(t, c, Stats{Events: 2})
	n.answer(t, c, home)
	if got := []string{d.receive(), d.receive()}; got[0] != lineOfA || got[1] != lineOfB {
		t.Errorf("got %q", got)
	}
	if host := <-n.asked; host != "daemon.example" {
		t.Errorf("looked up %q", host)
	}
	checkStats(t, c, Stats{Events: 2, SentDatagrams: 2, SentBytes: 60})
}

func TestWhatWaitsForTheAddressIsBounded(t *testing.T) {
	c, n, now := named(t, Options{Port: 1})
	const events = 2 * maxWaitingBytes / len(lineOfA)
	for i := 0; i < events; i++ {
		c.Send(Event{Model: "a"})
	}
	const room = maxWaitingBytes / len(lineOfA)
	checkStats(t, c, Stats{Events: uint64(events), DroppedUnresolved: uint64(events - room)})
	n.answer(t, c, nowhere)
	checkStats(t, c, Stats{Events: uint64(events), DroppedUnresolved: uint64(events)})
	now.forward(lookupAgain)
	c.Send(Event{Model: "a"}) // there is room again
	checkStats(t, c, Stats{Events: uint64(events) + 1, DroppedUnresolved: uint64(events)})
	n.answer(t, c, nowhere)
}

func TestANameThatDoesNotResolveIsAskedForAgainAfterASecond(t *testing.T) {
	d := listenUDP(t)
	c, n, now := named(t, Options{Port: d.port()})
	c.Send(Event{Model: "a"})
	n.answer(t, c, nowhere)
	c.Send(Event{Model: "a"}) // within that second
	checkStats(t, c, Stats{Events: 2, DroppedUnresolved: 2})
	n.mustBeAsked(t, 1)
	now.forward(lookupAgain)
	c.Send(Event{Model: "b"})
	n.answer(t, c, home)
	n.mustBeAsked(t, 2)
	if got := d.receive(); got != lineOfB {
		t.Errorf("got %q", got)
	}
	checkStats(t, c, Stats{Events: 3, DroppedUnresolved: 2, SentDatagrams: 1, SentBytes: 30})
}

func TestANameIsAskedForAgainAfterAMinute(t *testing.T) {
	d := listenUDP(t)
	c, n, now := named(t, Options{Port: d.port()})
	send := func(model, want string) {
		t.Helper()
		c.Send(Event{Model: model})
		if got := d.receive(); got != want {
			t.Errorf("got %q", got)
		}
	}
	c.Send(Event{Model: "a"})
	n.answer(t, c, home)
	d.receive()
	now.forward(60*time.Second - 1)
	send("a", lineOfA)
	n.mustBeAsked(t, 1)
	now.forward(1)
	send("b", lineOfB) // goes to the old address meanwhile
	send("a", lineOfA)
	n.answer(t, c, nowhere)
	n.mustBeAsked(t, 2)
	send("b", lineOfB) // a failure keeps the old address
	n.mustBeAsked(t, 2)
}

func TestANewAddressIsSentTo(t *testing.T) {
	old := listenUDP(t)
	elsewhere := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), uint16(old.port()))
	moved := listen(t, "udp", elsewhere.String())
	c, n, now := named(t, Options{Port: old.port()})
	c.Send(Event{Model: "a"})
	n.answer(t, c, home)
	now.forward(lookupEvery)
	c.Send(Event{Model: "a"})
	n.answer(t, c, elsewhere.Addr())
	c.Send(Event{Model: "b"})
	if got := moved.receive(); got != lineOfB {
		t.Errorf("got %q", got)
	}
	if got := old.rest(); len(got) != 2 {
		t.Errorf("the old address got %q", got)
	}
}

func TestANameIsAskedForAgainAfterAnError(t *testing.T) {
	d := listenUDP(t)
	c, n, now := named(t, Options{Port: d.port()})
	c.Send(Event{Model: "a"})
	n.answer(t, c, home)
	breakSocket(c)
	c.Send(Event{Model: "a"}) // the error
	c.Send(Event{Model: "a"})
	n.mustBeAsked(t, 1) // a second must have passed
	now.forward(lookupAgain)
	c.Send(Event{Model: "a"})
	n.answer(t, c, home)
	n.mustBeAsked(t, 2)
}

func TestCloseGivesUpALookupThatDoesNotEnd(t *testing.T) {
	c, n, _ := named(t, Options{Port: 1})
	c.Send(Event{})
	ended := c.sender.host.ended
	c.Close() // after a second, lookupPatience
	select {
	case <-ended:
	case <-time.After(patienceOfTests / 4): // well before lookupTimeout
		t.Error("the lookup is still under way")
	}
	n.mustBeAsked(t, 1)
	checkStats(t, c, Stats{Events: 1, DroppedUnresolved: 1})
}

func TestFlushWaitsForTheAddress(t *testing.T) {
	d := listenUDP(t)
	c, n, _ := named(t, Options{Port: d.port(), Buffered: true})
	c.Send(Event{Model: "a"})
	go func() { n.answers <- home }()
	c.Flush()
	checkStats(t, c, Stats{Events: 1, SentDatagrams: 1, SentBytes: 30})
}

func TestTheSystemIsAsked(t *testing.T) {
	addr, err := find(context.Background(), "localhost")
	if err != nil || !addr.IsLoopback() {
		t.Errorf("got %v, %v", addr, err)
	}
}

func TestANameThatCannotBeIsNotFound(t *testing.T) {
	for _, host := range []string{" ", "a b", "a\x00b", "[::1]", "no.such.name.invalid"} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if addr, err := find(ctx, host); err == nil {
			t.Errorf("%q: got %v", host, addr)
		}
		cancel()
	}
}

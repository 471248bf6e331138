package llmstatsd

import (
	"encoding/json"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// patienceOfTests bounds every wait in the tests.
const patienceOfTests = 10 * time.Second

// A daemon is a datagram socket that the tests read.
type daemon struct {
	t    testing.TB
	conn net.PacketConn
}

func listen(t testing.TB, network, address string) *daemon {
	t.Helper()
	conn, err := net.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &daemon{t, conn}
}

func listenUDP(t testing.TB) *daemon { return listen(t, "udp", "127.0.0.1:0") }

func (d *daemon) port() int { return d.conn.LocalAddr().(*net.UDPAddr).Port }

// receive returns the next datagram.
func (d *daemon) receive() string {
	d.t.Helper()
	datagram, err := d.read(patienceOfTests)
	if err != nil {
		d.t.Fatal(err)
	}
	return datagram
}

func (d *daemon) read(patience time.Duration) (string, error) {
	buffer := make([]byte, 1<<16)
	d.conn.SetReadDeadline(time.Now().Add(patience))
	n, _, err := d.conn.ReadFrom(buffer)
	return string(buffer[:n]), err
}

// rest returns the datagrams that have arrived already: on loopback, sent means arrived.
func (d *daemon) rest() (datagrams []string) {
	for {
		datagram, err := d.read(time.Millisecond)
		if err != nil {
			return datagrams
		}
		datagrams = append(datagrams, datagram)
	}
}

func newClient(t testing.TB, o Options) *Client {
	c := New(o)
	t.Cleanup(func() { c.Close() })
	return c
}

// A clock stands still until it is set forward.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// control gives c a clock for tests.
func control(c *Client) *clock {
	still := &clock{now: time.Now()}
	c.sender.now = still.Now
	return still
}

// breakSocket makes the next use of the socket an error, as if the kernel had taken it away.
func breakSocket(c *Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sender.socket.close()
}

func checkStats(t *testing.T, c *Client, want Stats) {
	t.Helper()
	if got := c.Stats(); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

const (
	lineOfA = "llm_request_total:1|c|#model:a"
	lineOfB = "llm_request_total:1|c|#model:b"
)

func TestAnEventIsADatagram(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port()})
	c.Send(Event{Model: "a", Tokens: Some(-1)})
	c.Send(Event{Model: "b"})
	if got := d.receive(); got != lineOfA {
		t.Errorf("got %q", got)
	}
	if got := d.receive(); got != lineOfB {
		t.Errorf("got %q", got)
	}
	checkStats(t, c, Stats{Events: 2, RefusedFields: 1, SentDatagrams: 2, SentBytes: 60})
}

func TestAnEventOverOneDatagramIsCut(t *testing.T) {
	for _, buffered := range []bool{false, true} {
		d := listenUDP(t)
		c := newClient(t, Options{Port: d.port(), MaxDatagramBytes: 40, Buffered: buffered})
		c.Send(Event{Model: "a", Tokens: Some(1)})
		checkStats(t, c, Stats{Events: 1, SentDatagrams: 2, SentBytes: 59})
		want := []string{lineOfA, "llm_tokens_total:1|c|#model:a"}
		if got := []string{d.receive(), d.receive()}; !reflect.DeepEqual(got, want) {
			t.Errorf("buffered %t: got %q, want %q", buffered, got, want)
		}
	}
}

func TestIPv6(t *testing.T) {
	conn, err := net.ListenPacket("udp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	defer conn.Close()
	d := &daemon{t, conn}
	c := newClient(t, Options{Host: "::1", Port: d.port()})
	c.Send(Event{Model: "a"})
	if got := d.receive(); got != lineOfA {
		t.Errorf("got %q", got)
	}
}

func TestADisabledClientCountsEventsAndOpensNothing(t *testing.T) {
	d := listenUDP(t)
	for _, buffered := range []bool{false, true} {
		c := newClient(t, Options{Port: d.port(), Disabled: true, Buffered: buffered})
		c.Send(Event{Tokens: Some(-1)})
		c.Flush()
		if c.sender.socket != nil {
			t.Error("a socket is open")
		}
		checkStats(t, c, Stats{Events: 1})
	}
	if got := d.rest(); got != nil {
		t.Errorf("got %q", got)
	}
}

func TestAClosedClientSendsNothing(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port()})
	c.Send(Event{Model: "a"})
	for i := 0; i < 2; i++ {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	c.Send(Event{Model: "b"})
	c.Flush()
	if got := d.rest(); !reflect.DeepEqual(got, []string{lineOfA}) {
		t.Errorf("got %q", got)
	}
	if c.sender.socket != nil {
		t.Error("the socket is open")
	}
	checkStats(t, c, Stats{Events: 2, ClosedEvents: 1, SentDatagrams: 1, SentBytes: 30})
}

func TestANilClientDoesNothing(t *testing.T) {
	var c *Client
	call := c.Start("m", "chat")
	call.End()
	c.Send(Event{})
	c.Flush()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if got := c.Stats(); got != (Stats{}) {
		t.Errorf("got %+v", got)
	}
}

func TestAClientThatIsNotMadeByNewDropsEverything(t *testing.T) {
	var c Client
	c.Send(Event{})
	c.Flush()
	c.Close()
	checkStats(t, &c, Stats{Events: 1, DroppedUnresolved: 1})
}

func TestBufferedEventsShareADatagram(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port(), Buffered: true})
	c.Send(Event{Model: "a"})
	c.Send(Event{Model: "b"})
	checkStats(t, c, Stats{Events: 2})
	c.Flush()
	if got := d.receive(); got != lineOfA+"\n"+lineOfB {
		t.Errorf("got %q", got)
	}
	checkStats(t, c, Stats{Events: 2, SentDatagrams: 1, SentBytes: 61})
}

func TestAnEventThatFitsToTheByteSharesADatagram(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port(), Buffered: true, MaxDatagramBytes: 61})
	for _, model := range []string{"a", "b", "a"} {
		c.Send(Event{Model: model})
	}
	if got := d.receive(); got != lineOfA+"\n"+lineOfB {
		t.Errorf("got %q", got)
	}
	c.Close()
	if got := d.receive(); got != lineOfA {
		t.Errorf("got %q", got)
	}
}

func TestAnEventThatDoesNotFitFlushes(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port(), Buffered: true, MaxDatagramBytes: 60})
	c.Send(Event{Model: "a"})
	c.Send(Event{Model: "b"})
	if got := d.receive(); got != lineOfA {
		t.Errorf("got %q", got)
	}
	if got := c.Stats().SentDatagrams; got != 1 {
		t.Errorf("sent %d datagrams, want 1", got)
	}
}

func TestBufferedEventsLeaveByThemselves(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port(), Buffered: true})
	for i := 0; i < 2; i++ { // the timer works again
		c.Send(Event{Model: "a"})
		if got := d.receive(); got != lineOfA {
			t.Errorf("got %q", got)
		}
	}
}

func TestCloseFlushes(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port(), Buffered: true})
	c.Send(Event{Model: "a"})
	c.Close()
	if got := d.receive(); got != lineOfA {
		t.Errorf("got %q", got)
	}
}

func TestADestinationThatCannotBeIsUnresolved(t *testing.T) {
	for name, o := range map[string]Options{
		"a port over the most":    {Port: 65536},
		"a negative port":         {Port: -1},
		"a path with a NUL":       {Socket: "a\x00b"},
		"a path over the longest": {Socket: strings.Repeat("a", maxSocketPathBytes+1)},
		"a path of a megabyte":    {Socket: strings.Repeat("a", 1<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, o)
			c.Send(Event{})
			c.Send(Event{})
			c.Close()
			checkStats(t, c, Stats{Events: 2, DroppedUnresolved: 2})
		})
	}
}

func TestADatagramThatIsTooBigIsAnErrorAndTheNextOneIsSent(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port(), Buffered: true, MaxDatagramBytes: 1 << 20})
	for i := 0; i < 3000; i++ {
		c.Send(Event{Model: "a"})
	}
	c.Flush()
	c.Send(Event{Model: "b"})
	c.Flush()
	if got := d.receive(); got != lineOfB {
		t.Errorf("got %.80q", got)
	}
	checkStats(t, c, Stats{Events: 3001, DroppedError: 1, SentDatagrams: 1, SentBytes: 30})
}

func TestStatsHaveTheNamesOfAllLanguages(t *testing.T) {
	text, err := json.Marshal(Stats{1, 2, 3, 4, 5, 6, 7, 8, 9})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"events":1,"refused_fields":2,"closed_events":3,"sent_datagrams":4,"sent_bytes":5,` +
		`"dropped_full":6,"dropped_unresolved":7,"dropped_unreachable":8,"dropped_error":9}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestGoroutinesShareAClient(t *testing.T) {
	const goroutines, calls = 8, 1000
	for _, buffered := range []bool{false, true} {
		d := listenUDP(t)
		c := newClient(t, Options{Port: d.port(), Buffered: buffered})
		var group sync.WaitGroup
		for g := 0; g < goroutines; g++ {
			group.Add(1)
			go func() {
				defer group.Done()
				for i := 0; i < calls; i++ {
					c.Send(Event{Model: "a", Tokens: Some(-1)})
					c.Stats()
					if i%100 == 0 {
						c.Flush()
					}
				}
			}()
		}
		group.Wait()
		c.Close()
		got := c.Stats()
		lines := uint64(goroutines * calls)
		if got.Events != lines || got.RefusedFields != lines {
			t.Errorf("buffered %t: %+v", buffered, got)
		}
		// Each line has a byte for its end, but for the last one of a datagram.
		want := lines*uint64(len(lineOfA)+1) - got.SentDatagrams
		if got.SentBytes != want || !buffered && got.SentDatagrams != lines {
			t.Errorf("buffered %t: %+v, want %d bytes", buffered, got, want)
		}
	}
}

//go:build unix

package llmstatsd

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// socketPath returns a path that is short enough for a socket, which t.TempDir's need not be.
func socketPath(t testing.TB) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "llm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return filepath.Join(folder, "s")
}

func TestAUnixSocket(t *testing.T) {
	path := socketPath(t)
	d := listen(t, "unixgram", path)
	c := newClient(t, Options{Socket: path})
	c.Send(Event{Model: "a"})
	if got := d.receive(); got != lineOfA {
		t.Errorf("got %q", got)
	}
}

func TestAFullUnixSocketDropsAndNeverWaits(t *testing.T) {
	path := socketPath(t)
	d := listen(t, "unixgram", path)
	c := newClient(t, Options{Socket: path})
	const events = 5000
	for i := 0; i < events; i++ {
		c.Send(Event{Model: "a"})
	}
	got := c.Stats()
	if got.DroppedFull == 0 || got.SentDatagrams == 0 || got.DroppedFull+got.SentDatagrams != events {
		t.Errorf("%+v", got)
	}
	if arrived := len(d.rest()); uint64(arrived) != got.SentDatagrams {
		t.Errorf("%d arrived, %d sent", arrived, got.SentDatagrams)
	}
	c.Send(Event{Model: "b"})
	if got := d.receive(); got != lineOfB {
		t.Errorf("with room again: got %q", got)
	}
}

func TestAUnixSocketThatComesLaterIsFoundAfterASecond(t *testing.T) {
	path := socketPath(t)
	c := newClient(t, Options{Socket: path})
	now := control(c)
	c.Send(Event{Model: "a"})
	checkStats(t, c, Stats{Events: 1, DroppedUnreachable: 1})
	d := listen(t, "unixgram", path)
	c.Send(Event{Model: "a"}) // within that second
	checkStats(t, c, Stats{Events: 2, DroppedUnreachable: 2})
	now.forward(reopenAfter)
	c.Send(Event{Model: "b"})
	if got := d.receive(); got != lineOfB {
		t.Errorf("got %q", got)
	}
}

func TestADaemonThatStartsAgainOnItsUnixSocketMissesNothing(t *testing.T) {
	path := socketPath(t)
	c := newClient(t, Options{Socket: path})
	for i := 0; i < 3; i++ {
		d := listen(t, "unixgram", path)
		c.Send(Event{Model: "a"})
		if got := d.receive(); got != lineOfA {
			t.Errorf("got %q", got)
		}
		d.conn.Close()
		os.Remove(path)
	}
	checkStats(t, c, Stats{Events: 3, SentDatagrams: 3, SentBytes: 90})
}

func TestAUnixSocketThatIsGoneIsUnreachable(t *testing.T) {
	for _, file := range []bool{false, true} { // the file at its path stays behind when a reader ends
		path := socketPath(t)
		d := listen(t, "unixgram", path)
		c := newClient(t, Options{Socket: path})
		c.Send(Event{Model: "a"})
		d.conn.Close()
		if !file {
			os.Remove(path)
		}
		c.Send(Event{Model: "a"})
		c.Send(Event{Model: "a"})
		checkStats(t, c, Stats{Events: 3, SentDatagrams: 1, SentBytes: 30, DroppedUnreachable: 2})
	}
}

func TestAStreamSocketIsAnError(t *testing.T) {
	path := socketPath(t)
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c := newClient(t, Options{Socket: path})
	c.Send(Event{})
	checkStats(t, c, Stats{Events: 1, DroppedError: 1})
}

func TestNobodyListensOnUDP(t *testing.T) {
	d := listenUDP(t)
	port := d.port()
	d.conn.Close()
	c := newClient(t, Options{Port: port})
	const events = 100
	for i := 0; i < events; i++ {
		c.Send(Event{Model: "a"})
	}
	// The kernel takes what it cannot deliver, and reports that at the datagram after it.
	if got := c.Stats(); got.SentDatagrams+got.DroppedUnreachable != events {
		t.Errorf("%+v", got)
	}
}

func TestADatagramThatIsRefusedForAnEarlierOneIsSentAgain(t *testing.T) {
	d := listenUDP(t)
	address := d.conn.LocalAddr().String()
	d.conn.Close()
	c := newClient(t, Options{Port: d.port()})
	c.Send(Event{Model: "a"}) // lost
	d = listen(t, "udp", address)
	c.Send(Event{Model: "b"})
	if got := d.receive(); got != lineOfB {
		t.Errorf("got %q", got)
	}
	checkStats(t, c, Stats{Events: 2, SentDatagrams: 2, SentBytes: 60})
}

func TestAnErrorOpensAnotherSocket(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port()})
	c.Send(Event{Model: "a"})
	breakSocket(c)
	c.Send(Event{Model: "a"})
	c.Send(Event{Model: "b"})
	if got := []string{d.receive(), d.receive()}; got[0] != lineOfA || got[1] != lineOfB {
		t.Errorf("got %q", got)
	}
	checkStats(t, c, Stats{Events: 3, SentDatagrams: 2, SentBytes: 60, DroppedError: 1})
}

func TestAFullUnixSocketAllocatesNothing(t *testing.T) {
	path := socketPath(t)
	listen(t, "unixgram", path)
	c := newClient(t, Options{Socket: path})
	for c.Stats().DroppedFull == 0 {
		c.Send(complete)
	}
	mustNotAllocate(t, func() { c.Send(complete) })
}

func BenchmarkSendUnix(b *testing.B) {
	path := socketPath(b)
	d := listen(b, "unixgram", path)
	go func() {
		buffer := make([]byte, 1<<16)
		for err := error(nil); err == nil; {
			_, _, err = d.conn.ReadFrom(buffer)
		}
	}()
	benchmarkSend(b, Options{Socket: path})
}

package llmstatsd

import (
	"context"
	"net"
	"net/netip"
	"testing"
)

// complete is an event with all fields, and its datagram has all lines.
var complete = Event{
	Model: "gpt-4o", Operation: "chat",
	DurationSeconds: Some(1.84), LoadDurationSeconds: Some(0.5), PromptEvalDurationSeconds: Some(0.12),
	TotalDurationSeconds: Some(1.8), TimeToFirstTokenSeconds: Some(0.3), TimePerOutputTokenSeconds: Some(0.0375),
	Tokens: Some(230), PromptTokens: Some(200), CompletionTokens: Some(30), CachedTokens: Some(128),
	CostDollars: Some(0.0123), Error: ErrorTimeout, RateLimited: true, Fallback: true,
}

func mustNotAllocate(t *testing.T, f func()) {
	t.Helper()
	if got := testing.AllocsPerRun(1000, f); got != 0 {
		t.Errorf("%v allocations for each call", got)
	}
}

func TestEncodingAllocatesNothing(t *testing.T) {
	buffer := make([]byte, 0, 2048)
	mustNotAllocate(t, func() { buffer, _ = complete.AppendLines(buffer[:0]) })
}

func TestSendAllocatesNothing(t *testing.T) {
	d := listenUDP(t)
	for name, o := range map[string]Options{
		"UDP":      {Port: d.port()},
		"buffered": {Port: d.port(), Buffered: true},
		"cut":      {Port: d.port(), MaxDatagramBytes: 300},
		"disabled": {Port: d.port(), Disabled: true},
		"no port":  {Port: -1},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, o)
			mustNotAllocate(t, func() { c.Send(complete) })
		})
	}
}

func TestSendToANameAllocatesNothing(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Host: "daemon.example", Port: d.port()})
	c.sender.host.find = func(context.Context, string) (netip.Addr, error) { return home, nil }
	c.Send(complete)
	c.Flush()
	mustNotAllocate(t, func() { c.Send(complete) })
}

func TestACallAllocatesItselfAtMost(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port()})
	got := testing.AllocsPerRun(1000, func() {
		call := c.Start("gpt-4o", "chat")
		defer call.End()
		call.FirstToken()
		call.Event.Tokens = Some(230)
	})
	if got > 1 {
		t.Errorf("%v allocations for each call", got)
	}
}

// BenchmarkAppendLines has two labels, 6 durations, 4 amounts of tokens, a cost, an error and both switches.
func BenchmarkAppendLines(b *testing.B) {
	b.ReportAllocs()
	buffer := make([]byte, 0, 2048)
	for i := 0; i < b.N; i++ {
		buffer, _ = complete.AppendLines(buffer[:0])
	}
	b.SetBytes(int64(len(buffer)))
}

func benchmarkSend(b *testing.B, o Options) {
	c := newClient(b, o)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		c.Send(complete)
	}
}

func BenchmarkSendUDP(b *testing.B) {
	benchmarkSend(b, Options{Port: listenUDP(b).port()})
}

func BenchmarkSendUDPBuffered(b *testing.B) {
	benchmarkSend(b, Options{Port: listenUDP(b).port(), Buffered: true})
}

func BenchmarkSendDisabled(b *testing.B) {
	benchmarkSend(b, Options{Disabled: true})
}

func BenchmarkSendUDPParallel(b *testing.B) {
	c := newClient(b, Options{Port: listenUDP(b).port()})
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Send(complete)
		}
	})
}

// BenchmarkWriteUDP is what net.Conn takes for the same datagram: the floor of BenchmarkSendUDP.
func BenchmarkWriteUDP(b *testing.B) {
	conn, err := net.Dial("udp", listenUDP(b).conn.LocalAddr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	lines, _ := complete.AppendLines(nil)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		conn.Write(lines)
	}
}

func BenchmarkCall(b *testing.B) {
	c := newClient(b, Options{Disabled: true})
	b.ReportAllocs()
	for i := 0; i < b.N; i++ {
		call := c.Start("gpt-4o", "chat")
		call.FirstToken()
		call.End()
	}
}

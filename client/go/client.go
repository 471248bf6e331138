package llmstatsd

import (
	"os"
	"sync"
	"time"
)

const (
	// flushAfter is how long a line may wait in the buffer.
	flushAfter = 300 * time.Millisecond

	// lookupPatience is how long Flush and Close wait for the address of a host.
	lookupPatience = time.Second
)

// A Client sends events to one destination.
// Make one with [New] and share it: all methods may be called from any goroutine.
// The methods of a nil *Client do nothing.
type Client struct {
	disabled         bool
	buffered         bool
	maxDatagramBytes int

	closing sync.Once
	mu      sync.Mutex // guards all below
	closed  bool
	lines   []byte // not sent yet; between calls only if buffered
	flush   *time.Timer
	sender  sender
}

// New returns a client. It opens no socket and looks up no name before the first event,
// and it does not fail: with a destination that cannot be, every datagram is counted as dropped.
func New(o Options) *Client {
	to := o.destination(os.Getenv)
	c := &Client{
		disabled:         o.disabled(os.Getenv),
		buffered:         o.Buffered,
		maxDatagramBytes: o.MaxDatagramBytes,
	}
	if c.maxDatagramBytes <= 0 {
		c.maxDatagramBytes = to.maxDatagramBytes()
	}
	c.sender = sender{mu: &c.mu, now: time.Now, to: to}
	if to.socket == "" {
		c.sender.host = newResolver(to.host)
	}
	return c
}

// Send reports a finished call. It does not wait, and it keeps nothing of e.
func (c *Client) Send(e Event) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sender.stats.Events++
	if c.closed {
		c.sender.stats.ClosedEvents++
		return
	}
	if c.disabled {
		return
	}
	c.add(e)
	if !c.buffered || len(c.lines) > c.maxDatagramBytes {
		c.sendLines()
	}
}

// add appends the lines of e. If they do not fit, what was there before is sent first.
func (c *Client) add(e Event) {
	before := len(c.lines)
	if before > 0 {
		c.lines = append(c.lines, '\n')
	}
	lines, refused := e.AppendLines(c.lines)
	c.lines = lines
	c.sender.stats.RefusedFields += uint64(refused)
	if before > 0 && len(lines) > c.maxDatagramBytes {
		c.sender.send(lines[:before])
		c.lines = lines[:copy(lines, lines[before+1:])]
		before = 0
	}
	if before == 0 && c.buffered {
		c.flushLater()
	}
}

func (c *Client) flushLater() {
	if c.flush == nil {
		c.flush = time.AfterFunc(flushAfter, c.flushNow)
		return
	}
	c.flush.Reset(flushAfter)
}

func (c *Client) flushNow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sendLines()
}

// sendLines sends all lines that are not sent yet.
func (c *Client) sendLines() {
	for rest := c.lines; len(rest) > 0; {
		var datagram []byte
		datagram, rest = cut(rest, c.maxDatagramBytes)
		c.sender.send(datagram)
	}
	c.lines = c.lines[:0]
}

// Flush sends what is buffered.
// It waits, for at most a second, only if the address of the host is being looked up.
func (c *Client) Flush() {
	if c == nil {
		return
	}
	c.flushNow()
	c.awaitAddress()
}

// awaitAddress waits for the lookup that datagrams wait for, if there is one.
func (c *Client) awaitAddress() {
	c.mu.Lock()
	ended := c.sender.host.ended
	waits := len(c.sender.waiting) > 0
	c.mu.Unlock()
	if !waits {
		return
	}
	patience := time.NewTimer(lookupPatience)
	defer patience.Stop()
	select {
	case <-ended:
	case <-patience.C:
	}
}

// Close flushes and closes the socket. Later events are counted in [Stats].ClosedEvents.
// Call it before the program ends, as Go has no hook at exit; os.Exit and log.Fatal skip a deferred call.
// The error is always nil.
func (c *Client) Close() error {
	if c != nil {
		c.closing.Do(c.close)
	}
	return nil
}

func (c *Client) close() {
	c.mu.Lock()
	c.closed = true
	if c.flush != nil {
		c.flush.Stop()
	}
	c.mu.Unlock()
	c.Flush()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sender.close()
}

// Stats returns the counts so far.
func (c *Client) Stats() Stats {
	if c == nil {
		return Stats{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sender.stats
}

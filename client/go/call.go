package llmstatsd

import "time"

// A Call times one LLM call and reports it once, at End.
// It belongs to one goroutine at a time.
type Call struct {
	// Event is what End sends. Set amounts of tokens and the like on it;
	// a duration that is set stands.
	Event Event

	client *Client
	start  time.Time
	ended  bool
}

// Start begins a call that is to be reported.
func (c *Client) Start(model, operation string) *Call {
	return &Call{Event: Event{Model: model, Operation: operation}, client: c, start: time.Now()}
}

// FirstToken notes that the first token has come. Later calls of it change nothing.
func (c *Call) FirstToken() {
	if !c.Event.TimeToFirstTokenSeconds.there {
		c.Event.TimeToFirstTokenSeconds = Seconds(time.Since(c.start))
	}
}

// Error notes that the call has failed, with the type that [Classify] finds. It ignores nil.
func (c *Call) Error(err error) {
	if err != nil {
		c.Event.Error = Classify(err)
	}
}

// End sends the event with the time since Start. Later calls of it do nothing.
//
// Deferred as it is, defer call.End(), it sees a panic: the call is counted as [ErrorOther] unless
// its error is known, and the panic goes on with its value.
func (c *Call) End() {
	if c.ended {
		return
	}
	c.ended = true
	if thrown := recover(); thrown != nil {
		defer panic(thrown)
		if c.Event.Error == "" && !c.Event.RateLimited {
			c.Event.Error = ErrorOther
		}
	}
	if !c.Event.DurationSeconds.there {
		c.Event.DurationSeconds = Seconds(time.Since(c.start))
	}
	c.client.Send(c.Event)
}

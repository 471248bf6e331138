package llmstatsd

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestACallIsTimedAndSentOnce(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port()})
	call := c.Start("m", "chat")
	call.start = call.start.Add(-2 * time.Second)
	call.Event.Tokens = Some(3)
	call.End()
	call.End()
	got := d.receive()
	for _, want := range []string{
		"llm_request_total:1|c|#model:m,operation:chat\n",
		"llm_request_duration_seconds:2",
		"llm_tokens_total:3|c|#model:m",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
	if rest := d.rest(); rest != nil {
		t.Errorf("and got %q", rest)
	}
}

func TestADurationThatIsSetStands(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port()})
	call := c.Start("", "")
	call.Event.DurationSeconds = Some(1)
	call.Event.TimeToFirstTokenSeconds = Some(0)
	call.FirstToken()
	call.End()
	want := "llm_request_total:1|c\nllm_request_duration_seconds:1000|ms\nllm_time_to_first_token_seconds:0|ms"
	if got := d.receive(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOnlyTheFirstTokenIsTimed(t *testing.T) {
	var c *Client
	call := c.Start("m", "chat")
	call.start = call.start.Add(-2 * time.Second)
	call.FirstToken()
	first := call.Event.TimeToFirstTokenSeconds
	if first.value < 2 {
		t.Errorf("got %v", first)
	}
	call.start = call.start.Add(-2 * time.Second)
	call.FirstToken()
	if call.Event.TimeToFirstTokenSeconds != first {
		t.Errorf("got %v, then %v", first, call.Event.TimeToFirstTokenSeconds)
	}
}

func TestAnErrorOfACallIsClassified(t *testing.T) {
	var c *Client
	call := c.Start("m", "chat")
	call.Error(nil)
	if call.Event.Error != "" {
		t.Errorf("got %q of nil", call.Event.Error)
	}
	call.Error(context.DeadlineExceeded)
	call.Error(nil)
	if call.Event.Error != ErrorTimeout {
		t.Errorf("got %q", call.Event.Error)
	}
}

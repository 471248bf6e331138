package llmstatsd

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
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

// explode panics in a frame that a stack trace names.
//
//go:noinline
func explode(value any) { panic(value) }

// endsByPanic returns what a call that panics has sent, and what came out of it.
func endsByPanic(t *testing.T, before func(*Call), value any) (datagram string, thrown any, stack string) {
	t.Helper()
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port()})
	func() {
		defer func() {
			thrown = recover()
			stack = string(debug.Stack())
		}()
		call := c.Start("m", "chat")
		defer call.End()
		before(call)
		explode(value)
	}()
	datagram = d.receive()
	if rest := d.rest(); rest != nil {
		t.Errorf("and got %q", rest)
	}
	return datagram, thrown, stack
}

func nothing(*Call) {}

func TestAPanicIsCountedAsOtherAndGoesOn(t *testing.T) {
	want := errors.New("x")
	datagram, thrown, stack := endsByPanic(t, nothing, want)
	if !strings.HasSuffix(datagram, "\nllm_error_total:1|c|#model:m,type:other") {
		t.Errorf("got %q", datagram)
	}
	if thrown != want {
		t.Errorf("got %v", thrown)
	}
	if !strings.Contains(stack, "explode") {
		t.Errorf("the place of the panic is lost: %s", stack)
	}
}

func TestAPanicAfterAnErrorIsThatError(t *testing.T) {
	for want, before := range map[ErrorType]func(*Call){
		ErrorQuota:     func(call *Call) { call.Event.Error = ErrorQuota },
		ErrorRateLimit: func(call *Call) { call.Event.RateLimited = true },
	} {
		if datagram, _, _ := endsByPanic(t, before, 1); !strings.Contains(datagram, "type:"+string(want)) {
			t.Errorf("got %q, want %q", datagram, want)
		}
	}
}

func TestACallThatHasEndedLeavesAPanicAlone(t *testing.T) {
	datagram, thrown, _ := endsByPanic(t, (*Call).End, 1)
	if strings.Contains(datagram, "llm_error_total") || thrown != 1 {
		t.Errorf("got %q, %v", datagram, thrown)
	}
}

func TestAHandlerThatAbortsIsCountedAndAborts(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port()})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		defer c.Start("m", "chat").End()
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	if _, err := http.Post(server.URL, "text/plain", nil); err == nil {
		t.Error("the handler has answered")
	}
	if datagram := d.receive(); !strings.Contains(datagram, "type:other") {
		t.Errorf("got %q", datagram)
	}
}

func TestACallMadeInAPanicIsNoError(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port()})
	func() {
		defer func() {
			if recover() != 1 {
				t.Error("the panic is lost")
			}
		}()
		defer func() {
			defer c.Start("m", "chat").End()
		}()
		explode(1)
	}()
	if datagram := d.receive(); strings.Contains(datagram, "llm_error_total") {
		t.Errorf("got %q", datagram)
	}
}

func TestAGoroutineThatExitsIsNoPanic(t *testing.T) {
	d := listenUDP(t)
	c := newClient(t, Options{Port: d.port()})
	go func() {
		defer c.Start("m", "chat").End()
		runtime.Goexit()
	}()
	if datagram := d.receive(); strings.Contains(datagram, "llm_error_total") {
		t.Errorf("got %q", datagram)
	}
}

// Acceptance sends the same event from several goroutines and prints the client's stats as JSON.
// The environment decides where to.
package main

import (
	"encoding/json"
	"flag"
	"os"
	"sync"

	llmstatsd "github.com/llmstatsd/llmstatsd/client/go"
)

// event is "a failed call with all fields" of client/vectors.json.
var event = llmstatsd.Event{
	Model:                     "gpt-4o",
	Operation:                 "chat",
	DurationSeconds:           llmstatsd.Some(1.84),
	LoadDurationSeconds:       llmstatsd.Some(0.5),
	PromptEvalDurationSeconds: llmstatsd.Some(0.12),
	TotalDurationSeconds:      llmstatsd.Some(1.8),
	TimeToFirstTokenSeconds:   llmstatsd.Some(0.3),
	TimePerOutputTokenSeconds: llmstatsd.Some(0.0375),
	Tokens:                    llmstatsd.Some(230),
	PromptTokens:              llmstatsd.Some(200),
	CompletionTokens:          llmstatsd.Some(30),
	CachedTokens:              llmstatsd.Some(128),
	CostDollars:               llmstatsd.Some(0.0123),
	Error:                     llmstatsd.ErrorTimeout,
	RateLimited:               true,
	Fallback:                  true,
}

func main() {
	threads := flag.Int("threads", 1, "goroutines that send at the same time")
	calls := flag.Int("calls", 1, "events of each goroutine")
	buffered := flag.Bool("buffered", false, "let events share datagrams")
	flag.Parse()

	client := llmstatsd.New(llmstatsd.Options{Buffered: *buffered})
	var group sync.WaitGroup
	for i := 0; i < *threads; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for j := 0; j < *calls; j++ {
				client.Send(event)
			}
		}()
	}
	group.Wait()
	client.Close()
	json.NewEncoder(os.Stdout).Encode(client.Stats())
}

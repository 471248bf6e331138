// Timed reports two calls of a made-up LLM that streams its answer; the second call is too slow.
// Run llmstatsd beside it and look at http://localhost:2112/metrics.
package main

import (
	"context"
	"fmt"
	"time"

	llmstatsd "github.com/llmstatsd/llmstatsd/client/go"
)

func main() {
	client := llmstatsd.New(llmstatsd.Options{})
	defer client.Close()

	for _, patience := range []time.Duration{time.Second, 50 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		answer, err := ask(ctx, client)
		cancel()
		fmt.Printf("answer %q, error %v\n", answer, err)
	}
	fmt.Printf("%+v\n", client.Stats())
}

// ask collects an answer and reports the call, however it ends.
func ask(ctx context.Context, client *llmstatsd.Client) (answer string, err error) {
	call := client.Start("made-up-1", "chat")
	defer call.End()
	err = stream(ctx, func(token string) {
		call.FirstToken()
		answer += token
	})
	call.Error(err)
	if err == nil {
		call.Event.PromptTokens = llmstatsd.Some(5)
		call.Event.CompletionTokens = llmstatsd.Some(3)
	}
	return answer, err
}

// stream stands for an SDK: it calls each for every token of the answer.
func stream(ctx context.Context, each func(token string)) error {
	for _, token := range []string{"Light ", "scatters", "."} {
		select {
		case <-time.After(40 * time.Millisecond):
			each(token)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

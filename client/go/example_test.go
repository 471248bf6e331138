package llmstatsd_test

import (
	"context"
	"fmt"
	"net"
	"strings"

	llmstatsd "github.com/llmstatsd/llmstatsd/client/go"
)

// listen stands for a daemon.
func listen() (daemon net.PacketConn, port int) {
	daemon, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	return daemon, daemon.LocalAddr().(*net.UDPAddr).Port
}

func received(daemon net.PacketConn) string {
	buffer := make([]byte, 1500)
	n, _, err := daemon.ReadFrom(buffer)
	if err != nil {
		return err.Error()
	}
	return string(buffer[:n])
}

func ExampleClient_Send() {
	daemon, port := listen()
	defer daemon.Close()
	client := llmstatsd.New(llmstatsd.Options{Port: port})
	defer client.Close()

	client.Send(llmstatsd.Event{
		Model:            "gpt-4o",
		Operation:        "chat",
		DurationSeconds:  llmstatsd.Some(1.84),
		PromptTokens:     llmstatsd.Some(200),
		CompletionTokens: llmstatsd.Some(30),
	})
	fmt.Println(received(daemon))
	// Output:
	// llm_request_total:1|c|#model:gpt-4o,operation:chat
	// llm_request_duration_seconds:1840|ms|#model:gpt-4o,operation:chat
	// llm_tokens_total:230|c|#model:gpt-4o
	// llm_prompt_tokens_total:200|c|#model:gpt-4o
	// llm_completion_tokens_total:30|c|#model:gpt-4o
}

func ExampleClient_Start() {
	daemon, port := listen()
	defer daemon.Close()
	client := llmstatsd.New(llmstatsd.Options{Port: port})
	defer client.Close()

	ask := func() error {
		call := client.Start("gpt-4o", "chat")
		defer call.End()
		err := fmt.Errorf("asking: %w", context.DeadlineExceeded) // from an SDK
		call.Error(err)
		return err
	}
	ask()
	for _, line := range strings.Split(received(daemon), "\n") {
		if !strings.Contains(line, "duration") { // which is another one each time
			fmt.Println(line)
		}
	}
	// Output:
	// llm_request_total:1|c|#model:gpt-4o,operation:chat
	// llm_error_total:1|c|#model:gpt-4o,type:timeout
}

func ExampleClient_Stats() {
	client := llmstatsd.New(llmstatsd.Options{Socket: "nowhere.sock"})
	defer client.Close()
	client.Send(llmstatsd.Event{Model: "gpt-4o", Tokens: llmstatsd.Some(-1)})
	stats := client.Stats()
	fmt.Println("refused fields:", stats.RefusedFields)
	fmt.Println("dropped, as nobody listens:", stats.DroppedUnreachable)
	// Output:
	// refused fields: 1
	// dropped, as nobody listens: 1
}

func ExampleEvent_AppendLines() {
	event := llmstatsd.Event{Model: "a|b", CostDollars: llmstatsd.Some(0.0123)}
	lines, refused := event.AppendLines(nil)
	fmt.Printf("%s\n%d refused\n", lines, refused)
	// Output:
	// llm_request_total:1|c|#model:a_b
	// llm_cost_dollars_total:0.0123|c|#model:a_b
	// 0 refused
}

func ExampleClassify() {
	_, err := net.Dial("unix", "nowhere.sock")
	fmt.Println(llmstatsd.Classify(err))
	fmt.Println(llmstatsd.Classify(fmt.Errorf("asking: %w", context.Canceled)))
	// Output:
	// connection
	// cancelled
}

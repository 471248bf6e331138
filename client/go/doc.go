// Package llmstatsd reports LLM calls to an llmstatsd daemon, or to any StatsD server.
//
// One call is one UDP datagram of StatsD lines, sent and forgotten:
//
//	client := llmstatsd.New(llmstatsd.Options{})
//	defer client.Close()
//
//	call := client.Start("gpt-4o", "chat")
//	defer call.End()
//	answer, err := ask(ctx, prompt)
//	call.Error(err)
//
// [Client.Send] reports a call that the application has measured itself.
//
// No method panics, waits for a daemon or fails.
// What could not be sent is counted instead, and [Client.Stats] shows the counts.
// [Client.Send] allocates nothing once the socket is open.
//
// # Settings
//
// A field of [Options] beats the environment, which beats the default.
// LLMSTATSD_DISABLE (1, true, yes or on) switches the client off.
// The destination is the first of these that is there:
//
//   - LLMSTATSD_SOCKET, the path of a unix datagram socket
//   - LLMSTATSD_HOST or LLMSTATSD_PORT
//   - DD_AGENT_HOST or DD_DOGSTATSD_PORT
//   - STATSD_HOST or STATSD_PORT
//   - 127.0.0.1 and 8125, which also stand for the missing half of a pair
//
// A port that is not a whole number from 1 to 65535 counts as missing:
// in a pod beside a service called llmstatsd, Kubernetes sets LLMSTATSD_PORT to udp://10.0.0.1:8125.
package llmstatsd

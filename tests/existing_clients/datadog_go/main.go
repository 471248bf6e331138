// Sends with datadog-go what its API has: datadog_go ADDRESS SCENARIO.
package main

import (
	"io"
	"math"
	"os"
	"sync"
	"time"

	"github.com/DataDog/datadog-go/v5/statsd"
)

var (
	call  = []string{"model:gpt-4o", "operation:chat"}
	model = []string{"model:gpt-4o"}
	pool  = []string{"pool:a"}
)

// A scenario is the settings of a client and what it sends.
type scenario struct {
	send    func(*statsd.Client)
	options []statsd.Option
}

var scenarios = map[string]scenario{
	"aggregated":   {everything, nil},
	"unaggregated": {everything, []statsd.Option{statsd.WithoutClientSideAggregation()}},
	"extended":     {everything, []statsd.Option{statsd.WithExtendedClientSideAggregation()}},
	"unbuffered": {everything, []statsd.Option{
		statsd.WithoutClientSideAggregation(), statsd.WithMaxMessagesPerPayload(1),
	}},
	"channels": {everything, []statsd.Option{
		statsd.WithChannelMode(), statsd.WithoutClientSideAggregation(),
	}},
	"channels extended": {everything, []statsd.Option{
		statsd.WithChannelMode(), statsd.WithExtendedClientSideAggregation(),
		statsd.WithAggregationInterval(100 * time.Millisecond),
	}},
	"telemetry": {everything, []statsd.Option{statsd.WithAggregationInterval(time.Second)}},
	"container": {everything, []statsd.Option{
		statsd.WithContainerID("ci-0123"), statsd.WithCardinality(statsd.CardinalityLow),
		statsd.WithExtendedClientSideAggregation(),
	}},
	"tagged":        {tagged, []statsd.Option{statsd.WithTags([]string{"team:a"})}},
	"namespace":     {tagged, []statsd.Option{statsd.WithNamespace("svc")}},
	"timestamped":   {timestamped, nil},
	"sampled":       {sampled, []statsd.Option{statsd.WithoutClientSideAggregation()}},
	"sampled count": {sampled, nil},
	"packed":        {packed, []statsd.Option{statsd.WithExtendedClientSideAggregation()}},
	"kept": {kept, []statsd.Option{
		statsd.WithExtendedClientSideAggregation(), statsd.WithMaxSamplesPerContext(2),
	}},
	"goroutines":  {goroutines, nil},
	"hostile":     {hostile, nil},
	"temperature": {temperature, nil},
}

// everything calls every method, in the same way whatever the settings are.
func everything(client *statsd.Client) {
	for i := 0; i < 3; i++ {
		must(client.Incr("llm.request", call, 1))
		must(client.Timing("llm.request.duration", 1250*time.Millisecond, call, 1))
	}
	must(client.Count("llm_tokens_total", 321, model, 1))
	must(client.Histogram("llm.total.duration.seconds", 1.5, model, 1))
	must(client.Distribution("llm.time_to_first_token_seconds", 0.25, call, 1))
	must(client.TimeInMilliseconds("app.step", 12.5, nil, 1))
	must(client.Gauge("app.workers", 7, pool, 1))
	must(client.Gauge("app.large", 1e21, nil, 1))
	must(client.Gauge("app.small", 1e-7, nil, 1))
	for _, member := range []string{"alice", "bob", "alice"} {
		must(client.Set("app.users", member, nil, 1))
	}
	must(client.SimpleEvent("déployé", "version 2\nà la main"))
	must(client.Event(&statsd.Event{
		Title: "deploy", Text: "version 2", Timestamp: time.Unix(1656581400, 0), Hostname: "a",
		AggregationKey: "k", Priority: statsd.Low, SourceTypeName: "s", AlertType: statsd.Warning, Tags: call,
	}))
	must(client.SimpleServiceCheck("app.up", statsd.Ok))
	must(client.ServiceCheck(&statsd.ServiceCheck{
		Name: "app.up", Status: statsd.Warn, Timestamp: time.Unix(1656581400, 0), Hostname: "a",
		Message: "m: slow\n9 s", Tags: call,
	}))
}

func tagged(client *statsd.Client) {
	must(client.Incr("llm.request", call, 1))
	must(client.Gauge("app.workers", 7, pool, 1))
}

func timestamped(client *statsd.Client) {
	for second := int64(0); second < 5; second++ {
		at := time.Unix(1656581400+second, 0)
		must(client.CountWithTimestamp("llm.request", 2, call, 1, at))
		must(client.GaugeWithTimestamp("app.workers", float64(second), pool, 1, at))
	}
}

// sampled ends with a line that comes after all others: what a rate lets through is left to chance.
func sampled(client *statsd.Client) {
	for i := 0; i < 200; i++ {
		must(client.Incr("llm.request", call, 0.25))
	}
	must(client.Flush())
	must(client.Gauge("app.done", 1, nil, 1))
}

// packed sends more values than a datagram holds.
func packed(client *statsd.Client) {
	for i := 0; i < 1000; i++ {
		must(client.Timing("llm.request.duration", 1250*time.Millisecond, call, 1))
		must(client.Distribution("llm.total.duration.seconds", 1.5, model, 1))
	}
}

// kept sends two of ten values, at a rate of 0.2.
func kept(client *statsd.Client) {
	for i := 0; i < 10; i++ {
		must(client.Timing("llm.request.duration", 1250*time.Millisecond, call, 1))
	}
}

func goroutines(client *statsd.Client) {
	var group sync.WaitGroup
	for i := 0; i < 8; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := 0; i < 10000; i++ {
				must(client.Incr("llm.request", call, 1))
				must(client.Count("llm.tokens", 3, model, 1))
			}
		}()
	}
	group.Wait()
}

func hostile(client *statsd.Client) {
	must(client.Decr("app.left", nil, 1))
	must(client.Gauge("app.level", math.NaN(), nil, 1))
	must(client.Histogram("app.size", math.Inf(1), nil, 1))
	must(client.Timing("llm.request.duration", -time.Second, call, 1))
	must(client.Incr("llm.request", []string{"urgent", "model:a\nb"}, 1))
	must(client.Incr("llm.request", []string{"model:c|d"}, 1))
}

func temperature(client *statsd.Client) {
	must(client.Gauge("app.temperature", 20, nil, 1))
	must(client.Flush())
	must(client.Gauge("app.temperature", -5, nil, 1))
}

// direct sends values that the caller has sampled.
func direct(address string) {
	client, err := statsd.NewDirect(address, statsd.WithoutTelemetry())
	must(err)
	values := []float64{0.5, 0.5, 1}
	must(client.DistributionSamples("llm.request.duration.seconds", values, call, 0.5))
	must(client.Close())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// run sends one scenario, and closes the client at the end of the standard input.
func run(address, name string) {
	chosen, known := scenarios[name]
	if !known {
		panic("no scenario " + name)
	}
	// What is aggregated is sent at the end, unless the scenario says otherwise.
	options := []statsd.Option{statsd.WithAggregationInterval(time.Hour)}
	if name != "telemetry" {
		options = append(options, statsd.WithoutTelemetry())
	}
	client, err := statsd.New(address, append(options, chosen.options...)...)
	must(err)
	chosen.send(client)
	_, err = io.Copy(io.Discard, os.Stdin)
	must(err)
	must(client.Close())
}

func main() {
	address, name := os.Args[1], os.Args[2]
	if name == "direct" {
		direct(address)
	} else {
		run(address, name)
	}
}

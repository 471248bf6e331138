package llmstatsd

import "testing"

const inKubernetes = "udp://10.0.0.1:8125"

func TestTheFirstDestinationThatIsThereDecides(t *testing.T) {
	for _, c := range []struct {
		name    string
		options Options
		env     map[string]string
		want    destination
	}{
		{"nothing", Options{}, nil, destination{host: "127.0.0.1", port: 8125}},
		{
			"a socket beats a host", Options{},
			map[string]string{"LLMSTATSD_SOCKET": "s", "LLMSTATSD_HOST": "h", "LLMSTATSD_PORT": "1"},
			destination{socket: "s"},
		},
		{
			"our host and port", Options{},
			map[string]string{"LLMSTATSD_HOST": "h", "LLMSTATSD_PORT": "1", "DD_AGENT_HOST": "d"},
			destination{host: "h", port: 1},
		},
		{
			"our host alone takes no other's port", Options{},
			map[string]string{"LLMSTATSD_HOST": "h", "DD_DOGSTATSD_PORT": "2", "STATSD_PORT": "3"},
			destination{host: "h", port: 8125},
		},
		{
			"our port alone takes no other's host", Options{},
			map[string]string{"LLMSTATSD_PORT": "65535", "DD_AGENT_HOST": "d"},
			destination{host: "127.0.0.1", port: 65535},
		},
		{
			"Datadog's host beats plain StatsD's", Options{},
			map[string]string{"DD_AGENT_HOST": "d", "STATSD_HOST": "s", "STATSD_PORT": "3"},
			destination{host: "d", port: 8125},
		},
		{
			"Datadog's port beats plain StatsD's", Options{},
			map[string]string{"DD_DOGSTATSD_PORT": "2", "STATSD_HOST": "s"},
			destination{host: "127.0.0.1", port: 2},
		},
		{
			"plain StatsD's host", Options{},
			map[string]string{"STATSD_HOST": "s"},
			destination{host: "s", port: 8125},
		},
		{
			"plain StatsD's port", Options{},
			map[string]string{"STATSD_PORT": "3"},
			destination{host: "127.0.0.1", port: 3},
		},
		{
			"an empty variable is missing", Options{},
			map[string]string{"LLMSTATSD_SOCKET": "", "LLMSTATSD_HOST": "", "LLMSTATSD_PORT": "", "STATSD_HOST": "s"},
			destination{host: "s", port: 8125},
		},
		{
			"Kubernetes' port is missing", Options{},
			map[string]string{"LLMSTATSD_PORT": inKubernetes, "DD_AGENT_HOST": "d"},
			destination{host: "d", port: 8125},
		},
		{
			"Kubernetes' port beside a host", Options{},
			map[string]string{"LLMSTATSD_PORT": inKubernetes, "LLMSTATSD_HOST": "h"},
			destination{host: "h", port: 8125},
		},
		{
			"a socket of an argument", Options{Socket: "a", Host: "b", Port: 9},
			map[string]string{"LLMSTATSD_SOCKET": "s"},
			destination{socket: "a"},
		},
		{
			"a host of an argument beats every variable", Options{Host: "b"},
			map[string]string{"LLMSTATSD_SOCKET": "s", "LLMSTATSD_PORT": "1"},
			destination{host: "b", port: 8125},
		},
		{
			"a port of an argument beats every variable", Options{Port: 9},
			map[string]string{"LLMSTATSD_SOCKET": "s", "LLMSTATSD_HOST": "h"},
			destination{host: "127.0.0.1", port: 9},
		},
		{
			"an impossible port of an argument stays", Options{Port: 65536},
			map[string]string{"LLMSTATSD_HOST": "h"},
			destination{host: "127.0.0.1", port: 65536},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.options.destination(func(name string) string { return c.env[name] })
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestATextThatIsNoPortIsMissing(t *testing.T) {
	for _, text := range []string{
		"", "0", "65536", "-1", "+1", "1.5", " 1", "1 ", "1_0", "0x1", "eight", inKubernetes,
		"99999999999999999999",
	} {
		if got := port(text); got != 0 {
			t.Errorf("%q: got %d", text, got)
		}
	}
}

func TestAVariableDisables(t *testing.T) {
	for text, want := range map[string]bool{
		"1": true, "true": true, "TRUE": true, "Yes": true, "on": true,
		"": false, "0": false, "false": false, "no": false, "off": false, "2": false,
	} {
		if got := (Options{}).disabled(func(string) string { return text }); got != want {
			t.Errorf("%q: got %t", text, got)
		}
	}
}

func TestTheEnvironmentIsRead(t *testing.T) {
	t.Setenv("LLMSTATSD_SOCKET", "s")
	t.Setenv("LLMSTATSD_DISABLE", "on")
	c := New(Options{})
	if want := (destination{socket: "s"}); c.sender.to != want || !c.disabled {
		t.Errorf("got %+v, disabled %t", c.sender.to, c.disabled)
	}
}

func TestADatagramHasTheSizeOfItsSocket(t *testing.T) {
	for _, c := range []struct {
		options Options
		want    int
	}{
		{Options{Port: 1}, 1432},
		{Options{Socket: "s"}, 8192},
		{Options{Port: 1, MaxDatagramBytes: 500}, 500},
		{Options{Socket: "s", MaxDatagramBytes: 500}, 500},
		{Options{Port: 1, MaxDatagramBytes: -1}, 1432},
	} {
		if got := New(c.options).maxDatagramBytes; got != c.want {
			t.Errorf("%+v: got %d, want %d", c.options, got, c.want)
		}
	}
}

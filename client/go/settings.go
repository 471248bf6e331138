package llmstatsd

import (
	"strconv"
	"strings"
)

const (
	defaultHost = "127.0.0.1"
	defaultPort = 8125

	// An Ethernet frame of 1,500 bytes less the headers of IPv6 and UDP, and some slack;
	// datagrams of this size pass most networks whole.
	maxUDPDatagramBytes  = 1432
	maxUnixDatagramBytes = 8192
)

// Options are the settings of a [Client].
// The zero value of each field leaves it to the environment and the defaults: see the package's documentation.
type Options struct {
	// Socket is the path of a unix datagram socket. It beats Host and Port.
	Socket string

	// Host is a name or an IP address. It is 127.0.0.1 if only Port is given.
	Host string

	// Port is from 1 to 65535. It is 8125 if only Host is given.
	// With any other port, everything is counted in [Stats].DroppedUnresolved.
	Port int

	// Disabled makes a client that counts events and sends nothing.
	Disabled bool

	// Buffered lets several calls share a datagram.
	// A line then waits for at most 300 ms, or for Flush or Close.
	Buffered bool

	// MaxDatagramBytes is 1432 unless given, or 8192 on a unix socket.
	// A single line that is longer is sent in a datagram of its own.
	MaxDatagramBytes int
}

// A destination is the path of a unix socket, or else a host and a port.
// A port out of its range makes one that nothing can be sent to.
type destination struct {
	socket string
	host   string
	port   int
}

func (d destination) maxDatagramBytes() int {
	if d.socket != "" {
		return maxUnixDatagramBytes
	}
	return maxUDPDatagramBytes
}

// destination decides where o and the environment send to.
func (o Options) destination(getenv func(string) string) destination {
	if o.Socket != "" {
		return destination{socket: o.Socket}
	}
	if o.Host != "" || o.Port != 0 {
		return hostAndPort(o.Host, o.Port)
	}
	if socket := getenv("LLMSTATSD_SOCKET"); socket != "" {
		return destination{socket: socket}
	}
	for _, names := range [...]struct{ host, port string }{
		{"LLMSTATSD_HOST", "LLMSTATSD_PORT"},
		{"DD_AGENT_HOST", "DD_DOGSTATSD_PORT"},
		{"STATSD_HOST", "STATSD_PORT"},
	} {
		host, port := getenv(names.host), port(getenv(names.port))
		if host != "" || port != 0 {
			return hostAndPort(host, port)
		}
	}
	return hostAndPort("", 0)
}

func hostAndPort(host string, port int) destination {
	if host == "" {
		host = defaultHost
	}
	if port == 0 {
		port = defaultPort
	}
	return destination{host: host, port: port}
}

// port returns 0 for a text that is no port.
func port(text string) int {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}

func (o Options) disabled(getenv func(string) string) bool {
	if o.Disabled {
		return true
	}
	switch strings.ToLower(getenv("LLMSTATSD_DISABLE")) {
	case "1", "true", "yes", "on":
		return true
	}
	return false
}

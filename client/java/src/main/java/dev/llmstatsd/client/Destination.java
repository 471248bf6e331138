package dev.llmstatsd.client;

/** The path of a unix socket, or a host and a port, which need not be valid ones. */
final class Destination {
    static final String DEFAULT_HOST = "127.0.0.1";
    static final int DEFAULT_PORT = 8125;

    /**
     * An Ethernet frame of 1,500 bytes less the headers of IPv6 and UDP, and some slack:
     * datagrams of this size pass most networks whole.
     */
    private static final int UDP_DATAGRAM_BYTES = 1432;

    private static final int UNIX_DATAGRAM_BYTES = 8192;

    /** What UDP over IPv4 carries at most. */
    static final int MOST_DATAGRAM_BYTES = 65507;

    /** Null for UDP. */
    final String socket;

    /** Null for a unix socket. */
    final String host;

    final int port;

    private Destination(String socket, String host, int port) {
        this.socket = socket;
        this.host = host;
        this.port = port;
    }

    static Destination socket(String path) {
        return new Destination(path, null, 0);
    }

    static Destination udp(String host, int port) {
        return new Destination(null, host, port);
    }

    static boolean isPort(int number) {
        return number >= 1 && number <= 65535;
    }

    int maxDatagramBytes() {
        return socket == null ? UDP_DATAGRAM_BYTES : UNIX_DATAGRAM_BYTES;
    }

    @Override
    public String toString() {
        return socket == null ? host + ":" + port : socket;
    }
}

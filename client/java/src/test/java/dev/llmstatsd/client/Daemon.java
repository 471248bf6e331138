package dev.llmstatsd.client;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.InetAddress;
import java.net.SocketTimeoutException;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;

/** A socket on loopback that takes what a client sends. */
final class Daemon implements AutoCloseable {
    private final DatagramSocket socket;
    private final byte[] bytes = new byte[65536];

    Daemon() {
        this(0);
    }

    Daemon(int port) {
        try {
            socket = new DatagramSocket(port, InetAddress.getByName("127.0.0.1"));
            socket.setReceiveBufferSize(1 << 22);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    int port() {
        return socket.getLocalPort();
    }

    Client.Builder client() {
        return Client.builder().disabled(false).host("127.0.0.1").port(port());
    }

    /** The next datagram, waited for up to a deadline. */
    String next() {
        String next = next((int) TimeUnit.SECONDS.toMillis(Eventually.DEADLINE_SECONDS));
        if (next == null) {
            throw new AssertionError("no datagram");
        }
        return next;
    }

    /** Null if there is none; over loopback, what was sent is there at once. */
    String nextIfAny() {
        return next(1);
    }

    private String next(int atMostMillis) {
        DatagramPacket packet = new DatagramPacket(bytes, bytes.length);
        try {
            socket.setSoTimeout(atMostMillis);
            socket.receive(packet);
        } catch (SocketTimeoutException e) {
            return null;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return new String(bytes, 0, packet.getLength(), StandardCharsets.UTF_8);
    }

    @Override
    public void close() {
        socket.close();
    }
}

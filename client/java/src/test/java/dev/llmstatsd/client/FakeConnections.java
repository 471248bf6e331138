package dev.llmstatsd.client;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;

/** Connections whose next sends fail as a test wants it. */
final class FakeConnections implements Connection.Opener {
    /** What happens instead of sending. */
    interface Mishap {
        boolean happen() throws IOException;
    }

    final List<InetSocketAddress> opened = new ArrayList<>();
    final List<String> sent = new ArrayList<>();
    final Queue<Mishap> mishaps = new ArrayDeque<>();
    int closed;

    void fail(Exception failure) {
        mishaps.add(() -> {
            if (failure instanceof IOException) {
                throw (IOException) failure;
            }
            throw (RuntimeException) failure;
        });
    }

    @Override
    public synchronized Connection open(InetSocketAddress to) {
        opened.add(to);
        return new Connection() {
            @Override
            public boolean send(byte[] bytes, int from, int length) throws IOException {
                return FakeConnections.this.send(new String(bytes, from, length, StandardCharsets.UTF_8));
            }

            @Override
            public void close() {
                closed++;
            }
        };
    }

    private synchronized boolean send(String datagram) throws IOException {
        Mishap mishap = mishaps.poll();
        if (mishap != null && !mishap.happen()) {
            return false;
        }
        return sent.add(datagram);
    }
}

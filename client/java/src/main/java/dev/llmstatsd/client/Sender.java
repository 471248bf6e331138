package dev.llmstatsd.client;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Queue;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongSupplier;

/**
 * Sends the lines of events to one destination, never waits for it, and counts what becomes of them.
 *
 * <p>A datagram for a name without an address yet waits for the end of the first lookup.
 */
final class Sender {
    private static final long FLUSH_NANOS = TimeUnit.MILLISECONDS.toNanos(300);

    /** How long {@link #flush()} and {@link #close()} wait for the first lookup of a name. */
    private static final long LOOKUP_NANOS = TimeUnit.SECONDS.toNanos(2);

    /** What waits for the first lookup of a name at most: about 1,000 calls. */
    private static final int MOST_WAITING_BYTES = 1 << 20;

    private final ReentrantLock lock = new ReentrantLock();
    private final Destination to;
    private final int maxDatagramBytes;
    private final Counters counters;
    private final Connection.Opener opener;
    private final LongSupplier nanoTime;
    private final ScheduledExecutorService background = new Background();
    private final Lookup lookup; // null for a unix socket
    private Batch batch; // null when not buffered

    private Connection connection; // null before the first datagram and after an error
    private InetSocketAddress connectedTo;
    private final Queue<byte[]> waiting = new ArrayDeque<>();
    private int waitingBytes;
    private boolean flushIsPlanned;
    private boolean closed;

    Sender(Settings settings, Destination to, Counters counters, Platform platform) {
        this.to = to;
        this.maxDatagramBytes = maxDatagramBytes(settings, to);
        this.counters = counters;
        this.opener = platform.opener;
        this.nanoTime = platform.nanoTime;
        this.lookup = to.host == null ? null : new Lookup(to.host, platform.resolver, nanoTime, lock);
        this.batch = settings.buffered ? new Batch(maxDatagramBytes) : null;
    }

    private static int maxDatagramBytes(Settings settings, Destination to) {
        int asked = settings.maxDatagramBytes;
        return asked > 0 ? Math.min(asked, Destination.MOST_DATAGRAM_BYTES) : to.maxDatagramBytes();
    }

    /** Whether lines may be kept for later, so that the end of the process is to be watched. */
    boolean keepsLines() {
        return batch != null || lookup != null && lookup.isName();
    }

    /**
     * Sends the lines of an event, or keeps them in its buffer.
     *
     * @return false if this sender is closed
     */
    boolean send(Encoder event) {
        lock.lock();
        try {
            if (closed) {
                return false;
            }
            int end;
            for (int from = 0; from < event.length(); from = end + 1) {
                end = event.cut(from, maxDatagramBytes);
                take(event.bytes(), from, end - from);
            }
            return true;
        } finally {
            lock.unlock();
        }
    }

    /** Takes what fits into one datagram, or a single line that is longer. */
    private void take(byte[] bytes, int from, int length) {
        if (batch == null) {
            send(bytes, from, length);
            return;
        }
        if (!batch.hasRoomFor(length)) {
            sendBatch();
        }
        if (!batch.hasRoomFor(length)) {
            send(bytes, from, length);
            return;
        }
        boolean first = batch.isEmpty();
        batch.add(bytes, from, length, nanoTime.getAsLong());
        if (first) {
            planFlush(FLUSH_NANOS);
        }
    }

    private void sendBatch() {
        if (batch != null && !batch.isEmpty()) {
            send(batch.bytes(), 0, batch.length());
            batch.clear();
        }
    }

    /** One plan at a time: when it comes too early for the lines that are there, it plans anew. */
    private void planFlush(long inNanos) {
        if (!flushIsPlanned) {
            background.schedule(this::flushIfDue, inNanos, TimeUnit.NANOSECONDS);
            flushIsPlanned = true;
        }
    }

    private void flushIfDue() {
        lock.lock();
        try {
            flushIsPlanned = false;
            if (closed || batch == null || batch.isEmpty()) {
                return;
            }
            long left = batch.firstLineAt() + FLUSH_NANOS - nanoTime.getAsLong();
            if (left > 0) {
                planFlush(left);
            } else {
                sendBatch();
            }
        } finally {
            lock.unlock();
        }
    }

    private void send(byte[] bytes, int from, int length) {
        if (lookup != null) {
            lookup.startIfDue(background, this::settle);
            if (lookup.isAwaited() && waitingBytes + length <= MOST_WAITING_BYTES) {
                waiting.add(Arrays.copyOfRange(bytes, from, from + length));
                waitingBytes += length;
                return;
            }
        }
        sendNow(bytes, from, length);
    }

    /** Sends what has waited for an address, or drops it if there still is none. */
    private void settle() {
        for (byte[] datagram : waiting) {
            sendNow(datagram, 0, datagram.length);
        }
        waiting.clear();
        waitingBytes = 0;
    }

    private void sendNow(byte[] bytes, int from, int length) {
        Outcome outcome = attempt(bytes, from, length);
        if (outcome == Outcome.UNREACHABLE || outcome == Outcome.CLOSED) {
            outcome = attemptAgain(bytes, from, length);
        }
        counters.add(outcome.count, 1);
        if (outcome == Outcome.SENT) {
            counters.add(Count.SENT_BYTES, length);
        }
    }

    /**
     * An interrupt of the sending thread would close its channel, so that one is put off until after this.
     * The thread stays interrupted, and the other threads get a new channel.
     */
    private Outcome attemptAgain(byte[] bytes, int from, int length) {
        boolean interrupted = Thread.interrupted();
        try {
            return attempt(bytes, from, length);
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    private Outcome attempt(byte[] bytes, int from, int length) {
        Outcome outcome = open();
        if (outcome == Outcome.SENT) {
            outcome = write(bytes, from, length);
        }
        if (outcome == Outcome.CLOSED || outcome == Outcome.ERROR) {
            shut();
        }
        if (lookup != null && (outcome == Outcome.UNREACHABLE || outcome == Outcome.ERROR)) {
            lookup.doubt();
        }
        return outcome;
    }

    private Outcome write(byte[] bytes, int from, int length) {
        try {
            return connection.send(bytes, from, length) ? Outcome.SENT : Outcome.FULL;
        } catch (IOException e) {
            return Outcome.of(e);
        } catch (RuntimeException e) {
            return Outcome.ERROR;
        }
    }

    /** SENT if there is a connection to send on, or why there is none. */
    private Outcome open() {
        if (lookup == null) {
            return Outcome.ERROR; // Java has no unix datagram sockets
        }
        if (lookup.address() == null || !Destination.isPort(to.port)) {
            return Outcome.UNRESOLVED;
        }
        if (connection != null && !connectedTo.getAddress().equals(lookup.address())) {
            shut();
        }
        return connection == null ? connect(new InetSocketAddress(lookup.address(), to.port)) : Outcome.SENT;
    }

    private Outcome connect(InetSocketAddress address) {
        try {
            connection = opener.open(address);
            connectedTo = address;
            return Outcome.SENT;
        } catch (IOException e) {
            return Outcome.of(e);
        } catch (RuntimeException e) {
            return Outcome.ERROR;
        }
    }

    private void shut() {
        if (connection != null) {
            connection.close();
            connection = null;
        }
    }

    void flush() {
        lock.lock();
        try {
            flushAll();
        } finally {
            lock.unlock();
        }
    }

    private void flushAll() {
        sendBatch();
        if (lookup != null) {
            lookup.await(LOOKUP_NANOS);
        }
    }

    /** At the end of the process: flushes, and keeps nothing in the buffer from then on. */
    void stopBuffering() {
        lock.lock();
        try {
            flushAll();
            sendBatch();
            batch = null;
        } finally {
            lock.unlock();
        }
    }

    void close() {
        lock.lock();
        try {
            if (!closed) {
                flushAll();
                end();
            }
        } finally {
            lock.unlock();
        }
    }

    private void end() {
        closed = true;
        sendBatch();
        settle();
        shut();
        background.shutdown();
    }
}

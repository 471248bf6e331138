package dev.llmstatsd.client;

import java.net.Inet4Address;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.Lock;
import java.util.function.LongSupplier;

/**
 * The address of a host, looked up in the background: at first use, after 60 seconds, and a second after an error.
 * A host that is an IP address is never looked up.
 *
 * <p>All methods are called with the lock held, except in the background.
 */
final class Lookup {
    private static final long EVERY_NANOS = TimeUnit.SECONDS.toNanos(60);
    private static final long AFTER_ERROR_NANOS = TimeUnit.SECONDS.toNanos(1);

    /** How names become addresses: {@link InetAddress#getAllByName}, except in tests. */
    interface Resolver {
        InetAddress[] resolve(String name) throws UnknownHostException;
    }

    private final String name; // null when there is nothing to look up
    private final Resolver resolver;
    private final LongSupplier nanoTime;
    private final Lock lock;
    private final Condition ended;

    private InetAddress address;
    private boolean underWay;
    private boolean doubted;
    private boolean lookedUp;
    private long endedAt;

    Lookup(String host, Resolver resolver, LongSupplier nanoTime, Lock lock) {
        this.address = literal(host);
        this.name = address == null ? host : null;
        this.resolver = resolver;
        this.nanoTime = nanoTime;
        this.lock = lock;
        this.ended = lock.newCondition();
    }

    /**
     * The address that a text stands for by itself, or null.
     * No text gets as far as a lookup here: of those with digits and dots alone, only the full form of an IPv4 address
     * is taken, and a text with a colon is never a name to {@link InetAddress}, if it starts as an address does.
     */
    private static InetAddress literal(String host) {
        String byteOfIpv4 = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
        if (!host.matches(byteOfIpv4 + "(\\." + byteOfIpv4 + "){3}") && !host.matches("[0-9a-fA-F:][^/]*:[^/]*")) {
            return null;
        }
        try {
            return InetAddress.getByName(host);
        } catch (UnknownHostException e) {
            return null;
        }
    }

    /** Null if there is none yet. The last one stays when a later lookup fails. */
    InetAddress address() {
        return address;
    }

    boolean isName() {
        return name != null;
    }

    /** Whether the first address may be on its way. */
    boolean isAwaited() {
        return address == null && underWay;
    }

    /** Something went wrong at this address: look it up again soon. */
    void doubt() {
        doubted = true;
    }

    /** Starts a lookup if it is time for one; the end of it is told with the lock held. */
    void startIfDue(Executor background, Runnable atEnd) {
        if (name == null || underWay || !isDue()) {
            return;
        }
        underWay = true;
        boolean started = false;
        try {
            background.execute(() -> run(atEnd));
            started = true;
        } finally {
            if (!started) {
                end(null);
            }
        }
    }

    private boolean isDue() {
        long pause = address == null || doubted ? AFTER_ERROR_NANOS : EVERY_NANOS;
        return !lookedUp || nanoTime.getAsLong() - endedAt >= pause;
    }

    private void run(Runnable atEnd) {
        InetAddress found = null;
        try {
            found = preferred(resolver.resolve(name));
        } catch (UnknownHostException | RuntimeException e) {
            // There is no address, whatever the reason.
        } finally {
            lock.lock();
            try {
                end(found);
                atEnd.run();
            } finally {
                lock.unlock();
            }
        }
    }

    private void end(InetAddress found) {
        doubted = found == null;
        if (found != null) {
            address = found;
        }
        underWay = false;
        lookedUp = true;
        endedAt = nanoTime.getAsLong();
        ended.signalAll();
    }

    /** IPv4 before IPv6, because a daemon listens on 127.0.0.1 unless told otherwise. */
    private static InetAddress preferred(InetAddress[] found) {
        for (InetAddress address : found) {
            if (address instanceof Inet4Address) {
                return address;
            }
        }
        return found.length > 0 ? found[0] : null;
    }

    /** Waits for the first address; shorter if the thread is interrupted, which it stays then. */
    void await(long atMostNanos) {
        long left = atMostNanos;
        try {
            while (isAwaited() && left > 0) {
                left = ended.awaitNanos(left);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}

package dev.llmstatsd.client;

import java.util.concurrent.atomic.AtomicReferenceArray;

/**
 * Encoders to borrow, so that threads need not wait for each other and an event allocates nothing.
 *
 * <p>Not a ThreadLocal: that would keep an encoder for each of a million virtual threads,
 * and the class loader of an application that has left its server.
 */
final class Encoders {
    /** A power of two, for the threads that are in {@link Client#send} at the same moment; others make their own. */
    private static final int SLOTS = 16;

    private final AtomicReferenceArray<Encoder> free = new AtomicReferenceArray<>(SLOTS);

    Encoder borrow() {
        int start = start();
        for (int i = 0; i < SLOTS; i++) {
            Encoder encoder = free.getAndSet(start + i & SLOTS - 1, null);
            if (encoder != null) {
                return encoder;
            }
        }
        return new Encoder();
    }

    void giveBack(Encoder encoder) {
        int start = start();
        for (int i = 0; i < SLOTS; i++) {
            if (free.compareAndSet(start + i & SLOTS - 1, null, encoder)) {
                return;
            }
        }
    }

    private static int start() {
        return (int) Thread.currentThread().getId();
    }
}

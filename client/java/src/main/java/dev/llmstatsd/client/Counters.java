package dev.llmstatsd.client;

import java.util.concurrent.atomic.LongAdder;

/** The counts of {@link Stats} as threads add to them. */
final class Counters {
    private final LongAdder[] adders = new LongAdder[Count.values().length];

    Counters() {
        for (int i = 0; i < adders.length; i++) {
            adders[i] = new LongAdder();
        }
    }

    void add(Count count, long amount) {
        adders[count.ordinal()].add(amount);
    }

    Stats stats() {
        long[] counts = new long[adders.length];
        for (int i = 0; i < counts.length; i++) {
            counts[i] = adders[i].sum();
        }
        return new Stats(counts);
    }
}

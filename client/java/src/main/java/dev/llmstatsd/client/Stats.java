package dev.llmstatsd.client;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/** What became of a client's events so far. Every count only grows. */
public final class Stats {
    private final long[] counts;

    Stats(long[] counts) {
        this.counts = counts;
    }

    long get(Count count) {
        return counts[count.ordinal()];
    }

    /**
     * The events handed to the client, whether it was disabled, closed or neither.
     *
     * @return a number of events
     */
    public long events() {
        return get(Count.EVENTS);
    }

    /**
     * Fields that were out of their range, and left out of their event.
     *
     * @return a number of fields
     */
    public long refusedFields() {
        return get(Count.REFUSED_FIELDS);
    }

    /**
     * Events that came after the client was closed, of which nothing is sent.
     *
     * @return a number of events
     */
    public long closedEvents() {
        return get(Count.CLOSED_EVENTS);
    }

    /**
     * Datagrams that the kernel took.
     *
     * @return a number of datagrams
     */
    public long sentDatagrams() {
        return get(Count.SENT_DATAGRAMS);
    }

    /**
     * What {@link #sentDatagrams()} held, without headers.
     *
     * @return a number of bytes
     */
    public long sentBytes() {
        return get(Count.SENT_BYTES);
    }

    /**
     * Datagrams for which the socket's buffer had no room.
     *
     * @return a number of datagrams
     */
    public long droppedFull() {
        return get(Count.DROPPED_FULL);
    }

    /**
     * Datagrams without a destination: the name had no address, or the host or port was no valid one.
     *
     * @return a number of datagrams
     */
    public long droppedUnresolved() {
        return get(Count.DROPPED_UNRESOLVED);
    }

    /**
     * Datagrams to where nobody listened.
     * UDP tells this of an earlier datagram, if at all, so that many of those were counted as sent.
     *
     * @return a number of datagrams
     */
    public long droppedUnreachable() {
        return get(Count.DROPPED_UNREACHABLE);
    }

    /**
     * Datagrams that failed for any other reason; a unix socket, which Java has no datagrams for, is one.
     *
     * @return a number of datagrams
     */
    public long droppedError() {
        return get(Count.DROPPED_ERROR);
    }

    /**
     * All counts by the names that every client of this project gives them, for example {@code sent_datagrams}.
     *
     * @return an unmodifiable map, in the order of the methods of this class
     */
    public Map<String, Long> asMap() {
        Map<String, Long> map = new LinkedHashMap<>();
        for (Count count : Count.values()) {
            map.put(count.label, get(count));
        }
        return Collections.unmodifiableMap(map);
    }

    @Override
    public String toString() {
        return asMap().toString();
    }
}

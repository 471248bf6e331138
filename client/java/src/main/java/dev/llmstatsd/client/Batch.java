package dev.llmstatsd.client;

/** Lines of several events that are to share a datagram. */
final class Batch {
    private final byte[] bytes;
    private int length;
    private long firstLineAt;

    Batch(int maxDatagramBytes) {
        bytes = new byte[maxDatagramBytes];
    }

    boolean isEmpty() {
        return length == 0;
    }

    /** Whether lines of so many bytes fit beside those that are there. */
    boolean hasRoomFor(int more) {
        return more <= bytes.length - (length == 0 ? 0 : length + 1);
    }

    void add(byte[] lines, int from, int count, long now) {
        if (length == 0) {
            firstLineAt = now;
        } else {
            bytes[length++] = '\n';
        }
        System.arraycopy(lines, from, bytes, length, count);
        length += count;
    }

    void clear() {
        length = 0;
    }

    byte[] bytes() {
        return bytes;
    }

    int length() {
        return length;
    }

    /** In the time of {@link System#nanoTime}. */
    long firstLineAt() {
        return firstLineAt;
    }
}

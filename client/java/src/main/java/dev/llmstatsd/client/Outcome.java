package dev.llmstatsd.client;

import java.io.IOException;
import java.net.PortUnreachableException;
import java.nio.channels.ClosedChannelException;

/** What became of a datagram, and how it is counted. */
enum Outcome {
    SENT(Count.SENT_DATAGRAMS),
    FULL(Count.DROPPED_FULL),
    UNRESOLVED(Count.DROPPED_UNRESOLVED),
    /** Nobody listened to an earlier datagram, which says nothing of this one. */
    UNREACHABLE(Count.DROPPED_UNREACHABLE),
    /** The channel was closed by an interrupt of the thread that sent, which says nothing of the destination. */
    CLOSED(Count.DROPPED_ERROR),
    ERROR(Count.DROPPED_ERROR);

    /** ENOBUFS, which Java has no class for. */
    private static final String NO_BUFFERS = "No buffer space available";

    final Count count;

    Outcome(Count count) {
        this.count = count;
    }

    static Outcome of(IOException failure) {
        if (failure instanceof PortUnreachableException) {
            return UNREACHABLE;
        }
        if (failure instanceof ClosedChannelException) {
            return CLOSED;
        }
        return NO_BUFFERS.equals(failure.getMessage()) ? FULL : ERROR;
    }
}

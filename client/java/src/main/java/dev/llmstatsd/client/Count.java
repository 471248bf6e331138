package dev.llmstatsd.client;

import java.util.Locale;

/** What a client counts. The names are those of every client of this project. */
enum Count {
    EVENTS,
    REFUSED_FIELDS,
    CLOSED_EVENTS,
    SENT_DATAGRAMS,
    SENT_BYTES,
    DROPPED_FULL,
    DROPPED_UNRESOLVED,
    DROPPED_UNREACHABLE,
    DROPPED_ERROR;

    /** For example {@code sent_datagrams}. */
    final String label = name().toLowerCase(Locale.ROOT);
}

/* What the compiled intake hands to the compiled hot path, so that neither knows the other. */
#ifndef LLMSTATSD_BATCH_H
#define LLMSTATSD_BATCH_H

#include <stddef.h>

/* Bytes behind the end of a datagram that may be read, whatever they hold. */
#define LLMSTATSD_SLACK_BYTES 64

/* Name of the PyCapsule that carries a struct Feeder. */
#define LLMSTATSD_FEEDER "llmstatsd.Feeder"

struct Datagram {
    const char *data;
    size_t length;
};

struct Feeder {
    /* Takes datagrams that arrived together, without the GIL; -1 with an exception set. */
    int (*feed)(void *lane, const struct Datagram *datagrams, int count);
    void *lane;
};

#endif

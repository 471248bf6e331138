"""batch.h for Cython."""

cdef extern from "batch.h" nogil:
    const size_t SLACK_BYTES "LLMSTATSD_SLACK_BYTES"
    const char *FEEDER "LLMSTATSD_FEEDER"

    struct Datagram:
        const char *data
        size_t length

    struct Feeder:
        int (*feed)(void *lane, const Datagram *datagrams, int count) except -1 nogil
        void *lane

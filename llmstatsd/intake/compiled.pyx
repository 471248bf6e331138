# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False, embedsignature=True
"""The compiled receive loop: datagrams by recvmmsg(2), without the GIL, to a compiled hot path.

It knows nothing of lines: what takes the datagrams comes as a capsule with a struct Feeder.
"""

cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.errno cimport EAGAIN, ECONNREFUSED, EINTR, errno
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from llmstatsd.batch cimport FEEDER, Datagram, Feeder

import os

from llmstatsd.intake import copies


cdef extern from "<sys/socket.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

    struct sockaddr_storage:
        pass

    struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        int msg_flags

    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len

    int MSG_DONTWAIT
    int MSG_TRUNC
    int MSG_WAITFORONE
    int recvmmsg(int sockfd, mmsghdr *messages, unsigned int count, int flags, void *timeout)


cdef extern from "<netinet/in.h>" nogil:
    enum:
        INET6_ADDRSTRLEN


cdef extern from "intake/senders.h" nogil:
    struct Network:
        pass

    bint may_send(const sockaddr_storage *sender, const Network *networks, size_t count)
    int place_of(const sockaddr_storage *sender, char *host)


cdef extern from *:
    """
    static inline int flag_is_set(const int *flag) { return __atomic_load_n(flag, __ATOMIC_ACQUIRE); }
    static inline void flag_set(int *flag, int value) { __atomic_store_n(flag, value, __ATOMIC_RELEASE); }
    static inline void tick(uint64_t *count, uint64_t more) { __atomic_store_n(count, *count + more, __ATOMIC_RELAXED); }
    static inline void *place_load(void **place) { return __atomic_load_n(place, __ATOMIC_ACQUIRE); }
    static inline void place_store(void **place, void *value) { __atomic_store_n(place, value, __ATOMIC_RELEASE); }
    static inline uint64_t turn_load(const uint64_t *turn) { return __atomic_load_n(turn, __ATOMIC_ACQUIRE); }
    static inline void turn_store(uint64_t *turn, uint64_t value) { __atomic_store_n(turn, value, __ATOMIC_RELEASE); }
    static inline uint64_t ticks(const uint64_t *count) { return __atomic_load_n(count, __ATOMIC_RELAXED); }
    """
    bint flag_is_set(const int *flag) nogil
    void flag_set(int *flag, int value) nogil
    void tick(uint64_t *count, uint64_t more) nogil
    void *place_load(void **place) nogil
    void place_store(void **place, void *value) nogil
    uint64_t turn_load(const uint64_t *turn) nogil
    void turn_store(uint64_t *turn, uint64_t value) nogil
    uint64_t ticks(const uint64_t *count) nogil


cdef enum:
    BATCH_DATAGRAMS = 64
    SMALLEST_CHARGE = 256  # SMALLEST_BUFFER_CHARGE of sockets.py
    LIMIT_BYTES = 65535  # the largest UDP payload with its headers, RFC 768
    # Apart by more than a power of two: else all buffers would share the same lines of the cache.
    STRIDE_BYTES = 65536 + 192
    # The two limits of copies.py; the first is a power of two.
    COPIES_LIMIT = 256
    COPY_BYTES = 2048

if (COPIES_LIMIT, COPY_BYTES) != (copies.COPIES_LIMIT, copies.COPY_BYTES):
    raise ImportError("the compiled loop was built for other limits than copies.py has")

cdef struct Copy:
    sockaddr_storage sender  # of no family where it is not known
    size_t length
    char data[COPY_BYTES]


@cython.final
cdef class Receiver:
    """Reads one blocking datagram socket; `feeder` is a capsule, which outlives this.

    The socket has a receive timeout (SO_RCVTIMEO), which bounds how late `stop` is seen.
    `networks` are those that may send, as senders.py makes them, empty for all; only with some, or
    while there is room for copies, does the kernel write the senders' addresses. `may_be_long` for
    a socket whose datagrams may be over LIMIT_BYTES: such a one is refused.
    """

    cdef int _descriptor
    cdef object _capsule
    cdef void *_feeder  # a Feeder; another thread may put another one here
    cdef char *_buffers
    cdef mmsghdr _messages[BATCH_DATAGRAMS]
    cdef iovec _places[BATCH_DATAGRAMS]
    cdef Datagram _datagrams[BATCH_DATAGRAMS]
    cdef int _is_stopping
    cdef uint64_t _most
    cdef uint64_t _most_bytes
    cdef uint64_t _turns
    cdef bytes _table
    cdef const Network *_networks
    cdef size_t _network_count
    cdef bint _may_be_long
    cdef sockaddr_storage _senders[BATCH_DATAGRAMS]
    cdef bint _knows_senders
    cdef uint64_t _datagram_count
    cdef uint64_t _byte_count
    cdef uint64_t _foreign_count
    cdef uint64_t _long_count
    # A ring: the loop's thread alone writes `_copied`, and who asks by `tapped` alone `_asked`.
    cdef Copy *_copies
    cdef int _is_tapped
    cdef uint64_t _copied
    cdef uint64_t _asked

    def __cinit__(self, int descriptor, feeder, bytes networks=b"", bint may_be_long=False):
        cdef int number
        self._table = networks  # keeps the rows
        self._networks = <const Network *><const char *>networks
        self._network_count = len(networks) // sizeof(Network)
        self._may_be_long = may_be_long
        self._descriptor = descriptor
        self._capsule = feeder
        self._feeder = PyCapsule_GetPointer(feeder, FEEDER)
        # Pages that no datagram reaches are never touched, and cost nothing.
        self._buffers = <char *>malloc(BATCH_DATAGRAMS * STRIDE_BYTES)
        if self._buffers == NULL:
            raise MemoryError
        for number in range(BATCH_DATAGRAMS):
            self._places[number].iov_base = self._buffers + number * STRIDE_BYTES
            self._places[number].iov_len = LIMIT_BYTES
            self._messages[number].msg_hdr.msg_iov = &self._places[number]
            self._messages[number].msg_hdr.msg_iovlen = 1
            self._datagrams[number].data = <char *>self._places[number].iov_base

    def __dealloc__(self):
        free(self._buffers)
        free(self._copies)

    @property
    def turns(self):
        """Times the loop went round, timeouts included: it grows as long as the loop lives."""
        return ticks(&self._turns)

    def feed_to(self, feeder):
        """Feed another capsule from the next turn on; the one before is needed until that ends."""
        place_store(&self._feeder, PyCapsule_GetPointer(feeder, FEEDER))
        self._capsule = feeder

    @property
    def counts(self):
        """Datagrams handed on, their bytes, foreign ones and too long ones."""
        return (
            ticks(&self._datagram_count),
            ticks(&self._byte_count),
            ticks(&self._foreign_count),
            ticks(&self._long_count),
        )

    def tap(self, bint is_open):
        """Begin to copy what is handed on, or end that; the ring stays for the next time."""
        if is_open and not self._is_tapped:
            if self._copies == NULL:
                # Pages that no copy reaches are never touched, and cost nothing.
                self._copies = <Copy *>malloc(COPIES_LIMIT * sizeof(Copy))
                if self._copies == NULL:
                    raise MemoryError
            turn_store(&self._asked, turn_load(&self._copied))
        flag_set(&self._is_tapped, is_open)

    def tapped(self, most):
        """Some of what was copied since: bytes, at most COPY_BYTES, whether they are cut, and the
        host and port of the sender, None where they are not known.
        """
        cdef uint64_t copied = turn_load(&self._copied), asked = self._asked
        cdef uint64_t step = copies.step_for(copied - asked, most)
        cdef Copy *copy
        cdef list found = []
        while asked < copied:
            copy = &self._copies[asked % COPIES_LIMIT]
            data = (<char *>copy.data)[: min(copy.length, <size_t>COPY_BYTES)]
            found.append((data, copy.length > COPY_BYTES, place(&copy.sender)))
            asked += step
        turn_store(&self._asked, copied)
        return found

    def stop(self, uint64_t datagrams, uint64_t accounted_bytes):
        """Ask `run` to end: at most a receive timeout later, it takes what waits, and returns.

        Both bound what is taken then, to a batch, however much comes meanwhile; the bytes are those
        that the kernel accounts for.
        """
        self._most = datagrams
        self._most_bytes = accounted_bytes
        flag_set(&self._is_stopping, 1)

    def run(self):
        """Receive until `stop`; raises what the feeder raises, and OSError for a broken socket."""
        cdef int received = 0
        cdef uint64_t taken = 0
        cdef uint64_t taken_bytes = 0
        with nogil:
            while not flag_is_set(&self._is_stopping):
                self._receive(MSG_WAITFORONE)
            while taken < self._most and taken_bytes < self._most_bytes:
                received = self._receive(MSG_DONTWAIT)
                if not received:
                    break
                taken += received
                taken_bytes += self._charge(received)

    cdef int _receive(self, int flags) except -1 nogil:
        """Take a batch in and return its size: 0 after a timeout or an error of some sender's."""
        cdef int number, kept, received
        cdef uint64_t length = 0
        cdef Feeder *feeder
        cdef bint is_tapped
        cdef bint was_tapped = flag_is_set(&self._is_tapped)
        self._ask_for_senders(self._network_count != 0 or (was_tapped and self._room() > 0))
        received = recvmmsg(self._descriptor, self._messages, BATCH_DATAGRAMS, flags, NULL)
        tick(&self._turns, 1)
        if received < 0:
            if errno == EAGAIN or errno == EINTR or errno == ECONNREFUSED:
                return 0
            with gil:
                raise OSError(errno, os.strerror(errno))
        kept = received
        if self._network_count or self._may_be_long:
            kept = self._sift(received)
        else:
            for number in range(received):
                self._datagrams[number].length = self._messages[number].msg_len
        for number in range(kept):
            length += self._datagrams[number].length
        tick(&self._datagram_count, kept)
        tick(&self._byte_count, length)
        if kept:
            feeder = <Feeder *>place_load(&self._feeder)
            # Asked before: what is copied is counted after the tap was opened.
            is_tapped = flag_is_set(&self._is_tapped)
            feeder.feed(feeder.lane, self._datagrams, kept)
            # Room that came meanwhile is for batches whose senders are asked for.
            if is_tapped and (self._knows_senders or not was_tapped):
                self._copy(kept)
        return received

    cdef uint64_t _charge(self, int received) noexcept nogil:
        """The least that the kernel accounts for a batch."""
        cdef int number
        cdef uint64_t charge = 0
        for number in range(received):
            charge += self._messages[number].msg_len + SMALLEST_CHARGE
        return charge

    cdef int _room(self) noexcept nogil:
        """How many copies there is room for."""
        return COPIES_LIMIT - <int>(self._copied - turn_load(&self._asked))

    cdef void _copy(self, int kept) noexcept nogil:
        """Copy as many datagrams as there is room for; who asks is never waited for."""
        cdef uint64_t copied = self._copied
        cdef int room = self._room()
        cdef int number
        cdef Copy *copy
        for number in range(min(kept, room)):
            copy = &self._copies[(copied + number) % COPIES_LIMIT]
            if self._knows_senders:
                copy.sender = self._senders[self._place(number)]
            else:
                memset(&copy.sender, 0, sizeof(copy.sender))
            copy.length = self._datagrams[number].length
            memcpy(copy.data, self._datagrams[number].data, min(copy.length, <size_t>COPY_BYTES))
        turn_store(&self._copied, copied + min(kept, room))

    cdef int _place(self, int number) noexcept nogil:
        """Where a datagram that is handed on was among those received."""
        return <int>((self._datagrams[number].data - self._buffers) // STRIDE_BYTES)

    cdef void _ask_for_senders(self, bint wanted) noexcept nogil:
        """Where the kernel writes addresses; it overwrites their lengths each time."""
        cdef int number
        if not wanted and not self._knows_senders:
            return
        for number in range(BATCH_DATAGRAMS):
            self._messages[number].msg_hdr.msg_name = &self._senders[number] if wanted else NULL
            self._messages[number].msg_hdr.msg_namelen = sizeof(sockaddr_storage) if wanted else 0
        self._knows_senders = wanted

    cdef int _sift(self, int received) noexcept nogil:
        """Place the datagrams that may be handed on one behind the other, and give their number."""
        cdef int number, kept = 0
        for number in range(received):
            if self._network_count and not may_send(
                &self._senders[number], self._networks, self._network_count
            ):
                tick(&self._foreign_count, 1)
            elif self._messages[number].msg_hdr.msg_flags & MSG_TRUNC:
                tick(&self._long_count, 1)
            else:
                self._datagrams[kept].data = <char *>self._places[number].iov_base
                self._datagrams[kept].length = self._messages[number].msg_len
                kept += 1
        return kept


cdef place(const sockaddr_storage *sender):
    """Host and port, None of a sender that has none."""
    cdef char host[INET6_ADDRSTRLEN]
    cdef int port = place_of(sender, host)
    return None if port < 0 else ((<bytes>host).decode(), port)


@cython.final
cdef class Callback:
    """Takes datagrams as bytes, with the GIL: `feed` gets a list of those that came together."""

    cdef object _feed
    cdef Feeder _feeder

    def __cinit__(self, feed):
        self._feed = feed
        self._feeder.feed = call_back
        self._feeder.lane = <void *>self

    @property
    def feeder(self):
        """A capsule with the struct Feeder of batch.h; valid as long as this lives."""
        return PyCapsule_New(&self._feeder, FEEDER, NULL)


cdef int call_back(void *callback, const Datagram *datagrams, int count) except -1 nogil:
    cdef int number
    with gil:
        (<Callback>callback)._feed(
            [(<char *>datagrams[number].data)[: datagrams[number].length] for number in range(count)]
        )
    return 0

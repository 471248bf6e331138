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

from llmstatsd.batch cimport FEEDER, Datagram, Feeder

import os


cdef extern from "<sys/socket.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen

    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len

    int MSG_DONTWAIT
    int MSG_WAITFORONE
    int recvmmsg(int sockfd, mmsghdr *messages, unsigned int count, int flags, void *timeout)


cdef extern from *:
    """
    static inline int flag_is_set(const int *flag) { return __atomic_load_n(flag, __ATOMIC_RELAXED); }
    static inline void flag_set(int *flag) { __atomic_store_n(flag, 1, __ATOMIC_RELAXED); }
    static inline void tick(uint64_t *count) { __atomic_store_n(count, *count + 1, __ATOMIC_RELAXED); }
    static inline uint64_t ticks(const uint64_t *count) { return __atomic_load_n(count, __ATOMIC_RELAXED); }
    """
    bint flag_is_set(const int *flag) nogil
    void flag_set(int *flag) nogil
    void tick(uint64_t *count) nogil
    uint64_t ticks(const uint64_t *count) nogil


cdef enum:
    BATCH_DATAGRAMS = 64
    LIMIT_BYTES = 65535  # the largest UDP payload with its headers, RFC 768
    # Apart by more than a power of two: else all buffers would share the same lines of the cache.
    STRIDE_BYTES = 65536 + 192


@cython.final
cdef class Receiver:
    """Reads one blocking datagram socket; `feeder` is a capsule, which outlives this.

    The socket has a receive timeout (SO_RCVTIMEO), which bounds how late `stop` is seen.
    """

    cdef int _descriptor
    cdef object _capsule
    cdef Feeder *_feeder
    cdef char *_buffers
    cdef mmsghdr _messages[BATCH_DATAGRAMS]
    cdef iovec _places[BATCH_DATAGRAMS]
    cdef Datagram _datagrams[BATCH_DATAGRAMS]
    cdef int _is_stopping
    cdef uint64_t _most
    cdef uint64_t _turns

    def __cinit__(self, int descriptor, feeder):
        cdef int number
        self._descriptor = descriptor
        self._capsule = feeder
        self._feeder = <Feeder *>PyCapsule_GetPointer(feeder, FEEDER)
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

    @property
    def turns(self):
        """Times the loop went round, timeouts included: it grows as long as the loop lives."""
        return ticks(&self._turns)

    def stop(self, uint64_t waiting):
        """Ask `run` to end: at most a receive timeout later, it takes what waits, and returns.

        `waiting` bounds the datagrams taken then, however many come meanwhile.
        """
        self._most = waiting
        flag_set(&self._is_stopping)

    def run(self):
        """Receive until `stop`; raises what the feeder raises, and OSError for a broken socket."""
        cdef int received = 0
        cdef uint64_t taken = 0
        with nogil:
            while not flag_is_set(&self._is_stopping):
                self._receive(MSG_WAITFORONE)
            while taken < self._most:
                received = self._receive(MSG_DONTWAIT)
                if not received:
                    break
                taken += received

    cdef int _receive(self, int flags) except -1 nogil:
        """Take a batch in and return its size: 0 after a timeout or an error of some sender's."""
        cdef int number
        cdef int received = recvmmsg(
            self._descriptor, self._messages, BATCH_DATAGRAMS, flags, NULL
        )
        tick(&self._turns)
        for number in range(received):
            self._datagrams[number].length = self._messages[number].msg_len
        if received < 0:
            if errno == EAGAIN or errno == EINTR or errno == ECONNREFUSED:
                return 0
            with gil:
                raise OSError(errno, os.strerror(errno))
        self._feeder.feed(self._feeder.lane, self._datagrams, received)
        return received


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

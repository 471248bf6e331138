# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False, embedsignature=True
"""The compiled twin of rendering: the same bytes as `text.py`, from compiled cells.

A cell keeps its labels as they are written: one with a single number all of them in braces, a
histogram those before and behind `le`, apart by a NUL, which no label value holds.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free
from libc.math cimport rint, signbit
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcpy, strlen

from llmstatsd.exposition.text import Renderers, braces, labels_of, le_of, split_by_le
from llmstatsd.series.compiled cimport Bounds, HistogramCell, Single, total


cdef extern from "Python.h":
    int Py_DTSF_ADD_DOT_0
    char *PyOS_double_to_string(double value, char code, int precision, int flags, int *kind)


cdef double WHOLE_LIMIT = 1e15
"""Below this, a whole number is written digit by digit; repr() would write the same."""

cdef double COUNT_LIMIT = 9e18
"""Below this, a count fits an integer of 64 bits."""

cdef enum:
    NUMBER_BYTES = 32    # of any number written digit by digit
    FIRST_BYTES = 65536


cdef class _Out:
    """A growing buffer."""

    cdef char *data
    cdef size_t used
    cdef size_t room

    def __dealloc__(self):
        free(self.data)

    cdef int need(self, size_t more) except -1:
        """Make room for so many bytes more."""
        cdef size_t room
        cdef char *data
        if self.used + more > self.room:
            room = max(2 * self.room, self.used + more, <size_t>FIRST_BYTES)
            data = <char *>realloc(self.data, room)
            if data == NULL:
                raise MemoryError
            self.data = data
            self.room = room
        return 0

    cdef int text(self, const char *text, size_t length) except -1:
        self.need(length)
        memcpy(self.data + self.used, text, length)
        self.used += length
        return 0

    cdef int add(self, bytes text) except -1:
        return self.text(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))

    cdef void digits(self, uint64_t number) noexcept:
        """Write a number; there is room."""
        cdef char reversed[NUMBER_BYTES]
        cdef int length = 0
        while True:
            reversed[length] = <char>(48 + number % 10)  # b"0" is 48
            length += 1
            number //= 10
            if not number:
                break
        while length:
            length -= 1
            self.data[self.used] = reversed[length]
            self.used += 1

    cdef int number(self, double value) except -1:
        """Write a double as repr() does: the shortest text that reads back as the same."""
        cdef char *shortest
        self.need(NUMBER_BYTES)
        if 0 <= value < WHOLE_LIMIT and value == <double><uint64_t>value and not signbit(value):
            self.digits(<uint64_t>value)
            return self.text(b".0", 2)
        shortest = PyOS_double_to_string(value, b"r", 0, Py_DTSF_ADD_DOT_0, NULL)
        if shortest == NULL:
            raise MemoryError
        try:
            return self.text(shortest, strlen(shortest))
        finally:
            PyMem_Free(shortest)

    cdef int count(self, double value) except -1:
        """Write a count, rounded half to even as round() does."""
        if value >= COUNT_LIMIT:
            return self.add(str(round(value)).encode())
        self.need(NUMBER_BYTES)
        self.digits(<uint64_t>rint(value))
        return 0

    cdef bytes result(self):
        return PyBytes_FromStringAndSize(self.data, self.used)


def render_single(cells, str name):
    """The lines of cells with one number: counters, gauges and sets."""
    cdef _Out out = _Out()
    cdef Single single
    cdef bytes encoded = name.encode()
    for cell in cells:
        if not cell.rendered:
            cell.rendered = f"{braces(labels_of(cell.label_set))} ".encode()
        out.add(encoded)
        out.add(cell.rendered)
        if isinstance(cell, Single):
            single = <Single>cell
            out.number(total(single.blocks, 0))
        else:
            out.add(repr(cell.value).encode())
        out.text(b"\n", 1)
    return out.result()


cdef tuple les_of(Bounds bounds):
    """What stands between the labels of each bucket: le="0.5"."""
    if bounds.rendered is None:
        bounds.rendered = tuple([le.encode() for le in le_of(bounds.values)])
    return bounds.rendered


def render_histograms(cells, str name):
    """The lines of histograms: buckets, count and sum."""
    cdef _Out out = _Out()
    cdef bytes bucket = f"{name}_bucket{{".encode()
    cdef bytes counted = f"{name}_count".encode(), summed = f"{name}_sum".encode()
    for cell in cells:
        if not cell.rendered:
            before, after = split_by_le(labels_of(cell.label_set))
            cell.rendered = f"{','.join(before)}\0{','.join(after)}".encode()
        render_histogram(out, cell, bucket, counted, summed)
    return out.result()


cdef int render_histogram(_Out out, HistogramCell cell, bytes bucket, bytes counted,
                          bytes summed) except -1:
    cdef bytes labels = cell.rendered
    cdef const char *before = PyBytes_AS_STRING(labels)
    cdef const char *after = <const char *>memchr(before, 0, PyBytes_GET_SIZE(labels)) + 1
    cdef size_t before_length = after - before - 1
    cdef size_t after_length = PyBytes_GET_SIZE(labels) - before_length - 1
    cdef tuple les = les_of(cell._bounds)
    cdef Py_ssize_t at
    cdef double cumulative = 0.0
    for at in range(cell._bounds.size + 1):
        cumulative += total(cell.blocks, 1 + at)
        out.add(bucket)
        if before_length:
            out.text(before, before_length)
            out.text(b",", 1)
        out.add(<bytes>les[at])
        if after_length:
            out.text(b",", 1)
            out.text(after, after_length)
        out.text(b"} ", 2)
        out.count(cumulative)
        out.text(b"\n", 1)
    out.add(counted)
    all_labels(out, before, before_length, after, after_length)
    out.count(cumulative)
    out.text(b"\n", 1)
    out.add(summed)
    all_labels(out, before, before_length, after, after_length)
    out.number(total(cell.blocks, 0))
    return out.text(b"\n", 1)


cdef int all_labels(_Out out, const char *before, size_t before_length, const char *after,
                    size_t after_length) except -1:
    if before_length or after_length:
        out.text(b"{", 1)
        out.text(before, before_length)
        if before_length and after_length:
            out.text(b",", 1)
        out.text(after, after_length)
        out.text(b"}", 1)
    return out.text(b" ", 1)


RENDERERS = Renderers(render_single, render_histograms)
"""The renderers of this twin."""

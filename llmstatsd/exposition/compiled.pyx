# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False, embedsignature=True
"""The compiled twin of rendering: the same bytes as `text.py`, from compiled cells.

A cell keeps its labels as they are written: one with a single number all of them in braces, a
histogram those before and behind `le`, apart by a NUL, which no label value holds.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM
from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.math cimport rint, signbit
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcpy, strlen

from llmstatsd.exposition.text import Renderers, braces, labels_of, le_of, split_by_le
from llmstatsd.series.compiled cimport Bounds, Cell, HistogramCell, Single, total


cdef extern from "Python.h":
    PyObject *PyBytes_FromStringAndSize(const char *text, Py_ssize_t size)
    int _PyBytes_Resize(PyObject **text, Py_ssize_t size) except -1
    int Py_DTSF_ADD_DOT_0
    char *PyOS_double_to_string(double value, char code, int precision, int flags, int *kind)


cdef extern from *:
    void prefetch "__builtin_prefetch"(const void *address) nogil


cdef double WHOLE_LIMIT = 1e15
"""Below this, a whole number is written digit by digit; repr() would write the same."""

cdef double COUNT_LIMIT = 9e18
"""Below this, a count fits an integer of 64 bits."""

cdef enum:
    NUMBER_BYTES = 320   # of any number; the largest double has 309 digits before the point
    DIGITS = 20          # of the largest integer of 64 bits
    FIRST_BYTES = 65536
    AHEAD = 16           # cells whose memory is asked for before it is needed


cdef class _Out:
    """Growing bytes; `at` is where the next one goes."""

    cdef PyObject *text
    cdef char *at
    cdef size_t room

    def __cinit__(self):
        self.room = FIRST_BYTES
        self.text = PyBytes_FromStringAndSize(NULL, self.room)
        if self.text == NULL:
            raise MemoryError
        self.at = PyBytes_AS_STRING(<bytes>self.text)

    def __dealloc__(self):
        Py_XDECREF(self.text)

    cdef int need(self, size_t more) except -1:
        """Make room for so many bytes more."""
        cdef size_t used = self.used()
        if used + more > self.room:
            self.room = max(2 * self.room, used + more)
            self._resize(self.room)
            self.at = PyBytes_AS_STRING(<bytes>self.text) + used
        return 0

    cdef int expect(self, size_t cells) except -1:
        """Make room for so many cells more, which are about as long as the first was."""
        return self.need(self.used() * cells * 9 // 8)

    cdef size_t used(self):
        return self.at - PyBytes_AS_STRING(<bytes>self.text)

    cdef int _resize(self, size_t size) except -1:
        return _PyBytes_Resize(&self.text, size)

    cdef bytes result(self):
        """The bytes; nothing can be written after that."""
        self._resize(self.used())
        return <bytes>self.text


cdef inline char *put(char *at, const char *text, size_t length) noexcept nogil:
    memcpy(at, text, length)
    return at + length


cdef inline char *put_bytes(char *at, bytes text) noexcept:
    return put(at, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef inline char *put_digits(char *at, uint64_t number) noexcept nogil:
    cdef char reversed[DIGITS]
    cdef int length = 0
    while True:
        reversed[length] = <char>(48 + number % 10)  # b"0" is 48
        length += 1
        number //= 10
        if not number:
            break
    while length:
        length -= 1
        at[0] = reversed[length]
        at += 1
    return at


cdef char *put_number(char *at, double value) except NULL:
    """Write a double as repr() does: the shortest text that reads back as the same."""
    cdef char *shortest
    if 0 <= value < WHOLE_LIMIT and value == <double><uint64_t>value and not signbit(value):
        return put(put_digits(at, <uint64_t>value), b".0", 2)
    shortest = PyOS_double_to_string(value, b"r", 0, Py_DTSF_ADD_DOT_0, NULL)
    if shortest == NULL:
        raise MemoryError
    at = put(at, shortest, strlen(shortest))
    PyMem_Free(shortest)
    return at


cdef char *put_count(char *at, double value) except NULL:
    """Write a count, rounded half to even as round() does."""
    if value >= COUNT_LIMIT:
        return put_bytes(at, str(round(value)).encode())
    return put_digits(at, <uint64_t>rint(value))


cdef void look_ahead(list cells, Py_ssize_t at, Py_ssize_t end) noexcept:
    """Ask for the memory of the cells that come next: of a hundred thousand, little is cached."""
    cdef Cell cell
    if at + AHEAD < end:
        prefetch(PyList_GET_ITEM(cells, at + AHEAD))
    if at + AHEAD // 2 < end and isinstance(cells[at + AHEAD // 2], Cell):
        cell = <Cell>cells[at + AHEAD // 2]
        prefetch(<void *>cell.rendered)
        prefetch(cell.blocks)


def render_single(list cells, Py_ssize_t start, Py_ssize_t end, str name):
    """The lines of cells with one number: counters, gauges and sets."""
    cdef _Out out = _Out()
    cdef Single single
    cdef bytes encoded = name.encode(), labels, number
    cdef Py_ssize_t at
    for at in range(start, end):
        look_ahead(cells, at, end)
        cell = cells[at]
        if isinstance(cell, Single):
            single = <Single>cell
            if single.rendered is None:
                single.rendered = single_labels(single)
            labels, number = <bytes>single.rendered, None
        else:
            if not cell.rendered:
                cell.rendered = single_labels(cell)
            single, labels, number = None, cell.rendered, repr(cell.value).encode()
        out.need(len(encoded) + len(labels) + NUMBER_BYTES)
        out.at = put_bytes(put_bytes(out.at, encoded), labels)
        if single is not None:
            out.at = put_number(out.at, total(single.blocks, 0))
        else:
            out.at = put_bytes(out.at, number)
        out.at = put(out.at, b"\n", 1)
        if at == start:
            out.expect(end - start)
    return out.result()


cdef bytes single_labels(cell):
    return f"{braces(labels_of(cell.label_set))} ".encode()


cdef tuple les_of(Bounds bounds):
    """What stands between the labels of each bucket: le="0.5"."""
    if bounds.rendered is None:
        bounds.rendered = tuple([le.encode() for le in le_of(bounds.values)])
    return bounds.rendered


def render_histograms(list cells, Py_ssize_t start, Py_ssize_t end, str name):
    """The lines of histograms: buckets, count and sum."""
    cdef _Out out = _Out()
    cdef bytes bucket = f"{name}_bucket{{".encode()
    cdef bytes counted = f"{name}_count".encode(), summed = f"{name}_sum".encode()
    cdef HistogramCell cell
    cdef Py_ssize_t at
    # All cells of a series have the same bounds, and a step has a cell at least.
    cdef tuple les = les_of((<HistogramCell>cells[start])._bounds)
    cdef size_t longest_le = max(map(len, les))
    for at in range(start, end):
        look_ahead(cells, at, end)
        cell = <HistogramCell>cells[at]
        if cell.rendered is None:
            before, after = split_by_le(labels_of(cell.label_set))
            cell.rendered = f"{','.join(before)}\0{','.join(after)}".encode()
        render_histogram(out, cell, les, longest_le, bucket, counted, summed)
        if at == start:
            out.expect(end - start)
    return out.result()


cdef int render_histogram(_Out out, HistogramCell cell, tuple les, size_t longest_le, bytes bucket,
                          bytes counted, bytes summed) except -1:
    cdef bytes labels = <bytes>cell.rendered
    cdef const char *before = PyBytes_AS_STRING(labels)
    cdef const char *after = <const char *>memchr(before, 0, PyBytes_GET_SIZE(labels)) + 1
    cdef size_t before_length = after - before - 1
    cdef size_t after_length = PyBytes_GET_SIZE(labels) - before_length - 1
    cdef Py_ssize_t at
    cdef char *to
    cdef double cumulative
    out.need((cell._bounds.size + 3)
             * (len(bucket) + len(labels) + longest_le + NUMBER_BYTES))
    # The first line is put together; what comes before and behind `le` is the same in the others.
    cdef const char *head = out.at
    to = put_bytes(out.at, bucket)
    if before_length:
        to = put(put(to, before, before_length), b",", 1)
    cdef size_t head_length = to - head
    to = put_bytes(to, <bytes>les[0])
    cdef const char *tail = to
    if after_length:
        to = put(put(to, b",", 1), after, after_length)
    to = put(to, b"} ", 2)
    cdef size_t tail_length = to - tail
    cumulative = total(cell.blocks, 1)
    to = put(put_count(to, cumulative), b"\n", 1)
    for at in range(1, cell._bounds.size + 1):
        cumulative += total(cell.blocks, 1 + at)
        to = put_bytes(put(to, head, head_length), <bytes>les[at])
        to = put(put_count(put(to, tail, tail_length), cumulative), b"\n", 1)
    to = put_labels(put_bytes(to, counted), before, before_length, after, after_length)
    to = put(put_count(to, cumulative), b"\n", 1)
    to = put_labels(put_bytes(to, summed), before, before_length, after, after_length)
    out.at = put(put_number(to, total(cell.blocks, 0)), b"\n", 1)
    return 0


cdef char *put_labels(char *at, const char *before, size_t before_length, const char *after,
                      size_t after_length) noexcept:
    if before_length or after_length:
        at = put(put(at, b"{", 1), before, before_length)
        if before_length and after_length:
            at = put(at, b",", 1)
        at = put(put(at, after, after_length), b"}", 1)
    return put(at, b" ", 1)


RENDERERS = Renderers(render_single, render_histograms)
"""The renderers of this twin."""

"""What the other compiled modules may touch of a cell."""

cdef extern from "series/scan.h" nogil:
    ctypedef struct Edges "struct scan_bounds":
        size_t count

cdef struct Block:
    Block *next
    int lane
    char touched
    double values[1]

cdef class Cell:
    cdef readonly object label_set
    cdef public object rendered
    cdef public double seen
    cdef public bint kept
    cdef bint _is_touched
    cdef Block *blocks

cdef class Single(Cell):
    pass

cdef class Bounds:
    cdef readonly tuple values
    cdef public object rendered
    cdef Edges *edges
    cdef Py_ssize_t size

cdef class HistogramCell(Cell):
    cdef Bounds _bounds

cdef double total(Block *blocks, Py_ssize_t at) noexcept nogil

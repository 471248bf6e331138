# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False, embedsignature=True
"""The compiled twin of the cells and of the hot path: same numbers, same counts, bit by bit.

A `Lane` is one hot path: its cache, its counts, and `feed`, which works without the GIL until a
line needs the slow path. Nothing about meaning is decided here: a line is taken only if the slow
path has resolved its (name, suffix) before, and its numbers are of the wire's grammar.

Who writes what: each thread adds to a block of its own in a cell, so no lane waits for another.
The structure of a cache changes only with the GIL and with the lane's mutex held; the lane itself
holds the mutex for one batch, without the GIL, and then only reads that structure. Whoever has the
GIL holds the mutex for a few instructions, and never waits for anything meanwhile.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcpy, memset

from llmstatsd.batch cimport FEEDER, SLACK_BYTES, Datagram, Feeder

from llmstatsd.series.cache import KEY_LENGTH_LIMIT as _KEY_LENGTH_LIMIT
from llmstatsd.series.instruments import Instruments
from llmstatsd.series.naming import VALUE_LENGTH_LIMIT as _VALUE_LENGTH_LIMIT
from llmstatsd.series.route import Route
from llmstatsd.series.slowpath import LineStats, SlowPath
from llmstatsd.wire.number import MAGNITUDE_LIMIT as _MAGNITUDE_LIMIT
from llmstatsd.wire.reasons import NOTES
from llmstatsd.wire.statsd import (
    COUNTER,
    DISTRIBUTION,
    GAUGE,
    HISTOGRAM,
    MILLISECONDS_PER_SECOND,
    TIMER,
    Meaning,
)


cdef extern from "series/scan.h" nogil:
    ctypedef struct locale_t:
        pass
    int LC_ALL_MASK
    locale_t newlocale(int mask, const char *name, locale_t base)
    int here_get()
    void here_set(int lane)
    double number_load(const double *at)
    void number_store(double *at, double value)
    void number_add(double *at, double amount)
    void number_add_shared(double *at, double amount)
    void number_absorb(double *at, const double *is_set, double value)
    void flag_store(char *at, char value)
    char flag_load(const char *at)
    const char *find_mark(const char *at, const char *end)
    const char *find_feed(const char *at, const char *end)
    uint64_t hash_key(const char *name, size_t name_length, const char *suffix,
                      size_t suffix_length, uint64_t seed)
    enum: PART_LENGTH
    enum: PART_PLACES
    size_t place_by_parts(const char *name, size_t name_length, const char *suffix,
                          size_t suffix_length)
    bint same_text(const char *text, const char *key, size_t length)
    const char *read_plain(const char *at, const char *end, double *value)
    bint is_plain_text(const char *at, size_t length)
    bint read_number(const char *at, const char *end, locale_t c_locale, double *value)
    Edges *bounds_new(const double *values, size_t count)
    size_t bucket_of(const Edges *bounds, double value)


cdef extern from "Python.h":
    const char *PyUnicode_1BYTE_DATA(object text)
    int PyUnicode_KIND(object text)
    const int PyUnicode_1BYTE_KIND


cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)


cdef double MAGNITUDE_LIMIT = _MAGNITUDE_LIMIT
cdef Py_ssize_t KEY_LENGTH_LIMIT = _KEY_LENGTH_LIMIT
cdef Py_ssize_t VALUE_LENGTH_LIMIT = _VALUE_LENGTH_LIMIT
cdef locale_t C_LOCALE = newlocale(LC_ALL_MASK, b"C", <locale_t>NULL)

SLACK = (b"#:1|," * SLACK_BYTES)[:SLACK_BYTES]
"""Behind a datagram stands what an earlier one has left: whoever reads it as its own shall show."""

cdef int SHARED = -1
"""The lane number of a gauge's block, which every thread writes."""

cdef enum:
    # of a gauge's block: the value, then whether it was ever set
    IS_SET = 1
    GAUGE_WIDTH = 2


# Cells


cdef Block *new_block(Block *next, int lane, Py_ssize_t width) except NULL:
    cdef Block *block = <Block *>calloc(1, sizeof(Block) + (width - 1) * sizeof(double))
    if block == NULL:
        raise MemoryError
    block.next = next
    block.lane = lane
    return block


cdef Block *block_of(Block **blocks, int lane, Py_ssize_t width) except NULL:
    """The block of a lane in a cell, made if need be; with the GIL."""
    cdef Block *block = blocks[0]
    while block != NULL and block.lane != lane:
        block = block.next
    if block == NULL:
        block = blocks[0] = new_block(blocks[0], lane, width)
    return block


cdef void free_blocks(Block *block) noexcept:
    cdef Block *following
    while block != NULL:
        following = block.next
        free(block)
        block = following


cdef bint any_touched(Block *block) noexcept:
    while block != NULL:
        if flag_load(&block.touched):
            return True
        block = block.next
    return False


cdef void set_touched(Block *block, char value) noexcept:
    while block != NULL:
        flag_store(&block.touched, value)
        block = block.next


cdef double total(Block *blocks, Py_ssize_t at) noexcept nogil:
    """The sum of what all lanes have at this place of a cell."""
    cdef double value
    if blocks == NULL:
        return 0.0
    value = number_load(&blocks.values[at])  # of a gauge, which has but one, -0.0 too
    while blocks.next != NULL:
        blocks = blocks.next
        value += number_load(&blocks.values[at])
    return value


cdef inline void count(Block *block, const Edges *edges, double value,
                       double weight) noexcept nogil:
    """One observation in the unit of the series, which stands for `weight` of them."""
    number_add(&block.values[1 + bucket_of(edges, value)], weight)
    number_add(&block.values[0], value * weight)
    flag_store(&block.touched, 1)


cdef inline void set_gauge(Block *block, double value) noexcept nogil:
    # The mark first: who sees none in `absorb` then sees whether the value has changed.
    number_store(&block.values[IS_SET], 1.0)
    number_store(&block.values[0], value)
    flag_store(&block.touched, 1)


@cython.no_gc
cdef class Cell:
    """What all cells share; the label set is the last argument of each."""

    def __cinit__(self, *arguments):
        self.label_set = arguments[len(arguments) - 1]
        self._is_touched = True

    def __dealloc__(self):
        free_blocks(self.blocks)

    @property
    def touched(self):
        """Whether a value arrived since this was set to False."""
        return self._is_touched or any_touched(self.blocks)

    @touched.setter
    def touched(self, bint value):
        set_touched(self.blocks, 0)
        self._is_touched = value


@cython.no_gc
cdef class Single(Cell):
    """A cell with one number."""

    @property
    def value(self):
        """The number, of all lanes together."""
        return total(self.blocks, 0)


@cython.final
@cython.no_gc
cdef class CounterCell(Single):
    """A sum that only grows."""

    def add(self, double amount):
        """Add a non-negative amount."""
        cdef Block *block = block_of(&self.blocks, here_get(), 1)
        number_add(&block.values[0], amount)
        flag_store(&block.touched, 1)


@cython.final
@cython.no_gc
cdef class GaugeCell(Single):
    """The last value, or the sum of changes since."""

    def __cinit__(self, label_set):
        self.blocks = new_block(NULL, SHARED, GAUGE_WIDTH)

    def set(self, double value):
        """Take the value as it is."""
        set_gauge(self.blocks, value)

    def change(self, double amount):
        """Add a positive or negative amount."""
        number_add_shared(&self.blocks.values[0], amount)
        flag_store(&self.blocks.touched, 1)

    def absorb(self, double value):
        """Begin at a value from before: changes since then are added, what was set stands."""
        cdef Block *block = self.blocks
        if number_load(&block.values[IS_SET]) == 0.0:
            number_absorb(&block.values[0], &block.values[IS_SET], value)
            number_store(&block.values[IS_SET], 1.0)
        flag_store(&block.touched, 1)


@cython.final
@cython.no_gc
cdef class Bounds:
    """The finite upper bounds of buckets, ascending, which all cells of a series share."""

    def __cinit__(self, values):
        self.values = tuple(values)
        self.size = len(self.values)
        cdef double *numbers = <double *>malloc((self.size + 1) * sizeof(double))
        if numbers == NULL:
            raise MemoryError
        for number, bound in enumerate(self.values):
            numbers[number] = bound
        self.edges = bounds_new(numbers, self.size)
        free(numbers)
        if self.edges == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.edges)


@cython.final
@cython.no_gc
cdef class HistogramCell(Cell):
    """Counts per bucket and the sum of observations, in the unit of the series.

    `bounds` are Bounds, or numbers to make some of. A block holds the sum, then the counts.
    """

    def __cinit__(self, bounds, label_set):
        self._bounds = bounds if isinstance(bounds, Bounds) else Bounds(bounds)

    @property
    def bounds(self):
        """The finite upper bounds, ascending and inclusive."""
        return self._bounds.values

    @property
    def counts(self):
        """Observations per bucket, not cumulative; whole numbers unless a weight was none."""
        numbers = [total(self.blocks, 1 + at) for at in range(self._bounds.size + 1)]
        is_whole = all([number.is_integer() for number in numbers])
        return [int(number) for number in numbers] if is_whole else numbers

    @property
    def sum(self):
        """The sum of observations."""
        return total(self.blocks, 0)

    def observe(self, double value):
        """One observation."""
        self.observe_weighted(value, 1.0)

    def observe_milliseconds(self, double value):
        """One observation in milliseconds for a series in seconds."""
        self.observe_weighted(value / SECOND, 1.0)

    def observe_weighted(self, double value, double weight):
        """An observation that stands for `weight` of them (1 / sampling rate)."""
        cdef Block *block = block_of(&self.blocks, here_get(), self._bounds.size + 2)
        count(block, self._bounds.edges, value, weight)

    def absorb(self, counts, double total):
        """Add observations from before: as many counts as there are here, and their sum."""
        cdef Block *block = block_of(&self.blocks, here_get(), self._bounds.size + 2)
        cdef double number
        cdef Py_ssize_t at
        for at in range(self._bounds.size + 1):
            number = counts[at]
            number_add(&block.values[1 + at], number)
        number_add(&block.values[0], total)
        flag_store(&block.touched, 1)


INSTRUMENTS = Instruments(CounterCell, GaugeCell, HistogramCell, Bounds)
"""The cells of this twin."""


# Cache


cdef enum Kind:
    COUNTS
    OBSERVES_MILLISECONDS
    OBSERVES
    OBSERVES_DISTRIBUTION
    SETS

_TYPES = (COUNTER, TIMER, HISTOGRAM, DISTRIBUTION, GAUGE)
"""The wire's types in the order of Kind."""

cdef double SECOND = MILLISECONDS_PER_SECOND


cdef struct Folded:
    PyObject *fold
    uint64_t samples  # not yet counted
    Folded *before    # in the list of those that have such samples
    Folded *after


cdef struct Entry:
    char *key         # the name, then the suffix
    Entry *next       # of the line that came after one of this entry's; or any entry
    Block *block
    const Edges *edges
    double weight
    uint32_t name_length    # or NO_LENGTH
    uint16_t suffix_length
    uint8_t kind
    uint8_t notes     # a bit for each of NOTES
    bint is_noted     # whether there is anything to count but the line
    Folded *folded    # NULL unless a budget sent it into `other`
    PyObject *cell
    uint64_t hash
    uint32_t turn     # its number in the order of eviction


cdef struct Counts:
    uint64_t datagrams
    uint64_t bytes
    uint64_t lines
    uint64_t more_samples  # than one a line
    uint64_t notes[8]


cdef struct Waiting:
    Entry *entry
    double value


cdef struct Left:
    const char *at
    size_t length
    int datagram
    bint is_whole     # a whole datagram, which begins with `{`


cdef enum:
    LEFT_LIMIT = 1024    # lines left to the slow path in one go
    WAITING_LIMIT = 64   # values read and not yet added
    FIRST_PLACES = 256
    SLAB_ENTRIES = 64
    FOLDINGS_LIMIT = 1024  # kept; one more, and all are forgotten
    TAGS_LIMIT = 8         # looked at to find the one that folds
    NO_LENGTH = 0x7fffffff   # of an entry that is unused: no datagram is as long
    SCRATCH_BYTES = 2048  # more than the longest key, with room behind both of its parts
    STEP_ENTRIES = 1000  # looked at in one step of forgetting: about a tenth of a millisecond


cdef struct Hot:
    # What a lane needs without the GIL.
    pthread_mutex_t mutex
    Counts counts
    bint signs_are_steps
    uint64_t seed
    Entry **places    # a hash table of a power of two places, at most half of them taken
    size_t mask
    size_t entries
    Folded *folded    # those with samples that are not yet counted
    Entry nobody      # stands for what came before the first line
    Entry *last       # of the last line taken
    Entry *recent[PART_PLACES]  # found before; pairs that are alike in some parts share a place
    Left left[LEFT_LIMIT]
    int left_count
    int left_of       # the datagram of the last line that was left to the slow path
    int datagram      # where a pass over a batch stands
    const char *at    # in that datagram; NULL at its beginning
    PyObject *lane    # which owns this


cdef Entry *look_up(const Hot *hot, const char *name, size_t name_length, const char *suffix,
                    size_t suffix_length) noexcept nogil:
    cdef uint64_t hash = hash_key(name, name_length, suffix, suffix_length, hot.seed)
    cdef size_t at = hash & hot.mask
    cdef Entry *entry = hot.places[at]
    while entry != NULL:
        if (
            entry.hash == hash
            and entry.name_length == name_length
            and entry.suffix_length == suffix_length
            and same_text(name, entry.key, name_length)
            and same_text(suffix, entry.key + name_length, suffix_length)
        ):
            return entry
        at = (at + 1) & hot.mask
        entry = hot.places[at]
    return NULL


cdef Entry *find(Hot *hot, const char *name, size_t name_length, const char *suffix,
                 size_t suffix_length) noexcept nogil:
    """As `look_up`, which is not asked for most of the pairs that were found not long ago."""
    cdef Entry **recent
    cdef Entry *entry
    if name_length < PART_LENGTH or suffix_length < PART_LENGTH:
        return look_up(hot, name, name_length, suffix, suffix_length)
    recent = &hot.recent[place_by_parts(name, name_length, suffix, suffix_length)]
    entry = recent[0]
    if (
        entry != NULL
        and entry.name_length == name_length
        and entry.suffix_length == suffix_length
        and same_text(name, entry.key, name_length)
        and same_text(suffix, entry.key + name_length, suffix_length)
    ):
        return entry
    entry = look_up(hot, name, name_length, suffix, suffix_length)
    if entry != NULL:
        recent[0] = entry
    return entry


cdef void insert(Entry **places, size_t mask, Entry *entry) noexcept nogil:
    cdef size_t at = entry.hash & mask
    while places[at] != NULL:
        at = (at + 1) & mask
    places[at] = entry


cdef void remove(Entry **places, size_t mask, const Entry *entry) noexcept nogil:
    """Take an entry out, and move those behind it that it kept from their place."""
    cdef size_t gap = entry.hash & mask, at
    while places[gap] != entry:
        gap = (gap + 1) & mask
    at = (gap + 1) & mask
    while places[at] != NULL:
        if ((at - places[at].hash) & mask) >= ((at - gap) & mask):
            places[gap] = places[at]
            gap = at
        at = (at + 1) & mask
    places[gap] = NULL


cdef void add_samples(Hot *hot, Folded *folded, uint64_t samples) noexcept nogil:
    if not folded.samples:
        folded.before = NULL
        folded.after = hot.folded
        if hot.folded != NULL:
            hot.folded.before = folded
        hot.folded = folded
    folded.samples += samples


cdef uint64_t take_samples(Hot *hot, Folded *folded) noexcept nogil:
    """The samples that are not yet counted, which the caller then counts."""
    cdef uint64_t samples = folded.samples if folded != NULL else 0
    if not samples:
        return 0
    if folded.before != NULL:
        folded.before.after = folded.after
    else:
        hot.folded = folded.after
    if folded.after != NULL:
        folded.after.before = folded.before
    folded.samples = 0
    return samples


# Hot path


cdef inline void apply(Entry *entry, double value, bint is_step) noexcept nogil:
    cdef Block *block = entry.block
    if entry.kind == COUNTS:
        number_add(&block.values[0], value * entry.weight)
        flag_store(&block.touched, 1)
    elif entry.kind != SETS:
        if entry.kind == OBSERVES_MILLISECONDS:
            value /= SECOND
        count(block, entry.edges, value, entry.weight)
    else:
        if is_step:
            number_add_shared(&block.values[0], value)
            flag_store(&block.touched, 1)
        else:
            set_gauge(block, value)


cdef void apply_all(Hot *hot, const Waiting *waiting, size_t count) noexcept nogil:
    """Add the values of as many lines."""
    cdef size_t at
    for at in range(count):
        apply(waiting[at].entry, waiting[at].value, False)
        if waiting[at].entry.is_noted:
            note(hot, waiting[at].entry, 1)
    hot.counts.lines += count


cdef void note(Hot *hot, Entry *entry, uint64_t samples) noexcept nogil:
    """Count what else there is to count of a line that was taken."""
    cdef int note
    for note in range(8):
        hot.counts.notes[note] += entry.notes >> note & 1
    if entry.folded != NULL:
        add_samples(hot, entry.folded, samples)


cdef bint is_right(const Entry *entry, double value) noexcept nogil:
    """Whether a number of the grammar is one that the slow path would take for this type."""
    return value <= MAGNITUDE_LIMIT and value >= (-MAGNITUDE_LIMIT if entry.kind == SETS else 0.0)


cdef const char *end_of_piece(const char *at, const char *end) noexcept nogil:
    while at < end and at[0] != b":":
        at += 1
    return at


cdef bint take_values(Hot *hot, Entry *entry, const char *start, const char *end) noexcept nogil:
    """Values of any form, packed ones too; all are taken, or none when one of them is wrong."""
    cdef double value
    cdef uint64_t samples = 0
    cdef const char *at = start
    cdef const char *stop
    while at <= end:
        stop = end_of_piece(at, end)
        if stop > at:
            if not read_number(at, stop, C_LOCALE, &value) or not is_right(entry, value):
                return False
            samples += 1
        at = stop + 1
    if not samples:
        return False
    at = start
    while at <= end:
        stop = end_of_piece(at, end)
        if stop > at:
            read_number(at, stop, C_LOCALE, &value)
            apply(entry, value, hot.signs_are_steps and (at[0] == b"+" or at[0] == b"-"))
        at = stop + 1
    hot.counts.lines += 1
    hot.counts.more_samples += samples - 1
    if entry.is_noted:
        note(hot, entry, samples)
    return True


cdef inline bint may_take(const Hot *hot, const Entry *entry) noexcept nogil:
    """Whether a line of this entry, or of none, may be taken now."""
    # Of a gauge, what came before it comes first.
    return entry != NULL and (entry.kind != SETS or not hot.left_count)


cdef bint take_packed(Hot *hot, const char *name, const char *colon, const char *end,
                      const char **feed) noexcept nogil:
    """Take a line whose value has another form; `feed` is set to its end."""
    cdef const char *pipe = colon
    if colon == end or colon[0] != b":":
        feed[0] = find_feed(colon, end)
        return False
    while pipe < end and pipe[0] == b":":
        pipe = find_mark(pipe + 1, end)
    feed[0] = find_feed(pipe, end)
    if pipe == end or pipe[0] != b"|":
        return False
    cdef Entry *entry = look_up(hot, name, colon - name, pipe + 1, feed[0] - pipe - 1)
    return may_take(hot, entry) and take_values(hot, entry, colon + 1, pipe)


cdef void leave(Hot *hot, const char *at, size_t length, bint is_whole) noexcept nogil:
    cdef Left *left = &hot.left[hot.left_count]
    left.at = at
    left.length = length
    left.datagram = hot.datagram
    left.is_whole = is_whole
    hot.left_count += 1


cdef bint begins_with_brace(const char *at, const char *end) noexcept nogil:
    while at < end and (at[0] == b" " or b"\t" <= at[0] <= b"\r"):
        at += 1
    return at < end and at[0] == b"{"


cdef void take_lines(Hot *hot, const char *end) noexcept nogil:
    """Lines from where the pass stands to the end of the datagram, or until `left` is full.

    A processor works on some hundred instructions at once, and to read a line and to add its value
    are two long chains of them. So values wait for the end of the datagram, in their turn, and
    several lines of each chain are under way at a time.
    """
    #   name:value|suffix
    cdef const char *at = hot.at
    cdef const char *colon
    cdef const char *pipe
    cdef const char *feed = NULL
    cdef Entry *entry
    cdef Entry *last = hot.last
    cdef double value = 0.0
    cdef Waiting waiting[WAITING_LIMIT]
    cdef size_t count = 0
    while at < end:
        if at[0] == b"\n":
            at += 1
            continue
        entry = last.next  # a guess: what followed the last line before follows again
        colon = at + entry.name_length
        if (
            end - at > entry.name_length
            and colon[0] == b":"
            and same_text(at, entry.key, entry.name_length)
        ):
            pipe = read_plain(colon + 1, end, &value)
            feed = pipe + 1 + entry.suffix_length
            if (
                pipe == NULL
                or feed > end
                or (feed < end and feed[0] != b"\n")
                or not same_text(pipe + 1, entry.key + entry.name_length, entry.suffix_length)
            ):
                entry = NULL
        else:
            entry = NULL
            colon = find_mark(at, end)
            pipe = NULL
            if colon < end and colon[0] == b":":
                pipe = read_plain(colon + 1, end, &value)
        if entry == NULL and pipe != NULL and pipe < end:
            feed = find_feed(pipe + 1, end)
            entry = find(hot, at, colon - at, pipe + 1, feed - pipe - 1)
            if entry != NULL:
                last.next = entry
        if may_take(hot, entry):
            waiting[count].entry = entry
            waiting[count].value = value
            count += 1
            if count == WAITING_LIMIT:
                apply_all(hot, waiting, count)
                count = 0
            last = entry
        else:
            if hot.left_count == LEFT_LIMIT:
                break
            if pipe == NULL or pipe >= end:
                apply_all(hot, waiting, count)
                count = 0
                if not take_packed(hot, at, colon, end, &feed):
                    leave(hot, at, feed - at, False)
            else:
                leave(hot, at, feed - at, False)
        at = feed + 1
    apply_all(hot, waiting, count)
    hot.last = last
    hot.at = at if at < end else NULL


cdef bint take_batch(Hot *hot, const Datagram *datagrams, int count) noexcept nogil:
    """Go on with a batch until it is over, which is the result, or `left` is full."""
    cdef const Datagram *datagram
    while hot.datagram < count:
        if hot.left_count == LEFT_LIMIT:
            return False
        datagram = &datagrams[hot.datagram]
        if hot.at == NULL:
            hot.counts.datagrams += 1
            hot.counts.bytes += datagram.length
            if begins_with_brace(datagram.data, datagram.data + datagram.length):
                leave(hot, datagram.data, datagram.length, True)
                hot.datagram += 1
                continue
            hot.at = datagram.data
        take_lines(hot, datagram.data + datagram.length)
        if hot.at != NULL:
            return False
        hot.datagram += 1
    return True


cdef int feed_batch(void *state, const Datagram *datagrams, int count) except -1 nogil:
    """Take in datagrams that arrived together; what a pass leaves goes to the slow path."""
    cdef Hot *hot = <Hot *>state
    cdef bint is_over = False
    hot.datagram = 0
    hot.left_of = -1
    hot.left_count = 0  # an error may have left some of a batch that is gone
    hot.at = NULL
    while not is_over:
        pthread_mutex_lock(&hot.mutex)
        is_over = take_batch(hot, datagrams, count)
        pthread_mutex_unlock(&hot.mutex)
        if hot.left_count:
            with gil:
                (<Lane>hot.lane)._take_slowly()
    return 0


# Values that fold


@cython.final
@cython.no_gc
cdef class Folding:
    """Where the values of lines go that differ in one folded tag alone; see slowpath.Folding."""

    cdef Entry entry   # how to add; it is in no table
    cdef object same
    cdef object route  # whose cell owns the block


cdef bytes folding_key(const char *name, size_t name_length, const char *before,
                       size_t before_length, const char *after, size_t after_length):
    """What a line is but for its value and the value of one tag.

    A name holds no `:`, and the suffix of a line that is kept no NUL, so that no two are alike.
    """
    cdef bytes key = PyBytes_FromStringAndSize(NULL, name_length + before_length + after_length + 2)
    cdef char *to = PyBytes_AS_STRING(key)
    memcpy(to, name, name_length)
    to += name_length
    to[0] = b":"
    memcpy(to + 1, before, before_length)
    to += 1 + before_length
    to[0] = 0
    memcpy(to + 1, after, after_length)
    return key


cdef struct Turn:
    Entry *entry      # NULL when it was forgotten
    PyObject *apart   # key and route of one that is kept apart, or NULL


@cython.final
cdef class Lane:
    """One compiled hot path over a store; `number` is 1 or more, and no other lane's.

    The cache keeps at most `cache_entries` routes; each new one beyond that evicts the oldest.
    Routes of numbers are in a hash table, those of sets and events apart in a dict.
    One thread at a time feeds a lane.
    """

    cdef readonly int number
    cdef readonly Py_ssize_t limit
    cdef object _gate
    cdef object _stop_growing
    cdef object _slow
    cdef dict _apart
    cdef dict _foldings    # at most FOLDINGS_LIMIT, as long as no label set leaves
    cdef object _store_stats
    cdef object _foldings_expired
    cdef Hot _hot
    cdef Feeder _feeder
    # entries are never given back while the lane lives, so that a `next` always points to one
    cdef Entry **_slabs
    cdef size_t _slab_count
    cdef Entry *_unused
    # the order of eviction: a ring of a power of two turns
    cdef Turn *_turns
    cdef uint32_t _turns_mask
    cdef uint32_t _oldest
    cdef uint32_t _newest

    def __cinit__(self, store, dialect, Py_ssize_t cache_entries, int number=1):
        self.number = number
        self.limit = cache_entries
        self._gate = store.gate
        self._stop_growing = store.stop_growing
        self._apart = {}
        self._foldings = {}
        self._store_stats = store.stats
        # str hashes differ from process to process, so nobody can choose keys that collide.
        self._hot.seed = <uint64_t><Py_ssize_t>hash("llmstatsd")
        self._hot.signs_are_steps = not dialect.absolute_signed_gauges
        self._hot.places = <Entry **>calloc(FIRST_PLACES, sizeof(Entry *))
        self._turns = <Turn *>calloc(FIRST_PLACES, sizeof(Turn))
        if self._hot.places == NULL or self._turns == NULL:
            raise MemoryError
        self._hot.mask = self._turns_mask = FIRST_PLACES - 1
        self._hot.nobody.name_length = NO_LENGTH
        self._hot.nobody.next = &self._hot.nobody
        self._hot.last = &self._hot.nobody
        self._hot.lane = <PyObject *>self
        pthread_mutex_init(&self._hot.mutex, NULL)
        self._feeder.feed = feed_batch
        self._feeder.lane = &self._hot

    def __init__(self, store, dialect, cache_entries, number=1):
        self._slow = SlowPath(store, dialect, self, LineStats(), self._keep_folding)

    def __dealloc__(self):
        cdef Turn *turn
        while self._turns != NULL and self._oldest != self._newest:
            turn = &self._turns[self._oldest & self._turns_mask]
            if turn.entry != NULL:
                free(turn.entry.key)
                give_up(turn.entry)
            if turn.apart != NULL:
                Py_DECREF(<object>turn.apart)
            self._oldest += 1
        free(self._turns)
        free(self._hot.places)
        while self._slab_count:
            self._slab_count -= 1
            free(self._slabs[self._slab_count])
        free(self._slabs)
        pthread_mutex_destroy(&self._hot.mutex)

    def __len__(self):
        return self._hot.entries + len(self._apart)

    @property
    def feeder(self):
        """A capsule with the struct Feeder of batch.h; valid as long as this lane lives."""
        return PyCapsule_New(&self._feeder, FEEDER, NULL)

    @property
    def stats(self):
        """The ladder of this lane so far, as LineStats."""
        cdef Counts counts
        pthread_mutex_lock(&self._hot.mutex)
        counts = self._hot.counts
        pthread_mutex_unlock(&self._hot.mutex)
        slow = self._slow.stats
        notes = {note: n + counts.notes[at] for at, (note, n) in enumerate(slow.notes.items())}
        return LineStats(
            datagrams=counts.datagrams,
            bytes=counts.bytes,
            plain_lines=counts.lines,
            plain_samples=counts.lines + counts.more_samples,
            other_lines=slow.other_lines,
            other_samples=slow.other_samples,
            cache_misses=slow.cache_misses,
            refused=slow.refused.copy(),
            set_aside=slow.set_aside.copy(),
            notes=notes,
            refused_lines=slow.refused_lines.copy(),
        )

    # the cache

    def get(self, key):
        """The route of a key, or None if it has to be resolved."""
        cdef Entry *entry = NULL if isinstance(key, Meaning) else self._find(key[0], key[1])
        if entry == NULL:
            return self._apart.get(key)
        notes = tuple([note for at, note in enumerate(NOTES) if entry.notes >> at & 1])
        fold = <object>entry.folded.fold if entry.folded != NULL else None
        return Route(_TYPES[entry.kind], <object>entry.cell, entry.weight, notes, fold)

    def keep(self, key, route):
        """Remember a route that is not in the cache, unless its key is too long."""
        cdef Entry *entry = NULL
        cdef tuple apart = (key, route)
        if length_of(key) > KEY_LENGTH_LIMIT:
            return
        self._make_room()  # all that may fail comes before anything is kept
        if not isinstance(key, Meaning):
            entry = self._new_entry(key[0].encode("latin-1"), key[1].encode("latin-1"), route)
        if entry == NULL:
            self._apart[key] = route
        self._remember(entry, apart)
        if self._newest - self._oldest > self.limit:
            self._evict()

    def forget_cells(self, ids):
        """Drop the routes to the cells of these `id()`s, in short steps."""
        return self._forget(ids, lambda route: id(route.cell) in ids)

    def forget_folded(self):
        """Drop the routes into `other`, in short steps."""
        return self._forget(None, lambda route: route.is_folded)

    def settle(self):
        """Count the folded samples that are not counted yet, while the store's gate is held."""
        cdef Folded *folded
        cdef uint64_t samples
        while True:
            pthread_mutex_lock(&self._hot.mutex)
            folded = self._hot.folded
            samples = take_samples(&self._hot, folded)
            pthread_mutex_unlock(&self._hot.mutex)
            if not samples:
                return
            (<object>folded.fold).count(samples)

    def _forget(self, ids, is_stale):
        for key in [key for key, route in self._apart.items() if is_stale(route)]:
            self._apart.pop(key, None)
        yield
        turn = self._oldest
        while turn is not None:
            turn = self._forget_some(turn, ids)
            yield

    def _forget_some(self, uint32_t turn, ids):
        """One step; the turn where the next begins, or None. Without `ids`, folded ones go."""
        cdef Entry *entry
        cdef int looked
        if <int32_t>(turn - self._oldest) < 0:
            turn = self._oldest  # evicted meanwhile
        for looked in range(STEP_ENTRIES):
            if turn == self._newest:
                return None
            entry = self._turns[turn & self._turns_mask].entry
            if entry != NULL and (
                entry.folded != NULL if ids is None else <size_t>entry.cell in ids
            ):
                self._drop(entry)
            turn += 1
        return turn

    cdef Entry *_find(self, str name, str suffix) except? NULL:
        # One character per byte, and room behind it for what may be read there.
        cdef size_t name_length = len(name), suffix_length = len(suffix)
        cdef char text[SCRATCH_BYTES]
        cdef char *tail = text + name_length + SLACK_BYTES
        if name_length + suffix_length > KEY_LENGTH_LIMIT or not is_bytes(name, suffix):
            return NULL
        memcpy(text, PyUnicode_1BYTE_DATA(name), name_length)
        memcpy(tail, PyUnicode_1BYTE_DATA(suffix), suffix_length)
        return look_up(&self._hot, text, name_length, tail, suffix_length)

    cdef Entry *_new_entry(self, bytes name, bytes suffix, route) except? NULL:
        """An entry for a route that adds numbers to a cell of this twin; NULL for any other."""
        cdef size_t name_length = len(name), suffix_length = len(suffix)
        cdef object cell = route.cell
        if route.kind not in _TYPES or not isinstance(cell, (Single, HistogramCell)):
            return NULL
        cdef bytes padded = name + bytes(SLACK_BYTES) + suffix + bytes(SLACK_BYTES)
        cdef const char *at = padded
        cdef Entry *entry = self._take_unused()
        entry.key = <char *>malloc(name_length + suffix_length + 1)
        entry.folded = <Folded *>calloc(1, sizeof(Folded)) if route.fold is not None else NULL
        try:
            if entry.key == NULL or (entry.folded == NULL and route.fold is not None):
                raise MemoryError
            aim(entry, route, self.number)
        except MemoryError:
            free(entry.key)
            free(entry.folded)
            self._give_back(entry)
            raise
        memcpy(entry.key, <const char *>name, name_length)
        memcpy(entry.key + name_length, <const char *>suffix, suffix_length)
        entry.name_length = name_length
        entry.suffix_length = suffix_length
        for note in route.notes:
            entry.notes |= 1 << NOTES.index(note)
        entry.is_noted = bool(route.notes) or route.fold is not None
        entry.hash = hash_key(
            at, name_length, at + name_length + SLACK_BYTES, suffix_length, self._hot.seed
        )
        if entry.folded != NULL:
            entry.folded.fold = <PyObject *>route.fold
            Py_INCREF(route.fold)
        entry.cell = <PyObject *>cell
        Py_INCREF(cell)
        return entry

    cdef Entry *_take_unused(self) except NULL:
        """An empty entry, of a new slab if there is none."""
        cdef Entry *entry
        cdef Entry **slabs
        cdef size_t at
        if self._unused == NULL:
            slabs = <Entry **>realloc(self._slabs, (self._slab_count + 1) * sizeof(Entry *))
            if slabs == NULL:
                raise MemoryError
            self._slabs = slabs
            entry = <Entry *>calloc(SLAB_ENTRIES, sizeof(Entry))
            if entry == NULL:
                raise MemoryError
            slabs[self._slab_count] = entry
            self._slab_count += 1
            for at in range(<size_t>SLAB_ENTRIES):
                self._give_back(&entry[at])
        entry = self._unused
        self._unused = entry.next
        memset(entry, 0, sizeof(Entry))
        entry.next = &self._hot.nobody
        return entry

    cdef void _give_back(self, Entry *entry) noexcept:
        """Put an entry to those that are unused."""
        entry.name_length = NO_LENGTH
        entry.next = self._unused
        self._unused = entry

    cdef int _remember(self, Entry *entry, tuple apart) except -1:
        cdef Turn *turn = &self._turns[self._newest & self._turns_mask]
        turn.entry = entry
        turn.apart = NULL
        if entry == NULL:
            turn.apart = <PyObject *>apart
            Py_INCREF(apart)
        else:
            entry.turn = self._newest
            pthread_mutex_lock(&self._hot.mutex)
            insert(self._hot.places, self._hot.mask, entry)
            self._hot.entries += 1
            pthread_mutex_unlock(&self._hot.mutex)
        self._newest += 1
        return 0

    cdef int _make_room(self) except -1:
        """Double the ring and the table when one more would be too many; the limit bounds both."""
        if self._newest - self._oldest > self._turns_mask:
            self._double_turns()
        if 2 * (self._hot.entries + 1) > self._hot.mask:
            self._double_places()
        return 0

    cdef int _double_turns(self) except -1:
        cdef uint32_t mask = 2 * self._turns_mask + 1, turn = self._oldest
        cdef Turn *turns = <Turn *>calloc(<size_t>mask + 1, sizeof(Turn))
        if turns == NULL:
            raise MemoryError
        while turn != self._newest:
            turns[turn & mask] = self._turns[turn & self._turns_mask]
            turn += 1
        free(self._turns)
        self._turns = turns
        self._turns_mask = mask
        return 0

    cdef int _double_places(self) except -1:
        cdef size_t mask = 2 * self._hot.mask + 1, at
        cdef Entry **before = self._hot.places
        cdef Entry **places = <Entry **>calloc(mask + 1, sizeof(Entry *))
        if places == NULL:
            raise MemoryError
        for at in range(self._hot.mask + 1):
            if before[at] != NULL:
                insert(places, mask, before[at])
        pthread_mutex_lock(&self._hot.mutex)
        self._hot.places = places
        self._hot.mask = mask
        pthread_mutex_unlock(&self._hot.mutex)
        free(before)
        return 0

    cdef int _evict(self) except -1:
        cdef Turn *turn = &self._turns[self._oldest & self._turns_mask]
        self._oldest += 1
        if turn.entry != NULL:
            self._drop(turn.entry)
        elif turn.apart != NULL:
            apart = <object>turn.apart
            Py_DECREF(apart)
            if self._apart.get(apart[0]) is apart[1]:  # not forgotten meanwhile, nor kept anew
                del self._apart[apart[0]]
        return 0

    cdef int _drop(self, Entry *entry) except -1:
        cdef uint64_t samples
        cdef char *key = entry.key
        self._turns[entry.turn & self._turns_mask].entry = NULL
        pthread_mutex_lock(&self._hot.mutex)
        remove(self._hot.places, self._hot.mask, entry)
        self._hot.entries -= 1
        samples = take_samples(&self._hot, entry.folded)
        entry.name_length = NO_LENGTH
        if self._hot.last == entry:
            self._hot.nobody.name_length = NO_LENGTH
        self._hot.nobody.next = &self._hot.nobody
        self._hot.last = &self._hot.nobody
        pthread_mutex_unlock(&self._hot.mutex)
        if samples:
            (<object>entry.folded.fold).count(samples)
        free(key)
        give_up(entry)
        self._give_back(entry)
        return 0

    # values that fold

    def _keep_folding(self, folding):
        cdef bytes name = folding.name.encode("latin-1"), before = folding.before.encode()
        cdef bytes after = folding.after.encode()
        cdef Folding kept = Folding()
        if len(name) + len(before) + len(after) > KEY_LENGTH_LIMIT:
            return
        kept.same = folding.same
        kept.route = folding.route
        aim(&kept.entry, folding.route, self.number)
        if len(self._foldings) >= FOLDINGS_LIMIT:
            self._foldings.clear()
        self._foldings[folding_key(name, len(name), before, len(before), after, len(after))] = kept

    cdef int _forget_stale_foldings(self) except -1:
        """A label set that leaves frees a place, and a value that folded may take it."""
        expired = self._store_stats.expired_label_sets
        if expired != self._foldings_expired:
            self._foldings_expired = expired
            self._foldings.clear()
        return 0

    cdef bint _took_folding(self, const char *at, size_t length) except -1:
        """Take a line if it is like one that folded, but for the value that folds."""
        #   name:value|head|#key:value,key:value
        cdef const char *feed = at + length
        cdef const char *colon = find_mark(at, feed)
        cdef const char *pipe
        cdef const char *tag
        cdef const char *end
        cdef double value = 0.0
        cdef int tags
        if colon == feed or colon[0] != b":":
            return False
        pipe = read_plain(colon + 1, feed, &value)
        if pipe == NULL or pipe >= feed:
            return False
        tag = pipe + 1
        while tag + 1 < feed and (tag[0] != b"|" or tag[1] != b"#"):
            tag += 1
        if tag + 1 >= feed:
            return False  # what stands behind the line is not its own
        tag += 2
        for tags in range(TAGS_LIMIT):
            end = <const char *>memchr(tag, b",", feed - tag)
            if end == NULL:
                end = feed
            tag = <const char *>memchr(tag, b":", end - tag)
            if tag == NULL:
                return False
            tag += 1
            key = folding_key(at, colon - at, pipe + 1, tag - pipe - 1, end, feed - end)
            folding = self._foldings.get(key)
            if folding is not None:
                return self._folded(<Folding>folding, at, colon, pipe + 1, feed, tag, end, value)
            if end == feed:
                return False
            tag = end + 1
        return False

    cdef bint _folded(self, Folding folding, const char *at, const char *colon, const char *suffix,
                      const char *feed, const char *tag, const char *end,
                      double number) except -1:
        """Add the number of a line whose tag is that of a folding, if its value folds too."""
        if not 0 < end - tag <= VALUE_LENGTH_LIMIT or not is_plain_text(tag, end - tag):
            return False
        value = PyUnicode_DecodeLatin1(tag, end - tag, NULL)
        if not folding.same.folds(value):
            return False
        name = PyUnicode_DecodeLatin1(at, colon - at, NULL)
        if self._slow.came_before((name, PyUnicode_DecodeLatin1(suffix, feed - suffix, NULL))):
            return False
        folding.same.count(value)
        apply(&folding.entry, number, False)
        self._slow.count_taken(folding.route.notes)
        return True

    # the hot path

    def feed(self, bytes datagram):
        """Take one datagram in; never raises on any bytes."""
        self.feed_together((datagram,))

    def feed_together(self, datagrams):
        """Take in the datagrams that arrived together; never raises on any bytes."""
        # No comprehension: Cython 3.3.1 gives an object up twice where one runs out of memory.
        cdef list padded = []
        cdef int count, number
        for datagram in datagrams:
            padded.append(datagram + SLACK)
        count = len(padded)
        cdef Datagram *batch = <Datagram *>calloc(count + 1, sizeof(Datagram))
        if batch == NULL:
            raise MemoryError
        try:
            for number in range(count):
                batch[number].data = <bytes>padded[number]
                batch[number].length = len(<bytes>padded[number]) - SLACK_BYTES
            feed_batch(&self._hot, batch, count)
        finally:
            free(batch)

    def _feed_lines(self, bytes datagram):
        """The lines of a datagram that is no event as a whole, while the gate is held."""
        cdef bytes padded = datagram + SLACK
        cdef const char *start = padded
        cdef const char *end = start + len(datagram)
        self._hot.at = start
        while self._hot.at != NULL:
            pthread_mutex_lock(&self._hot.mutex)
            take_lines(&self._hot, end)
            pthread_mutex_unlock(&self._hot.mutex)
            self._take_left(False)

    cdef int _take_slowly(self) except -1:
        """Give the slow path what a pass has left, with this lane's blocks to add to."""
        cdef int datagram = self._hot.datagram, before = here_get()
        cdef const char *at = self._hot.at
        here_set(self.number)
        try:
            with self._gate:
                self._take_left(True)
        finally:
            here_set(before)
        self._hot.datagram = datagram
        self._hot.at = at
        return 0

    cdef int _take_left(self, bint is_batch) except -1:
        """Take what a pass has left, in its order; meanwhile another pass may leave more.

        `is_batch` unless the lines are those of a datagram that is being taken already.
        """
        cdef int count = self._hot.left_count, at
        cdef uint32_t newest = self._newest
        cdef Left *lefts = <Left *>malloc(count * sizeof(Left) + 1)
        if lefts == NULL:
            self._stop_growing()
            lefts = <Left *>malloc(count * sizeof(Left) + 1)
        if lefts == NULL:
            raise MemoryError
        memcpy(lefts, self._hot.left, count * sizeof(Left))
        self._hot.left_count = 0
        self._forget_stale_foldings()
        try:
            for at in range(count):
                if is_batch and lefts[at].datagram != self._hot.left_of:
                    self._hot.left_of = lefts[at].datagram
                    self._slow.begin_datagram()
                if newest == self._newest or not self._took_again(&lefts[at]):
                    self._take_one(&lefts[at])
        finally:
            free(lefts)
        return 0

    cdef int _take_one(self, const Left *left) except -1:
        try:
            self._try_to_take(left)
        except MemoryError:
            self._slow.end_of_memory(PyUnicode_DecodeLatin1(left.at, left.length, NULL))
        return 0

    cdef int _try_to_take(self, const Left *left) except -1:
        if left.is_whole:
            self._slow.take_datagram((<char *>left.at)[: left.length], self._feed_lines)
        elif not (self._foldings and self._took_folding(left.at, left.length)):
            self._slow.take(PyUnicode_DecodeLatin1(left.at, left.length, NULL))
        return 0

    cdef bint _took_again(self, const Left *left) noexcept:
        """Whether the hot path takes a line by now, as one like it was left before this one."""
        if left.is_whole:
            return False
        cdef Hot *hot = &self._hot
        cdef const char *at = hot.at
        pthread_mutex_lock(&hot.mutex)
        hot.at = left.at
        take_lines(hot, left.at + left.length)
        hot.at = at
        cdef bint is_left = hot.left_count > 0
        hot.left_count = 0
        pthread_mutex_unlock(&hot.mutex)
        return not is_left


cdef inline bint is_bytes(str name, str suffix):
    """Whether both hold one character per byte, as texts of the wire do."""
    return (
        PyUnicode_KIND(name) == PyUnicode_1BYTE_KIND
        and PyUnicode_KIND(suffix) == PyUnicode_1BYTE_KIND
    )


cdef Py_ssize_t length_of(key) except -1:
    """The length of a key, as RouteCache counts it."""
    cdef Py_ssize_t length
    if not isinstance(key, Meaning):
        return len(key[0]) + len(key[1])
    length = len(key.name)
    for name, value in key.tags:
        length += len(name) + len(value)
    return length


cdef int aim(Entry *entry, route, int lane) except -1:
    """Let an entry add to the cell of a route, in the block of a lane."""
    cdef Cell cell = route.cell
    cdef Py_ssize_t width = 1
    entry.kind = _TYPES.index(route.kind)
    entry.weight = route.weight
    if isinstance(cell, HistogramCell):
        entry.edges = (<HistogramCell>cell)._bounds.edges
        width = (<HistogramCell>cell)._bounds.size + 2
    entry.block = block_of(&cell.blocks, SHARED if entry.kind == SETS else lane, width)
    return 0


cdef void give_up(Entry *entry) noexcept:
    """Give up the objects that an entry holds."""
    Py_DECREF(<object>entry.cell)
    if entry.folded != NULL:
        Py_DECREF(<object>entry.folded.fold)
        free(entry.folded)
        entry.folded = NULL

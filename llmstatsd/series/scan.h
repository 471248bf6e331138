/* The small loops of the compiled hot path: find an end, hash and compare a key, read a number.
 *
 * Every function may read up to LLMSTATSD_SLACK_BYTES behind the end it is given, and gives no
 * meaning to what it finds there. Where SSE2 is missing, plain loops do the same.
 */
#ifndef LLMSTATSD_SCAN_H
#define LLMSTATSD_SCAN_H

#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "../batch.h"

/* The number of the lane whose thread this is, 0 for every other thread. */
static __thread int scan_here;

static inline int here_get(void) { return scan_here; }
static inline void here_set(int lane) { scan_here = lane; }

/* One thread writes, others may read at any time: the store is whole, and costs a plain one. */
static inline double number_load(const double *at) { return *(const volatile double *)at; }
static inline void number_store(double *at, double value) { *(volatile double *)at = value; }
static inline void number_add(double *at, double amount) { number_store(at, *at + amount); }

/* The same where several threads write. */
static inline void number_add_shared(double *at, double amount) {
    double before = number_load(at), after;
    do {
        after = before + amount;
    } while (!__atomic_compare_exchange(at, &before, &after, 1, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
}

/* Put a value from before under what was added since, unless a number is set meanwhile. */
static inline void number_absorb(double *at, const double *is_set, double value) {
    double before = number_load(at), after;
    do {
        if (number_load(is_set) != 0.0)
            return;
        /* Added to nothing, -0.0 would become 0.0. */
        after = before == 0.0 ? value : value + before;
    } while (!__atomic_compare_exchange(at, &before, &after, 1, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
}

static inline void flag_store(char *at, char value) { __atomic_store(at, &value, __ATOMIC_RELAXED); }
static inline char flag_load(const char *at) {
    char value;
    __atomic_load(at, &value, __ATOMIC_RELAXED);
    return value;
}

/* The first `:`, `|` or line feed, or `end`. */
static inline const char *find_mark(const char *at, const char *end) {
#if defined(__SSE2__)
    const __m128i colon = _mm_set1_epi8(':'), pipe = _mm_set1_epi8('|'), feed = _mm_set1_epi8('\n');
    for (; at < end; at += 32) {
        __m128i low = _mm_loadu_si128((const __m128i *)at);
        __m128i high = _mm_loadu_si128((const __m128i *)(at + 16));
        low = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(low, colon), _mm_cmpeq_epi8(low, pipe)),
                           _mm_cmpeq_epi8(low, feed));
        high = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(high, colon), _mm_cmpeq_epi8(high, pipe)),
                            _mm_cmpeq_epi8(high, feed));
        uint32_t found = (uint32_t)_mm_movemask_epi8(low) | (uint32_t)_mm_movemask_epi8(high) << 16;
        if (found) {
            at += __builtin_ctz(found);
            return at < end ? at : end;
        }
    }
    return end;
#else
    while (at < end && *at != ':' && *at != '|' && *at != '\n')
        at++;
    return at;
#endif
}

/* The first line feed, or `end`. */
static inline const char *find_feed(const char *at, const char *end) {
#if defined(__SSE2__)
    const __m128i feed = _mm_set1_epi8('\n');
    for (; at < end; at += 64) {
        const __m128i *block = (const __m128i *)at;
        uint64_t found =
            (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(block), feed)) |
            (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(block + 1), feed))
                << 16 |
            (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(block + 2), feed))
                << 32 |
            (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(block + 3), feed))
                << 48;
        if (found) {
            at += __builtin_ctzll(found);
            return at < end ? at : end;
        }
    }
    return end;
#else
    const char *found = memchr(at, '\n', (size_t)(end - at));
    return found ? found : end;
#endif
}

static inline uint64_t load_word(const char *at) {
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

/* The first `length` bytes (0 to 8) of a word, the others 0. */
static inline uint64_t load_part(const char *at, size_t length) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return length ? load_word(at) & (UINT64_MAX >> (64 - 8 * length)) : 0;
#else
    uint64_t word = 0;
    memcpy(&word, at, length);
    return word;
#endif
}

static inline uint64_t mixed(uint64_t left, uint64_t right) {
    __uint128_t product = (__uint128_t)left * right;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Both numbers are odd and have as many ones as zeros; any such will do. */
#define SCAN_MIX_LEFT 0x9ac3d15b27e86f4dULL
#define SCAN_MIX_RIGHT 0xb4e39a572dc8f1a3ULL

static inline uint64_t mixed_piece(const char *at, uint64_t left, uint64_t right) {
    return mixed(load_word(at) ^ left, load_word(at + 8) ^ right);
}

static inline uint64_t hash_text(const char *at, size_t length, uint64_t seed) {
    uint64_t hash = seed ^ (length * SCAN_MIX_LEFT);
    if (length - 16 <= 32) { /* the pieces of `same_text`, which need not wait for one another */
        const size_t last = length - 16;
        return mixed_piece(at, hash, SCAN_MIX_RIGHT) ^
               mixed_piece(at + last / 2, seed + SCAN_MIX_LEFT, ~SCAN_MIX_RIGHT) ^
               mixed_piece(at + last, seed + SCAN_MIX_RIGHT, SCAN_MIX_LEFT);
    }
    for (; length > 16; length -= 16, at += 16)
        hash = mixed(load_word(at) ^ SCAN_MIX_LEFT, load_word(at + 8) ^ hash);
    size_t first = length < 8 ? length : 8;
    return mixed(load_part(at, first) ^ SCAN_MIX_RIGHT, load_part(at + 8, length - first) ^ hash);
}

static inline uint64_t hash_key(const char *name, size_t name_length, const char *suffix,
                                size_t suffix_length, uint64_t seed) {
    /* Two chains that the processor can work on at the same time. */
    uint64_t left = hash_text(name, name_length, seed);
    uint64_t right = hash_text(suffix, suffix_length, ~seed);
    return mixed(left ^ SCAN_MIX_LEFT, right ^ SCAN_MIX_RIGHT);
}

/* Where to keep a pair by a few of its bytes: the last of its name, and of its suffix those in the
 * middle and the last.
 *
 * Cheaper than `hash_key`, and anyone can make pairs that share a place: what is found there has
 * to be compared, and the place is no more than a guess. Both parts have PART_LENGTH at least.
 */
enum { PART_LENGTH = 8, PART_BITS = 9, PART_PLACES = 1 << PART_BITS };

static inline size_t place_by_parts(const char *name, size_t name_length, const char *suffix,
                                    size_t suffix_length) {
    uint64_t parts = load_word(name + name_length - PART_LENGTH) * SCAN_MIX_LEFT;
    parts += load_word(suffix + suffix_length - PART_LENGTH) * SCAN_MIX_RIGHT;
    parts ^= (load_word(suffix + (suffix_length - PART_LENGTH) / 2) + suffix_length) * ~SCAN_MIX_LEFT;
    return parts >> (64 - PART_BITS);
}

static inline int same_short_text(const char *text, const char *key, size_t length) {
    uint32_t text_words[2], key_words[2];
    if (length >= 8)
        return !((load_word(text) ^ load_word(key)) |
                 (load_word(text + length - 8) ^ load_word(key + length - 8)));
    if (length < 4)
        return !length || (text[0] == key[0] && text[length / 2] == key[length / 2] &&
                           text[length - 1] == key[length - 1]);
    memcpy(&text_words[0], text, 4);
    memcpy(&text_words[1], text + length - 4, 4);
    memcpy(&key_words[0], key, 4);
    memcpy(&key_words[1], key + length - 4, 4);
    return text_words[0] == key_words[0] && text_words[1] == key_words[1];
}

/* Whether text is that of a key, of which nothing is read behind its end. */
static inline int same_text(const char *text, const char *key, size_t length) {
#if defined(__SSE2__)
    /* Three pieces of 16 bytes that lap over one another cover 16 to 48 without a branch. */
    if (length - 16 <= 32) {
        const size_t last = length - 16, middle = last / 2;
        __m128i differs = _mm_xor_si128(_mm_loadu_si128((const __m128i *)text),
                                        _mm_loadu_si128((const __m128i *)key));
        differs = _mm_or_si128(
            differs, _mm_xor_si128(_mm_loadu_si128((const __m128i *)(text + middle)),
                                   _mm_loadu_si128((const __m128i *)(key + middle))));
        differs = _mm_or_si128(
            differs, _mm_xor_si128(_mm_loadu_si128((const __m128i *)(text + last)),
                                   _mm_loadu_si128((const __m128i *)(key + last))));
        return _mm_movemask_epi8(_mm_cmpeq_epi8(differs, _mm_setzero_si128())) == 0xffff;
    }
#endif
    return length < 16 ? same_short_text(text, key, length) : !memcmp(text, key, length);
}

/* Whether all bytes are printable ASCII, a space included, and none is a `|`. */
static inline int is_plain_text(const char *at, size_t length) {
    unsigned odd = 0;
    for (size_t i = 0; i < length; i++)
        odd |= (unsigned char)(at[i] - ' ') > '~' - ' ' || at[i] == '|';
    return !odd;
}

static const double scan_powers[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                     1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};

/* Reads digits[.digits] of at most 15 digits up to a `|`; the place of the `|`, or NULL.
 *
 * That place may lie at `end` or behind it, in what may be read there: the caller has to look.
 *
 * Below 2^53 both the digits and the power of ten are exact doubles, so that their quotient is
 * the double nearest to the decimal, as strtod(3) gives it (W. D. Clinger, "How to Read Floating
 * Point Numbers Accurately", 1990).
 */
static inline const char *read_plain(const char *at, const char *end, double *value) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    /* Up to eight characters at once. A count of one is what most counters are sent. */
    const uint64_t ones = 0x0101010101010101ULL, tops = 0x8080808080808080ULL;
    uint64_t word = load_word(at);
    if ((uint16_t)word == ('1' | '|' << 8)) {
        *value = 1.0;
        return at + 1;
    }
    /* Which of them is the `|`, which the point? A top bit is set where a byte is. */
    uint64_t pipes = word ^ (ones * '|');
    pipes = (pipes - ones) & ~pipes & tops;
    if (pipes) {
        unsigned bits = (unsigned)__builtin_ctzll(pipes) - 7, decimals = 0;
        const char *pipe = at + bits / 8;
        if (!bits)
            return NULL;
        uint64_t points = word ^ (ones * '.');
        points = (points - ones) & ~points & tops & (pipes - 1);
        if (points) {
            unsigned place = (unsigned)__builtin_ctzll(points) - 7;
            decimals = (bits - place) / 8 - 1;
            if (!place || !decimals)
                return NULL;
            uint64_t before = (1ULL << place) - 1;
            word = (word & before) | ((word >> 8) & ~before);
            bits -= 8;
        }
        /* Zeros in front make it eight digits; then neighbours are joined: 2, 4, 8. */
        word = (word ^ (ones * '0')) << (64 - bits);
        if (((word + ones * (0x7f - 9)) | word) & tops)
            return NULL;
        word = word * 10 + (word >> 8);
        word = ((word & 0x000000ff000000ffULL) * 0x000f424000000064ULL +
                ((word >> 16) & 0x000000ff000000ffULL) * 0x0000271000000001ULL) >>
               32;
        *value = (double)(int64_t)word;
        if (decimals)
            *value /= scan_powers[decimals];
        return pipe;
    }
#endif
    const char *start = at, *dot = NULL;
    uint64_t digits = 0;
    if (end - at > 17)
        end = at + 17;
    for (; at < end; at++) {
        unsigned digit = (unsigned)(unsigned char)*at - '0';
        if (digit <= 9)
            digits = digits * 10 + digit;
        else if (*at == '.' && !dot && at > start)
            dot = at;
        else
            break;
    }
    if (at == end || *at != '|' || at == start || dot == at - 1)
        return NULL;
    if (at - start - (dot != NULL) > 15)
        return NULL;
    *value = (double)digits / scan_powers[dot ? at - dot - 1 : 0];
    return at;
}

/* Reads one number of the grammar, [+-]?digits[.digits][e[+-]digits], that fills `at` to `end`.
 *
 * Returns 0 when it is none. A `:` or a `|` stands at `end`, where strtod_l stops too.
 */
static inline int read_number(const char *at, const char *end, locale_t c_locale, double *value) {
    const char *start = at;
    if (at < end && (*at == '+' || *at == '-'))
        at++;
    const char *digits = at;
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    if (at == digits)
        return 0;
    if (at < end && *at == '.') {
        digits = ++at;
        while (at < end && *at >= '0' && *at <= '9')
            at++;
        if (at == digits)
            return 0;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        digits = at;
        while (at < end && *at >= '0' && *at <= '9')
            at++;
        if (at == digits)
            return 0;
    }
    if (at != end)
        return 0;
    *value = strtod_l(start, NULL, c_locale);
    return 1;
}

/* The finite upper bounds of buckets, ascending, made to be searched without a branch.
 *
 * Where a value falls is the one thing of a line that cannot be predicted. The range of doubles is
 * cut into cells, four to each power of two: a cell is what the top bits of a double name, sign,
 * exponent and the first two of its fraction, so that equal steps of a value's bits are equal
 * ratios. `starts` says of each how many bounds lie below it; those in it are at most four.
 * Values below the first cell count as in it, and those above the last likewise.
 */
enum { SCAN_CELL_SHIFT = 50, SCAN_IN_CELL = 4, SCAN_CELLS_MOST = 1024 };

struct scan_bounds {
    size_t count;
    int64_t lowest;         /* the cell that is the first of `starts` */
    int64_t last;           /* of `starts`; negative when some bounds lie too close, or below 0 */
    const uint16_t *starts;
    double edges[];         /* and as many infinities as are in a cell */
};

static inline int64_t cell_of(double value) {
    int64_t bits;
    memcpy(&bits, &value, 8);
    return bits >> SCAN_CELL_SHIFT;
}

static inline size_t bounds_below(const double *edges, size_t count, double value) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (edges[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static inline void bounds_lay_out(struct scan_bounds *bounds, uint16_t *starts) {
    bounds->starts = starts;
    bounds->last = -1;
    if (!bounds->count || bounds->count > UINT16_MAX || !(bounds->edges[0] > 0))
        return;
    bounds->lowest = cell_of(bounds->edges[0]);
    int64_t cells = cell_of(bounds->edges[bounds->count - 1]) - bounds->lowest + 1;
    if (cells > SCAN_CELLS_MOST)
        return;
    size_t next = 0;
    for (int64_t cell = 0; cell < cells; cell++) {
        starts[cell] = (uint16_t)next;
        while (next < bounds->count && cell_of(bounds->edges[next]) - bounds->lowest == cell)
            next++;
        if (next - starts[cell] > SCAN_IN_CELL)
            return;
    }
    bounds->last = cells - 1;
}

/* The bounds of this many values, which the caller then frees; NULL when there is no memory. */
static inline struct scan_bounds *bounds_new(const double *values, size_t count) {
    size_t edges = (count + SCAN_IN_CELL) * sizeof(double);
    struct scan_bounds *bounds =
        malloc(sizeof *bounds + edges + SCAN_CELLS_MOST * sizeof *bounds->starts);
    if (!bounds)
        return NULL;
    bounds->count = count;
    for (size_t i = 0; i < count + SCAN_IN_CELL; i++)
        bounds->edges[i] = i < count ? values[i] : __builtin_inf();
    bounds_lay_out(bounds, (uint16_t *)((char *)bounds->edges + edges));
    return bounds;
}

/* How many of the bounds are below a value: the bucket it falls into. */
static inline size_t bucket_of(const struct scan_bounds *bounds, double value) {
    if (bounds->last < 0)
        return bounds_below(bounds->edges, bounds->count, value);
    int64_t cell = cell_of(value) - bounds->lowest;
    cell = cell > 0 ? cell : 0;
    cell = cell < bounds->last ? cell : bounds->last;
    size_t start = bounds->starts[cell];
    const double *edges = bounds->edges + start;
#if defined(__SSE2__)
    const __m128d wanted = _mm_set1_pd(value);
    unsigned low = (unsigned)_mm_movemask_pd(_mm_cmplt_pd(_mm_loadu_pd(edges), wanted));
    unsigned high = (unsigned)_mm_movemask_pd(_mm_cmplt_pd(_mm_loadu_pd(edges + 2), wanted));
    /* Those below come first, and the fifth bit never is. */
    return start + (unsigned)__builtin_ctz(~(low | high << 2));
#else
    return start + (edges[0] < value) + (edges[1] < value) + (edges[2] < value) +
           (edges[3] < value);
#endif
}

#endif

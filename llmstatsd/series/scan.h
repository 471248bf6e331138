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
static inline double number_load(const double *at) {
    double value;
    __atomic_load(at, &value, __ATOMIC_RELAXED);
    return value;
}
static inline void number_store(double *at, double value) {
    __atomic_store(at, &value, __ATOMIC_RELAXED);
}
static inline void number_add(double *at, double amount) { number_store(at, *at + amount); }

/* The same where several threads write. */
static inline void number_add_shared(double *at, double amount) {
    double before = number_load(at), after;
    do {
        after = before + amount;
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

static inline uint64_t hash_text(const char *at, size_t length, uint64_t seed) {
    uint64_t hash = seed ^ (length * SCAN_MIX_LEFT);
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

/* Keys are filled up to a multiple of so many bytes, whatever with. */
#define SCAN_KEY_STEP 16

#if defined(__SSE2__)
/* From `scan_mask + 16 - n`, the first n of 16 bytes are ones. */
static const uint8_t scan_mask[32] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

#endif

/* Whether text is that of a key. */
static inline int same_text(const char *text, const char *key, size_t length) {
#if defined(__SSE2__)
    /* The bits in which they differ, all pieces over one another. */
    __m128i differs = _mm_setzero_si128();
    size_t at = 0;
    for (; at + 16 < length; at += 16)
        differs = _mm_or_si128(differs, _mm_xor_si128(_mm_loadu_si128((const __m128i *)(text + at)),
                                                      _mm_loadu_si128((const __m128i *)(key + at))));
    const __m128i rest = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(text + at)),
                                       _mm_loadu_si128((const __m128i *)(key + at)));
    const uint8_t *mask = scan_mask + 16 - (length - at);
    differs = _mm_or_si128(differs, _mm_and_si128(rest, _mm_loadu_si128((const __m128i *)mask)));
    return _mm_movemask_epi8(_mm_cmpeq_epi8(differs, _mm_setzero_si128())) == 0xffff;
#else
    return !memcmp(text, key, length);
#endif
}

static const double scan_powers[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                     1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};

/* Reads digits[.digits] of at most 15 digits up to a `|`; the place of the `|`, or NULL.
 *
 * Below 2^53 both the digits and the power of ten are exact doubles, so that their quotient is
 * the double nearest to the decimal, as strtod(3) gives it (W. D. Clinger, "How to Read Floating
 * Point Numbers Accurately", 1990).
 */
static inline const char *read_plain(const char *at, const char *end, double *value) {
    const char *start = at, *dot = NULL;
    uint64_t digits = 0;
    if (end - at > 17)
        end = at + 17;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    /* Up to eight characters at once. A count of one is what most counters are sent. */
    const uint64_t ones = 0x0101010101010101ULL, tops = 0x8080808080808080ULL;
    uint64_t word = load_word(at);
    if ((uint16_t)word == ('1' | '|' << 8) && end - at > 1) {
        *value = 1.0;
        return at + 1;
    }
    /* Which of them is the `|`, which the point? A top bit is set where a byte is. */
    uint64_t pipes = word ^ (ones * '|');
    pipes = (pipes - ones) & ~pipes & tops;
    if (pipes) {
        unsigned bits = (unsigned)__builtin_ctzll(pipes) - 7, decimals = 0;
        const char *pipe = at + bits / 8;
        if (!bits || pipe >= end)
            return NULL;
        uint64_t points = word ^ (ones * '.');
        points = (points - ones) & ~points & tops & (pipes ^ (pipes - 1));
        if (points) {
            unsigned place = (unsigned)__builtin_ctzll(points) - 7;
            decimals = bits / 8 - place / 8 - 1;
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
        *value = (double)(uint32_t)word;
        if (decimals)
            *value /= scan_powers[decimals];
        return pipe;
    }
#endif
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

/* The bounds of buckets lie in groups of four, ascending, and infinities fill up the last group,
 * of which there is at least one. Behind the groups the last bound of each of them is repeated, and
 * one infinity more. */
static inline size_t bounds_groups(size_t count) { return count / 4 + 1; }
static inline size_t bounds_room(size_t count) { return 5 * bounds_groups(count) + 1; }

static inline void bounds_lay_out(double *bounds, size_t count) {
    size_t groups = bounds_groups(count);
    for (size_t i = count; i < 4 * groups; i++)
        bounds[i] = __builtin_inf();
    for (size_t i = 0; i < groups; i++)
        bounds[4 * groups + i] = bounds[4 * i + 3];
    bounds[5 * groups] = __builtin_inf();
}

/* How many of the bounds are below a value: the bucket it falls into.
 *
 * Where it falls is the one thing of a line that cannot be predicted, so no branch depends on it:
 * all groups are looked at by their last bound, then the four of one group.
 */
static inline size_t bucket_of(const double *bounds, size_t count, double value) {
    const size_t groups = bounds_groups(count);
    const double *last = bounds + 4 * groups;
#if defined(__SSE2__)
    const __m128d wanted = _mm_set1_pd(value);
    __m128i below = _mm_setzero_si128();
    for (size_t i = 0; i < groups; i += 2)
        below = _mm_sub_epi64(below, _mm_castpd_si128(_mm_cmplt_pd(_mm_loadu_pd(last + i), wanted)));
    below = _mm_add_epi64(below, _mm_unpackhi_epi64(below, below));
    const double *group = bounds + 4 * (size_t)(uint32_t)_mm_cvtsi128_si32(below);
    unsigned low = (unsigned)_mm_movemask_pd(_mm_cmplt_pd(_mm_loadu_pd(group), wanted));
    unsigned high = (unsigned)_mm_movemask_pd(_mm_cmplt_pd(_mm_loadu_pd(group + 2), wanted));
    /* Those below come first, and the fifth bit never is. */
    return (size_t)(group - bounds) + (unsigned)__builtin_ctz(~(low | high << 2));
#else
    size_t below = 0;
    for (size_t i = 0; i < groups; i++)
        below += last[i] < value;
    const double *group = bounds + 4 * below;
    return 4 * below + (group[0] < value) + (group[1] < value) + (group[2] < value) +
           (group[3] < value);
#endif
}

#endif

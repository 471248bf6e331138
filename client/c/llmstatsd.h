/* llmstatsd.h 0.1.0 - tells llmstatsd, or any other StatsD server, about a finished LLM call.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * C99 or C++17 on POSIX, nothing but libc. In exactly one source file:
 *
 *     #define LLMSTATSD_IMPLEMENTATION
 *     #include "llmstatsd.h"
 *
 * and in every other one only the #include. Then:
 *
 *     llmstatsd_client client;
 *     llmstatsd_init(&client, NULL);
 *
 *     llmstatsd_event event = LLMSTATSD_EVENT_INIT;
 *     event.model = "gpt-4o";
 *     event.duration_seconds = 1.84;
 *     llmstatsd_send(&client, &event);
 *
 *     llmstatsd_close(&client);
 *
 * One call is one datagram of StatsD lines. No function fails, and a send waits for nobody,
 * with one exception: the name of a host is looked up by the send that finds it due, see
 * llmstatsd_options. What could not be sent is counted, see llmstatsd_stats.
 *
 * No function allocates memory, but for what libc itself does in a look-up.
 * All functions may be called from any thread; none may be called from a signal handler.
 */
#ifndef LLMSTATSD_H
#define LLMSTATSD_H

/* Strict C99 hides POSIX. This helps where no other header came first. */
#if defined(LLMSTATSD_IMPLEMENTATION) && defined(__STRICT_ANSI__) && !defined(_GNU_SOURCE) && \
    !defined(_DEFAULT_SOURCE) && !defined(_XOPEN_SOURCE) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include <float.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A number of an event that is not there. */
#define LLMSTATSD_MISSING (-DBL_MAX)
#define LLMSTATSD_MISSING_TOKENS INT64_MIN

/* What is known of a finished call. Every field may be missing.
 *
 * A number that is out of its range is left out and counted in refused_fields;
 * the rest of the event is sent.
 *
 * A text ends with a NUL, or at its _end if that is not NULL, as in
 * event.model = text; event.model_end = text + length.
 * NULL and an empty text are missing. */
typedef struct llmstatsd_event {
    const char *model; /* UTF-8; the first 128 characters are kept, and what StatsD cannot */
    const char *model_end; /* carry (controls | , # and bytes that are not UTF-8) becomes _ */
    const char *operation; /* the same; chat, embeddings, ... */
    const char *operation_end;

    /* From 0 to 1e9, kept to the microsecond. */
    double duration_seconds;
    double load_duration_seconds;
    double prompt_eval_duration_seconds;
    double total_duration_seconds;
    double time_to_first_token_seconds;
    double time_per_output_token_seconds;

    /* From 0 to 2^53 - 1. Without tokens, the total is the prompt's and the completion's. */
    int64_t tokens;
    int64_t prompt_tokens;
    int64_t completion_tokens;
    int64_t cached_tokens;

    double cost_dollars; /* from 0 to 1e6, kept to the billionth */

    /* timeout connection rate_limit quota auth permission not_found context_length
     * content_filter invalid_request overloaded server_error invalid_response cancelled other;
     * any other text is other. */
    const char *error;
    const char *error_end;
    bool rate_limited; /* without an error, the error is rate_limit */
    bool fallback;     /* another model or provider had to answer */

    /* True in LLMSTATSD_EVENT_INIT. In an event of zero bytes, as of = {0} or of designated
     * initialisers, it is false, and a number 0 is missing, as all that are not named are 0. */
    bool zero_is_a_value;
} llmstatsd_event;

/* An event in which everything is missing. */
#define LLMSTATSD_EVENT_INIT                                                                     \
    {                                                                                            \
        NULL, NULL, NULL, NULL,                                                                  \
        LLMSTATSD_MISSING, LLMSTATSD_MISSING, LLMSTATSD_MISSING,                                 \
        LLMSTATSD_MISSING, LLMSTATSD_MISSING, LLMSTATSD_MISSING,                                 \
        LLMSTATSD_MISSING_TOKENS, LLMSTATSD_MISSING_TOKENS,                                      \
        LLMSTATSD_MISSING_TOKENS, LLMSTATSD_MISSING_TOKENS,                                      \
        LLMSTATSD_MISSING, NULL, NULL, false, false, true                                        \
    }

/* The settings of a client. A field of zero bytes leaves it to the environment:
 *
 * LLMSTATSD_DISABLE of 1, true, yes or on switches the client off. The destination is the first
 * of these that is there: LLMSTATSD_SOCKET; LLMSTATSD_HOST or LLMSTATSD_PORT; DD_AGENT_HOST or
 * DD_DOGSTATSD_PORT; STATSD_HOST or STATSD_PORT; 127.0.0.1:8125. The missing half of a pair is
 * 127.0.0.1 or 8125. An empty variable and a port that is not a number are missing.
 *
 * The name of a host is looked up at the first send and then every 60 seconds; after an error
 * earlier, but not before 100 times as long as the last look-up took, or a second, have gone by.
 * The send that does it waits; others wait with it only at the first look-up.
 * An IP address is never looked up.
 * Of a name with both, the IPv4 address is taken. */
typedef struct llmstatsd_options {
    const char *socket; /* path of a unix datagram socket; beats host and port */
    const char *host;   /* a name or an IP address; 127.0.0.1 if only port is given */
    int port;           /* from 1 to 65535; 8125 if only host is given */
    bool disabled;      /* events are counted and nothing is sent */

    /* Several calls share a datagram. It is sent when the next call does not fit, by the first
     * llmstatsd_send that comes 300 ms or more after its first line, by llmstatsd_flush and by
     * llmstatsd_close. There is no thread and no hook at exit: without a further send, a line
     * waits until it is flushed. A process that is forked starts with an empty buffer. */
    bool buffered;

    /* 1432 unless given, 8192 on a unix socket; 8192 at most.
     * A single line that is longer has a datagram of its own. */
    size_t max_datagram_bytes;
} llmstatsd_options;

/* What a client has done since llmstatsd_init. The counts only rise, and each datagram is in
 * exactly one of them. */
typedef struct llmstatsd_stats {
    uint64_t events;              /* calls of llmstatsd_send, on a closed or disabled client too */
    uint64_t refused_fields;      /* numbers out of their range, left out */
    uint64_t closed_events;       /* events after llmstatsd_close, not sent */
    uint64_t sent_datagrams;      /* given to the kernel; UDP does not say whether they arrive */
    uint64_t sent_bytes;          /* of those */
    uint64_t dropped_full;        /* the socket's buffer was full */
    uint64_t dropped_unresolved;  /* no address for the host, or an impossible host, port or path */
    uint64_t dropped_unreachable; /* nobody listens */
    uint64_t dropped_error;       /* any other error; the next send opens the socket anew */
} llmstatsd_stats;

/* Enough for the lines of any event, and for any datagram. */
#define LLMSTATSD_MAX_EVENT_BYTES 12288
#define LLMSTATSD_MAX_DATAGRAM_BYTES 8192

/* A client may live anywhere, but not move: it holds its buffers and a lock.
 * Its fields are its own. */
typedef struct llmstatsd_client {
    pthread_mutex_t lock;         /* guards all below; never held during a look-up */
    pthread_cond_t first_look_up; /* has ended */
    llmstatsd_stats stats;
    bool disabled;
    bool buffered;
    bool closed;
    bool possible; /* false for a destination that nothing can be sent to */
    size_t max_datagram_bytes;

    int fd; /* -1 before the first datagram and after an error */
    struct sockaddr_storage address;
    socklen_t address_length; /* 0 while there is none */

    char host[256]; /* a name to look up, or empty */
    uint16_t port;
    bool looking_up;

    /* Seconds of llmstatsd_monotonic_seconds. */
    double look_up_at;       /* not before */
    double look_up_again_at; /* the same, after an error */
    double connect_at;       /* not before, to a unix socket that nobody listened to */
    double flush_at;

    pid_t pid; /* of the process that filled the buffer */
    size_t buffer_bytes;
    char buffer[LLMSTATSD_MAX_DATAGRAM_BYTES];
} llmstatsd_client;

/* Makes a client. It opens no socket and looks up no name before the first event.
 * NULL for options leaves everything to the environment. Whatever the options hold, it does not
 * fail: with a destination that cannot be, every datagram is counted in dropped_unresolved. */
void llmstatsd_init(llmstatsd_client *client, const llmstatsd_options *options);

/* Reports a finished call. It keeps nothing of the event. */
void llmstatsd_send(llmstatsd_client *client, const llmstatsd_event *event);

/* Sends what is buffered. */
void llmstatsd_flush(llmstatsd_client *client);

/* Flushes and closes the socket. Later events are counted in closed_events.
 * The client may be made again, or its memory given back once no thread is in a call with it. */
void llmstatsd_close(llmstatsd_client *client);

/* The counts so far, all of the same moment. */
llmstatsd_stats llmstatsd_get_stats(llmstatsd_client *client);

/* Seconds since an unknown moment, that never go back: the difference of two is a duration. */
double llmstatsd_monotonic_seconds(void);

/* Writes the lines of an event to `lines`, with \n between them and none at the end, and returns
 * their bytes: 0 if they do not fit into `size`, for which LLMSTATSD_MAX_EVENT_BYTES always do.
 * Adds the number of refused fields to *refused, unless NULL. For a transport of your own. */
size_t llmstatsd_encode(const llmstatsd_event *event, char *lines, size_t size, unsigned *refused);

/* How many of `bytes` bytes of lines to put into one datagram. What follows them, if anything,
 * is a \n and the lines for the next one. A line longer than `max_bytes` stands alone. */
size_t llmstatsd_cut(const char *lines, size_t bytes, size_t max_bytes);

#ifdef __cplusplus
}
#endif

#endif /* LLMSTATSD_H */

#if defined(LLMSTATSD_IMPLEMENTATION) && !defined(LLMSTATSD_IMPLEMENTED)
#define LLMSTATSD_IMPLEMENTED

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#ifndef CLOCK_MONOTONIC
#error "POSIX is hidden: define _POSIX_C_SOURCE as 200809L before the first #include"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- encode: an event to lines; no I/O, no clock, no state ---- */

#define LLMSTATSD__MAX_SECONDS 1e9
#define LLMSTATSD__MAX_DOLLARS 1e6
#define LLMSTATSD__MAX_TOKENS INT64_C(9007199254740991)
#define LLMSTATSD__MAX_CHARACTERS 128

/* Tags as they stand in the event's first line, from which the other lines copy them. */
typedef struct llmstatsd__tags {
    const char *text;
    size_t bytes;
} llmstatsd__tags;

typedef struct llmstatsd__writer {
    char *at;
    char *end;
    bool overflow;
    bool zero_is_a_value;
    unsigned refused;
    llmstatsd__tags model;           /* "|#model:M", or nothing */
    llmstatsd__tags model_operation; /* "|#model:M,operation:O", or as much as there is of it */
} llmstatsd__writer;

static void llmstatsd__put(llmstatsd__writer *w, const char *text, size_t bytes)
{
    if ((size_t)(w->end - w->at) < bytes) {
        w->overflow = true;
        return;
    }
    memcpy(w->at, text, bytes);
    w->at += bytes;
}

static void llmstatsd__put_text(llmstatsd__writer *w, const char *text)
{
    llmstatsd__put(w, text, strlen(text));
}

static void llmstatsd__put_tags(llmstatsd__writer *w, llmstatsd__tags tags)
{
    if (tags.bytes > 0)
        llmstatsd__put(w, tags.text, tags.bytes);
}

static void llmstatsd__put_whole(llmstatsd__writer *w, uint64_t n)
{
    char digits[20];
    char *first = digits + sizeof digits;
    do
        *--first = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    llmstatsd__put(w, first, (size_t)(digits + sizeof digits - first));
}

/* n / unit without trailing zeros; unit is a power of ten. */
static void llmstatsd__put_decimal(llmstatsd__writer *w, uint64_t n, uint64_t unit)
{
    uint64_t rest = n % unit;
    llmstatsd__put_whole(w, n / unit);
    if (rest > 0)
        llmstatsd__put(w, ".", 1);
    for (; rest > 0; rest %= unit) {
        char digit;
        unit /= 10;
        digit = (char)('0' + rest / unit);
        llmstatsd__put(w, &digit, 1);
    }
}

/* A text with its end still unknown: a NUL, or `end`. */
static bool llmstatsd__more(const char *at, const char *end)
{
    return end != NULL ? at < end : *at != '\0';
}

static bool llmstatsd__there(const char *text, const char *end)
{
    return text != NULL && llmstatsd__more(text, end);
}

/* The bytes of the character of UTF-8 at `at`, by the Unicode Standard's table of well-formed
 * byte sequences; 0 if there is none. Nothing beyond the first byte that is wrong is read. */
static size_t llmstatsd__character(const char *at, const char *end)
{
    unsigned char first = (unsigned char)*at;
    unsigned char low = 0x80, high = 0xBF; /* of the second byte */
    size_t bytes, i;
    if (first < 0x80)
        return 1;
    if (first < 0xC2 || first > 0xF4)
        return 0;
    bytes = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (first == 0xE0)
        low = 0xA0; /* below: overlong */
    if (first == 0xED)
        high = 0x9F; /* above: surrogates */
    if (first == 0xF0)
        low = 0x90; /* below: overlong */
    if (first == 0xF4)
        high = 0x8F; /* above: no code points */
    for (i = 1; i < bytes; i++) {
        unsigned char next;
        if (!llmstatsd__more(at + i, end))
            return 0;
        next = (unsigned char)at[i];
        if (next < low || next > high)
            return 0;
        low = 0x80;
        high = 0xBF;
    }
    return bytes;
}

static bool llmstatsd__safe(char c)
{
    return (unsigned char)c >= 0x20 && c != 0x7F && c != '|' && c != ',' && c != '#';
}

static void llmstatsd__put_label(llmstatsd__writer *w, const char *at, const char *end)
{
    int n;
    for (n = 0; n < LLMSTATSD__MAX_CHARACTERS && llmstatsd__more(at, end); n++) {
        size_t bytes = llmstatsd__character(at, end);
        if (bytes == 0 || (bytes == 1 && !llmstatsd__safe(*at)))
            llmstatsd__put(w, "_", 1);
        else
            llmstatsd__put(w, at, bytes);
        at += bytes > 0 ? bytes : 1;
    }
}

static void llmstatsd__put_request(llmstatsd__writer *w, const llmstatsd_event *e)
{
    llmstatsd__put_text(w, "llm_request_total:1|c");
    w->model.text = w->model_operation.text = w->at;
    if (llmstatsd__there(e->model, e->model_end)) {
        llmstatsd__put_text(w, "|#model:");
        llmstatsd__put_label(w, e->model, e->model_end);
    }
    w->model.bytes = (size_t)(w->at - w->model.text);
    if (llmstatsd__there(e->operation, e->operation_end)) {
        llmstatsd__put_text(w, w->model.bytes > 0 ? ",operation:" : "|#operation:");
        llmstatsd__put_label(w, e->operation, e->operation_end);
    }
    w->model_operation.bytes = (size_t)(w->at - w->model_operation.text);
}

/* Whether a number is there and in its range; *parts is the number in parts of its unit, rounded
 * to the nearest. */
static bool llmstatsd__scaled(llmstatsd__writer *w, double x, double most, double parts_of_unit,
                              uint64_t *parts)
{
    /* volatile: every client shall round twice, to a double; x87 has more bits, and a fused
     * multiply-add, which compilers make of this where the processor has one, rounds once. */
    volatile double product, sum;
    if (x == LLMSTATSD_MISSING || (x == 0 && !w->zero_is_a_value))
        return false;
    if (!(x >= 0 && x <= most)) { /* NaN too */
        w->refused++;
        return false;
    }
    product = x * parts_of_unit;
    sum = product + 0.5;
    *parts = (uint64_t)sum;
    return true;
}

static void llmstatsd__put_seconds(llmstatsd__writer *w, const char *name, double seconds,
                                   llmstatsd__tags tags)
{
    uint64_t micros;
    if (!llmstatsd__scaled(w, seconds, LLMSTATSD__MAX_SECONDS, 1e6, &micros))
        return;
    llmstatsd__put_text(w, name);
    llmstatsd__put_decimal(w, micros, 1000);
    llmstatsd__put_text(w, "|ms");
    llmstatsd__put_tags(w, tags);
}

static void llmstatsd__put_cost(llmstatsd__writer *w, double dollars)
{
    uint64_t nanos;
    if (!llmstatsd__scaled(w, dollars, LLMSTATSD__MAX_DOLLARS, 1e9, &nanos))
        return;
    llmstatsd__put_text(w, "\nllm_cost_dollars_total:");
    llmstatsd__put_decimal(w, nanos, 1000000000);
    llmstatsd__put_text(w, "|c");
    llmstatsd__put_tags(w, w->model);
}

/* n, or -1 if it is missing or refused. */
static int64_t llmstatsd__tokens(llmstatsd__writer *w, int64_t n)
{
    if (n == LLMSTATSD_MISSING_TOKENS || (n == 0 && !w->zero_is_a_value))
        return -1;
    if (n >= 0 && n <= LLMSTATSD__MAX_TOKENS)
        return n;
    w->refused++;
    return -1;
}

static int64_t llmstatsd__total(int64_t total, int64_t prompt, int64_t completion)
{
    if (total >= 0 || (prompt < 0 && completion < 0))
        return total;
    total = (prompt > 0 ? prompt : 0) + (completion > 0 ? completion : 0);
    return total <= LLMSTATSD__MAX_TOKENS ? total : -1;
}

static void llmstatsd__put_count(llmstatsd__writer *w, const char *name, int64_t n)
{
    if (n < 0)
        return;
    llmstatsd__put_text(w, name);
    llmstatsd__put_whole(w, (uint64_t)n);
    llmstatsd__put_text(w, "|c");
    llmstatsd__put_tags(w, w->model);
}

static void llmstatsd__put_tokens(llmstatsd__writer *w, const llmstatsd_event *e)
{
    int64_t total = llmstatsd__tokens(w, e->tokens);
    int64_t prompt = llmstatsd__tokens(w, e->prompt_tokens);
    int64_t completion = llmstatsd__tokens(w, e->completion_tokens);
    int64_t cached = llmstatsd__tokens(w, e->cached_tokens);
    total = llmstatsd__total(total, prompt, completion);
    llmstatsd__put_count(w, "\nllm_tokens_total:", total);
    llmstatsd__put_count(w, "\nllm_prompt_tokens_total:", prompt);
    llmstatsd__put_count(w, "\nllm_completion_tokens_total:", completion);
    llmstatsd__put_count(w, "\nllm_cached_tokens_total:", cached);
}

/* The error type that a text names; NULL if it is missing. */
static const char *llmstatsd__error_type(const char *text, const char *end)
{
    static const char *const types[] = {
        "timeout",        "connection",      "rate_limit",  "quota",        "auth",
        "permission",     "not_found",       "context_length", "content_filter",
        "invalid_request", "overloaded",     "server_error", "invalid_response", "cancelled",
    };
    size_t i;
    if (!llmstatsd__there(text, end))
        return NULL;
    for (i = 0; i < sizeof types / sizeof *types; i++) {
        size_t n = 0;
        while (types[i][n] != '\0' && llmstatsd__more(text + n, end) && text[n] == types[i][n])
            n++;
        if (types[i][n] == '\0' && !llmstatsd__more(text + n, end))
            return types[i];
    }
    return "other";
}

static void llmstatsd__put_failure(llmstatsd__writer *w, const llmstatsd_event *e)
{
    const char *type = llmstatsd__error_type(e->error, e->error_end);
    bool rate_limited = e->rate_limited || (type != NULL && strcmp(type, "rate_limit") == 0);
    if (type == NULL && rate_limited)
        type = "rate_limit";
    if (type != NULL) {
        llmstatsd__put_text(w, "\nllm_error_total:1|c");
        llmstatsd__put_tags(w, w->model);
        llmstatsd__put_text(w, w->model.bytes > 0 ? ",type:" : "|#type:");
        llmstatsd__put_text(w, type);
    }
    if (rate_limited) {
        llmstatsd__put_text(w, "\nllm_rate_limit_exceeded_total:1|c");
        llmstatsd__put_tags(w, w->model);
    }
}

size_t llmstatsd_encode(const llmstatsd_event *event, char *lines, size_t size, unsigned *refused)
{
    llmstatsd__writer writer, *w = &writer;
    memset(w, 0, sizeof *w);
    w->at = lines;
    w->end = lines + size;
    w->zero_is_a_value = event->zero_is_a_value;
    llmstatsd__put_request(w, event);
    llmstatsd__put_seconds(w, "\nllm_request_duration_seconds:", event->duration_seconds,
                           w->model_operation);
    llmstatsd__put_tokens(w, event);
    llmstatsd__put_cost(w, event->cost_dollars);
    llmstatsd__put_seconds(w, "\nllm_model_load_duration_seconds:", event->load_duration_seconds,
                           w->model);
    llmstatsd__put_seconds(w, "\nllm_prompt_eval_duration_seconds:",
                           event->prompt_eval_duration_seconds, w->model);
    llmstatsd__put_seconds(w, "\nllm_total_duration_seconds:", event->total_duration_seconds,
                           w->model);
    llmstatsd__put_seconds(w, "\nllm_time_to_first_token_seconds:",
                           event->time_to_first_token_seconds, w->model_operation);
    llmstatsd__put_seconds(w, "\nllm_time_per_output_token_seconds:",
                           event->time_per_output_token_seconds, w->model_operation);
    llmstatsd__put_failure(w, event);
    if (event->fallback)
        llmstatsd__put_text(w, "\nllm_fallback_total:1|c");
    if (refused != NULL)
        *refused += w->refused;
    return w->overflow ? 0 : (size_t)(w->at - lines);
}

size_t llmstatsd_cut(const char *lines, size_t bytes, size_t max_bytes)
{
    const char *first;
    size_t end;
    if (bytes <= max_bytes)
        return bytes;
    for (end = max_bytes; end > 0; end--)
        if (lines[end] == '\n')
            return end;
    first = (const char *)memchr(lines, '\n', bytes);
    return first != NULL ? (size_t)(first - lines) : bytes;
}

/* ---- settings ---- */

#define LLMSTATSD__HOST "127.0.0.1"
#define LLMSTATSD__PORT 8125

/* 1432: an Ethernet frame of 1500 less the headers of IPv6 and UDP, and some slack. */
#define LLMSTATSD__UDP_BYTES 1432
#define LLMSTATSD__UNIX_BYTES 8192

/* A variable that is there and not empty, or NULL. */
static const char *llmstatsd__variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

/* A port from 1 to 65535, or 0. Kubernetes sets LLMSTATSD_PORT to udp://10.0.0.1:8125 in pods
 * beside a service of that name. */
static int llmstatsd__variable_port(const char *name)
{
    const char *at = llmstatsd__variable(name);
    int port = 0;
    if (at == NULL)
        return 0;
    for (; *at != '\0'; at++) {
        if (*at < '0' || *at > '9')
            return 0;
        port = port * 10 + (*at - '0');
        if (port > 65535)
            return 0;
    }
    return port;
}

static bool llmstatsd__variable_on(const char *name)
{
    const char *value = llmstatsd__variable(name);
    return value != NULL && (strcmp(value, "1") == 0 || strcasecmp(value, "true") == 0 ||
                             strcasecmp(value, "yes") == 0 || strcasecmp(value, "on") == 0);
}

/* Fills in the first destination that the environment has. */
static void llmstatsd__from_environment(llmstatsd_options *to)
{
    static const char *const pairs[][2] = {
        {"LLMSTATSD_HOST", "LLMSTATSD_PORT"},
        {"DD_AGENT_HOST", "DD_DOGSTATSD_PORT"},
        {"STATSD_HOST", "STATSD_PORT"},
    };
    size_t i;
    to->socket = llmstatsd__variable("LLMSTATSD_SOCKET");
    for (i = 0; i < 3 && to->socket == NULL && to->host == NULL && to->port == 0; i++) {
        to->host = llmstatsd__variable(pairs[i][0]);
        to->port = llmstatsd__variable_port(pairs[i][1]);
    }
}

static bool llmstatsd__set_path(llmstatsd_client *c, const char *path)
{
    struct sockaddr_un unix_address;
    size_t bytes = strlen(path) + 1;
    memset(&unix_address, 0, sizeof unix_address);
    unix_address.sun_family = AF_UNIX;
    if (bytes > sizeof unix_address.sun_path)
        return false;
    memcpy(unix_address.sun_path, path, bytes);
    memcpy(&c->address, &unix_address, sizeof unix_address);
    c->address_length = (socklen_t)sizeof unix_address;
    return true;
}

/* The first address of IPv4 that a host has, else its first; false if it has none. */
static bool llmstatsd__find(const char *host, int flags, struct sockaddr_storage *address,
                            socklen_t *length)
{
    struct addrinfo hints, *found, *each, *best;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_DGRAM;
    hints.ai_flags = flags;
    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        return false;
    best = found;
    for (each = found; each != NULL && best->ai_family != AF_INET; each = each->ai_next)
        if (each->ai_family == AF_INET)
            best = each;
    memset(address, 0, sizeof *address);
    memcpy(address, best->ai_addr, best->ai_addrlen);
    *length = best->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static void llmstatsd__set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET)
        ((struct sockaddr_in *)address)->sin_port = htons(port);
    else if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
}

static bool llmstatsd__set_host(llmstatsd_client *c, const char *host, int port)
{
    size_t bytes = strlen(host) + 1;
    if (port < 1 || port > 65535 || bytes > sizeof c->host)
        return false;
    c->port = (uint16_t)port;
    if (llmstatsd__find(host, AI_NUMERICHOST, &c->address, &c->address_length))
        llmstatsd__set_port(&c->address, c->port);
    else
        memcpy(c->host, host, bytes);
    return true;
}

void llmstatsd_init(llmstatsd_client *client, const llmstatsd_options *options)
{
    llmstatsd_options to;
    memset(&to, 0, sizeof to);
    if (options != NULL)
        to = *options;
    if (to.socket != NULL && *to.socket == '\0')
        to.socket = NULL;
    if (to.host != NULL && *to.host == '\0')
        to.host = NULL;
    if (to.socket == NULL && to.host == NULL && to.port == 0)
        llmstatsd__from_environment(&to);
    memset(client, 0, sizeof *client);
    pthread_mutex_init(&client->lock, NULL);
    pthread_cond_init(&client->first_look_up, NULL);
    client->fd = -1;
    client->disabled = to.disabled || llmstatsd__variable_on("LLMSTATSD_DISABLE");
    client->buffered = to.buffered;
    client->max_datagram_bytes = to.max_datagram_bytes;
    if (to.max_datagram_bytes == 0)
        client->max_datagram_bytes = to.socket ? LLMSTATSD__UNIX_BYTES : LLMSTATSD__UDP_BYTES;
    if (client->max_datagram_bytes > LLMSTATSD_MAX_DATAGRAM_BYTES)
        client->max_datagram_bytes = LLMSTATSD_MAX_DATAGRAM_BYTES;
    if (to.socket != NULL)
        client->possible = llmstatsd__set_path(client, to.socket);
    else
        client->possible = llmstatsd__set_host(client, to.host ? to.host : LLMSTATSD__HOST,
                                               to.port ? to.port : LLMSTATSD__PORT);
}

/* ---- sender; the functions below are called with the lock held ---- */

#define LLMSTATSD__LOOK_UP_EVERY 60.0
#define LLMSTATSD__CONNECT_EVERY 1.0
#define LLMSTATSD__FLUSH_AFTER 0.3

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

typedef enum llmstatsd__outcome {
    LLMSTATSD__SENT,
    LLMSTATSD__FULL,
    LLMSTATSD__UNRESOLVED,
    LLMSTATSD__UNREACHABLE,
    LLMSTATSD__ERROR
} llmstatsd__outcome;

double llmstatsd_monotonic_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void llmstatsd__shut(llmstatsd_client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

/* Looks up the host if that is due and nobody is at it. The lock is given up meanwhile.
 * At the first look-up the others wait, as without it their datagrams would be lost. */
static void llmstatsd__look_up(llmstatsd_client *c)
{
    struct sockaddr_storage address;
    socklen_t length = 0;
    double begin, end, pause;
    bool found;
    if (c->host[0] == '\0')
        return;
    while (c->looking_up && c->look_up_at == 0)
        pthread_cond_wait(&c->first_look_up, &c->lock);
    if (c->looking_up)
        return;
    begin = llmstatsd_monotonic_seconds();
    if (begin < c->look_up_at)
        return;
    c->looking_up = true;
    pthread_mutex_unlock(&c->lock);
    found = llmstatsd__find(c->host, 0, &address, &length);
    pthread_mutex_lock(&c->lock);
    c->looking_up = false;
    end = llmstatsd_monotonic_seconds();
    pause = 100 * (end - begin); /* so that at most a hundredth of the time is spent waiting */
    if (pause < 1)
        pause = 1;
    if (pause > LLMSTATSD__LOOK_UP_EVERY)
        pause = LLMSTATSD__LOOK_UP_EVERY;
    c->look_up_again_at = end + pause;
    c->look_up_at = found ? end + LLMSTATSD__LOOK_UP_EVERY : c->look_up_again_at;
    pthread_cond_broadcast(&c->first_look_up);
    if (!found)
        return; /* an address that is known already stays */
    llmstatsd__set_port(&address, c->port);
    if (length == c->address_length && memcmp(&address, &c->address, length) == 0)
        return;
    c->address = address;
    c->address_length = length;
    llmstatsd__shut(c);
}

/* After an error the address of the host may be another one. */
static void llmstatsd__doubt(llmstatsd_client *c)
{
    if (c->look_up_at > c->look_up_again_at)
        c->look_up_at = c->look_up_again_at;
}

static llmstatsd__outcome llmstatsd__outcome_of(int error)
{
    switch (error) {
    case EAGAIN:
#if EWOULDBLOCK != EAGAIN
    case EWOULDBLOCK:
#endif
    case ENOBUFS:
        return LLMSTATSD__FULL;
    case ECONNREFUSED:
    case ENOENT:
        return LLMSTATSD__UNREACHABLE;
    default:
        return LLMSTATSD__ERROR;
    }
}

static bool llmstatsd__connect(llmstatsd_client *c)
{
    int flags;
    c->fd = socket(c->address.ss_family, SOCK_DGRAM, 0);
    if (c->fd < 0)
        return false;
    flags = fcntl(c->fd, F_GETFL);
    if (fcntl(c->fd, F_SETFD, FD_CLOEXEC) < 0 || flags < 0 ||
        fcntl(c->fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return false;
#ifdef SO_NOSIGPIPE
    flags = 1;
    (void)setsockopt(c->fd, SOL_SOCKET, SO_NOSIGPIPE, &flags, sizeof flags);
#endif
    return connect(c->fd, (const struct sockaddr *)&c->address, c->address_length) == 0;
}

/* LLMSTATSD__SENT if there is a socket to send on, else why there is none. */
static llmstatsd__outcome llmstatsd__open(llmstatsd_client *c)
{
    llmstatsd__outcome became;
    bool is_unix = c->address.ss_family == AF_UNIX;
    if (c->fd >= 0)
        return LLMSTATSD__SENT;
    if (!c->possible || c->address_length == 0)
        return LLMSTATSD__UNRESOLVED;
    if (is_unix && llmstatsd_monotonic_seconds() < c->connect_at)
        return LLMSTATSD__UNREACHABLE;
    if (llmstatsd__connect(c))
        return LLMSTATSD__SENT;
    became = llmstatsd__outcome_of(errno);
    if (is_unix && became == LLMSTATSD__UNREACHABLE)
        c->connect_at = llmstatsd_monotonic_seconds() + LLMSTATSD__CONNECT_EVERY;
    llmstatsd__shut(c);
    return became;
}

static llmstatsd__outcome llmstatsd__try(llmstatsd_client *c, const char *datagram, size_t bytes)
{
    ssize_t sent;
    do
        sent = send(c->fd, datagram, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent >= 0 ? LLMSTATSD__SENT : llmstatsd__outcome_of(errno);
}

/* Sends a datagram, and once more if it is refused. UDP refuses for an earlier one, by ICMP, and
 * this one is still to be sent; a unix socket refuses when its reader has gone, and there may be
 * a new one at its path. */
static llmstatsd__outcome llmstatsd__attempt(llmstatsd_client *c, const char *datagram,
                                             size_t bytes)
{
    llmstatsd__outcome became = llmstatsd__open(c);
    if (became != LLMSTATSD__SENT)
        return became;
    became = llmstatsd__try(c, datagram, bytes);
    if (became != LLMSTATSD__UNREACHABLE)
        return became;
    llmstatsd__doubt(c);
    if (c->address.ss_family == AF_UNIX) {
        llmstatsd__shut(c);
        became = llmstatsd__open(c);
        if (became != LLMSTATSD__SENT)
            return became;
    }
    return llmstatsd__try(c, datagram, bytes);
}

static void llmstatsd__send_datagram(llmstatsd_client *c, const char *datagram, size_t bytes)
{
    llmstatsd__outcome became = llmstatsd__attempt(c, datagram, bytes);
    if (became == LLMSTATSD__UNREACHABLE || became == LLMSTATSD__ERROR) {
        llmstatsd__shut(c);
        llmstatsd__doubt(c);
    }
    c->stats.sent_datagrams += became == LLMSTATSD__SENT;
    c->stats.sent_bytes += became == LLMSTATSD__SENT ? bytes : 0;
    c->stats.dropped_full += became == LLMSTATSD__FULL;
    c->stats.dropped_unresolved += became == LLMSTATSD__UNRESOLVED;
    c->stats.dropped_unreachable += became == LLMSTATSD__UNREACHABLE;
    c->stats.dropped_error += became == LLMSTATSD__ERROR;
}

static void llmstatsd__send_lines(llmstatsd_client *c, const char *lines, size_t bytes)
{
    for (;;) {
        size_t datagram = llmstatsd_cut(lines, bytes, c->max_datagram_bytes);
        llmstatsd__send_datagram(c, lines, datagram);
        if (datagram == bytes)
            return;
        lines += datagram + 1;
        bytes -= datagram + 1;
    }
}

static void llmstatsd__flush(llmstatsd_client *c)
{
    size_t bytes = c->buffer_bytes;
    if (bytes == 0)
        return;
    c->buffer_bytes = 0;
    if (c->pid == getpid()) /* else the parent process sends them */
        llmstatsd__send_datagram(c, c->buffer, bytes);
}

/* Adds the lines of an event to the buffer, and sends what has to be sent for that. */
static void llmstatsd__buffer(llmstatsd_client *c, const char *lines, size_t bytes)
{
    double now = llmstatsd_monotonic_seconds();
    if (c->buffer_bytes > 0 && (now >= c->flush_at || c->pid != getpid() ||
                                c->buffer_bytes + 1 + bytes > c->max_datagram_bytes))
        llmstatsd__flush(c);
    if (bytes > c->max_datagram_bytes) {
        llmstatsd__send_lines(c, lines, bytes);
        return;
    }
    if (c->buffer_bytes > 0) {
        c->buffer[c->buffer_bytes++] = '\n';
    } else {
        c->flush_at = now + LLMSTATSD__FLUSH_AFTER;
        c->pid = getpid();
    }
    memcpy(c->buffer + c->buffer_bytes, lines, bytes);
    c->buffer_bytes += bytes;
}

/* ---- the rest of the API ---- */

void llmstatsd_send(llmstatsd_client *client, const llmstatsd_event *event)
{
    char lines[LLMSTATSD_MAX_EVENT_BYTES];
    unsigned refused = 0;
    size_t bytes;
    if (client == NULL || event == NULL)
        return;
    bytes = llmstatsd_encode(event, lines, sizeof lines, &refused);
    pthread_mutex_lock(&client->lock);
    client->stats.events++;
    if (!client->closed && !client->disabled)
        llmstatsd__look_up(client);
    if (client->closed) { /* perhaps only since the look-up */
        client->stats.closed_events++;
    } else if (!client->disabled) {
        client->stats.refused_fields += refused;
        if (client->buffered)
            llmstatsd__buffer(client, lines, bytes);
        else
            llmstatsd__send_lines(client, lines, bytes);
    }
    pthread_mutex_unlock(&client->lock);
}

void llmstatsd_flush(llmstatsd_client *client)
{
    if (client == NULL)
        return;
    pthread_mutex_lock(&client->lock);
    if (client->buffer_bytes > 0)
        llmstatsd__look_up(client);
    llmstatsd__flush(client);
    pthread_mutex_unlock(&client->lock);
}

void llmstatsd_close(llmstatsd_client *client)
{
    if (client == NULL)
        return;
    pthread_mutex_lock(&client->lock);
    client->closed = true;
    llmstatsd__flush(client);
    llmstatsd__shut(client);
    pthread_mutex_unlock(&client->lock);
}

llmstatsd_stats llmstatsd_get_stats(llmstatsd_client *client)
{
    llmstatsd_stats stats;
    memset(&stats, 0, sizeof stats);
    if (client == NULL)
        return stats;
    pthread_mutex_lock(&client->lock);
    stats = client->stats;
    pthread_mutex_unlock(&client->lock);
    return stats;
}

#ifdef __cplusplus
}
#endif

#endif /* LLMSTATSD_IMPLEMENTATION */

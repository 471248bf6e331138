/* Reads the cases of client/vectors.json from stdin, in the plain form that
 * tests/client/test_c.py makes of them, and prints each that encode gets wrong.
 *
 * A case is these lines; texts and datagrams are in hexadecimal, a missing field has no line:
 *
 *     case NAME
 *     text FIELD HEX
 *     number FIELD TEXT
 *     on FIELD
 *     refused N
 *     max_datagram_bytes N
 *     datagram HEX
 *     end
 *     skip NAME
 *
 * A skipped case has a value that no C program can give.
 */
#define LLMSTATSD_IMPLEMENTATION
#include "../llmstatsd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 65536, TEXT_BYTES = LINE_BYTES / 2 };

static char case_name[LINE_BYTES];
static llmstatsd_event event;
static char *texts[3];
static unsigned refused;
static size_t max_datagram_bytes;
static char expected[TEXT_BYTES];
static size_t expected_bytes;
static int wrong;

static void fail(const char *what)
{
    printf("%s: %s\n", case_name, what);
    wrong++;
}

static size_t unhex(const char *hex, char *bytes)
{
    size_t n = strlen(hex) / 2, i;
    for (i = 0; i < n; i++) {
        char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        bytes[i] = (char)strtoul(digits, NULL, 16);
    }
    return n;
}

/* The text is kept in memory of exactly its size, so that a sanitizer sees a read beyond it. */
static void set_text(const char *field, const char *hex)
{
    static const char *const names[] = {"model", "operation", "error"};
    const char **begins[] = {&event.model, &event.operation, &event.error};
    const char **ends[] = {&event.model_end, &event.operation_end, &event.error_end};
    size_t i;
    for (i = 0; i < 3; i++)
        if (strcmp(field, names[i]) == 0) {
            texts[i] = (char *)malloc(strlen(hex) / 2 + 1);
            *ends[i] = texts[i] + unhex(hex, texts[i]);
            *begins[i] = texts[i];
            return;
        }
    fail("an unknown text");
}

static void set_number(const char *field, const char *text)
{
    static const char *const second_names[] = {
        "duration_seconds",       "load_duration_seconds",       "prompt_eval_duration_seconds",
        "total_duration_seconds", "time_to_first_token_seconds", "time_per_output_token_seconds",
        "cost_dollars",
    };
    double *doubles[] = {
        &event.duration_seconds,       &event.load_duration_seconds,
        &event.prompt_eval_duration_seconds, &event.total_duration_seconds,
        &event.time_to_first_token_seconds,  &event.time_per_output_token_seconds,
        &event.cost_dollars,
    };
    static const char *const token_names[] = {"tokens", "prompt_tokens", "completion_tokens",
                                              "cached_tokens"};
    int64_t *tokens[] = {&event.tokens, &event.prompt_tokens, &event.completion_tokens,
                         &event.cached_tokens};
    size_t i;
    for (i = 0; i < 7; i++)
        if (strcmp(field, second_names[i]) == 0) {
            *doubles[i] = strtod(text, NULL);
            return;
        }
    for (i = 0; i < 4; i++)
        if (strcmp(field, token_names[i]) == 0) {
            *tokens[i] = strtoll(text, NULL, 10);
            return;
        }
    fail("an unknown number");
}

static void begin_case(const char *name)
{
    static const llmstatsd_event missing = LLMSTATSD_EVENT_INIT;
    strcpy(case_name, name);
    event = missing;
    refused = 0;
    max_datagram_bytes = 1432;
    expected_bytes = 0;
}

/* Datagrams are compared as one text, each after a NUL. */
static void add_datagram(char *to, size_t *bytes, const char *datagram, size_t datagram_bytes)
{
    to[(*bytes)++] = '\0';
    memcpy(to + *bytes, datagram, datagram_bytes);
    *bytes += datagram_bytes;
}

static void end_case(void)
{
    static char lines[LLMSTATSD_MAX_EVENT_BYTES], made[TEXT_BYTES];
    unsigned refused_now = 0;
    size_t bytes = llmstatsd_encode(&event, lines, sizeof lines, &refused_now);
    size_t at = 0, made_bytes = 0;
    int i;
    while (at < bytes) {
        size_t n = llmstatsd_cut(lines + at, bytes - at, max_datagram_bytes);
        add_datagram(made, &made_bytes, lines + at, n);
        at += n + 1;
    }
    if (refused_now != refused)
        fail("another number of refused fields");
    if (made_bytes != expected_bytes || memcmp(made, expected, made_bytes) != 0)
        fail("other datagrams");
    for (i = 0; i < 3; i++) {
        free(texts[i]);
        texts[i] = NULL;
    }
}

int main(void)
{
    static char line[LINE_BYTES], bytes[TEXT_BYTES];
    int cases = 0, skipped = 0;
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *word = line, *rest, *last;
        line[strcspn(line, "\n")] = '\0';
        rest = line + strcspn(line, " ");
        if (*rest == ' ')
            *rest++ = '\0';
        last = rest + strcspn(rest, " ");
        if (strcmp(word, "text") == 0 || strcmp(word, "number") == 0)
            *last++ = '\0';
        if (strcmp(word, "case") == 0)
            begin_case(rest);
        else if (strcmp(word, "text") == 0)
            set_text(rest, last);
        else if (strcmp(word, "number") == 0)
            set_number(rest, last);
        else if (strcmp(word, "on") == 0 && strcmp(rest, "fallback") == 0)
            event.fallback = true;
        else if (strcmp(word, "on") == 0)
            event.rate_limited = true;
        else if (strcmp(word, "refused") == 0)
            refused = (unsigned)strtoul(rest, NULL, 10);
        else if (strcmp(word, "max_datagram_bytes") == 0)
            max_datagram_bytes = strtoul(rest, NULL, 10);
        else if (strcmp(word, "datagram") == 0)
            add_datagram(expected, &expected_bytes, bytes, unhex(rest, bytes));
        else if (strcmp(word, "end") == 0) {
            end_case();
            cases++;
        } else if (strcmp(word, "skip") == 0)
            skipped++;
    }
    printf("%d cases, %d wrong, %d skipped\n", cases, wrong, skipped);
    return wrong > 0;
}

/* Sends the event of the vector "a failed call with all fields" from several threads to the
 * destination that the environment names, and prints the client's counts as one line of JSON.
 *
 *     cc -O2 -pthread -o acceptance client/c/tests/acceptance.c
 *     ./acceptance --threads 8 --calls 10000 [--buffered]
 */
#define LLMSTATSD_IMPLEMENTATION
#include "../llmstatsd.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static llmstatsd_client client;
static long calls = 1;

static void *call(void *nothing)
{
    llmstatsd_event event = LLMSTATSD_EVENT_INIT;
    long i;
    event.model = "gpt-4o";
    event.operation = "chat";
    event.duration_seconds = 1.84;
    event.tokens = 230;
    event.prompt_tokens = 200;
    event.completion_tokens = 30;
    event.cached_tokens = 128;
    event.cost_dollars = 0.0123;
    event.load_duration_seconds = 0.5;
    event.prompt_eval_duration_seconds = 0.12;
    event.total_duration_seconds = 1.8;
    event.time_to_first_token_seconds = 0.3;
    event.time_per_output_token_seconds = 0.0375;
    event.error = "timeout";
    event.rate_limited = true;
    event.fallback = true;
    for (i = 0; i < calls; i++)
        llmstatsd_send(&client, &event);
    return nothing;
}

static void print_stats(const llmstatsd_stats *s)
{
    printf("{\"events\": %" PRIu64 ", \"refused_fields\": %" PRIu64
           ", \"closed_events\": %" PRIu64 ", \"sent_datagrams\": %" PRIu64
           ", \"sent_bytes\": %" PRIu64 ", \"dropped_full\": %" PRIu64
           ", \"dropped_unresolved\": %" PRIu64 ", \"dropped_unreachable\": %" PRIu64
           ", \"dropped_error\": %" PRIu64 "}\n",
           s->events, s->refused_fields, s->closed_events, s->sent_datagrams, s->sent_bytes,
           s->dropped_full, s->dropped_unresolved, s->dropped_unreachable, s->dropped_error);
}

int main(int count, char **arguments)
{
    enum { MAX_THREADS = 256 };
    pthread_t threads[MAX_THREADS];
    llmstatsd_options options;
    llmstatsd_stats stats;
    int wanted = 1, started = 0, i;
    memset(&options, 0, sizeof options);
    for (i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--buffered") == 0)
            options.buffered = true;
        else if (i + 1 < count && strcmp(arguments[i], "--threads") == 0)
            wanted = atoi(arguments[++i]);
        else if (i + 1 < count && strcmp(arguments[i], "--calls") == 0)
            calls = atol(arguments[++i]);
    }
    llmstatsd_init(&client, &options);
    while (started < wanted && started < MAX_THREADS &&
           pthread_create(&threads[started], NULL, call, NULL) == 0)
        started++;
    for (i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    llmstatsd_close(&client);
    stats = llmstatsd_get_stats(&client);
    print_stats(&stats);
    return 0;
}

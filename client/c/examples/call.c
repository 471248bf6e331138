/* A call timed around a function that stands for the LLM.
 *
 *     cc -O2 -o call client/c/examples/call.c && ./call
 *
 * Without a daemon it runs as well: that is the point. `llmstatsd tap` shows what arrives. */
#define LLMSTATSD_IMPLEMENTATION
#include "../llmstatsd.h"

#include <stdio.h>

struct answer {
    const char *text;
    const char *error; /* NULL if there is none */
    int prompt_tokens, completion_tokens;
};

static struct answer ask(const char *question)
{
    struct answer answer = {"As a pretended model, I do not know.", NULL, 12, 9};
    struct timespec pause = {0, 50 * 1000 * 1000};
    (void)question;
    nanosleep(&pause, NULL);
    return answer;
}

int main(void)
{
    llmstatsd_client client;
    llmstatsd_event event = LLMSTATSD_EVENT_INIT;
    llmstatsd_stats stats;
    struct answer answer;
    double begin;

    llmstatsd_init(&client, NULL);

    begin = llmstatsd_monotonic_seconds();
    answer = ask("What is the meaning of all this?");
    event.model = "gpt-4o";
    event.operation = "chat";
    event.duration_seconds = llmstatsd_monotonic_seconds() - begin;
    event.prompt_tokens = answer.prompt_tokens;
    event.completion_tokens = answer.completion_tokens;
    event.error = answer.error;
    llmstatsd_send(&client, &event);
    puts(answer.text);

    llmstatsd_close(&client);
    stats = llmstatsd_get_stats(&client);
    printf("%lu sent, %lu not resolved\n", (unsigned long)stats.sent_datagrams,
           (unsigned long)stats.dropped_unresolved);
    return 0;
}

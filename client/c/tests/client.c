/* The client on real sockets of the loopback interface, with a clock and a name service that
 * the tests hold in their hands.
 *
 *     cc -O2 -pthread -o client client/c/tests/client.c && ./client
 *
 * Prints each check that fails, with the fact that it belongs to; exits with 1 if one does. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* mkdtemp, setenv */
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int test_clock(clockid_t clock, struct timespec *now);
static int test_lookup(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **found);
static void test_lookup_free(struct addrinfo *found);
#define clock_gettime test_clock
#define getaddrinfo test_lookup
#define freeaddrinfo test_lookup_free
#define LLMSTATSD_IMPLEMENTATION
#include "../llmstatsd.h"
#undef clock_gettime
#undef getaddrinfo
#undef freeaddrinfo

static const char *fact;
static int wrong;

#define CHECK(condition)                                                                         \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            printf("%s: line %d: %s\n", fact, __LINE__, #condition);                             \
            wrong++;                                                                             \
        }                                                                                        \
    } while (0)

/* ---- what the tests hold in their hands ---- */

static double seconds_now = 1000;
static double seconds_of_look_up;
static int look_ups;
static struct in_addr addresses[2]; /* of the host; no more than address_count */
static int address_count;
static bool ipv6_first;

static int test_clock(clockid_t clock, struct timespec *now)
{
    (void)clock;
    now->tv_sec = (time_t)seconds_now;
    now->tv_nsec = (long)((seconds_now - (double)now->tv_sec) * 1e9);
    return 0;
}

static struct addrinfo *new_found(int family, const void *address, size_t bytes,
                                  struct addrinfo *next)
{
    struct addrinfo *found = (struct addrinfo *)calloc(1, sizeof *found);
    struct sockaddr *copy = (struct sockaddr *)calloc(1, bytes);
    memcpy(copy, address, bytes);
    found->ai_family = family;
    found->ai_addr = copy;
    found->ai_addrlen = (socklen_t)bytes;
    found->ai_next = next;
    return found;
}

static struct addrinfo *test_answer(void)
{
    struct addrinfo *answer = NULL;
    int i;
    for (i = address_count - 1; i >= 0; i--) {
        struct sockaddr_in v4;
        memset(&v4, 0, sizeof v4);
        v4.sin_family = AF_INET;
        v4.sin_addr = addresses[i];
        answer = new_found(AF_INET, &v4, sizeof v4, answer);
    }
    if (ipv6_first) {
        struct sockaddr_in6 v6;
        memset(&v6, 0, sizeof v6);
        v6.sin6_family = AF_INET6;
        v6.sin6_addr = in6addr_loopback;
        answer = new_found(AF_INET6, &v6, sizeof v6, answer);
    }
    return answer;
}

static int test_lookup(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **found)
{
    struct in_addr v4;
    (void)port;
    if (hints->ai_flags & AI_NUMERICHOST) { /* no look-up: the text itself is the address */
        struct sockaddr_in address;
        if (inet_pton(AF_INET, host, &v4) != 1)
            return EAI_NONAME;
        memset(&address, 0, sizeof address);
        address.sin_family = AF_INET;
        address.sin_addr = v4;
        *found = new_found(AF_INET, &address, sizeof address, NULL);
        return 0;
    }
    look_ups++;
    seconds_now += seconds_of_look_up;
    *found = test_answer();
    return *found != NULL ? 0 : EAI_NONAME;
}

static void test_lookup_free(struct addrinfo *found)
{
    while (found != NULL) {
        struct addrinfo *next = found->ai_next;
        free(found->ai_addr);
        free(found);
        found = next;
    }
}

static void host_has(const char *address)
{
    address_count = address != NULL;
    if (address != NULL)
        inet_pton(AF_INET, address, &addresses[0]);
}

/* ---- receivers ---- */

static int udp_receiver(const char *address, int *port)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in at;
    socklen_t bytes = sizeof at;
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_port = htons((uint16_t)*port);
    inet_pton(AF_INET, address, &at.sin_addr);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        perror("bind");
        exit(2);
    }
    getsockname(fd, (struct sockaddr *)&at, &bytes);
    *port = ntohs(at.sin_port);
    return fd;
}

static int unix_receiver(const char *path)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct sockaddr_un at;
    memset(&at, 0, sizeof at);
    at.sun_family = AF_UNIX;
    strcpy(at.sun_path, path);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        perror("bind");
        exit(2);
    }
    return fd;
}

static char received[65536];

/* The next datagram, NUL-terminated; its bytes, or -1 if there is none: loopback delivers at
 * once, so that nothing has to be waited for. */
static long receive(int fd)
{
    long bytes = (long)recv(fd, received, sizeof received - 1, MSG_DONTWAIT);
    received[bytes > 0 ? bytes : 0] = '\0';
    return bytes;
}

static int count_received(int fd)
{
    int n = 0;
    while (receive(fd) >= 0)
        n++;
    return n;
}

/* ---- clients ---- */

static const llmstatsd_event nothing = LLMSTATSD_EVENT_INIT;
static llmstatsd_client client;

static llmstatsd_options no_options(void)
{
    llmstatsd_options options;
    memset(&options, 0, sizeof options);
    return options;
}

static void clear_environment(void)
{
    static const char *const names[] = {
        "LLMSTATSD_SOCKET", "LLMSTATSD_HOST",    "LLMSTATSD_PORT", "LLMSTATSD_DISABLE",
        "DD_AGENT_HOST",    "DD_DOGSTATSD_PORT", "STATSD_HOST",    "STATSD_PORT",
    };
    size_t i;
    for (i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

static void init_to(const char *host, int port)
{
    llmstatsd_options options = no_options();
    options.host = host;
    options.port = port;
    llmstatsd_init(&client, &options);
}

static void init_buffered(int port)
{
    llmstatsd_options options = no_options();
    options.port = port;
    options.buffered = true;
    llmstatsd_init(&client, &options);
}

static void send_model(const char *model)
{
    llmstatsd_event event = LLMSTATSD_EVENT_INIT;
    event.model = model;
    llmstatsd_send(&client, &event);
}

static llmstatsd_stats end_client(void)
{
    llmstatsd_close(&client);
    return llmstatsd_get_stats(&client);
}

/* ---- events ---- */

static const char *encoded(const llmstatsd_event *event)
{
    static char lines[LLMSTATSD_MAX_EVENT_BYTES + 1];
    lines[llmstatsd_encode(event, lines, sizeof lines - 1, NULL)] = '\0';
    return lines;
}

static void in_an_event_of_zero_bytes_a_number_0_is_missing(void)
{
    llmstatsd_event event;
    memset(&event, 0, sizeof event);
    CHECK(strcmp(encoded(&event), "llm_request_total:1|c") == 0);
    event.model = "m";
    event.tokens = 7;
    event.duration_seconds = 0.5;
    CHECK(strcmp(encoded(&event), "llm_request_total:1|c|#model:m\n"
                                  "llm_request_duration_seconds:500|ms|#model:m\n"
                                  "llm_tokens_total:7|c|#model:m") == 0);
}

static void a_text_may_have_an_end_instead_of_a_nul(void)
{
    llmstatsd_event event = LLMSTATSD_EVENT_INIT;
    event.model = "gpt-4o and more";
    event.model_end = event.model + 6;
    event.operation = "chat";
    event.operation_end = event.operation;
    event.error = "timeouts";
    event.error_end = event.error + 7;
    CHECK(strcmp(encoded(&event), "llm_request_total:1|c|#model:gpt-4o\n"
                                  "llm_error_total:1|c|#model:gpt-4o,type:timeout") == 0);
}

static void the_start_of_an_error_type_is_other(void)
{
    llmstatsd_event event = LLMSTATSD_EVENT_INIT;
    event.error = "time";
    CHECK(strstr(encoded(&event), "type:other") != NULL);
    event.error = "timeout_";
    CHECK(strstr(encoded(&event), "type:other") != NULL);
}

static void bytes_that_are_not_utf_8_become_an_underscore_each(void)
{
    static const struct { const char *bytes, *label; } cases[] = {
        {"a\xFF" "b", "a_b"},
        {"\x80\xBF", "__"},
        {"\xC0\xAF", "__"},          /* overlong */
        {"\xE0\x80\xAF", "___"},     /* overlong */
        {"\xF0\x82\x82\xAC", "____"}, /* overlong */
        {"\xED\xA0\x80", "___"},     /* a surrogate */
        {"\xF4\x90\x80\x80", "____"}, /* over U+10FFFF */
        {"\xF5\x80\x80\x80", "____"},
        {"\xE6\xA8", "__"},          /* cut off */
        {"\xE6\xA8|", "___"},
        {"\xC3\xC3\xBC", "_\xC3\xBC"},
        {"\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF"},
        {"\xED\x9F\xBF\xEE\x80\x80", "\xED\x9F\xBF\xEE\x80\x80"},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        llmstatsd_event event = LLMSTATSD_EVENT_INIT;
        char line[64] = "llm_request_total:1|c|#model:";
        event.model = cases[i].bytes;
        CHECK(strcmp(encoded(&event), strcat(line, cases[i].label)) == 0);
    }
}

static void a_text_of_1_mb_is_cut(void)
{
    char *text = (char *)malloc(1 << 20);
    llmstatsd_event event = LLMSTATSD_EVENT_INIT;
    memset(text, 0xFF, 1 << 20); /* without a NUL */
    event.model = event.operation = event.error = text;
    event.model_end = event.operation_end = event.error_end = text + (1 << 20);
    CHECK(strlen(encoded(&event)) == strlen("llm_request_total:1|c|#model:,operation:\n"
                                            "llm_error_total:1|c|#model:,type:other") + 3 * 128);
    free(text);
}

static llmstatsd_event longest_event(char *text)
{
    llmstatsd_event event = LLMSTATSD_EVENT_INIT;
    int i;
    for (i = 0; i < 128; i++)
        memcpy(text + 4 * i, "\xF0\x9F\x98\x80", 4);
    text[512] = '\0';
    event.model = event.operation = text;
    event.duration_seconds = event.load_duration_seconds = 999999999.999999;
    event.prompt_eval_duration_seconds = event.total_duration_seconds = 999999999.999999;
    event.time_to_first_token_seconds = event.time_per_output_token_seconds = 999999999.999999;
    event.tokens = event.prompt_tokens = 9007199254740991;
    event.completion_tokens = event.cached_tokens = 9007199254740991;
    event.cost_dollars = 999999.999999999;
    event.error = "invalid_response";
    event.rate_limited = event.fallback = true;
    return event;
}

static void every_event_fits_into_the_promised_bytes(void)
{
    char text[513], small[100];
    llmstatsd_event event = longest_event(text);
    CHECK(strlen(encoded(&event)) > 9000);
    CHECK(strstr(encoded(&event), "llm_fallback_total:1|c") != NULL);
    CHECK(llmstatsd_encode(&event, small, sizeof small, NULL) == 0);
}

static void refused_fields_are_counted(void)
{
    llmstatsd_event event = LLMSTATSD_EVENT_INIT;
    llmstatsd_stats stats;
    init_to("127.0.0.1", 9);
    event.duration_seconds = (double)NAN;
    event.cost_dollars = (double)INFINITY;
    event.tokens = -1;
    event.total_duration_seconds = 5;
    llmstatsd_send(&client, &event);
    stats = end_client();
    CHECK(stats.events == 1);
    CHECK(stats.refused_fields == 3);
}

/* ---- settings ---- */

/* Where a client with these options sends to, as "host:port", "path" or "impossible". */
static const char *destination(const llmstatsd_options *options)
{
    static char text[512];
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&client.address;
    llmstatsd_init(&client, options);
    if (!client.possible)
        return "impossible";
    if (client.host[0] != '\0')
        snprintf(text, sizeof text, "%s:%d", client.host, client.port);
    else if (client.address.ss_family == AF_UNIX)
        snprintf(text, sizeof text, "%s", ((struct sockaddr_un *)&client.address)->sun_path);
    else
        snprintf(text, sizeof text, "%s:%d", inet_ntoa(v4->sin_addr), ntohs(v4->sin_port));
    return text;
}

#define SENDS_TO(expected) CHECK(strcmp(destination(NULL), expected) == 0)

static void the_first_variable_that_is_there_decides(void)
{
    SENDS_TO("127.0.0.1:8125");
    setenv("STATSD_HOST", "statsd", 1);
    SENDS_TO("statsd:8125");
    setenv("STATSD_PORT", "1", 1);
    SENDS_TO("statsd:1");
    setenv("DD_DOGSTATSD_PORT", "2", 1);
    SENDS_TO("127.0.0.1:2");
    setenv("DD_AGENT_HOST", "dd", 1);
    SENDS_TO("dd:2");
    setenv("LLMSTATSD_PORT", "65535", 1);
    SENDS_TO("127.0.0.1:65535");
    setenv("LLMSTATSD_HOST", "llm", 1);
    SENDS_TO("llm:65535");
    setenv("LLMSTATSD_SOCKET", "/run/a socket", 1);
    SENDS_TO("/run/a socket");
}

static void an_empty_variable_is_missing(void)
{
    setenv("LLMSTATSD_SOCKET", "", 1);
    setenv("LLMSTATSD_HOST", "", 1);
    setenv("LLMSTATSD_PORT", "", 1);
    setenv("DD_AGENT_HOST", "dd", 1);
    SENDS_TO("dd:8125");
}

static void a_port_variable_that_is_no_port_is_missing(void)
{
    static const char *const ports[] = {"udp://10.0.0.1:8125", "0", "65536", "-1", " 8125",
                                        "8125 ", "81.5", "99999999999999999999"};
    size_t i;
    setenv("DD_AGENT_HOST", "dd", 1);
    for (i = 0; i < sizeof ports / sizeof *ports; i++) {
        setenv("LLMSTATSD_PORT", ports[i], 1);
        SENDS_TO("dd:8125");
    }
}

static void an_option_beats_the_variables(void)
{
    llmstatsd_options options = no_options();
    setenv("LLMSTATSD_SOCKET", "/run/other", 1);
    setenv("LLMSTATSD_PORT", "7", 1);
    options.host = "mine";
    CHECK(strcmp(destination(&options), "mine:8125") == 0);
    options.port = 5;
    CHECK(strcmp(destination(&options), "mine:5") == 0);
    options.socket = "/run/mine";
    CHECK(strcmp(destination(&options), "/run/mine") == 0);
}

static void a_destination_that_cannot_be_is_counted(void)
{
    char text[400];
    llmstatsd_options options = no_options();
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    options.port = 65536;
    CHECK(strcmp(destination(&options), "impossible") == 0);
    options.port = -1;
    CHECK(strcmp(destination(&options), "impossible") == 0);
    options.port = 0;
    options.host = text;
    CHECK(strcmp(destination(&options), "impossible") == 0);
    options.socket = text;
    CHECK(strcmp(destination(&options), "impossible") == 0);
    llmstatsd_send(&client, &nothing);
    CHECK(end_client().dropped_unresolved == 1);
}

static void a_disabled_client_counts_events_and_opens_no_socket(void)
{
    static const char *const on[] = {"1", "true", "YES", "On"};
    static const char *const off[] = {"", "0", "false", "no", "2", "truely"};
    size_t i;
    for (i = 0; i < 4; i++) {
        setenv("LLMSTATSD_DISABLE", on[i], 1);
        llmstatsd_init(&client, NULL);
        llmstatsd_send(&client, &nothing);
        CHECK(client.fd == -1);
        CHECK(end_client().events == 1);
        CHECK(end_client().sent_datagrams == 0);
    }
    for (i = 0; i < 6; i++) {
        setenv("LLMSTATSD_DISABLE", off[i], 1);
        llmstatsd_init(&client, NULL);
        CHECK(!client.disabled);
    }
}

/* ---- sending ---- */

static void an_event_is_one_datagram(void)
{
    int port = 0, receiver = udp_receiver("127.0.0.1", &port);
    llmstatsd_stats stats;
    init_to("127.0.0.1", port);
    send_model("llama3:8b");
    CHECK(receive(receiver) == 38);
    CHECK(strcmp(received, "llm_request_total:1|c|#model:llama3:8b") == 0);
    CHECK(count_received(receiver) == 0);
    stats = end_client();
    CHECK(stats.sent_datagrams == 1 && stats.sent_bytes == 38);
    CHECK(look_ups == 0);
    close(receiver);
}

static void an_event_over_one_datagram_is_cut_between_lines(void)
{
    char text[513];
    int port = 0, receiver = udp_receiver("127.0.0.1", &port), datagrams = 0;
    llmstatsd_event event = longest_event(text);
    long bytes, all = 0;
    init_to("127.0.0.1", port);
    llmstatsd_send(&client, &event);
    while ((bytes = receive(receiver)) >= 0) {
        CHECK(bytes <= 1432 && strncmp(received, "llm_", 4) == 0);
        CHECK(received[bytes - 1] != '\n');
        datagrams++;
        all += bytes + 1;
    }
    CHECK(datagrams > 5 && all == (long)strlen(encoded(&event)) + 1);
    CHECK(end_client().sent_datagrams == (uint64_t)datagrams);
    close(receiver);
}

static void nobody_listening_does_no_harm(void)
{
    int port = 0, i;
    llmstatsd_stats stats;
    close(udp_receiver("127.0.0.1", &port));
    init_to("127.0.0.1", port);
    for (i = 0; i < 100; i++)
        send_model("m");
    stats = end_client();
    CHECK(stats.sent_datagrams + stats.dropped_unreachable == 100);
    CHECK(stats.sent_datagrams > 0);
}

static void a_closed_client_counts_its_events(void)
{
    int port = 0, receiver = udp_receiver("127.0.0.1", &port);
    llmstatsd_stats stats;
    init_to("127.0.0.1", port);
    send_model("m");
    llmstatsd_close(&client);
    send_model("m");
    llmstatsd_flush(&client);
    stats = end_client();
    CHECK(stats.events == 2 && stats.closed_events == 1 && stats.sent_datagrams == 1);
    CHECK(client.fd == -1);
    CHECK(count_received(receiver) == 1);
    close(receiver);
}

static void null_is_nothing(void)
{
    init_to("127.0.0.1", 9);
    llmstatsd_send(&client, NULL);
    llmstatsd_send(NULL, &nothing);
    llmstatsd_flush(NULL);
    llmstatsd_close(NULL);
    CHECK(llmstatsd_get_stats(NULL).events == 0);
    CHECK(end_client().events == 0);
}

static void a_forked_child_sends_too(void)
{
    int port = 0, receiver = udp_receiver("127.0.0.1", &port), status = -1;
    pid_t child;
    init_buffered(port);
    send_model("parent");
    child = fork();
    if (child == 0) {
        send_model("child");
        llmstatsd_close(&client);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(receive(receiver) > 0 && strstr(received, "child") && !strstr(received, "parent"));
    llmstatsd_close(&client);
    CHECK(receive(receiver) > 0 && strstr(received, "parent") && !strstr(received, "child"));
    CHECK(count_received(receiver) == 0);
    close(receiver);
}

static void the_socket_is_not_inherited_by_other_programs(void)
{
    init_to("127.0.0.1", 9);
    send_model("m");
    CHECK(fcntl(client.fd, F_GETFD) & FD_CLOEXEC);
    end_client();
}

static void *send_1000(void *unused)
{
    int i;
    for (i = 0; i < 1000; i++)
        send_model("threads");
    return unused;
}

static void threads_share_a_client(void)
{
    int port = 0, receiver = udp_receiver("127.0.0.1", &port), i, got = 0;
    pthread_t threads[8];
    llmstatsd_stats stats;
    init_to("127.0.0.1", port);
    for (i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, send_1000, NULL);
    for (i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    stats = end_client();
    CHECK(stats.events == 8000);
    CHECK(stats.sent_datagrams + stats.dropped_full == 8000);
    got = count_received(receiver); /* the receiver's buffer holds fewer */
    CHECK(got > 0 && (uint64_t)got <= stats.sent_datagrams);
    close(receiver);
}

/* ---- unix sockets ---- */

static char folder[] = P_tmpdir "/llmstatsd-XXXXXX";
static char path[64];

static void init_to_path(void)
{
    llmstatsd_options options = no_options();
    options.socket = path;
    llmstatsd_init(&client, &options);
}

static void a_unix_socket_takes_8192_bytes(void)
{
    char text[513];
    int receiver = unix_receiver(path);
    llmstatsd_event event = longest_event(text);
    init_to_path();
    llmstatsd_send(&client, &event);
    CHECK(receive(receiver) > 7000);
    CHECK(receive(receiver) > 0);
    CHECK(end_client().sent_datagrams == 2);
    close(receiver);
    unlink(path);
}

static void a_full_unix_socket_is_a_counted_drop(void)
{
    int receiver = unix_receiver(path), i;
    llmstatsd_stats stats;
    init_to_path();
    for (i = 0; i < 5000; i++)
        send_model("m");
    stats = end_client();
    CHECK(stats.dropped_full > 0);
    CHECK(stats.dropped_full + stats.sent_datagrams == 5000);
    CHECK((uint64_t)count_received(receiver) == stats.sent_datagrams);
    close(receiver);
    unlink(path);
}

static void a_unix_socket_is_connected_again_once_a_second(void)
{
    int receiver;
    llmstatsd_stats stats;
    init_to_path();
    send_model("too early");
    receiver = unix_receiver(path);
    send_model("too early, too");
    stats = llmstatsd_get_stats(&client);
    CHECK(stats.dropped_unreachable == 2);
    seconds_now += 1;
    send_model("in time");
    CHECK(receive(receiver) > 0 && strstr(received, "in time"));
    close(receiver);
    unlink(path);
    receiver = unix_receiver(path); /* the daemon was restarted */
    send_model("again");
    CHECK(receive(receiver) > 0 && strstr(received, "again"));
    stats = end_client();
    CHECK(stats.sent_datagrams == 2 && stats.dropped_unreachable == 2);
    close(receiver);
    unlink(path);
}

/* ---- names ---- */

static void a_name_is_looked_up_every_60_seconds(void)
{
    int port = 0, first = udp_receiver("127.0.0.1", &port);
    int second = udp_receiver("127.0.0.2", &port);
    host_has("127.0.0.1");
    init_to("a-host", port);
    CHECK(look_ups == 0);
    send_model("m");
    seconds_now += 59;
    host_has("127.0.0.2");
    send_model("m");
    CHECK(look_ups == 1 && count_received(first) == 2);
    seconds_now += 1.5;
    send_model("m");
    CHECK(look_ups == 2 && count_received(first) == 0 && count_received(second) == 1);
    CHECK(end_client().sent_datagrams == 3);
    close(first);
    close(second);
}

static void the_last_address_stays_when_a_name_is_lost(void)
{
    int port = 0, receiver = udp_receiver("127.0.0.1", &port);
    host_has("127.0.0.1");
    init_to("a-host", port);
    send_model("m");
    seconds_now += 61;
    host_has(NULL);
    send_model("m");
    CHECK(look_ups == 2 && count_received(receiver) == 2);
    CHECK(end_client().dropped_unresolved == 0);
    close(receiver);
}

static void a_name_without_address_is_looked_up_again_after_a_second(void)
{
    int port = 0, receiver = udp_receiver("127.0.0.1", &port);
    llmstatsd_stats stats;
    init_to("a-host", port);
    send_model("m");
    send_model("m");
    CHECK(look_ups == 1);
    seconds_now += 1;
    host_has("127.0.0.1");
    send_model("m");
    CHECK(look_ups == 2 && count_received(receiver) == 1);
    stats = end_client();
    CHECK(stats.dropped_unresolved == 2 && stats.sent_datagrams == 1);
    close(receiver);
}

static void a_slow_look_up_is_tried_less_often(void)
{
    init_to("a-host", 9);
    seconds_of_look_up = 0.2;
    send_model("m");
    seconds_now += 19;
    send_model("m");
    CHECK(look_ups == 1);
    seconds_now += 1.5;
    seconds_of_look_up = 10;
    send_model("m");
    CHECK(look_ups == 2);
    seconds_now += 59;
    send_model("m");
    CHECK(look_ups == 2);
    seconds_now += 1.5;
    send_model("m");
    CHECK(look_ups == 3);
    CHECK(end_client().dropped_unresolved == 5);
}

static void a_refusal_makes_the_name_be_looked_up_again(void)
{
    int port = 0, gone = udp_receiver("127.0.0.1", &port);
    int receiver = udp_receiver("127.0.0.2", &port);
    host_has("127.0.0.1");
    init_to("a-host", port);
    close(gone);
    send_model("refused by ICMP");
    send_model("sees the refusal");
    host_has("127.0.0.2");
    seconds_now += 1;
    send_model("m");
    CHECK(look_ups == 2 && count_received(receiver) == 1);
    end_client();
    close(receiver);
}

static void ipv4_is_preferred(void)
{
    int port = 0, receiver = udp_receiver("127.0.0.1", &port);
    host_has("127.0.0.1");
    ipv6_first = true;
    init_to("a-host", port);
    send_model("m");
    CHECK(count_received(receiver) == 1);
    end_client();
    close(receiver);
}

/* ---- buffered ---- */

static void buffered_calls_share_a_datagram(void)
{
    int port = 0, receiver = udp_receiver("127.0.0.1", &port);
    init_buffered(port);
    send_model("a");
    send_model("b");
    CHECK(count_received(receiver) == 0);
    llmstatsd_flush(&client);
    CHECK(receive(receiver) > 0);
    CHECK(strcmp(received, "llm_request_total:1|c|#model:a\nllm_request_total:1|c|#model:b") == 0);
    llmstatsd_flush(&client);
    CHECK(count_received(receiver) == 0);
    send_model("c");
    CHECK(end_client().sent_datagrams == 2);
    CHECK(receive(receiver) > 0 && strcmp(received, "llm_request_total:1|c|#model:c") == 0);
    close(receiver);
}

static void a_full_buffer_is_sent(void)
{
    int port = 0, receiver = udp_receiver("127.0.0.1", &port), i;
    init_buffered(port);
    for (i = 0; i < 46; i++)
        send_model("a"); /* 30 bytes and a line end each: 46 make 1425 */
    CHECK(count_received(receiver) == 0);
    send_model("b");
    CHECK(receive(receiver) == 1425 && strstr(received, "model:b") == NULL);
    CHECK(count_received(receiver) == 0);
    llmstatsd_close(&client);
    CHECK(receive(receiver) == 30 && strstr(received, "model:b") != NULL);
    close(receiver);
}

static void a_send_flushes_what_is_300_ms_old(void)
{
    int port = 0, receiver = udp_receiver("127.0.0.1", &port);
    init_buffered(port);
    send_model("a");
    seconds_now += 0.2;
    send_model("b");
    CHECK(count_received(receiver) == 0);
    seconds_now += 0.15;
    send_model("c");
    CHECK(receive(receiver) == 61);
    CHECK(count_received(receiver) == 0);
    llmstatsd_close(&client);
    CHECK(receive(receiver) == 30);
    close(receiver);
}

static void an_event_larger_than_the_buffer_is_sent_at_once(void)
{
    char text[513];
    int port = 0, receiver = udp_receiver("127.0.0.1", &port);
    llmstatsd_event event = longest_event(text);
    init_buffered(port);
    send_model("a");
    llmstatsd_send(&client, &event);
    CHECK(receive(receiver) == 30);
    CHECK(count_received(receiver) > 5);
    CHECK(client.buffer_bytes == 0);
    end_client();
    close(receiver);
}

static const struct {
    const char *fact;
    void (*test)(void);
} tests[] = {
#define TEST(name) {#name, name}
    TEST(in_an_event_of_zero_bytes_a_number_0_is_missing),
    TEST(a_text_may_have_an_end_instead_of_a_nul),
    TEST(the_start_of_an_error_type_is_other),
    TEST(bytes_that_are_not_utf_8_become_an_underscore_each),
    TEST(a_text_of_1_mb_is_cut),
    TEST(every_event_fits_into_the_promised_bytes),
    TEST(refused_fields_are_counted),
    TEST(the_first_variable_that_is_there_decides),
    TEST(an_empty_variable_is_missing),
    TEST(a_port_variable_that_is_no_port_is_missing),
    TEST(an_option_beats_the_variables),
    TEST(a_destination_that_cannot_be_is_counted),
    TEST(a_disabled_client_counts_events_and_opens_no_socket),
    TEST(an_event_is_one_datagram),
    TEST(an_event_over_one_datagram_is_cut_between_lines),
    TEST(nobody_listening_does_no_harm),
    TEST(a_closed_client_counts_its_events),
    TEST(null_is_nothing),
    TEST(a_forked_child_sends_too),
    TEST(the_socket_is_not_inherited_by_other_programs),
    TEST(threads_share_a_client),
    TEST(a_unix_socket_takes_8192_bytes),
    TEST(a_full_unix_socket_is_a_counted_drop),
    TEST(a_unix_socket_is_connected_again_once_a_second),
    TEST(a_name_is_looked_up_every_60_seconds),
    TEST(the_last_address_stays_when_a_name_is_lost),
    TEST(a_name_without_address_is_looked_up_again_after_a_second),
    TEST(a_slow_look_up_is_tried_less_often),
    TEST(a_refusal_makes_the_name_be_looked_up_again),
    TEST(ipv4_is_preferred),
    TEST(buffered_calls_share_a_datagram),
    TEST(a_full_buffer_is_sent),
    TEST(a_send_flushes_what_is_300_ms_old),
    TEST(an_event_larger_than_the_buffer_is_sent_at_once),
};

int main(void)
{
    size_t i, count = sizeof tests / sizeof *tests;
    if (mkdtemp(folder) == NULL)
        return 2;
    snprintf(path, sizeof path, "%s/socket", folder);
    for (i = 0; i < count; i++) {
        clear_environment();
        seconds_of_look_up = 0;
        look_ups = address_count = 0;
        ipv6_first = false;
        fact = tests[i].fact;
        tests[i].test();
    }
    rmdir(folder);
    printf("%d tests, %d checks wrong\n", (int)count, wrong);
    return wrong > 0;
}

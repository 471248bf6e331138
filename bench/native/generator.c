/*
 * A load of UDP datagrams that outruns every receiver.
 *
 *     generator PORT SEGMENTS RATE DATAGRAMS SECONDS < datagrams
 *
 * Reads datagrams from standard input, each behind its length (u32, native order), and sends them
 * round and round to 127.0.0.1:PORT until DATAGRAMS are sent, SECONDS have passed, or SIGTERM or
 * SIGINT comes. RATE is datagrams per second, 0 for as fast as the kernel takes them.
 * Then it prints {"datagrams": n, "seconds": s}.
 *
 * One system call per datagram costs a sender more than a good receiver spends on it. So datagrams
 * of equal length that follow each other go to the kernel as one super-packet of up to SEGMENTS,
 * which it cuts apart again on the way (UDP_SEGMENT, udp(7)); the receiver sees no difference.
 * Datagrams of mixed lengths are sent as well, only slower: put equal lengths together.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT /* Linux 4.18; C libraries name it in different headers, or not at all */
#define UDP_SEGMENT 103
#endif

enum {
    SEGMENTS_MOST = 64,    /* UDP_MAX_SEGMENTS of every kernel that has UDP_SEGMENT */
    DATAGRAM_MOST = 65507, /* what an IPv4 packet leaves after its own header and that of UDP */
    PAYLOAD_MOST = 1 << 30,
};
static const double SLEEP_LEAST = 50e-6;  /* seconds; a shorter wait is spun, waking takes longer */
static const double BEHIND_MOST = 2e-3;   /* seconds; see catch_up */

struct packet {
    const char *data;
    size_t segment; /* bytes of each datagram in it */
    long segments;
};

struct payload {
    char *bytes;
    size_t *lengths;
    size_t size, count;
};

struct load {
    double rate, seconds;
    long datagrams;
};

static volatile sig_atomic_t over;

static void end(int signal_number)
{
    (void)signal_number;
    over = 1;
}

static void fail(const char *what)
{
    fprintf(stderr, "generator: %s\n", what);
    exit(1);
}

static void fail_errno(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *grown(void *memory, size_t used, size_t more, size_t *room)
{
    if (used + more <= *room)
        return memory;
    *room = 2 * (used + more);
    memory = realloc(memory, *room);
    if (!memory)
        fail("out of memory");
    return memory;
}

/* Datagrams end up one behind the other, so that a super-packet is a slice and is never copied. */
static struct payload read_payload(void)
{
    struct payload read = {0};
    size_t bytes_room = 0, lengths_room = 0;
    uint32_t length;
    while (fread(&length, sizeof length, 1, stdin) == 1) {
        if (length == 0 || length > DATAGRAM_MOST)
            fail("a datagram has 1 to 65507 bytes");
        if (read.size + length > PAYLOAD_MOST)
            fail("more than 1 GiB of datagrams");
        read.bytes = grown(read.bytes, read.size, length, &bytes_room);
        read.lengths = grown(read.lengths, read.count * sizeof *read.lengths,
                             sizeof *read.lengths, &lengths_room);
        if (fread(read.bytes + read.size, 1, length, stdin) != length)
            fail("the last datagram is cut short");
        read.size += length;
        read.lengths[read.count++] = length;
    }
    if (!read.count)
        fail("no datagrams on standard input");
    return read;
}

/* Returns how many packets there are; the array belongs to the process until it ends. */
static size_t pack(const struct payload *from, long segments_most, struct packet **packets)
{
    struct packet *all = calloc(from->count, sizeof *all);
    if (!all)
        fail("out of memory");
    size_t packed = 0, offset = 0;
    for (size_t number = 0; number < from->count; number++) {
        size_t length = from->lengths[number];
        struct packet *last = packed ? &all[packed - 1] : NULL;
        if (last && last->segment == length && last->segments < segments_most &&
            (size_t)(last->segments + 1) * length <= DATAGRAM_MOST)
            last->segments++;
        else
            all[packed++] = (struct packet){from->bytes + offset, length, 1};
        offset += length;
    }
    *packets = all;
    return packed;
}

static int connected(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        fail_errno("connect");
    return fd;
}

/*
 * Sends the first `segments` datagrams of a packet and returns how many went: all, or 0 when the
 * kernel had no memory for them or a signal came. The caller then tries again, and looks at its
 * bounds before it does, so that a kernel that stays full cannot hold it for ever.
 * Any other error ends the process; ECONNREFUSED means that nobody listens on the port any more.
 */
static long send_packet(int fd, const struct packet *packet, long segments)
{
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec slice = {(void *)packet->data, (size_t)segments * packet->segment};
    struct msghdr message = {.msg_iov = &slice, .msg_iovlen = 1};
    if (segments > 1) {
        uint16_t size = (uint16_t)packet->segment;
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = IPPROTO_UDP;
        header->cmsg_type = UDP_SEGMENT;
        header->cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(header), &size, sizeof size);
    }
    if (sendmsg(fd, &message, 0) >= 0)
        return segments;
    if (errno == ENOBUFS || errno == EAGAIN || errno == EINTR)
        return 0;
    fail_errno("sendmsg");
    return 0;
}

/*
 * A sender that the machine held up would send what is due at once, and that burst would be a
 * load nobody asked for. It forgives itself all but BEHIND_MOST by moving the start of its clock;
 * the report counts the true time, so the rate it gives is the one that was kept.
 */
static double catch_up(double paced_from, double due, double time)
{
    double behind = time - due;
    return behind > BEHIND_MOST ? paced_from + behind - BEHIND_MOST : paced_from;
}

static void wait_until(double due)
{
    double left = due - now();
    if (left < SLEEP_LEAST)
        return;
    struct timespec rest = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
    nanosleep(&rest, NULL); /* a signal ends it early: the loop then looks at `over` */
}

static void run(int fd, const struct packet *packets, size_t count, struct load load)
{
    long sent = 0;
    size_t next = 0;
    double started = now(), paced_from = started, time = started;
    while (!over && sent < load.datagrams && time - started < load.seconds) {
        if (load.rate > 0) {
            double due = paced_from + (double)sent / load.rate;
            if (time < due) {
                double ends = started + load.seconds;
                wait_until(due < ends ? due : ends);
                time = now();
                continue;
            }
            paced_from = catch_up(paced_from, due, time);
        }
        const struct packet *packet = &packets[next];
        long left = load.datagrams - sent;
        long went = send_packet(fd, packet, packet->segments < left ? packet->segments : left);
        if (went && ++next == count)
            next = 0;
        sent += went;
        time = now();
    }
    printf("{\"datagrams\": %ld, \"seconds\": %.6f}\n", sent, time - started);
}

static double number(const char *text, double least, double most, const char *what)
{
    char *rest;
    double value = strtod(text, &rest);
    if (rest == text || *rest || !(value >= least && value <= most))
        fail(what);
    return value;
}

int main(int count, char **words)
{
    if (count != 6)
        fail("PORT SEGMENTS RATE DATAGRAMS SECONDS");
    int port = (int)number(words[1], 1, 65535, "PORT is 1 to 65535");
    long segments = (long)number(words[2], 1, SEGMENTS_MOST, "SEGMENTS is 1 to 64");
    struct load load = {
        .rate = number(words[3], 0, 1e9, "RATE is 0 to 1e9 datagrams per second"),
        .datagrams = (long)number(words[4], 1, 1e12, "DATAGRAMS is 1 to 1e12"),
        .seconds = number(words[5], 0, 600, "SECONDS is 0 to 600"),
    };
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    prctl(PR_SET_TIMERSLACK, 1UL); /* or each rest may last 50 microseconds longer than asked */
    struct payload payload = read_payload();
    struct packet *packets;
    size_t packed = pack(&payload, segments, &packets);
    run(connected(port), packets, packed, load);
    return 0;
}

/*
 * The least that receiving can cost: recvmmsg(2) of 64 datagrams at a time, thrown away.
 *
 *     sink BUFFER_BYTES
 *
 * Binds a free port of 127.0.0.1 with a receive buffer of BUFFER_BYTES, says on standard error
 * which, and receives until SIGTERM or SIGINT, at most ten minutes. Then it prints
 * {"datagrams": n, "dropped": n}; dropped is what the kernel threw away because the buffer was
 * full. A datagram longer than a slot is cut short and counts all the same.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#ifndef SO_MEMINFO /* Linux 4.12 */
#define SO_MEMINFO 55
#endif

enum {
    BATCH = 64,
    SLOT_BYTES = 2048,
    LONGEST_SECONDS = 600,
    MEMINFO_DROPS = 8, /* SK_MEMINFO_DROPS of linux/sock_diag.h, the last of nine values */
};

static volatile sig_atomic_t over;

static void end(int signal_number)
{
    (void)signal_number;
    over = 1;
}

static void fail_errno(const char *what)
{
    perror(what);
    exit(1);
}

static int bound(int buffer_bytes)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    /* A signal between the look at `over` and the call would otherwise not be seen until the
       next datagram. While datagrams come the time never runs out. */
    struct timeval look = {.tv_usec = 100000};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &look, sizeof look) < 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) < 0)
        fail_errno("socket");
    return fd;
}

static void announce(int fd)
{
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &size) < 0)
        fail_errno("getsockname");
    fprintf(stderr, "ready: statsd_udp=127.0.0.1:%d\n", ntohs(at.sin_port));
    fflush(stderr);
}

static long receive(int fd)
{
    static char slots[BATCH][SLOT_BYTES];
    static struct iovec slices[BATCH];
    static struct mmsghdr messages[BATCH];
    for (int slot = 0; slot < BATCH; slot++) {
        slices[slot] = (struct iovec){slots[slot], SLOT_BYTES};
        messages[slot].msg_hdr.msg_iov = &slices[slot];
        messages[slot].msg_hdr.msg_iovlen = 1;
    }
    long datagrams = 0;
    while (!over) {
        int taken = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
        if (taken > 0)
            datagrams += taken;
        else if (taken < 0 && errno != EAGAIN && errno != EINTR)
            fail_errno("recvmmsg");
    }
    return datagrams;
}

static uint32_t dropped(int fd)
{
    uint32_t memory[MEMINFO_DROPS + 1] = {0};
    socklen_t size = sizeof memory;
    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &size) < 0)
        fail_errno("SO_MEMINFO");
    return memory[MEMINFO_DROPS];
}

int main(int count, char **words)
{
    int buffer_bytes = count == 2 ? atoi(words[1]) : 0;
    if (buffer_bytes < 1) {
        fprintf(stderr, "sink: BUFFER_BYTES\n");
        return 1;
    }
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    alarm(LONGEST_SECONDS);
    int fd = bound(buffer_bytes);
    announce(fd);
    long datagrams = receive(fd);
    printf("{\"datagrams\": %ld, \"dropped\": %u}\n", datagrams, (unsigned)dropped(fd));
    return 0;
}

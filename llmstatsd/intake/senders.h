/* Who sent a datagram, and whether that is in one of the networks that may send. */
#ifndef LLMSTATSD_SENDERS_H
#define LLMSTATSD_SENDERS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

/* One row of the table that senders.py makes: 4 or 6, and the bits of the address that count. */
struct Network {
    unsigned char version;
    unsigned char prefix_bits;
    unsigned char address[16];
};

static inline int has_prefix(const unsigned char *address, const struct Network *network)
{
    size_t whole = network->prefix_bits / 8, bits = network->prefix_bits % 8;
    if (memcmp(address, network->address, whole) != 0)
        return 0;
    return bits == 0 || ((address[whole] ^ network->address[whole]) >> (8 - bits)) == 0;
}

/* The sender as recvmmsg(2) gives it; one that is neither IPv4 nor IPv6 may not send. */
static inline int may_send(const struct sockaddr_storage *sender, const struct Network *networks,
                           size_t count)
{
    const unsigned char *address;
    unsigned char version = 6;
    if (sender->ss_family == AF_INET) {
        address = (const unsigned char *)&((const struct sockaddr_in *)sender)->sin_addr;
        version = 4;
    } else if (sender->ss_family == AF_INET6) {
        const struct in6_addr *found = &((const struct sockaddr_in6 *)sender)->sin6_addr;
        address = found->s6_addr;
        if (IN6_IS_ADDR_V4MAPPED(found)) {
            address += 12;
            version = 4;
        }
    } else {
        return 0;
    }
    for (size_t at = 0; at < count; at++)
        if (networks[at].version == version && has_prefix(address, &networks[at]))
            return 1;
    return 0;
}

/* The port of a sender, and its host as text; -1 of one that is neither IPv4 nor IPv6. */
static inline int place_of(const struct sockaddr_storage *sender, char host[INET6_ADDRSTRLEN])
{
    if (sender->ss_family == AF_INET) {
        const struct sockaddr_in *found = (const struct sockaddr_in *)sender;
        inet_ntop(AF_INET, &found->sin_addr, host, INET6_ADDRSTRLEN);
        return ntohs(found->sin_port);
    }
    if (sender->ss_family == AF_INET6) {
        const struct sockaddr_in6 *found = (const struct sockaddr_in6 *)sender;
        inet_ntop(AF_INET6, &found->sin6_addr, host, INET6_ADDRSTRLEN);
        return ntohs(found->sin6_port);
    }
    return -1;
}

#endif

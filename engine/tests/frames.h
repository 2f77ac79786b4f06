/* SPDX-License-Identifier: MIT
 *
 * frames.h - Ethernet frames for tests and fuzzers, with checksums by the words of RFC 1071: two octets at a time.
 */
#ifndef FRAMES_H_
#define FRAMES_H_

#include <netinet/in.h>

#include "frame.h"
#include "internal.h"

enum { ETHERNET = 14, IPV4 = 20, IPV6 = 40, UDP = 8 };

static inline unsigned sum_of(uint8_t const *p, size_t n, unsigned sum)
{
    for (size_t i = 0; i < n; i++)
        sum += i % 2 == 0 ? (unsigned)p[i] << 8 : p[i];
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static inline int is_ipv6(uint8_t const *frame)
{
    return load16(frame + 12) == 0x86dd;
}

static inline uint8_t *udp_of(uint8_t *frame)
{
    return frame + ETHERNET + (is_ipv6(frame) ? IPV6 : IPV4);
}

/* The sum of the pseudo-header and of n octets of the UDP packet. */
static inline unsigned udp_sum(uint8_t const *frame, size_t n)
{
    size_t const ip_len = is_ipv6(frame) ? IPV6 : IPV4, addresses = is_ipv6(frame) ? 32 : 8;
    uint8_t const *const udp = frame + ETHERNET + ip_len;

    return sum_of(udp, n, sum_of(udp - addresses, addresses, 17 + load16(udp + 4)));
}

/* Makes both checksums right, if the lengths make sense. */
static inline void fix_checksums(uint8_t *frame, size_t size)
{
    size_t const head = ETHERNET + (is_ipv6(frame) ? IPV6 : IPV4) + UDP;
    uint8_t *const udp = udp_of(frame);

    if (size < head)
        return;
    if (!is_ipv6(frame)) {
        store16(frame + ETHERNET + 10, 0);
        store16(frame + ETHERNET + 10, ~sum_of(frame + ETHERNET, IPV4, 0) & 0xffff);
    }
    if (load16(udp + 4) < UDP || load16(udp + 4) > size - head + UDP)
        return;
    store16(udp + 6, 0);
    store16(udp + 6, ~udp_sum(frame, load16(udp + 4)) & 0xffff);
    if (load16(udp + 6) == 0)
        store16(udp + 6, 0xffff);
}

/* A request with a payload of n octets. Returns the length of the frame. */
static inline size_t build_frame(uint8_t *frame, int ipv6, size_t n)
{
    uint8_t *ip = frame + ETHERNET, *udp = ip + (ipv6 ? IPV6 : IPV4);

    for (size_t i = 0; i < ETHERNET + IPV6 + UDP + n; i++)
        frame[i] = (uint8_t)(i * 5 + 1);
    store16(frame + 12, ipv6 ? 0x86dd : 0x0800);
    if (ipv6) {
        ip[0] = 0x60;
        store16(ip + 4, UDP + n);
        ip[6] = 17;
    } else {
        ip[0] = 0x45;
        store16(ip + 2, IPV4 + UDP + n);
        store16(ip + 6, 0x4000);
        ip[9] = 17;
    }
    store16(udp, 40000);
    store16(udp + 2, 123);
    store16(udp + 4, UDP + n);
    fix_checksums(frame, (size_t)(udp + UDP + n - frame));
    return (size_t)(udp + UDP + n - frame);
}

static inline int same_address(struct sockaddr_storage const *a, struct sockaddr_storage const *b)
{
    return memcmp(a, b, a->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)) == 0;
}

#endif

/* SPDX-License-Identifier: MIT
 *
 * frame.c - checks what the kernel's IP and UDP would have checked (RFC 791, 8200, 768, 1071), and turns the headers of
 * a request into those of its reply.
 */
#include "frame.h"

#include <netinet/in.h>

#include "internal.h"

enum { ETHERNET_LEN = 14, IPV4_LEN = 20, IPV6_LEN = 40, UDP_LEN = 8 };
enum { TYPE_IPV4 = 0x0800, TYPE_IPV6 = 0x86dd };
enum { HOP_LIMIT = 64, DONT_FRAGMENT = 0x4000, FRAGMENT_MASK = 0x3fff };

/* ---- Checksums (RFC 1071) ------------------------------------------------------------------------------ */

/* Adds octets, of which only the last run's number may be odd, to a sum in the order of this machine. */
static uint64_t add(uint64_t sum, uint8_t const *p, size_t n)
{
    uint64_t eight;
    uint16_t two = 0;

    for (; n >= sizeof eight; n -= sizeof eight, p += sizeof eight) {
        memcpy(&eight, p, sizeof eight);
        sum += (eight & UINT32_MAX) + (eight >> 32);
    }
    for (; n >= sizeof two; n -= sizeof two, p += sizeof two) {
        memcpy(&two, p, sizeof two);
        sum += two;
    }
    two = 0;
    memcpy(&two, p, n);
    return sum + two;
}

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* The pseudo-header: two addresses one after the other, protocol and length. */
static uint64_t pseudo_header(uint8_t const *addresses, size_t n, size_t udp_len)
{
    return add(htons(IPPROTO_UDP) + (uint64_t)htons((uint16_t)udp_len), addresses, n);
}

/* Whether a UDP checksum is right. It is also when it is the sum of the pseudo-header: that is how a sender on this
 * machine, behind a virtual interface, leaves it for a NIC to complete, and the kernel takes it for right too. */
static int udp_is_sound(uint8_t const *udp, size_t len, uint64_t pseudo)
{
    uint16_t sent;

    memcpy(&sent, udp + 6, sizeof sent);
    return sent == fold(pseudo) || fold(add(pseudo, udp, len)) == 0xffff;
}

/* ---- Requests ------------------------------------------------------------------------------------------ */

static void set_ipv4(struct sockaddr_storage *address, uint8_t const *ip, uint8_t const *port)
{
    struct sockaddr_in *const in = (struct sockaddr_in *)address;

    *in = (struct sockaddr_in){.sin_family = AF_INET};
    memcpy(&in->sin_addr, ip, sizeof in->sin_addr);
    memcpy(&in->sin_port, port, sizeof in->sin_port);
}

static void set_ipv6(struct sockaddr_storage *address, uint8_t const *ip, uint8_t const *port)
{
    struct sockaddr_in6 *const in6 = (struct sockaddr_in6 *)address;

    *in6 = (struct sockaddr_in6){.sin6_family = AF_INET6};
    memcpy(&in6->sin6_addr, ip, sizeof in6->sin6_addr);
    memcpy(&in6->sin6_port, port, sizeof in6->sin6_port);
}

/* Takes a datagram whose IP packet has `room` octets behind its header. */
static int open_udp(uint8_t const *udp, size_t room, uint64_t pseudo, struct frame_datagram *d)
{
    if (load16(udp + 4) != room || !udp_is_sound(udp, room, pseudo))
        return 0;
    d->length = room - UDP_LEN;
    return 1;
}

static int open_ipv4(uint8_t const *ip, size_t size, struct frame_datagram *d)
{
    uint8_t const *const udp = ip + IPV4_LEN;
    size_t total, room;

    if (size < IPV4_LEN + UDP_LEN || ip[0] != 0x45 || (load16(ip + 6) & FRAGMENT_MASK) != 0 || ip[9] != IPPROTO_UDP)
        return 0;
    total = load16(ip + 2);
    if (total < IPV4_LEN + UDP_LEN || total > size || fold(add(0, ip, IPV4_LEN)) != 0xffff)
        return 0;
    room = total - IPV4_LEN;
    d->payload = ETHERNET_LEN + IPV4_LEN + UDP_LEN;
    set_ipv4(&d->peer, ip + 12, udp);
    set_ipv4(&d->own, ip + 16, udp + 2);
    if (load16(udp + 6) == 0) { /* without a checksum, as RFC 768 allows over IPv4 */
        d->length = room - UDP_LEN;
        return load16(udp + 4) == room;
    }
    return open_udp(udp, room, pseudo_header(ip + 12, 8, room), d);
}

static int open_ipv6(uint8_t const *ip, size_t size, struct frame_datagram *d)
{
    uint8_t const *const udp = ip + IPV6_LEN;
    size_t room;

    if (size < IPV6_LEN + UDP_LEN || ip[0] >> 4 != 6 || ip[6] != IPPROTO_UDP)
        return 0;
    room = load16(ip + 4);
    if (room < UDP_LEN || room > size - IPV6_LEN || load16(udp + 6) == 0) /* RFC 8200 section 8.1: there is a checksum */
        return 0;
    d->payload = ETHERNET_LEN + IPV6_LEN + UDP_LEN;
    set_ipv6(&d->peer, ip + 8, udp);
    set_ipv6(&d->own, ip + 24, udp + 2);
    return open_udp(udp, room, pseudo_header(ip + 8, 32, room), d);
}

int nts_frame_open(uint8_t const *frame, size_t size, struct frame_datagram *datagram)
{
    if (size < ETHERNET_LEN || size > NTS_FRAME_MAX)
        return 0;
    switch (load16(frame + 12)) {
    case TYPE_IPV4:
        return open_ipv4(frame + ETHERNET_LEN, size - ETHERNET_LEN, datagram);
    case TYPE_IPV6:
        return open_ipv6(frame + ETHERNET_LEN, size - ETHERNET_LEN, datagram);
    default:
        return 0;
    }
}

/* ---- Replies ------------------------------------------------------------------------------------------- */

static void reply_udp(uint8_t const *request, uint8_t *udp, size_t length, uint8_t const *addresses, size_t n)
{
    size_t const udp_len = UDP_LEN + length;
    uint16_t sum;

    memcpy(udp, request + 2, 2);
    memcpy(udp + 2, request, 2);
    store16(udp + 4, udp_len);
    store16(udp + 6, 0);
    sum = (uint16_t)~fold(add(pseudo_header(addresses, n, udp_len), udp, udp_len));
    sum = sum == 0 ? 0xffff : sum; /* 0 would say that there is no checksum */
    memcpy(udp + 6, &sum, sizeof sum);
}

static void reply_ipv4(uint8_t const *request, uint8_t *ip, size_t length, uint16_t id)
{
    size_t const total = IPV4_LEN + UDP_LEN + length;
    uint16_t sum;

    memset(ip, 0, IPV4_LEN);
    ip[0] = 0x45;
    store16(ip + 2, total);
    store16(ip + 4, total > NTS_SHORT_PACKET ? id : 0);
    store16(ip + 6, total > NTS_SHORT_PACKET ? 0 : DONT_FRAGMENT);
    ip[8] = HOP_LIMIT;
    ip[9] = IPPROTO_UDP;
    memcpy(ip + 12, request + 16, 4);
    memcpy(ip + 16, request + 12, 4);
    sum = (uint16_t)~fold(add(0, ip, IPV4_LEN));
    memcpy(ip + 10, &sum, sizeof sum);
    reply_udp(request + IPV4_LEN, ip + IPV4_LEN, length, ip + 12, 8);
}

static void reply_ipv6(uint8_t const *request, uint8_t *ip, size_t length)
{
    memset(ip, 0, 8);
    ip[0] = 0x60;
    store16(ip + 4, UDP_LEN + length);
    ip[6] = IPPROTO_UDP;
    ip[7] = HOP_LIMIT;
    memcpy(ip + 8, request + 24, 16);
    memcpy(ip + 24, request + 8, 16);
    reply_udp(request + IPV6_LEN, ip + IPV6_LEN, length, ip + 8, 32);
}

size_t nts_frame_reply(uint8_t const *request, uint8_t *reply, size_t length, uint16_t id)
{
    uint8_t const *const ip = request + ETHERNET_LEN;

    memcpy(reply, request + 6, 6);
    memcpy(reply + 6, request, 6);
    memcpy(reply + 12, request + 12, 2);
    if (load16(request + 12) == TYPE_IPV4) {
        reply_ipv4(ip, reply + ETHERNET_LEN, length, id);
        return ETHERNET_LEN + IPV4_LEN + UDP_LEN + length;
    }
    reply_ipv6(ip, reply + ETHERNET_LEN, length);
    return ETHERNET_LEN + IPV6_LEN + UDP_LEN + length;
}

/* SPDX-License-Identifier: MIT
 *
 * frame.c - which frames hold a sound datagram, by a table of single faults; what the headers of a reply are; and that
 * nothing beyond the end of a frame is read.
 */
#include "check.h"
#include "frames.h"

#define PAYLOAD 48

/* What to do to a sound frame: write `value` into two octets there, or into one. Checksums are made right afterwards,
 * except in `bare` ones. */
struct fault {
    char const *name;
    int ipv6;
    size_t at;
    unsigned width, value;
    int bare;
    int sound;
};

enum { IP = ETHERNET, UDP4 = ETHERNET + IPV4, UDP6 = ETHERNET + IPV6 };

static struct fault const faults[] = {
    {"nothing", 0, IP + 8, 1, 3, 0, 1},
    {"nothing, IPv6", 1, IP + 7, 1, 3, 0, 1},
    {"a VLAN tag", 0, 12, 2, 0x8100, 0, 0},
    {"ARP", 0, 12, 2, 0x0806, 0, 0},
    {"IPv6's type before IPv4", 0, 12, 2, 0x86dd, 1, 0},
    {"another version", 0, IP, 1, 0x65, 0, 0},
    {"another version, IPv6", 1, IP, 1, 0x40, 0, 0},
    {"options", 0, IP, 1, 0x46, 0, 0},
    {"more fragments", 0, IP + 6, 2, 0x2000, 0, 0},
    {"a later fragment", 0, IP + 6, 2, 0x0001, 0, 0},
    {"may be fragmented", 0, IP + 6, 2, 0x0000, 0, 1},
    {"TCP", 0, IP + 9, 1, 6, 0, 0},
    {"an extension header", 1, IP + 6, 1, 0, 0, 0},
    {"a total length beyond the frame", 0, IP + 2, 2, IPV4 + UDP + PAYLOAD + 1, 0, 0},
    {"a total length without UDP", 0, IP + 2, 2, IPV4 + UDP - 1, 0, 0},
    {"a payload length beyond the frame", 1, IP + 4, 2, UDP + PAYLOAD + 1, 0, 0},
    {"a payload length without UDP", 1, IP + 4, 2, UDP - 1, 0, 0},
    {"a UDP length that differs", 0, UDP4 + 4, 2, UDP + PAYLOAD - 1, 0, 0},
    {"a UDP length that differs, IPv6", 1, UDP6 + 4, 2, UDP + PAYLOAD - 1, 0, 0},
    {"a wrong header checksum", 0, IP + 10, 2, 0x1234, 1, 0},
    {"a wrong UDP checksum", 0, UDP4 + 6, 2, 0x1234, 1, 0},
    {"a wrong UDP checksum, IPv6", 1, UDP6 + 6, 2, 0x1234, 1, 0},
    {"no UDP checksum", 0, UDP4 + 6, 2, 0, 1, 1},
    {"no UDP checksum, IPv6", 1, UDP6 + 6, 2, 0, 1, 0},
    {"a damaged payload", 0, UDP4 + UDP + 20, 1, 0xff, 1, 0},
    {"a damaged source", 0, IP + 12, 1, 0xff, 1, 0},
    {"a damaged source, IPv6", 1, IP + 8, 1, 0xff, 1, 0},
};

/* A copy that ends where the frame ends, so that sanitizers and Valgrind see what is read beyond. */
static int opens(uint8_t const *frame, size_t size, struct frame_datagram *datagram)
{
    uint8_t *const copy = malloc(size == 0 ? 1 : size);
    int sound;

    if (copy == NULL)
        abort();
    memcpy(copy, frame, size);
    sound = nts_frame_open(copy, size, datagram);
    free(copy);
    return sound;
}

static void test_faults(void)
{
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct fault const *const f = &faults[i];
        struct frame_datagram datagram;
        uint8_t frame[NTS_FRAME_MAX];
        size_t const size = build_frame(frame, f->ipv6, PAYLOAD);

        if (f->width == 1)
            frame[f->at] = (uint8_t)f->value;
        else
            store16(frame + f->at, f->value);
        if (!f->bare)
            fix_checksums(frame, size);
        if (!CHECK(opens(frame, size, &datagram) == f->sound))
            fprintf(stderr, "    with %s\n", f->name);
    }
}

static void test_lengths(int ipv6)
{
    struct frame_datagram datagram;
    uint8_t frame[NTS_FRAME_MAX + 64];

    for (size_t n = 0; n <= 300; n++) { /* odd ones too */
        size_t const size = build_frame(frame, ipv6, n);

        CHECK(opens(frame, size, &datagram));
        CHECK(datagram.payload == size - n && datagram.length == n);
        CHECK(opens(frame, size + 13, &datagram) && datagram.length == n); /* padded by Ethernet */
        for (size_t cut = 0; cut < size; cut += n < 4 ? 1 : 17)
            CHECK(!opens(frame, cut, &datagram));
    }
    CHECK(opens(frame, build_frame(frame, ipv6, NTS_FRAME_MAX - 62), &datagram));
    build_frame(frame, ipv6, 8);
    CHECK(!opens(frame, NTS_FRAME_MAX + 1, &datagram));
}

/* As a sender behind a virtual interface leaves it: the sum of the pseudo-header, for a NIC to complete. */
static void test_unfinished_checksum(int ipv6)
{
    struct frame_datagram datagram;
    uint8_t frame[NTS_FRAME_MAX];
    size_t const size = build_frame(frame, ipv6, PAYLOAD);

    store16(udp_of(frame) + 6, udp_sum(frame, 0));
    CHECK(opens(frame, size, &datagram));
    store16(udp_of(frame) + 6, udp_sum(frame, 0) + 1);
    CHECK(!opens(frame, size, &datagram));
}

static void test_addresses(void)
{
    struct frame_datagram datagram;
    uint8_t frame[NTS_FRAME_MAX];
    struct sockaddr_in const *const own = (struct sockaddr_in const *)&datagram.own;
    struct sockaddr_in const *const peer = (struct sockaddr_in const *)&datagram.peer;
    struct sockaddr_in6 const *const own6 = (struct sockaddr_in6 const *)&datagram.own;
    struct sockaddr_in6 const *const peer6 = (struct sockaddr_in6 const *)&datagram.peer;

    CHECK(nts_frame_open(frame, build_frame(frame, 0, PAYLOAD), &datagram));
    CHECK(own->sin_family == AF_INET && own->sin_port == htons(123) && peer->sin_port == htons(40000));
    CHECK(memcmp(&peer->sin_addr, frame + IP + 12, 4) == 0 && memcmp(&own->sin_addr, frame + IP + 16, 4) == 0);
    CHECK(nts_frame_open(frame, build_frame(frame, 1, PAYLOAD), &datagram));
    CHECK(own6->sin6_family == AF_INET6 && own6->sin6_port == htons(123) && peer6->sin6_port == htons(40000));
    CHECK(memcmp(&peer6->sin6_addr, frame + IP + 8, 16) == 0 && memcmp(&own6->sin6_addr, frame + IP + 24, 16) == 0);
}

/* A reply of n octets: sound, back to where the request came from, and may be fragmented only if it is long. */
static void test_reply(int ipv6, size_t n)
{
    struct frame_datagram asked, answered;
    uint8_t request[NTS_FRAME_MAX], reply[NTS_FRAME_MAX];
    size_t const size = build_frame(request, ipv6, n), head = size - n;

    CHECK(nts_frame_open(request, size, &asked));
    memset(reply, 0xa5, sizeof reply);
    for (size_t i = 0; i < n; i++)
        reply[head + i] = (uint8_t)(i * 3);
    CHECK(nts_frame_reply(request, reply, n, 0x1234) == size);
    CHECK(opens(reply, size, &answered));
    CHECK(answered.payload == asked.payload && answered.length == n);
    CHECK(same_address(&answered.peer, &asked.own));
    CHECK(same_address(&answered.own, &asked.peer));
    CHECK(memcmp(reply, request + 6, 6) == 0 && memcmp(reply + 6, request, 6) == 0);
    CHECK(reply[IP + (ipv6 ? 7 : 8)] == 64 && load16(udp_of(reply) + 6) != 0);
    for (size_t i = 0; i < n; i++)
        CHECK(reply[head + i] == (uint8_t)(i * 3));
    for (size_t i = size; i < sizeof reply; i++)
        CHECK(reply[i] == 0xa5);
    if (!ipv6) {
        CHECK(load16(reply + IP + 4) == (size - ETHERNET > 576 ? 0x1234 : 0));
        CHECK(load16(reply + IP + 6) == (size - ETHERNET > 576 ? 0 : 0x4000));
    }
}

int main(void)
{
    static size_t const lengths[] = {48, 49, 228, 547, 548, 549, 1232};

    test_faults();
    test_addresses();
    for (int ipv6 = 0; ipv6 < 2; ipv6++) {
        test_lengths(ipv6);
        test_unfinished_checksum(ipv6);
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            test_reply(ipv6, lengths[i]);
    }
    return check_report("frame", "any backend");
}

/* SPDX-License-Identifier: MIT
 *
 * xdp.c - the loop's way through AF_XDP: Ethernet frames in, Ethernet frames out. nts/server/xdp_filter.py says which
 * frames these are; for all others the kernel and the UDP sockets are there as ever.
 *
 * Receive timestamps. The filter notes the time by CLOCK_TAI, the only clock of use that it can read. Its distance from
 * CLOCK_REALTIME is a whole number of seconds, which changes with a leap second and when a daemon first sets it. What
 * came before such a change was seen gets the time of its batch instead: late by some microseconds, not off by a second.
 */
#define _GNU_SOURCE /* struct in6_pktinfo */
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "loop.h"

#define STAMP_LEN 8 /* before each frame */

/* As in loop.c, for requests that came through a client's socket: a reply leaves sooner this way than through one. */
#define LEAD_NS 1400

struct xdp {
    struct nts_xsk *xsks[NTS_MAX_SOCKETS];
    int64_t tai_offset;  /* ns: CLOCK_TAI minus CLOCK_REALTIME */
    int64_t known_since; /* by CLOCK_TAI */
    int64_t send_ns;
    struct xsk_frame frames[NTS_XDP_BATCH]; /* of a batch; one for each request */
    struct frame_datagram datagrams[NTS_XDP_BATCH];
    struct request requests[NTS_XDP_BATCH];
    size_t numbers[NTS_XDP_BATCH]; /* of the frames that hold these requests */
};

/* Follows the distance of the two clocks. Returns the time by CLOCK_REALTIME. */
static int64_t follow_tai(struct xdp *xdp)
{
    int64_t const tai = clock_ns(CLOCK_TAI), now = clock_ns(CLOCK_REALTIME);
    int64_t const offset = (tai - now + (tai < now ? -1 : 1) * (NS_PER_S / 2)) / NS_PER_S * NS_PER_S;

    if (offset != xdp->tai_offset) {
        xdp->tai_offset = offset;
        xdp->known_since = tai;
    }
    return now;
}

int nts_engine_attach_xsks(nts_engine *engine, nts_xsk *const *xsks, size_t n)
{
    struct loop *const loop = engine->loop;

    if (n > NTS_MAX_SOCKETS || (loop->xdp = calloc(1, sizeof *loop->xdp)) == NULL)
        return 0;
    (void)follow_tai(loop->xdp);
    for (size_t i = 0; i < n; i++) {
        nts_xsk_start(xsks[i]);
        loop->xdp->xsks[i] = xsks[i];
        loop->polls[loop->polled++] = (struct pollfd){.fd = nts_xsk_descriptor(xsks[i]), .events = POLLIN};
    }
    return 1;
}

void nts_xdp_free(struct xdp *xdp)
{
    if (xdp == NULL)
        return;
    OPENSSL_cleanse(xdp, sizeof *xdp);
    free(xdp);
}

/* ---- Receiving ----------------------------------------------------------------------------------------- */

/* When a frame came, by CLOCK_REALTIME, in ns. */
static int64_t arrival(struct xdp const *xdp, uint8_t const *frame, int64_t now)
{
    int64_t tai;

    memcpy(&tai, frame - STAMP_LEN, sizeof tai);
    return tai < xdp->known_since || tai - xdp->tai_offset > now ? now : tai - xdp->tai_offset;
}

size_t nts_xdp_serve_batch(nts_engine *engine, size_t i)
{
    struct loop *const loop = engine->loop;
    struct xdp *const xdp = loop->xdp;
    struct nts_xsk *const xsk = xdp->xsks[i - loop->wakes - loop->sockets];
    struct source const source = {.xsk = xsk, .requests = xdp->requests, .full = 1, .lead_ns = LEAD_NS,
                                  .send_ns = &xdp->send_ns};
    size_t const got = nts_xsk_take(xsk, xdp->frames, NTS_XDP_BATCH);
    int64_t const now = got == 0 ? 0 : follow_tai(xdp);
    size_t n = 0;

    for (size_t j = 0; j < got; j++) {
        struct xsk_frame const *const frame = &xdp->frames[j];
        struct frame_datagram *const datagram = &xdp->datagrams[n];
        struct request *const request = &xdp->requests[n];

        if (!nts_frame_open(frame->request, frame->size, datagram))
            continue;
        request->packet = frame->request + datagram->payload;
        request->length = datagram->length;
        request->received = ntp_time(arrival(xdp, frame->request, now));
        request->peer = &datagram->peer;
        request->misdirected = 0; /* the filter has looked */
        request->reply = frame->reply + datagram->payload;
        xdp->numbers[n++] = j;
    }
    engine->cells[NTS_XDP_FRAMES] += got;
    engine->cells[NTS_XDP_DAMAGED] += got - n;
    if (n != 0)
        nts_answer(engine, &source, n);
    for (size_t j = 0; j < got; j++)
        nts_xsk_drop(xsk, j); /* whatever got no reply */
    return got;
}

/* ---- Sending ------------------------------------------------------------------------------------------- */

void nts_xdp_send(nts_engine *engine, struct source const *source, struct request *const *answered, size_t n)
{
    struct xdp const *const xdp = engine->loop->xdp;

    for (size_t i = 0; i < n; i++) {
        size_t const number = xdp->numbers[answered[i] - source->requests];
        struct xsk_frame const *const frame = &xdp->frames[number];
        uint16_t id;

        nts_random(&engine->generator, (uint8_t *)&id, sizeof id);
        nts_xsk_send(source->xsk, number, nts_frame_reply(frame->request, frame->reply, answered[i]->reply_len, id));
        engine->cells[NTS_OCTETS_SENT] += answered[i]->reply_len;
    }
    nts_xsk_flush(source->xsk);
}

/* ---- Handovers ----------------------------------------------------------------------------------------- */

/* Makes the reply come from this address; returns the length of the control message. */
static size_t come_from(struct sockaddr_storage const *own, uint8_t *control)
{
    struct msghdr header = {.msg_control = control, .msg_controllen = CONTROL_ROOM};
    struct cmsghdr *const message = CMSG_FIRSTHDR(&header);

    memset(control, 0, CONTROL_ROOM);
    if (own->ss_family == AF_INET) {
        struct in_pktinfo const info = {.ipi_spec_dst = ((struct sockaddr_in const *)own)->sin_addr};

        *message = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof info), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
        memcpy(CMSG_DATA(message), &info, sizeof info);
        return CMSG_SPACE(sizeof info);
    }
    struct in6_pktinfo const info = {.ipi6_addr = ((struct sockaddr_in6 const *)own)->sin6_addr};

    *message =
        (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof info), .cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO};
    memcpy(CMSG_DATA(message), &info, sizeof info);
    return CMSG_SPACE(sizeof info);
}

static int is_wildcard(struct sockaddr_storage const *address)
{
    return address->ss_family == AF_INET
               ? ((struct sockaddr_in const *)address)->sin_addr.s_addr == htonl(INADDR_ANY)
               : IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 const *)address)->sin6_addr);
}

static int is_same(struct sockaddr_storage const *a, struct sockaddr_storage const *b)
{
    return a->ss_family == AF_INET
               ? ((struct sockaddr_in const *)a)->sin_addr.s_addr == ((struct sockaddr_in const *)b)->sin_addr.s_addr
               : IN6_ARE_ADDR_EQUAL(&((struct sockaddr_in6 const *)a)->sin6_addr,
                                    &((struct sockaddr_in6 const *)b)->sin6_addr);
}

void nts_xdp_set_path(struct loop const *loop, size_t i, struct return_path *path)
{
    struct frame_datagram const *const datagram = &loop->xdp->datagrams[i];
    int const family = datagram->own.ss_family;

    path->fd = -1;
    path->peer = datagram->peer;
    path->peer_len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    path->control_len = come_from(&datagram->own, path->control);
    for (size_t s = loop->wakes; s < loop->wakes + loop->sockets && path->fd < 0; s++) {
        struct sockaddr_storage bound;
        socklen_t len = sizeof bound;

        if (getsockname(loop->polls[s].fd, (struct sockaddr *)&bound, &len) == 0 && bound.ss_family == family &&
            (is_wildcard(&bound) || is_same(&bound, &datagram->own)))
            path->fd = loop->polls[s].fd;
    }
}

/* SPDX-License-Identifier: MIT
 *
 * loop.c - sockets: receive a batch with the kernel's timestamps, have it answered, send. Nothing but system calls
 * and counters; what a packet means is respond.c's business.
 *
 * Transmit timestamps. A batch is received and authenticated as a whole, but each reply is stamped, sealed and sent by
 * itself: a sending that has to wake up a CPU takes microseconds, and what was stamped before it would leave late. Only
 * where one full batch follows another does throughput come first: replies then leave in steps, stamped by what each
 * sending is known to take.
 *
 * Odd packets wait in a queue for the reference. It gets one at a time, when nothing else waits, and otherwise so
 * rarely that it takes no more than a small share of the time.
 */
#define _GNU_SOURCE /* recvmmsg, struct in6_pktinfo */
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "internal.h"

#define LONG_STEP 8   /* replies in one sealing, where more is waiting: as many as VAES interleaves */
#define MAX_BATCHES 4 /* in one call of nts_engine_serve, from each socket */
#define MAX_WAKES 8
#define PACKET_ROOM (NTS_MAX_REQUEST + 4) /* a longer datagram is seen to be longer */
#define CONTROL_ROOM 128
#define NS_PER_S 1000000000
#define UNIX_EPOCH 2208988800u /* in seconds since 1900 */
#define FILE_TICK_NS 20000000 /* longer than a step of any kernel's file times */
#define LEARN_NS 16           /* how much one step can change what is known: an interruption tells nothing */
#define ODD_EACH 20           /* the reference gets the twentieth part of the time */
#define ODD_MOST_NS 1000000   /* one that took longer was interrupted */

/* Stamps are so much earlier than the clock. A query measures half the difference between its two ways, from stamp
 * to arrival. A client that reads the clock itself has just been asleep, and takes longer from there to the network
 * than a busy server; one that has the kernel stamp takes no time at all. This lies between the two, so that neither
 * sees more error than chrony's servers show it: docs/performance.md. */
#define LEAD_NS 160

/* Short replies over IPv4 leave with "don't fragment" set, which spares the kernel an identification for each. They
 * pass in datagrams of 576 octets, which every host takes (RFC 791 section 3.1) and every path in use. Longer ones may
 * be fragmented on their way, whatever ICMP says of the path: see let_fragment() in nts/system/sockets.py. */
#define SHORT_REPLY (576 - 20 - 8)

/* A datagram's way in and out: peer, control messages, buffers. */
struct slot {
    struct sockaddr_storage peer;
    _Alignas(struct cmsghdr) uint8_t control[CONTROL_ROOM];
    uint8_t packet[PACKET_ROOM];
    uint8_t reply[NTS_MAX_REQUEST];
};

/* What is known of one of the sockets. */
struct manner {
    uint8_t full; /* the last batch was */
    uint8_t ipv4;
    uint8_t unfragmented; /* replies leave so, at present */
};

/* An odd packet's way out. */
struct odd_way {
    size_t socket;
    struct sockaddr_storage peer;
    socklen_t peer_len;
    _Alignas(struct cmsghdr) uint8_t control[CONTROL_ROOM];
    size_t control_len;
};

struct loop {
    struct pollfd polls[NTS_MAX_SOCKETS + MAX_WAKES]; /* sockets first */
    size_t sockets, polled;
    struct slot slots[NTS_BATCH];
    struct request requests[NTS_BATCH];
    struct mmsghdr in[NTS_BATCH];
    struct iovec in_vector[NTS_BATCH];
    struct manner manners[NTS_MAX_SOCKETS];
    int64_t send_ns;          /* what sending one reply of a long step usually takes */
    struct stat folder;       /* of the master keys, when last looked at */
    int folder_fresh;         /* it had just changed, then */
    int folder_seen;          /* the caller has just looked after the keys */
    nts_odd odd[NTS_MAX_ODD]; /* a ring */
    struct odd_way odd_ways[NTS_MAX_ODD];
    size_t odd_first, odd_count;
    int64_t odd_since;        /* monotonic ns; 0: the reference is not at work */
    int64_t odd_due;          /* when it may be again, even if something else waits */
};

static int64_t ns_of(struct timespec const *t)
{
    return (int64_t)t->tv_sec * NS_PER_S + t->tv_nsec;
}

static uint64_t ntp_time(int64_t ns)
{
    return (uint64_t)(ns / NS_PER_S + UNIX_EPOCH) << 32 | ((uint64_t)(ns % NS_PER_S) << 32) / NS_PER_S;
}

/* ---- Setting up ---------------------------------------------------------------------------------------- */

/* Kernel timestamps; and on a socket for all addresses, which of them was asked. The worker before, if there was one,
 * has left the socket in any state, so that what choose_fragmenting() takes it for is set. */
static int set_options(int fd, struct manner *manner)
{
    struct sockaddr_storage own = {0};
    socklen_t own_len = sizeof own;
    int const on = 1;
    int const fragment = IP_PMTUDISC_OMIT;

    if (getsockname(fd, (struct sockaddr *)&own, &own_len) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) != 0)
        return 0;
    if (own.ss_family == AF_INET6) {
        struct sockaddr_in6 const *const six = (struct sockaddr_in6 const *)&own;

        return !IN6_IS_ADDR_UNSPECIFIED(&six->sin6_addr) ||
               setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on) == 0;
    }
    manner->ipv4 = 1;
    if (setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &fragment, sizeof fragment) != 0)
        return 0;
    return ((struct sockaddr_in const *)&own)->sin_addr.s_addr != htonl(INADDR_ANY) ||
           setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) == 0;
}

int nts_engine_attach(nts_engine *engine, int const *sockets, size_t n, int const *wake, size_t wakes)
{
    struct loop *loop;

    if (n > NTS_MAX_SOCKETS || wakes > MAX_WAKES)
        return 0;
    nts_loop_free(engine->loop);
    engine->loop = loop = calloc(1, sizeof *loop);
    if (loop == NULL)
        return 0;
    loop->sockets = n;
    loop->polled = n + wakes;
    for (size_t i = 0; i < loop->polled; i++)
        loop->polls[i] = (struct pollfd){.fd = i < n ? sockets[i] : wake[i - n], .events = POLLIN};
    for (size_t i = 0; i < n; i++)
        if (!set_options(sockets[i], &loop->manners[i]))
            return 0;
    for (size_t i = 0; i < NTS_BATCH; i++) {
        loop->in_vector[i] = (struct iovec){.iov_base = loop->slots[i].packet, .iov_len = PACKET_ROOM};
        loop->requests[i].packet = loop->slots[i].packet;
        loop->requests[i].reply = loop->slots[i].reply;
    }
    return 1;
}

void nts_loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    OPENSSL_cleanse(loop, sizeof *loop); /* clients' keys, of the last batch */
    free(loop);
}

int nts_engine_wait(nts_engine *engine, int timeout_ms)
{
    struct loop *const loop = engine->loop;
    int const ready = poll(loop->polls, loop->polled, timeout_ms);

    if (ready <= 0) /* nothing, or a signal */
        return 0;
    for (size_t i = loop->sockets; i < loop->polled; i++)
        if (loop->polls[i].revents != 0)
            return -1;
    return 1;
}

/* ---- Receiving ----------------------------------------------------------------------------------------- */

static int receive(struct loop *loop, int fd)
{
    for (size_t i = 0; i < NTS_BATCH; i++) {
        loop->in[i].msg_hdr = (struct msghdr){
            .msg_name = &loop->slots[i].peer,
            .msg_namelen = sizeof loop->slots[i].peer,
            .msg_iov = &loop->in_vector[i],
            .msg_iovlen = 1,
            .msg_control = loop->slots[i].control,
            .msg_controllen = CONTROL_ROOM,
        };
    }
    return recvmmsg(fd, loop->in, NTS_BATCH, MSG_DONTWAIT, NULL);
}

/* Takes the receive timestamp out of the control messages, and leaves in `header` only what makes the reply come
 * from the address that was asked. */
static uint64_t read_control(struct msghdr *header)
{
    struct cmsghdr *source = NULL;
    struct timespec arrived = {0};

    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS)
            memcpy(&arrived, CMSG_DATA(c), sizeof arrived);
        else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;

            memcpy(&info, CMSG_DATA(c), sizeof info);
            info.ipi_ifindex = 0; /* by whatever way leads to the client */
            memcpy(CMSG_DATA(c), &info, sizeof info);
            source = c;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
            source = c;
    }
    header->msg_control = source;
    header->msg_controllen = source == NULL ? 0 : CMSG_ALIGN(source->cmsg_len);
    if (arrived.tv_sec == 0) /* the first datagrams after the option was set may come without */
        clock_gettime(CLOCK_REALTIME, &arrived);
    return ntp_time(ns_of(&arrived));
}

/* ---- One reply ----------------------------------------------------------------------------------------- */

/* Sets for the next reply whether routers may fragment it. */
static void choose_fragmenting(struct loop *loop, size_t socket, size_t reply_len)
{
    struct manner *const manner = &loop->manners[socket];
    uint8_t const unfragmented = reply_len <= SHORT_REPLY;
    int const how = unfragmented ? IP_PMTUDISC_PROBE : IP_PMTUDISC_OMIT;

    if (!manner->ipv4 || manner->unfragmented == unfragmented)
        return;
    manner->unfragmented = unfragmented; /* even if the socket refuses, which then is as it was */
    (void)setsockopt(loop->polls[socket].fd, IPPROTO_IP, IP_MTU_DISCOVER, &how, sizeof how);
}

/* To the peer and from the address that the header `to` holds. A reply that cannot be sent is lost like any datagram.
 * sendto() is the cheaper call where the address needs no control message: the kernel spares the copies and checks of a
 * header and a vector, which are more than what sendmmsg() saves in entering it. */
static void send_reply(struct loop *loop, size_t socket, struct msghdr const *to, uint8_t const *reply, size_t length)
{
    int const fd = loop->polls[socket].fd;

    choose_fragmenting(loop, socket, length);
    if (to->msg_controllen == 0) {
        (void)!sendto(fd, reply, length, MSG_DONTWAIT, to->msg_name, to->msg_namelen);
    } else {
        struct msghdr header = *to;
        struct iovec vector = {.iov_len = length};

        memcpy(&vector.iov_base, &reply, sizeof reply); /* sendmsg only reads it */
        header.msg_iov = &vector;
        header.msg_iovlen = 1;
        (void)!sendmsg(fd, &header, MSG_DONTWAIT);
    }
}

/* ---- Odd packets --------------------------------------------------------------------------------------- */

static void hand_over(nts_engine *engine, size_t socket, size_t i)
{
    struct loop *const loop = engine->loop;
    struct msghdr const *const header = &loop->in[i].msg_hdr;
    size_t const last = (loop->odd_first + loop->odd_count) % NTS_MAX_ODD;
    nts_odd *const odd = &loop->odd[last];
    struct odd_way *const way = &loop->odd_ways[last];

    if (loop->odd_count == NTS_MAX_ODD) {
        engine->cells[NTS_DROP_BUSY]++;
        return;
    }
    loop->odd_count++;
    odd->length = (uint32_t)loop->requests[i].length;
    odd->received = loop->requests[i].received;
    memcpy(odd->packet, loop->slots[i].packet, loop->requests[i].length);
    way->socket = socket;
    way->peer = loop->slots[i].peer;
    way->peer_len = header->msg_namelen;
    way->control_len = header->msg_controllen;
    if (header->msg_control != NULL)
        memcpy(way->control, header->msg_control, header->msg_controllen);
}

nts_odd const *nts_engine_odd(nts_engine const *engine)
{
    struct loop const *const loop = engine->loop;

    return loop->odd_count == 0 ? NULL : &loop->odd[loop->odd_first];
}

void nts_engine_odd_done(nts_engine *engine, uint8_t const *reply, size_t length)
{
    struct loop *const loop = engine->loop;
    struct odd_way *const way = &loop->odd_ways[loop->odd_first];
    struct msghdr const header = {
        .msg_name = &way->peer,
        .msg_namelen = way->peer_len,
        .msg_control = way->control,
        .msg_controllen = way->control_len,
    };

    if (loop->odd_count == 0)
        return;
    if (length != 0)
        send_reply(loop, way->socket, &header, reply, length);
    loop->odd_first = (loop->odd_first + 1) % NTS_MAX_ODD;
    loop->odd_count--;
}

/* ---- Sending ------------------------------------------------------------------------------------------- */

/* Moves what is known a little towards what was seen. */
static void learn(int64_t *known, int64_t seen)
{
    int64_t const change = (seen - *known) / 8;

    *known += change > LEARN_NS ? LEARN_NS : change < -LEARN_NS ? -LEARN_NS : change;
}

/* Seals and sends up to LONG_STEP replies. `now` is the clock, before and after. */
static void send_step(nts_engine *engine, size_t socket, struct request *const *answered, size_t n,
                      struct timespec *now)
{
    struct loop *const loop = engine->loop;
    struct timespec sealed;
    uint64_t transmit[LONG_STEP];

    for (size_t i = 0; i < n; i++)
        transmit[i] = ntp_time(ns_of(now) - LEAD_NS + (int64_t)i * loop->send_ns);
    nts_finish(engine, answered, transmit, n);
    if (n != 1)
        clock_gettime(CLOCK_REALTIME, &sealed);
    for (size_t i = 0; i < n; i++)
        send_reply(loop, socket, &loop->in[answered[i] - loop->requests].msg_hdr, answered[i]->reply,
                   answered[i]->reply_len);
    clock_gettime(CLOCK_REALTIME, now);
    if (n != 1)
        learn(&loop->send_ns, (ns_of(now) - ns_of(&sealed)) / (int64_t)n);
}

/* One batch from one socket; how many datagrams it was. */
static size_t serve_batch(nts_engine *engine, size_t socket)
{
    struct loop *const loop = engine->loop;
    struct request *answered[NTS_BATCH];
    size_t count = 0;
    struct timespec now;
    int const got = receive(loop, loop->polls[socket].fd);
    size_t const step = got == NTS_BATCH && loop->manners[socket].full ? LONG_STEP : 1;

    loop->manners[socket].full = got == NTS_BATCH;
    if (got <= 0) /* nothing left, or an error that the network reports of an earlier reply */
        return 0;
    for (size_t i = 0; i < (size_t)got; i++) {
        loop->requests[i].length = loop->in[i].msg_len;
        loop->requests[i].received = read_control(&loop->in[i].msg_hdr);
    }
    nts_prepare(engine, loop->requests, (size_t)got);
    for (size_t i = 0; i < (size_t)got; i++) {
        if (loop->requests[i].verdict == NTS_HANDOVER) {
            hand_over(engine, socket, i);
            continue;
        }
        engine->cells[loop->requests[i].verdict]++;
        if (loop->requests[i].reply_len != 0)
            answered[count++] = &loop->requests[i];
    }
    clock_gettime(CLOCK_REALTIME, &now);
    /* The first one always goes alone: it is the likeliest to wake up a CPU. */
    for (size_t i = 0, n = 1; i < count; i += n, n = step < count - i ? step : count - i)
        send_step(engine, socket, answered + i, n, &now);
    return (size_t)got;
}

size_t nts_engine_serve(nts_engine *engine)
{
    struct loop *const loop = engine->loop;
    size_t total = 0;

    for (size_t i = 0; i < loop->sockets; i++) {
        if (loop->polls[i].revents == 0)
            continue;
        for (int batches = 0; batches < MAX_BATCHES; batches++) {
            size_t const got = serve_batch(engine, i);

            total += got;
            if (got < NTS_BATCH)
                break;
        }
    }
    return total;
}

/* ---- Both, again and again ----------------------------------------------------------------------------- */

/* Whether the folder has changed since it was last looked at, or had changed so recently then that another change does
 * not show. What seems to have changed in the future did so before the clock was set back, and hides no other. */
static int has_changed(struct loop *loop, char const *path)
{
    struct stat const before = loop->folder;
    int const fresh = loop->folder_fresh;
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (stat(path, &loop->folder) != 0)
        memset(&loop->folder, 0, sizeof loop->folder);
    loop->folder_fresh = llabs(ns_of(&now) - ns_of(&loop->folder.st_ctim)) < FILE_TICK_NS;
    return fresh || before.st_ino != loop->folder.st_ino ||
           ns_of(&before.st_ctim) != ns_of(&loop->folder.st_ctim);
}

static int64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return ns_of(&now);
}

/* It is the reference's turn from now on, until nts_engine_run is called again. */
static int odd_turn(struct loop *loop, int64_t now)
{
    loop->odd_since = now;
    return 1;
}

/* What the reference has done decides when it may work again while something else waits. */
static void odd_end(struct loop *loop, int64_t now)
{
    int64_t const spent = now - loop->odd_since;

    if (loop->odd_since != 0)
        loop->odd_due = now + (ODD_EACH - 1) * (spent < ODD_MOST_NS ? spent : ODD_MOST_NS);
    loop->odd_since = 0;
}

int nts_engine_run(nts_engine *engine, char const *folder, int timeout_ms)
{
    struct loop *const loop = engine->loop;
    int64_t now = monotonic_ns();
    int64_t const end = now + (int64_t)timeout_ms * 1000000;

    odd_end(loop, now);
    while (now < end) {
        int const ready = nts_engine_wait(engine, loop->odd_count != 0 ? 0 : (int)((end - now) / 1000000) + 1);

        if (ready < 0)
            return -1;
        if (ready == 0)
            return loop->odd_count == 0 ? 0 : odd_turn(loop, now);
        if (!loop->folder_seen && has_changed(loop, folder)) {
            loop->folder_seen = 1;
            return 0;
        }
        loop->folder_seen = 0;
        nts_engine_serve(engine);
        now = monotonic_ns();
        if (loop->odd_count != 0 && now >= loop->odd_due)
            return odd_turn(loop, now);
    }
    return 0;
}

/* SPDX-License-Identifier: MIT
 *
 * loop.c - sockets: receives a batch with the kernel's timestamps, has it answered, sends the replies. Only system
 * calls and counters; respond.c knows what a packet means.
 *
 * Transmit timestamps. A batch is received and authenticated as a whole, but each reply is stamped, sealed and sent on
 * its own: sending one can take microseconds when it wakes up a CPU, and replies stamped before that would leave late.
 * Throughput comes first only when a batch is full, so that more datagrams are likely to wait than can be answered at
 * once. Replies then leave in steps of LONG_STEP, each stamped with the time at which it is expected to leave. Through
 * AF_XDP they always do: one system call sends a whole step, and a reply in it waits for less than it would for system
 * calls of those before it.
 *
 * A long step leaves by a sendto() for each reply, or by one sendmmsg(). A message of sendmmsg() has a header, which the
 * kernel must copy and check. Whether that costs more than a system call depends on the machine: docs/performance.md. The
 * stamps need to know how long sending takes, so that is learnt for both ways, and the cheaper one is taken.
 *
 * Handovers. Packets that the engine does not cover wait in a queue for the reference. It gets one at a time: whenever
 * nothing else waits, and otherwise so rarely that it takes no more than a small share of the time.
 */
#define _GNU_SOURCE /* recvmmsg, sendmmsg, struct in6_pktinfo */
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "loop.h"

#define LONG_STEP 8              /* as many messages as VAES interleaves */
#define LEARN_NS 16              /* most that one step changes send_ns: an interrupted step means nothing */
#define TRY_OTHER 64             /* one of so many long steps leaves in the way that seemed to cost more */
#define REFERENCE_SHARE 20       /* under load the reference gets a twentieth of the time */
#define MAX_REFERENCE_NS 1000000 /* a turn that seems longer was interrupted */

/* Transmit timestamps are this much earlier than the clock. A client measures half the difference between the two
 * directions. One that reads the clock itself has just been asleep, so its request is slower to reach the network than
 * the reply of a busy server; one whose kernel stamps the request has no such delay. This value lies between the two,
 * so that neither sees more error than with chrony: docs/performance.md. */
#define LEAD_NS 160

/* Replies over IPv4 leave with "don't fragment" set, which spares the kernel an identification for each: 3 % of all CPU
 * time. That is safe up to this length. */
#define SHORT_REPLY (NTS_SHORT_PACKET - 20 - 8)

/* ---- Setting up ---------------------------------------------------------------------------------------- */

static int set_fragmenting(int fd, int how)
{
    return setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &how, sizeof how) == 0;
}

/* Asks for kernel timestamps and, on a socket for all addresses, for the address to which each request was sent. A socket
 * for one address gets nothing that was sent to another, nor to a group. */
static int set_options(int fd)
{
    struct sockaddr_storage own = {0};
    socklen_t own_len = sizeof own;
    int const on = 1;

    if (getsockname(fd, (struct sockaddr *)&own, &own_len) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) != 0)
        return 0;
    if (own.ss_family == AF_INET6)
        return !IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 const *)&own)->sin6_addr) ||
               setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on) == 0;
    return set_fragmenting(fd, IP_PMTUDISC_PROBE) &&
           (((struct sockaddr_in const *)&own)->sin_addr.s_addr != htonl(INADDR_ANY) ||
            setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) == 0);
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
    loop->wakes = wakes;
    loop->sockets = n;
    loop->polled = wakes + n;
    for (size_t i = 0; i < loop->polled; i++)
        loop->polls[i] = (struct pollfd){.fd = i < wakes ? wake[i] : sockets[i - wakes], .events = POLLIN};
    for (size_t i = 0; i < n; i++)
        if (!set_options(sockets[i]))
            return 0;
    for (size_t i = 0; i < NTS_BATCH; i++) {
        loop->in_vector[i] = (struct iovec){.iov_base = loop->slots[i].packet, .iov_len = PACKET_ROOM};
        loop->requests[i].packet = loop->slots[i].packet;
        loop->requests[i].reply = loop->slots[i].reply;
        loop->requests[i].peer = &loop->slots[i].peer;
    }
    return 1;
}

void nts_loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    nts_xdp_free(loop->xdp);
    OPENSSL_cleanse(loop, sizeof *loop); /* it holds clients' keys */
    free(loop);
}

int nts_wait(nts_engine *engine, int timeout_ms)
{
    struct loop *const loop = engine->loop;
    int const ready = poll(loop->polls, loop->polled, timeout_ms);

    if (ready <= 0) /* nothing, or a signal */
        return 0;
    for (size_t i = 0; i < loop->wakes; i++)
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

/* Takes from the control messages when the request came, and whether it was sent to a group of hosts. Leaves in `header`
 * only the one that makes the reply come from the address that was asked. */
static void read_control(struct msghdr *header, struct request *r)
{
    struct cmsghdr *source = NULL;
    struct timespec arrived = {0};

    r->misdirected = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS)
            memcpy(&arrived, CMSG_DATA(c), sizeof arrived);
        else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;

            memcpy(&info, CMSG_DATA(c), sizeof info);
            /* The address asked, and the one to answer from: one of this host's. They differ for broadcast, multicast. */
            r->misdirected = info.ipi_addr.s_addr != info.ipi_spec_dst.s_addr;
            info.ipi_ifindex = 0; /* through whichever interface leads to the client */
            memcpy(CMSG_DATA(c), &info, sizeof info);
            source = c;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;

            memcpy(&info, CMSG_DATA(c), sizeof info);
            r->misdirected = IN6_IS_ADDR_MULTICAST(&info.ipi6_addr);
            source = c;
        }
    }
    header->msg_control = source;
    header->msg_controllen = source == NULL ? 0 : CMSG_ALIGN(source->cmsg_len);
    if (arrived.tv_sec == 0) /* the first datagrams after set_options may have no timestamp */
        clock_gettime(CLOCK_REALTIME, &arrived);
    r->received = ntp_time(ns_of(&arrived));
}

/* ---- Sending ------------------------------------------------------------------------------------------- */

/* A datagram that cannot be sent is lost. These three return how many octets left. sendto() needs no header and vector,
 * so it costs less than sendmsg(). */
static size_t send_one(int fd, struct msghdr const *message)
{
    ssize_t const sent = message->msg_controllen != 0
                             ? sendmsg(fd, message, MSG_DONTWAIT)
                             : sendto(fd, message->msg_iov->iov_base, message->msg_iov->iov_len, MSG_DONTWAIT,
                                      message->msg_name, message->msg_namelen);

    return sent < 0 ? 0 : (size_t)sent;
}

static size_t send_singly(int fd, struct mmsghdr const *out, size_t n)
{
    size_t octets = 0;

    for (size_t i = 0; i < n; i++)
        octets += send_one(fd, &out[i].msg_hdr);
    return octets;
}

static size_t send_together(int fd, struct mmsghdr *out, size_t n)
{
    size_t octets = 0;

    for (size_t i = 0; i < n;) {
        int const sent = sendmmsg(fd, out + i, (unsigned)(n - i), MSG_DONTWAIT);

        for (int j = 0; j < sent; j++)
            octets += out[i + (size_t)j].msg_len;
        i += sent > 0 ? (size_t)sent : 1; /* the first one cannot be sent */
    }
    return octets;
}

static void send_all(nts_engine *engine, int fd, struct mmsghdr *out, size_t n, enum way way)
{
    int has_long = 0;

    for (size_t i = 0; i < n; i++)
        has_long |= out[i].msg_hdr.msg_iov->iov_len > SHORT_REPLY;
    if (has_long)
        (void)set_fragmenting(fd, IP_PMTUDISC_OMIT); /* no effect on IPv6 */
    engine->cells[NTS_OCTETS_SENT] += way == TOGETHER ? send_together(fd, out, n) : send_singly(fd, out, n);
    if (has_long)
        (void)set_fragmenting(fd, IP_PMTUDISC_PROBE);
}

/* ---- Handovers ----------------------------------------------------------------------------------------- */

/* Where the reply to request i of a batch from a socket goes. */
static void set_path(struct loop const *loop, int fd, size_t i, struct return_path *path)
{
    struct msghdr const *const header = &loop->in[i].msg_hdr;

    path->fd = fd;
    path->peer = loop->slots[i].peer;
    path->peer_len = header->msg_namelen;
    path->control_len = header->msg_controllen;
    if (header->msg_control != NULL)
        memcpy(path->control, header->msg_control, header->msg_controllen);
}

static void hand_over(nts_engine *engine, struct source const *source, size_t i)
{
    struct loop *const loop = engine->loop;
    struct request const *const request = &source->requests[i];
    size_t const last = (loop->first_handover + loop->handover_count) % NTS_MAX_HANDOVERS;
    nts_handover *const handover = &loop->handovers[last];

    if (loop->handover_count == NTS_MAX_HANDOVERS) {
        engine->cells[NTS_DROP_BUSY]++;
        return;
    }
    engine->cells[NTS_HANDOVERS]++;
    loop->handover_count++;
    handover->length = (uint32_t)request->length;
    handover->received = request->received;
    memcpy(handover->packet, request->packet, request->length);
    if (source->xsk == NULL)
        set_path(loop, source->fd, i, &loop->return_paths[last]);
    else
        nts_xdp_set_path(loop, i, &loop->return_paths[last]);
}

nts_handover const *nts_engine_handover(nts_engine const *engine)
{
    struct loop const *const loop = engine->loop;

    return loop->handover_count == 0 ? NULL : &loop->handovers[loop->first_handover];
}

uint32_t nts_engine_limit_handover(nts_engine *engine, uint32_t verdict)
{
    struct loop const *const loop = engine->loop;

    if (engine->limiter == NULL || loop->handover_count == 0)
        return verdict;
    return nts_limited(engine->limiter, &loop->return_paths[loop->first_handover].peer, clock_ns(CLOCK_MONOTONIC),
                       (enum nts_verdict)verdict);
}

void nts_engine_handover_done(nts_engine *engine, uint8_t const *reply, size_t length)
{
    struct loop *const loop = engine->loop;
    struct return_path *const path = &loop->return_paths[loop->first_handover];
    struct iovec vector = {.iov_len = length};
    struct mmsghdr out = {.msg_hdr = {
        .msg_name = &path->peer,
        .msg_namelen = path->peer_len,
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = path->control,
        .msg_controllen = path->control_len,
    }};

    if (loop->handover_count == 0)
        return;
    memcpy(&vector.iov_base, &reply, sizeof reply); /* sendto only reads it */
    if (length != 0 && path->fd >= 0)
        send_all(engine, path->fd, &out, 1, SINGLY);
    loop->first_handover = (loop->first_handover + 1) % NTS_MAX_HANDOVERS;
    loop->handover_count--;
}

/* ---- Serving ------------------------------------------------------------------------------------------- */

/* Sends up to LONG_STEP replies. */
static void send_replies(nts_engine *engine, int fd, struct request *const *answered, size_t n, enum way way)
{
    struct loop const *const loop = engine->loop;
    struct mmsghdr out[LONG_STEP];
    struct iovec vectors[LONG_STEP];

    for (size_t i = 0; i < n; i++) {
        vectors[i] = (struct iovec){.iov_base = answered[i]->reply, .iov_len = answered[i]->reply_len};
        out[i].msg_hdr = loop->in[answered[i] - loop->requests].msg_hdr;
        out[i].msg_hdr.msg_iov = &vectors[i];
    }
    send_all(engine, fd, out, n, way);
}

/* Moves `known` a little towards what was observed. */
static void learn(int64_t *known, int64_t observed)
{
    int64_t const change = (observed - *known) / 8;

    *known += change > LEARN_NS ? LEARN_NS : change < -LEARN_NS ? -LEARN_NS : change;
}

/* How the next long step leaves: in the way that has taken less time so far, but for a try now and then. */
static enum way choose_way(struct loop *loop)
{
    enum way const cheaper = loop->send_ns[TOGETHER] < loop->send_ns[SINGLY] ? TOGETHER : SINGLY;

    return loop->long_steps++ % TRY_OTHER != 0 ? cheaper : cheaper == SINGLY ? TOGETHER : SINGLY;
}

/* Stamps, seals and sends up to LONG_STEP replies. `now` is the time before and, on return, the time after. */
static void send_step(nts_engine *engine, struct source const *source, struct request *const *answered, size_t n,
                      struct timespec *now)
{
    struct timespec sealed;
    uint64_t transmit[LONG_STEP];
    enum way const way = n != 1 && source->xsk == NULL ? choose_way(engine->loop) : SINGLY;
    int64_t *const send_ns = &source->send_ns[way];

    for (size_t i = 0; i < n; i++)
        transmit[i] = ntp_time(ns_of(now) - source->lead_ns + (int64_t)i * *send_ns);
    nts_finish(engine, answered, transmit, n);
    if (n != 1)
        clock_gettime(CLOCK_REALTIME, &sealed);
    if (source->xsk == NULL)
        send_replies(engine, source->fd, answered, n, way);
    else
        nts_xdp_send(engine, source, answered, n);
    clock_gettime(CLOCK_REALTIME, now);
    if (n != 1)
        learn(send_ns, (ns_of(now) - ns_of(&sealed)) / (int64_t)n);
}

static void count(uint64_t *cells, struct request const *r)
{
    cells[r->verdict]++;
    if (is_protected(r))
        cells[r->key_age < 7 ? NTS_KEY_AGE_0 + r->key_age : NTS_KEY_AGE_7]++;
}

void nts_answer(nts_engine *engine, struct source const *source, size_t n)
{
    struct request *const requests = source->requests;
    struct request *answered[NTS_BATCH];
    size_t const step = n >= source->full ? LONG_STEP : 1, first = source->xsk == NULL ? 1 : step;
    size_t replies = 0;
    struct timespec now;

    for (size_t i = 0; i < n; i++)
        engine->cells[NTS_OCTETS_RECEIVED] += requests[i].length;
    nts_prepare(engine, requests, n, engine->limiter == NULL ? 0 : clock_ns(CLOCK_MONOTONIC));
    for (size_t i = 0; i < n; i++) {
        if (requests[i].verdict == NTS_HANDOVER) {
            hand_over(engine, source, i);
            continue;
        }
        count(engine->cells, &requests[i]);
        if (requests[i].reply_len != 0)
            answered[replies++] = &requests[i];
    }
    clock_gettime(CLOCK_REALTIME, &now);
    /* Through a socket the first reply always goes alone, since it is the likeliest to wake up a CPU. */
    for (size_t i = 0, next = first; i < replies; i += next, next = step) {
        next = next < replies - i ? next : replies - i;
        send_step(engine, source, answered + i, next, &now);
    }
    nts_forget(requests, n);
}

/* Serves one batch from one socket. Returns how many datagrams it was. */
static size_t serve_batch(nts_engine *engine, int fd)
{
    struct loop *const loop = engine->loop;
    struct source const source = {.fd = fd, .requests = loop->requests, .full = NTS_BATCH, .lead_ns = LEAD_NS,
                                  .send_ns = loop->send_ns};
    int const got = receive(loop, fd);

    if (got <= 0) /* nothing left, or the network reports an error of an earlier reply */
        return 0;
    for (size_t i = 0; i < (size_t)got; i++) {
        loop->requests[i].length = loop->in[i].msg_len;
        read_control(&loop->in[i].msg_hdr, &loop->requests[i]);
    }
    nts_answer(engine, &source, (size_t)got);
    return (size_t)got;
}

/* Serves batches from socket number i of those that poll() looks at. */
static size_t serve_socket(nts_engine *engine, size_t i)
{
    struct loop *const loop = engine->loop;
    int const is_xdp = i >= loop->wakes + loop->sockets;
    size_t const full = is_xdp ? 1 : NTS_BATCH; /* it costs little to look into a ring again */
    size_t total = 0, got = full;

    while (got >= full && total < MAX_ROUND)
        total += got = is_xdp ? nts_xdp_serve_batch(engine, i) : serve_batch(engine, loop->polls[i].fd);
    return total;
}

size_t nts_serve(nts_engine *engine)
{
    struct loop *const loop = engine->loop;
    size_t total = 0;

    for (size_t i = loop->wakes; i < loop->polled; i++)
        if (loop->polls[i].revents != 0)
            total += serve_socket(engine, i);
    return total;
}

/* ---- Running ------------------------------------------------------------------------------------------- */

static int folder_differs(char const *folder, int64_t ctime_ns, uint64_t inode)
{
    struct stat now;

    if (stat(folder, &now) != 0)
        memset(&now, 0, sizeof now);
    return ns_of(&now.st_ctim) != ctime_ns || now.st_ino != inode;
}

/* Gives the reference its turn, which lasts until the next call of nts_engine_run. */
static int start_turn(struct loop *loop, int64_t now)
{
    loop->reference_since = now;
    return 1;
}

/* The time that the reference took decides when it may work again while other datagrams wait. */
static void end_turn(struct loop *loop, int64_t now)
{
    int64_t const spent = now - loop->reference_since;

    if (loop->reference_since != 0)
        loop->reference_due = now + (REFERENCE_SHARE - 1) * (spent < MAX_REFERENCE_NS ? spent : MAX_REFERENCE_NS);
    loop->reference_since = 0;
}

int nts_engine_run(nts_engine *engine, char const *folder, int64_t ctime_ns, uint64_t inode, int timeout_ms)
{
    struct loop *const loop = engine->loop;
    int64_t now = clock_ns(CLOCK_MONOTONIC);
    int64_t const end = now + (int64_t)timeout_ms * 1000000;

    end_turn(loop, now);
    while (now < end) {
        int const ready = nts_wait(engine, loop->handover_count != 0 ? 0 : (int)((end - now) / 1000000) + 1);

        if (ready < 0)
            return -1;
        if (ready == 0)
            return loop->handover_count == 0 ? 0 : start_turn(loop, now);
        /* Datagrams are served between two looks at the keys even if the folder never seems settled. */
        loop->asked_for_keys = !loop->asked_for_keys && folder_differs(folder, ctime_ns, inode);
        if (loop->asked_for_keys)
            return 0;
        nts_serve(engine);
        now = clock_ns(CLOCK_MONOTONIC);
        if (loop->handover_count != 0 && now >= loop->reference_due)
            return start_turn(loop, now);
    }
    return 0;
}

/* SPDX-License-Identifier: MIT
 *
 * loop.h - what the two ways of the loop share: through sockets (loop.c) and through AF_XDP (xdp.c).
 */
#ifndef NTS_ENGINE_LOOP_H_
#define NTS_ENGINE_LOOP_H_

#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "internal.h"
#include "xsk.h"

#define MAX_WAKES 8
#define PACKET_ROOM (NTS_MAX_REQUEST + 4) /* enough to tell that a datagram is too long */
#define CONTROL_ROOM 128
#define MAX_ROUND 256 /* requests from each socket in one call of nts_serve */
#define NS_PER_S 1000000000
#define UNIX_EPOCH 2208988800u /* in seconds since 1900 */

/* The buffers of one datagram: peer, control messages, request and reply. */
struct slot {
    struct sockaddr_storage peer;
    _Alignas(struct cmsghdr) uint8_t control[CONTROL_ROOM];
    uint8_t packet[PACKET_ROOM];
    uint8_t reply[NTS_MAX_REQUEST];
};

/* Where the reply to a handover goes. */
struct return_path {
    int fd;
    struct sockaddr_storage peer;
    socklen_t peer_len;
    _Alignas(struct cmsghdr) uint8_t control[CONTROL_ROOM];
    size_t control_len;
};

/* By which system calls the replies of a step leave. */
enum way { SINGLY, TOGETHER, WAYS };

/* Where a batch comes from. */
struct source {
    int fd;              /* a UDP socket, unless there is */
    struct nts_xsk *xsk; /* an AF_XDP socket */
    struct request *requests;
    size_t full;         /* so many requests are answered in long steps: loop.c says why */
    int64_t lead_ns;     /* transmit timestamps are this much earlier than the clock: loop.c says why */
    int64_t *send_ns;    /* what sending one reply of a long step usually takes, by each way there is */
};

/* Frames in a batch. Taking them is no system call, so there is no reason for larger ones: two long steps. */
#define NTS_XDP_BATCH 16

struct xdp; /* what comes by AF_XDP: xdp.c */

struct loop {
    struct pollfd polls[MAX_WAKES + NTS_MAX_SOCKETS + NTS_MAX_SOCKETS]; /* wakes, sockets, AF_XDP sockets */
    size_t wakes, sockets, polled;
    struct slot slots[NTS_BATCH];
    struct request requests[NTS_BATCH];
    struct mmsghdr in[NTS_BATCH];
    struct iovec in_vector[NTS_BATCH];
    struct xdp *xdp;                           /* NULL: nothing comes by AF_XDP */
    int64_t send_ns[WAYS];                     /* through a socket */
    unsigned long_steps;                       /* so many have left through sockets */
    int asked_for_keys;                        /* the last nts_engine_run ended because the folder differed */
    nts_handover handovers[NTS_MAX_HANDOVERS]; /* a ring */
    struct return_path return_paths[NTS_MAX_HANDOVERS];
    size_t first_handover, handover_count;
    int64_t reference_since; /* monotonic ns when the reference got its turn; 0: it has none */
    int64_t reference_due;   /* when it may have the next one while other datagrams wait */
};

static inline int64_t ns_of(struct timespec const *t)
{
    return (int64_t)t->tv_sec * NS_PER_S + t->tv_nsec;
}

static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return ns_of(&now);
}

static inline uint64_t ntp_time(int64_t ns)
{
    return (uint64_t)(ns / NS_PER_S + UNIX_EPOCH) << 32 | ((uint64_t)(ns % NS_PER_S) << 32) / NS_PER_S;
}

/* loop.c: answers a batch of n requests, hands some of them over, and counts. */
void nts_answer(nts_engine *engine, struct source const *source, size_t n);

/* xdp.c: serves a batch from the AF_XDP socket that is number i of those polled. Returns how many frames it was. */
size_t nts_xdp_serve_batch(nts_engine *engine, size_t i);

/* xdp.c: sends replies to requests of this batch. */
void nts_xdp_send(nts_engine *engine, struct source const *source, struct request *const *answered, size_t n);

/* xdp.c: through which UDP socket the reference's reply to request i of the batch leaves. No descriptor: through none. */
void nts_xdp_set_path(struct loop const *loop, size_t i, struct return_path *path);

void nts_xdp_free(struct xdp *xdp);

#endif

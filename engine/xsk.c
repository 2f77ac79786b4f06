/* SPDX-License-Identifier: MIT
 *
 * xsk.c - AF_XDP by its system calls (Linux, Documentation/networking/af_xdp.rst): no libxdp.
 *
 * A parent opens sockets, since only it has the privileges; workers inherit them with all memory, which is shared. What a
 * worker has in hand is noted there too, so that the one which replaces it after a crash can give those frames back.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "xsk.h"

#include <errno.h>
#include <linux/if_xdp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAMES 1024u     /* in each socket, about what the buffer of a UDP socket holds: a burst must wait, not be lost */
#define FRAME_SIZE 4096u /* the request is in the first half, the reply in the second */
#define REPLY_AT 2048u
#define UMEM_SIZE ((size_t)FRAMES * FRAME_SIZE)

/* A ring. One side writes descriptors and then moves `producer`, the other reads them and then moves `consumer`. */
struct ring {
    uint32_t *producer, *consumer, *flags;
    void *descriptors;
    void *map;
    size_t map_len;
};

/* Shared by all processes: the frames of a batch, by their numbers plus one. 0: has been given back. */
struct in_hand {
    uint32_t frames[NTS_BATCH];
};

struct nts_xsk {
    int fd;
    uint8_t *umem; /* and after the frames, in_hand */
    struct in_hand *in_hand;
    struct ring fill, completed, received, outgoing;
};

/* ---- Setting up ---------------------------------------------------------------------------------------- */

static int set_up_ring(int fd, int option)
{
    uint32_t const n = FRAMES;

    return setsockopt(fd, SOL_XDP, option, &n, sizeof n) == 0;
}

static int map_ring(int fd, struct ring *ring, struct xdp_ring_offset const *offsets, size_t entry, off_t where)
{
    size_t const len = offsets->desc + FRAMES * entry;
    uint8_t *const map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, where);

    if (map == MAP_FAILED)
        return 0;
    *ring = (struct ring){
        .producer = (uint32_t *)(void *)(map + offsets->producer),
        .consumer = (uint32_t *)(void *)(map + offsets->consumer),
        .flags = (uint32_t *)(void *)(map + offsets->flags),
        .descriptors = map + offsets->desc,
        .map = map,
        .map_len = len,
    };
    return 1;
}

static int set_up(struct nts_xsk *x)
{
    struct xdp_umem_reg const umem = {
        .addr = (uint64_t)(uintptr_t)x->umem, .len = UMEM_SIZE, .chunk_size = FRAME_SIZE};
    struct xdp_mmap_offsets offsets;
    socklen_t len = sizeof offsets;

    return setsockopt(x->fd, SOL_XDP, XDP_UMEM_REG, &umem, sizeof umem) == 0 &&
           set_up_ring(x->fd, XDP_UMEM_FILL_RING) && set_up_ring(x->fd, XDP_UMEM_COMPLETION_RING) &&
           set_up_ring(x->fd, XDP_RX_RING) && set_up_ring(x->fd, XDP_TX_RING) &&
           getsockopt(x->fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &len) == 0 &&
           map_ring(x->fd, &x->fill, &offsets.fr, sizeof(uint64_t), XDP_UMEM_PGOFF_FILL_RING) &&
           map_ring(x->fd, &x->completed, &offsets.cr, sizeof(uint64_t), XDP_UMEM_PGOFF_COMPLETION_RING) &&
           map_ring(x->fd, &x->received, &offsets.rx, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING) &&
           map_ring(x->fd, &x->outgoing, &offsets.tx, sizeof(struct xdp_desc), XDP_PGOFF_TX_RING);
}

nts_xsk *nts_xsk_open(void)
{
    struct nts_xsk *const x = calloc(1, sizeof *x);

    if (x == NULL)
        return NULL;
    x->umem = mmap(NULL, UMEM_SIZE + sizeof *x->in_hand, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    x->fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (x->umem == MAP_FAILED || x->fd < 0 || !set_up(x)) {
        int const error = errno;

        nts_xsk_close(x);
        errno = error;
        return NULL;
    }
    x->in_hand = (struct in_hand *)(void *)(x->umem + UMEM_SIZE);
    for (uint32_t i = 0; i < FRAMES; i++)
        ((uint64_t *)x->fill.descriptors)[i] = (uint64_t)i * FRAME_SIZE;
    __atomic_store_n(x->fill.producer, FRAMES, __ATOMIC_RELEASE);
    return x;
}

int nts_xsk_bind(nts_xsk *x, uint32_t interface, uint32_t queue)
{
    struct sockaddr_xdp const where = {
        .sxdp_family = AF_XDP,
        .sxdp_flags = XDP_USE_NEED_WAKEUP,
        .sxdp_ifindex = interface,
        .sxdp_queue_id = queue,
    };

    return bind(x->fd, (struct sockaddr const *)&where, sizeof where) == 0;
}

int nts_xsk_is_zero_copy(nts_xsk const *x)
{
    struct xdp_options options = {0};
    socklen_t len = sizeof options;

    (void)getsockopt(x->fd, SOL_XDP, XDP_OPTIONS, &options, &len);
    return (options.flags & XDP_OPTIONS_ZEROCOPY) != 0;
}

int nts_xsk_descriptor(nts_xsk const *x)
{
    return x->fd;
}

uint64_t nts_xsk_lost(nts_xsk const *x)
{
    struct xdp_statistics counts = {0};
    socklen_t len = sizeof counts;

    (void)getsockopt(x->fd, SOL_XDP, XDP_STATISTICS, &counts, &len);
    return counts.rx_dropped + counts.rx_ring_full;
}

static void unmap_ring(struct ring const *ring)
{
    if (ring->map != NULL)
        (void)munmap(ring->map, ring->map_len);
}

void nts_xsk_close(nts_xsk *x)
{
    if (x == NULL)
        return;
    unmap_ring(&x->fill);
    unmap_ring(&x->completed);
    unmap_ring(&x->received);
    unmap_ring(&x->outgoing);
    if (x->fd >= 0)
        close(x->fd);
    if (x->umem != MAP_FAILED)
        (void)munmap(x->umem, UMEM_SIZE + sizeof *x->in_hand);
    free(x);
}

/* ---- Frames -------------------------------------------------------------------------------------------- */

/* Our own end of a ring needs no barrier to be read. The other end does: what was written before it moved comes along. */
static uint32_t other_end(uint32_t const *end)
{
    return __atomic_load_n(end, __ATOMIC_ACQUIRE);
}

static void move(uint32_t *end, uint32_t by)
{
    __atomic_store_n(end, *end + by, __ATOMIC_RELEASE);
}

/* Lets the kernel fill this frame. */
static void refill(struct nts_xsk *x, uint32_t frame)
{
    ((uint64_t *)x->fill.descriptors)[*x->fill.producer % FRAMES] = (uint64_t)frame * FRAME_SIZE;
    move(x->fill.producer, 1);
}

/* Lets the kernel fill the frames whose replies have left. For a moment such a frame is nowhere, like one that is taken or
 * given back: should this process be killed then, better lost than in two places. */
static void reuse(struct nts_xsk *x)
{
    uint32_t const first = *x->completed.consumer, n = other_end(x->completed.producer) - first;

    for (uint32_t i = 0; i < n; i++) {
        uint64_t const address = ((uint64_t const *)x->completed.descriptors)[(first + i) % FRAMES];

        move(x->completed.consumer, 1);
        refill(x, (uint32_t)(address / FRAME_SIZE));
    }
}

/* Notes which frame is number i of the batch. */
static void hold(struct nts_xsk *x, size_t i, uint32_t frame)
{
    __atomic_store_n(&x->in_hand->frames[i], frame + 1, __ATOMIC_RELEASE);
}

/* The frame that is number i of the batch, and is in hand no more. */
static uint32_t let_go(struct nts_xsk *x, size_t i)
{
    uint32_t const frame = x->in_hand->frames[i] - 1;

    __atomic_store_n(&x->in_hand->frames[i], 0, __ATOMIC_RELEASE);
    return frame;
}

void nts_xsk_start(struct nts_xsk *x)
{
    for (size_t i = 0; i < NTS_BATCH; i++)
        if (x->in_hand->frames[i] != 0)
            nts_xsk_drop(x, i);
}

size_t nts_xsk_take(struct nts_xsk *x, struct xsk_frame *frames, uint32_t most)
{
    uint32_t const first = *x->received.consumer, waiting = other_end(x->received.producer) - first;
    uint32_t const n = waiting < most ? waiting : most;

    reuse(x);
    for (uint32_t i = 0; i < n; i++) {
        struct xdp_desc const *const d = &((struct xdp_desc const *)x->received.descriptors)[(first + i) % FRAMES];

        frames[i] = (struct xsk_frame){
            .request = x->umem + d->addr,
            .size = d->len,
            .reply = x->umem + d->addr / FRAME_SIZE * FRAME_SIZE + REPLY_AT,
        };
    }
    move(x->received.consumer, n);
    for (uint32_t i = 0; i < n; i++)
        hold(x, i, (uint32_t)((size_t)(frames[i].reply - x->umem) / FRAME_SIZE));
    return n;
}

void nts_xsk_drop(struct nts_xsk *x, size_t i)
{
    if (x->in_hand->frames[i] != 0)
        refill(x, let_go(x, i));
}

void nts_xsk_send(struct nts_xsk *x, size_t i, size_t size)
{
    struct xdp_desc *const d = &((struct xdp_desc *)x->outgoing.descriptors)[*x->outgoing.producer % FRAMES];

    *d = (struct xdp_desc){.addr = (uint64_t)let_go(x, i) * FRAME_SIZE + REPLY_AT, .len = (uint32_t)size};
    move(x->outgoing.producer, 1);
}

/* Whatever stays in the ring because the interface is busy or down leaves with the next flush, or with poll(). */
void nts_xsk_flush(struct nts_xsk *x)
{
    if (__atomic_load_n(x->outgoing.flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP)
        (void)sendto(x->fd, NULL, 0, MSG_DONTWAIT, NULL, 0);
}

/* SPDX-License-Identifier: MIT
 *
 * xdp.c - a batch of frames: what time each request came, also when CLOCK_TAI changes its distance; which frames get a
 * reply, how many leave in one step, and with which stamps.
 *
 * Linked with --wrap, so that tests control clocks and rings: no privileges are needed.
 */
#define _GNU_SOURCE /* struct mmsghdr */
#include <time.h>

#include "check.h"
#include "frames.h"
#include "loop.h"
#include "requests.h"

#define NOW 1700000000
#define STAMP 8

void __wrap_nts_xsk_start(struct nts_xsk *xsk);
size_t __wrap_nts_xsk_take(struct nts_xsk *xsk, struct xsk_frame *frames, uint32_t most);
void __wrap_nts_xsk_drop(struct nts_xsk *xsk, size_t i);
void __wrap_nts_xsk_send(struct nts_xsk *xsk, size_t i, size_t size);
void __wrap_nts_xsk_flush(struct nts_xsk *xsk);
int __wrap_nts_xsk_descriptor(nts_xsk const *xsk);
int __wrap_clock_gettime(clockid_t id, struct timespec *now);

/* ---- The world ----------------------------------------------------------------------------------------- */

static int64_t now_ns = (int64_t)NOW * NS_PER_S; /* by CLOCK_REALTIME */
static int64_t tai_offset = 37;                  /* seconds */
static struct {
    uint8_t octets[STAMP + NTS_FRAME_MAX], reply[NTS_FRAME_MAX];
    size_t size;
    size_t sent; /* octets of the reply */
} slots[NTS_XDP_BATCH];
static int64_t sending_ns; /* a reply takes so long to leave */
static size_t waiting, steps[NTS_XDP_BATCH], step_count, step;

int __wrap_clock_gettime(clockid_t id, struct timespec *now)
{
    int64_t const ns = now_ns + (id == CLOCK_TAI ? tai_offset * NS_PER_S : 0);

    *now = (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
    return 0;
}

void __wrap_nts_xsk_start(struct nts_xsk *xsk)
{
    (void)xsk;
}

int __wrap_nts_xsk_descriptor(nts_xsk const *xsk)
{
    (void)xsk;
    return -1;
}

size_t __wrap_nts_xsk_take(struct nts_xsk *xsk, struct xsk_frame *frames, uint32_t most)
{
    (void)xsk;
    CHECK(waiting <= most);
    for (size_t i = 0; i < waiting; i++)
        frames[i] = (struct xsk_frame){slots[i].octets + STAMP, (uint32_t)slots[i].size, slots[i].reply};
    return waiting;
}

void __wrap_nts_xsk_drop(struct nts_xsk *xsk, size_t i)
{
    (void)xsk;
    (void)i;
}

void __wrap_nts_xsk_send(struct nts_xsk *xsk, size_t i, size_t size)
{
    (void)xsk;
    CHECK(slots[i].sent == 0);
    slots[i].sent = size;
    step++;
}

void __wrap_nts_xsk_flush(struct nts_xsk *xsk)
{
    (void)xsk;
    now_ns += sending_ns * (int64_t)step;
    steps[step_count++] = step;
    step = 0;
}

/* ---- Tests --------------------------------------------------------------------------------------------- */

/* A plain request that comes `ago` before now by CLOCK_TAI, and the distance that it had then. */
static void arrive(size_t i, int64_t ago, int64_t offset)
{
    int64_t const stamp = now_ns - ago + offset * NS_PER_S;
    uint8_t *const frame = slots[i].octets + STAMP;
    uint8_t *payload;

    memset(&slots[i], 0, sizeof slots[i]);
    memcpy(slots[i].octets, &stamp, sizeof stamp);
    slots[i].size = build_frame(frame, i % 2 == 1, HEADER_LEN);
    payload = frame + slots[i].size - HEADER_LEN;
    payload[0] = 0x23;
    fix_checksums(frame, slots[i].size);
    waiting = i + 1;
}

static void serve(nts_engine *engine)
{
    step_count = step = 0;
    CHECK(nts_xdp_serve_batch(engine, 0) == waiting);
}

static uint64_t received(size_t i)
{
    CHECK(slots[i].sent == slots[i].size);
    return load64(slots[i].reply + slots[i].size - HEADER_LEN + 32);
}

static void test_times(nts_engine *engine)
{
    arrive(0, 1000, 37);
    arrive(1, 0, 37);
    serve(engine); /* whose distance becomes known only now */
    CHECK(received(0) == ntp_time(now_ns) && received(1) == ntp_time(now_ns));

    now_ns += 5000;
    arrive(0, 3000, 37);
    arrive(1, 1000, 37);
    arrive(2, -1000, 37); /* a stamp from the future: the clock was set back */
    serve(engine);
    CHECK(received(0) == ntp_time(now_ns - 3000));
    CHECK(received(1) == ntp_time(now_ns - 1000));
    CHECK(received(2) == ntp_time(now_ns));
}

/* A leap second: CLOCK_REALTIME goes back by one, CLOCK_TAI goes on. What came before that is seen has the old distance. */
static void test_leap_second(nts_engine *engine)
{
    now_ns -= NS_PER_S - 10000;
    tai_offset++;
    arrive(0, 2000, 38);
    arrive(1, 1000, 38);
    serve(engine);
    CHECK(received(0) == ntp_time(now_ns) && received(1) == ntp_time(now_ns));
    now_ns += 10000;
    arrive(0, 2000, 38);
    serve(engine);
    CHECK(received(0) == ntp_time(now_ns - 2000));

    /* A daemon that sets the distance for the first time, or takes it away. */
    for (int64_t other = 0; other <= 37; other += 37) {
        int64_t const before = tai_offset;

        tai_offset = other;
        arrive(0, 2000, before);
        serve(engine);
        CHECK(received(0) == ntp_time(now_ns));
        now_ns += 10000;
        arrive(0, 2000, other);
        serve(engine);
        CHECK(received(0) == ntp_time(now_ns - 2000));
    }
}

static void test_damaged(nts_engine *engine)
{
    static uint64_t cells[NTS_CELLS];

    nts_engine_count_into(engine, cells);
    for (size_t i = 0; i < 5; i++)
        arrive(i, 0, tai_offset);
    slots[1].octets[STAMP + slots[1].size - 1] ^= 1;
    slots[4].size--;
    slots[2].octets[STAMP + slots[2].size - HEADER_LEN] = 0x24; /* not a client */
    fix_checksums(slots[2].octets + STAMP, slots[2].size);
    serve(engine);
    CHECK(slots[0].sent != 0 && slots[3].sent != 0);
    CHECK(slots[1].sent == 0 && slots[2].sent == 0 && slots[4].sent == 0);
    CHECK(cells[NTS_XDP_FRAMES] == 5 && cells[NTS_XDP_DAMAGED] == 2 && cells[NTS_DROP_MODE] == 1);
    CHECK(cells[NTS_ANSWERED_PLAIN] == 2 && cells[NTS_OCTETS_SENT] == 2 * HEADER_LEN);
    CHECK(cells[NTS_OCTETS_RECEIVED] == 3 * HEADER_LEN);
    for (size_t i = 0; i < 4; i += 3) { /* to each its own */
        struct frame_datagram asked, answered;

        CHECK(nts_frame_open(slots[i].octets + STAMP, slots[i].size, &asked));
        CHECK(nts_frame_open(slots[i].reply, slots[i].sent, &answered) && same_address(&answered.own, &asked.peer));
    }
}

static void test_steps(nts_engine *engine)
{
    for (size_t n = 1; n <= NTS_XDP_BATCH; n++) {
        for (size_t i = 0; i < n; i++)
            arrive(i, 0, tai_offset);
        serve(engine);
        CHECK(step_count == (n <= 8 ? 1 : 2) && steps[0] == (n < 8 ? n : 8));
    }
}

static uint64_t transmitted(size_t i)
{
    return load64(slots[i].reply + slots[i].size - HEADER_LEN + 40);
}

/* Within a step, stamps follow the time that sending takes. A reply on its own leaves at once, however long it takes. */
static void test_stamps_in_a_step(nts_engine *engine)
{
    uint64_t const us = ntp_time((int64_t)NOW * NS_PER_S + 1000) - ntp_time((int64_t)NOW * NS_PER_S);

    sending_ns = 400;
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < 8; i++)
            arrive(i, 0, tai_offset);
        serve(engine);
    }
    for (size_t i = 1; i < 8; i++) {
        uint64_t const apart = transmitted(i) - transmitted(i - 1);

        CHECK(apart > us * 39 / 100 && apart < us * 41 / 100);
    }
    sending_ns = 0;
    arrive(0, 0, tai_offset);
    serve(engine);
    CHECK(transmitted(0) <= ntp_time(now_ns) && ntp_time(now_ns) - transmitted(0) < 2 * us);
}

int main(void)
{
    char const *const backend = check_backend();
    nts_engine *const engine = new_engine();
    int const nowhere = -1;
    static long nothing; /* nobody looks into it */
    nts_xsk *const xsk = (nts_xsk *)(void *)&nothing;

    CHECK(engine != NULL && nts_engine_attach(engine, &nowhere, 0, &nowhere, 0));
    CHECK(nts_engine_attach_xsks(engine, &xsk, 1));
    test_times(engine);
    test_leap_second(engine);
    test_damaged(engine);
    test_steps(engine);
    test_stamps_in_a_step(engine);
    nts_engine_free(engine);
    return check_report("xdp", backend);
}

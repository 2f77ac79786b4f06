/* SPDX-License-Identifier: MIT
 *
 * fuzz_answer.c - feeds any octets as a batch of packets to nts_test_answer. A libFuzzer target; driver.c runs it
 * without libFuzzer.
 *
 * Input: for each packet four octets and then the packet,
 *   fixes   what to repair before the engine sees the packet: FIX_ below
 *           bits 5 and 6, for AEAD 30: 1 with padding; 2, 3 two pairs of keys in the cookie, the first or second its own
 *   knobs   bits 0 and 1: algorithm; bit 2: master key; bit 3: the packet supplies the cookie's contents, not a session
 *           bits 4 and 5: the format of the cookie in a good request; of the first packet, bits 6 and 7: that of
 *           fresh cookies
 *   length  16 bits
 * The fixes let the fuzzer reach the code behind cookies and authenticators.
 *
 * Invariants: the verdict is one of the list; answered packets and NAKs get a reply, others none; no reply is longer
 * than its request, and nothing is written beyond that length; a packet gets the same reply in a batch as alone; a
 * request that FIX_BUILD made is answered.
 */
#include <stdio.h>
#include <stdlib.h>

#include "requests.h"

#define MAX_PACKETS NTS_BATCH
#define ROOM (NTS_MAX_REQUEST + 64)
#define CANARY 0xa5
#define RECEIVED 0xe000000011111111
#define TRANSMIT 0xe000000022222222

enum {
    FIX_HEADER = 1, /* NTPv4, client */
    FIX_COOKIE = 2, /* put a good cookie into the first cookie field of the right length */
    FIX_TAIL = 4,   /* turn the last octets into an authentic authenticator */
    FIX_BUILD = 8,  /* replace the packet by a good request; its first octet gives the number of placeholders */
    FIX_REPEAT = 16 /* put the packet into the batch twice */
};

struct input {
    uint8_t packet[ROOM];
    size_t len;
    int good; /* must be answered */
};

static struct input inputs[MAX_PACKETS];
static size_t count;
static nts_engine *engine;

int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size);

static void require(int holds, char const *what)
{
    if (!holds) {
        fprintf(stderr, "fuzz_answer: broken: %s\n", what);
        abort();
    }
}

/* Constant, so that a packet gets the same octets alone and in a batch. */
static void same_octets(void *context, uint8_t *out, size_t n)
{
    (void)context;
    memset(out, 0x55, n);
}

static unsigned kind_of(unsigned fixes, unsigned knobs)
{
    return session_kinds[(knobs & 3) + ((knobs & 3) == 3 ? fixes >> 5 & 3 : 0)];
}

static void fix_cookie(struct input *in, unsigned fixes, unsigned knobs)
{
    unsigned const kind = kind_of(fixes, knobs);

    for (size_t at = HEADER_LEN; at + FIELD_HEADER_LEN <= in->len;) {
        size_t const field_len = load16(in->packet + at + 2);

        if (field_len < FIELD_HEADER_LEN || field_len > in->len - at)
            return;
        if (load16(in->packet + at) == COOKIE_TYPE && field_len >= FIELD_HEADER_LEN + COOKIE_HEAD_LEN + TAG_LEN) {
            uint8_t *const body = in->packet + at + FIELD_HEADER_LEN;
            size_t const body_len = field_len - FIELD_HEADER_LEN;
            uint8_t contents[ROOM];

            if ((knobs & 8) != 0) {
                memcpy(contents, body + COOKIE_HEAD_LEN + TAG_LEN, body_len - COOKIE_HEAD_LEN - TAG_LEN);
                seal_cookie(body, knobs >> 2 & 1, contents, body_len - COOKIE_HEAD_LEN - TAG_LEN);
            } else if (body_len == cookie_len_of(kind)) {
                good_cookie(body, knobs >> 2 & 1, kind);
            }
            return;
        }
        at += field_len;
    }
}

/* Takes one packet off the data. Returns how many octets it used, 0 at the end. */
static size_t take(uint8_t const *data, size_t size)
{
    struct input *const in = &inputs[count];
    unsigned fixes, knobs, kind;
    size_t len;

    if (size < 4 || count == MAX_PACKETS)
        return 0;
    fixes = data[0];
    knobs = data[1];
    kind = kind_of(fixes, knobs);
    len = load16(data + 2) % ROOM;
    len = len < size - 4 ? len : size - 4;
    memcpy(in->packet, data + 4, len);
    in->len = len;
    in->good = 0;
    if ((fixes & FIX_BUILD) != 0) {
        unsigned const format = (knobs >> 4 & 3) % NTS_FORMATS, placeholders = len == 0 ? 0 : data[4] % 11;

        if (format != NTS_OWN)
            kind = nts_has_room(format, aead_of(kind)) ? aead_of(kind) : 15;
        if (format == NTS_OWN)
            in->len = good_request(in->packet, knobs >> 2 & 1, kind, placeholders);
        else
            in->len = foreign_request(in->packet, format, knobs >> 2 & 1, kind, placeholders);
        in->good = 1;
    }
    if ((fixes & FIX_HEADER) != 0 && in->len != 0)
        in->packet[0] = (uint8_t)((in->packet[0] & 0xc0) | 0x23);
    if ((fixes & FIX_COOKIE) != 0 && !in->good)
        fix_cookie(in, fixes, knobs);
    if ((fixes & FIX_TAIL) != 0 && in->len >= HEADER_LEN + auth_len_of(kind))
        authenticate_packet(in->packet, in->len - auth_len_of(kind), kind);
    count++;
    if ((fixes & FIX_REPEAT) != 0 && count < MAX_PACKETS)
        inputs[count++] = *in;
    return 4 + len;
}

/* The packet is in memory that ends where it ends, so that sanitizers see reads beyond it. */
static void check_alone(struct input const *in, uint32_t verdict, uint8_t const *reply, size_t reply_len)
{
    static uint8_t alone[NTS_MAX_REQUEST];
    uint64_t const received = RECEIVED;
    uint8_t *const copy = malloc(in->len == 0 ? 1 : in->len);
    size_t alone_len = 0;
    uint32_t alone_verdict = NTS_VERDICTS;

    require(copy != NULL, "memory");
    memcpy(copy, in->packet, in->len);
    memset(alone, CANARY, sizeof alone);
    nts_test_answer(engine, copy, in->len, &in->len, &received, 1, TRANSMIT, &alone_verdict, alone, &alone_len, NULL);
    require(memcmp(copy, in->packet, in->len) == 0, "a packet was changed");
    free(copy);
    require(alone_verdict == verdict && alone_len == reply_len, "another verdict or length alone");
    require(memcmp(alone, reply, reply_len) == 0, "another reply alone");
    for (size_t i = in->len; i < NTS_MAX_REQUEST; i++)
        require(alone[i] == CANARY, "written beyond the length of the request");
}

int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size)
{
    static uint8_t replies[NTS_BATCH * NTS_MAX_REQUEST];
    size_t lengths[NTS_BATCH], reply_lengths[NTS_BATCH];
    uint64_t received[NTS_BATCH];
    uint32_t verdicts[NTS_BATCH];

    if (engine == NULL) {
        engine = new_engine();
        require(engine != NULL, "no engine");
        engine->generator.fn = same_octets;
    }
    count = 0;
    nts_engine_set_format(engine, size < 2 ? NTS_OWN : (data[1] >> 6) % NTS_FORMATS);
    for (size_t step; (step = take(data, size)) != 0; data += step)
        size -= step;
    for (size_t i = 0; i < count; i++) {
        lengths[i] = inputs[i].len;
        received[i] = RECEIVED;
        memset(replies + i * NTS_MAX_REQUEST, CANARY, NTS_MAX_REQUEST);
    }
    nts_test_answer(engine, inputs[0].packet, sizeof *inputs, lengths, received, count, TRANSMIT, verdicts, replies,
                      reply_lengths, NULL);
    for (size_t i = 0; i < count; i++) {
        uint32_t const verdict = verdicts[i];

        require(verdict < NTS_DROP_BUSY || verdict == NTS_HANDOVER, "no such verdict");
        require((reply_lengths[i] != 0) == (verdict <= NTS_KISS_RATE), "a reply where none is due, or none at all");
        require(reply_lengths[i] <= lengths[i], "a reply longer than its request");
        require(!inputs[i].good || verdict == NTS_ANSWERED_NTS, "a good request is not answered");
        check_alone(&inputs[i], verdict, replies + i * NTS_MAX_REQUEST, reply_lengths[i]);
    }
    return 0;
}

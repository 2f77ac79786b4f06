/* SPDX-License-Identifier: MIT
 *
 * testing.h - what only tests and fuzzers call: a batch without sockets, and the two halves of nts_engine_run.
 *
 * It is part of the module that the time server loads, so that tests drive the same one; nobody else calls it.
 * testkit/engine.py binds it; nts/_engine_build.py reads the text between the two cffi markers.
 */
#ifndef NTS_ENGINE_TESTING_H_
#define NTS_ENGINE_TESTING_H_

#include "nts_engine.h"

/* cffi:begin */

/* Octets that the engine draws in place of random ones, in order. Drawing more than there are aborts. */
typedef struct {
    uint8_t const *octets;
    size_t length;
    size_t drawn;
} nts_test_octets;

/* Draws from `source` from now on; NULL: random octets again. */
void nts_test_draw_from(nts_engine *engine, nts_test_octets *source);

/* Judges n <= NTS_BATCH packets as one batch. Packet i has lengths[i] octets, starts at packets + i * stride, and
 * arrived at received[i], from 192.0.2.1 and at time 1 as far as the limit is concerned. Every reply gets the transmit timestamp `transmit`. Reply i goes to
 * replies + i * NTS_MAX_REQUEST and has reply_lengths[i] octets, 0 for none. key_ages, unless NULL, gets for each
 * authenticated request how many master keys are newer than that of its cookie, and -1 for others. */
void nts_test_answer(nts_engine *engine, uint8_t const *packets, size_t stride, size_t const *lengths,
                     uint64_t const *received, size_t n, uint64_t transmit, uint32_t *verdicts, uint8_t *replies,
                     size_t *reply_lengths, int32_t *key_ages);

/* nts_limited of internal.h, for the address of a peer in 4 or 16 octets. */
uint32_t nts_test_limited(nts_engine *engine, uint8_t const *address, size_t length, int64_t now, uint32_t verdict);

/* nts_wait and nts_serve of internal.h */
int nts_test_wait(nts_engine *engine, int timeout_ms);
size_t nts_test_serve(nts_engine *engine);

/* cffi:end */

#endif

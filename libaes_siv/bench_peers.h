/* SPDX-License-Identifier: MIT
 *
 * bench_peers.h - other implementations of AES-SIV, for bench.c, behind the interface of our batches.
 *
 * Each takes messages one after the other, as its own interface does. A message with a key uses the one that
 * peer_set_key expanded beforehand, whatever its key points to; the others are keyed on the spot.
 */
#ifndef BENCH_PEERS_H_
#define BENCH_PEERS_H_

#include <stddef.h>

#include "aes_siv.h"

struct peer {
    char const *name;
    int exact;                                                   /* computes the same for every message */
    int (*set_key)(unsigned char const *key, size_t key_len);    /* of 32 or 64 bytes */
    int (*run)(AES_SIV_MSG *msgs, size_t n, int seal);           /* 1 when all went well */
};

/* Each returns NULL where this build or this machine lacks it. */
struct peer const *peer_openssl(void);
struct peer const *peer_nettle(void);

#endif

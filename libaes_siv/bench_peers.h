/* SPDX-License-Identifier: MIT
 *
 * bench_peers.h - other implementations of AES-SIV, for bench.c, behind the interface of our batches.
 *
 * Each does messages one after the other, as its own interface demands. A message with a key uses the key that
 * set_key expanded in advance, whatever its key points to. For other messages the key is expanded at once.
 */
#ifndef BENCH_PEERS_H_
#define BENCH_PEERS_H_

#include <stddef.h>

#include "aes_siv.h"

struct peer {
    char const *name;
    int exact;                                                   /* computes every message as we do */
    int (*set_key)(unsigned char const *key, size_t key_len);    /* of 32 or 64 bytes */
    int (*run)(AES_SIV_MSG *msgs, size_t n, int seal);           /* returns 1 on success */
};

/* Each returns NULL if this build or this machine lacks it. */
struct peer const *peer_openssl(void);
struct peer const *peer_nettle(void);

#endif

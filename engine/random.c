/* SPDX-License-Identifier: MIT
 *
 * random.c - nonces in bulk. Calling getrandom() for each would cost more than all the cryptography of a request.
 *
 * Invariant: nobody can compute past output from the generator's state. The key that made a pool is replaced before the
 * pool is used, and octets are wiped from the pool as they are given out.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/random.h>

#include "internal.h"

#define KEY_LEN 32
#define RESEED_AFTER 1024 /* refills: 4 MiB */

static uint8_t const zero_iv[16]; /* safe, since each key makes one pool only */

static int seed(struct generator *g)
{
    uint8_t key[KEY_LEN];
    int ok;

    if (getrandom(key, sizeof key, 0) != (ssize_t)sizeof key)
        return 0;
    ok = EVP_EncryptInit_ex(g->cipher, NULL, NULL, key, zero_iv);
    OPENSSL_cleanse(key, sizeof key);
    g->refills = 0;
    return ok;
}

/* Encrypts the pool, which is all zero by now; its first octets become the key of the next refill. No input can make
 * this fail. If it does, the worker ends and is replaced: that is better than nonces that repeat. */
static void refill(struct generator *g)
{
    int out_len;

    if ((++g->refills > RESEED_AFTER && !seed(g)) ||
        !EVP_EncryptUpdate(g->cipher, g->pool, &out_len, g->pool, (int)sizeof g->pool) ||
        !EVP_EncryptInit_ex(g->cipher, NULL, NULL, g->pool, zero_iv))
        abort();
    OPENSSL_cleanse(g->pool, KEY_LEN);
    g->used = KEY_LEN;
}

int nts_random_open(struct generator *g)
{
    g->fn = NULL;
    g->cipher = EVP_CIPHER_CTX_new();
    if (g->cipher == NULL || !EVP_EncryptInit_ex(g->cipher, EVP_aes_256_ctr(), NULL, NULL, NULL) || !seed(g))
        return 0;
    refill(g);
    return 1;
}

void nts_random_close(struct generator *g)
{
    EVP_CIPHER_CTX_free(g->cipher);
    OPENSSL_cleanse(g, sizeof *g);
}

void nts_random(struct generator *g, uint8_t *out, size_t n)
{
    if (g->fn != NULL) {
        g->fn(g->context, out, n);
        return;
    }
    while (n != 0) {
        size_t part;

        if (g->used == sizeof g->pool)
            refill(g);
        part = n < sizeof g->pool - g->used ? n : sizeof g->pool - g->used;
        memcpy(out, g->pool + g->used, part);
        memset(g->pool + g->used, 0, part);
        g->used += part;
        out += part;
        n -= part;
    }
}

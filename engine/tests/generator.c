/* SPDX-License-Identifier: MIT
 *
 * generator.c - the random octets: never given out twice, wiped from the pool, reseeded in time; and the key of each
 * pool is replaced before the pool is used.
 */
#include <openssl/evp.h>

#include "check.h"
#include "requests.h"

#define NONCES 20000
#define POOL sizeof((struct generator *)0)->pool
#define KEY_LEN 32
#define RESEED_AFTER 1024 /* as in random.c */

static int by_value(void const *a, void const *b)
{
    return memcmp(a, b, NONCE_LEN);
}

static void check_distinct(struct generator *g)
{
    static uint8_t nonces[NONCES][NONCE_LEN];
    unsigned ones = 0;

    for (size_t i = 0; i < NONCES; i++) {
        nts_random(g, nonces[i], NONCE_LEN);
        for (size_t j = 0; j < NONCE_LEN; j++)
            ones += (unsigned)__builtin_popcount(nonces[i][j]);
    }
    qsort(nonces, NONCES, NONCE_LEN, by_value);
    for (size_t i = 1; i < NONCES; i++)
        CHECK(memcmp(nonces[i - 1], nonces[i], NONCE_LEN) != 0);
    CHECK(!check_all(nonces[0], 0, NONCE_LEN));
    /* half of the bits are ones, within ten standard deviations */
    CHECK(ones > NONCES * 64 - 8000 && ones < NONCES * 64 + 8000);
}

/* Draws of all sizes, also across the end of the pool, fill their buffer and write nothing beyond it. */
static void check_sizes(struct generator *g)
{
    static uint8_t out[3 * POOL + 1];

    for (size_t n = 0; n < 3 * POOL; n += n < 70 ? 1 : 509) {
        memset(out, 0, sizeof out);
        nts_random(g, out, n);
        CHECK(check_all(out + n, 0, sizeof out - n));
        for (size_t i = 0; i + 16 <= n; i += 16)
            CHECK(!check_all(out + i, 0, 16));
    }
}

/* Octets that were given out are wiped from the pool, and so is the key of the next pool. */
static void check_wiped(struct generator *g)
{
    uint8_t out[100];

    for (int i = 0; i < 200; i++) {
        nts_random(g, out, sizeof out);
        CHECK(check_all(g->pool, 0, g->used));
    }
}

/* The state determines the next pool, whose first octets are the key after that, but not the current pool. */
static void check_fast_erasure(struct generator *g)
{
    static uint8_t now[POOL], later[POOL], out[POOL];
    static uint8_t const zeros[POOL];
    EVP_CIPHER_CTX *const state = EVP_CIPHER_CTX_new();
    int len;

    while (g->used != POOL)
        nts_random(g, out, 1);
    nts_random(g, out, 1); /* now the pool is fresh but for one octet */
    memcpy(now, g->pool, POOL);
    CHECK(EVP_CIPHER_CTX_copy(state, g->cipher));
    CHECK(EVP_EncryptUpdate(state, later, &len, zeros, (int)POOL));
    CHECK(memcmp(now + KEY_LEN + 1, later + KEY_LEN + 1, 64) != 0);
    for (size_t i = KEY_LEN + 1; i < POOL; i++)
        nts_random(g, out, 1);
    nts_random(g, out, POOL - KEY_LEN);
    CHECK(memcmp(out, later + KEY_LEN, POOL - KEY_LEN) == 0);
    /* The first octets of `later` are the key now, and they determine the pool after it. */
    CHECK(EVP_EncryptInit_ex(state, NULL, NULL, later, zeros));
    CHECK(EVP_EncryptUpdate(state, now, &len, zeros, (int)POOL));
    nts_random(g, out, POOL - KEY_LEN);
    CHECK(memcmp(out, now + KEY_LEN, POOL - KEY_LEN) == 0);
    EVP_CIPHER_CTX_free(state);
}

/* After RESEED_AFTER refills the next pool is not what the state would have given. */
static void check_reseeded(struct generator *g)
{
    static uint8_t out[POOL], expected[POOL];
    static uint8_t const zeros[POOL];
    EVP_CIPHER_CTX *const state = EVP_CIPHER_CTX_new();
    unsigned refills = 0, reseeds = 0;
    int len;

    while (g->used != POOL)
        nts_random(g, out, 1);
    for (; refills < 2 * RESEED_AFTER + 2; refills++) {
        CHECK(EVP_CIPHER_CTX_copy(state, g->cipher));
        CHECK(EVP_EncryptUpdate(state, expected, &len, zeros, (int)POOL));
        nts_random(g, out, POOL - KEY_LEN);
        reseeds += memcmp(out, expected + KEY_LEN, POOL - KEY_LEN) != 0;
    }
    CHECK(reseeds == 2);
    EVP_CIPHER_CTX_free(state);
}

static void count_up(void *context, uint8_t *out, size_t n)
{
    unsigned *const next = context;

    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(*next)++;
}

static void check_function_for_tests(struct generator *g)
{
    uint8_t out[300];
    unsigned next = 5;

    g->fn = count_up;
    g->context = &next;
    nts_random(g, out, sizeof out);
    CHECK(next == 305 && out[0] == 5 && out[299] == (uint8_t)304);
    g->fn = NULL;
    nts_random(g, out, sizeof out);
    CHECK(next == 305);
}

int main(void)
{
    static struct generator g, other;
    uint8_t a[64], b[64];

    CHECK(nts_random_open(&g) && nts_random_open(&other));
    nts_random(&g, a, sizeof a);
    nts_random(&other, b, sizeof b);
    CHECK(memcmp(a, b, sizeof a) != 0);
    check_distinct(&g);
    check_sizes(&g);
    check_wiped(&g);
    check_fast_erasure(&g);
    check_reseeded(&g);
    check_function_for_tests(&g);
    nts_random_close(&g);
    nts_random_close(&other);
    CHECK(check_all((uint8_t const *)&g, 0, sizeof g));
    return check_report("generator", "any");
}

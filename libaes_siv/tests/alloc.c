/* SPDX-License-Identifier: MIT
 *
 * alloc.c - makes each allocation fail in turn: the call returns NULL or 0, nothing leaks (Valgrind and the address
 * sanitizer check that), and a context that failed works again afterwards.
 *
 * The library gets all its memory from OpenSSL's allocator, which this test replaces.
 */
#include <openssl/crypto.h>

#include "../aes_gcm_siv.h"
#include "check.h"

#define MANY 100000

static unsigned long successes_left = (unsigned long)-1;

static int may_allocate(void)
{
    if (successes_left == 0)
        return 0;
    successes_left--;
    return 1;
}

static void *limited_malloc(size_t size, char const *file, int line)
{
    (void)file, (void)line;
    return may_allocate() ? malloc(size) : NULL;
}

static void *limited_realloc(void *p, size_t size, char const *file, int line)
{
    (void)file, (void)line;
    return may_allocate() ? realloc(p, size) : NULL;
}

static void plain_free(void *p, char const *file, int line)
{
    (void)file, (void)line;
    free(p);
}

static uint8_t const key[64] = {7};

/* Runs try(a, b) with 0, 1, 2 ... allocations allowed, until it succeeds. Returns how often it failed. */
static unsigned long exhaust(int (*try)(AES_SIV_CTX *, AES_SIV_CTX *), AES_SIV_CTX *a, AES_SIV_CTX *b)
{
    unsigned long allowed = 0;
    int ok;

    do {
        successes_left = allowed++;
        ok = try(a, b);
        successes_left = (unsigned long)-1;
    } while (!ok && allowed < MANY);
    CHECK(ok);
    return allowed - 1;
}

static int try_new(AES_SIV_CTX *a, AES_SIV_CTX *b)
{
    AES_SIV_CTX *const ctx = AES_SIV_CTX_new();

    (void)a, (void)b;
    AES_SIV_CTX_free(ctx);
    return ctx != NULL;
}

static int try_init(AES_SIV_CTX *a, AES_SIV_CTX *b)
{
    (void)b;
    AES_SIV_CTX_cleanup(a);
    return AES_SIV_Init(a, key, 32);
}

/* The key has a different length from the last one. */
static int try_other_key(AES_SIV_CTX *a, AES_SIV_CTX *b)
{
    (void)b;
    if (AES_SIV_Init(a, key, 64))
        return 1;
    CHECK(AES_SIV_AssociateData(a, key, 1) == 0);
    return 0;
}

static int try_copy(AES_SIV_CTX *a, AES_SIV_CTX *b)
{
    if (AES_SIV_CTX_copy(b, a))
        return 1;
    CHECK(AES_SIV_AssociateData(b, key, 1) == 0);
    return 0;
}

/* When memory is short, each message of a batch is either done or refused. */
static int try_batch(AES_SIV_CTX *a, AES_SIV_CTX *b)
{
    AES_SIV_KEY *const scheduled = AES_SIV_KEY_new(key, 32);
    uint8_t sealed[2][16 + 32], out[2][32];
    AES_SIV_MSG msgs[2];
    int ok;

    (void)a, (void)b;
    for (size_t i = 0; i < 2; i++)
        msgs[i] = (AES_SIV_MSG){.key = i == 0 ? scheduled : NULL,
                                .raw_key = key,
                                .raw_key_len = 48,
                                .in = key,
                                .in_len = 32,
                                .out = sealed[i]};
    ok = scheduled != NULL && AES_SIV_SealBatch(msgs, 2);
    for (size_t i = 0; ok && i < 2; i++) {
        memset(out[i], 0xa5, sizeof out[i]);
        msgs[i].in = sealed[i];
        msgs[i].in_len = sizeof sealed[i];
        msgs[i].out = out[i];
    }
    if (ok) {
        ok = AES_SIV_OpenBatch(msgs, 2);
        for (size_t i = 0; i < 2; i++)
            CHECK(msgs[i].ok ? memcmp(out[i], key, 32) == 0 : check_all(out[i], 0, 32));
    }
    AES_SIV_KEY_free(scheduled);
    return ok;
}

static int try_gcm(AES_SIV_CTX *a, AES_SIV_CTX *b)
{
    uint8_t sealed[48], out[32];

    (void)a, (void)b;
    if (!AES_GCM_SIV_Seal(sealed, key, key, key, 32, NULL, 0))
        return 0;
    memset(out, 0xa5, sizeof out);
    if (AES_GCM_SIV_Open(out, key, key, sealed, 48, NULL, 0))
        return CHECK(memcmp(out, key, 32) == 0);
    CHECK(check_all(out, 0, sizeof out));
    return 0;
}

int main(void)
{
    uint8_t sealed[48], expected[48];
    size_t len = sizeof sealed;
    char const *backend;
    AES_SIV_CTX *a, *b;

    /* Must come before OpenSSL's first allocation. This also shows that loading the library allocates nothing. */
    CHECK(CRYPTO_set_mem_functions(limited_malloc, limited_realloc, plain_free) == 1);
    /* OpenSSL 3.5 deadlocks when its own start runs out of memory. That is not what this tests. */
    CHECK(OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL) == 1);

    backend = check_backend();
    CHECK(exhaust(try_new, NULL, NULL) > 0);
    a = AES_SIV_CTX_new();
    b = AES_SIV_CTX_new();
    if (!CHECK(a != NULL && b != NULL))
        return EXIT_FAILURE;
    CHECK(AES_SIV_Encrypt(a, expected, &len, key, 32, NULL, 0, key, 32, NULL, 0) == 1);

    printf("failed at first: Init %lu times,", exhaust(try_init, a, b));
    printf(" Init of another size %lu times,", exhaust(try_other_key, a, b));
    CHECK(AES_SIV_Init(a, key, 32) == 1);
    printf(" copy %lu times,", exhaust(try_copy, a, b));
    printf(" key and batch %lu times,", exhaust(try_batch, a, b));
    printf(" AES-GCM-SIV %lu times\n", exhaust(try_gcm, a, b));

    CHECK(AES_SIV_Encrypt(b, sealed, &len, key, 32, NULL, 0, key, 32, NULL, 0) == 1);
    CHECK(memcmp(sealed, expected, sizeof sealed) == 0);
    AES_SIV_CTX_free(a);
    AES_SIV_CTX_free(b);
    return check_report("alloc", backend);
}

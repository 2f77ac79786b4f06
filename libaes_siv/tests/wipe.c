/* SPDX-License-Identifier: MIT
 *
 * wipe.c - no key stays in memory after cleanup, free or a new Init, nor in any freed memory.
 *
 * The library gets all its memory from OpenSSL's allocator. This test replaces that by one that tracks every live block
 * and searches each block that is freed. It searches for the two halves of the key, with which a key schedule starts
 * in all backends.
 */
#include <openssl/crypto.h>

#include "../siv_internal.h"
#include "check.h"

/* In front of every block, which must stay aligned for any type. */
struct header {
    _Alignas(max_align_t) struct header *next;
    size_t size;
};

static struct header *live;
static uint8_t key[64];
static size_t half; /* of the key searched for; 0 while there is none */
static unsigned long freed_with_key;

static int holds_key(struct header const *block)
{
    uint8_t const *const bytes = (uint8_t const *)(block + 1);

    for (size_t i = 0; half != 0 && i + half <= block->size; i++) {
        if (memcmp(bytes + i, key, half) == 0 || memcmp(bytes + i, key + half, half) == 0)
            return 1;
    }
    return 0;
}

static unsigned long live_with_key(void)
{
    unsigned long count = 0;

    for (struct header const *block = live; block != NULL; block = block->next)
        count += (unsigned long)holds_key(block);
    return count;
}

static void *tracking_malloc(size_t size, char const *file, int line)
{
    struct header *const block = calloc(1, sizeof *block + size);

    (void)file, (void)line;
    if (block == NULL)
        return NULL;
    block->size = size;
    block->next = live;
    live = block;
    return block + 1;
}

static void tracking_free(void *p, char const *file, int line)
{
    struct header *const block = p == NULL ? NULL : (struct header *)p - 1;
    struct header **link = &live;

    (void)file, (void)line;
    if (block == NULL)
        return;
    freed_with_key += (unsigned long)holds_key(block);
    while (*link != block)
        link = &(*link)->next;
    *link = block->next;
    free(block);
}

static void *tracking_realloc(void *p, size_t size, char const *file, int line)
{
    void *const moved = tracking_malloc(size, file, line);

    if (moved != NULL && p != NULL) {
        size_t const old = ((struct header *)p - 1)->size;

        memcpy(moved, p, old < size ? old : size);
        tracking_free(p, file, line);
    }
    return moved;
}

static uint8_t const other[64] = {1};

static void one_key_size(AES_SIV_CTX *ctx, size_t key_len, size_t other_len)
{
    AES_SIV_CTX *copy = AES_SIV_CTX_new();

    check_fill(key, sizeof key);
    half = key_len / 2;
    CHECK(live_with_key() == 0);

    CHECK(AES_SIV_Init(ctx, key, key_len) == 1);
    CHECK(live_with_key() != 0); /* shows that the search works */
    AES_SIV_CTX_cleanup(ctx);
    CHECK(live_with_key() == 0);

    CHECK(AES_SIV_Init(ctx, key, key_len) == 1 && AES_SIV_Init(ctx, other, other_len) == 1);
    CHECK(live_with_key() == 0);
    CHECK(AES_SIV_Init(ctx, key, key_len) == 1 && AES_SIV_Init(ctx, other, 31) == 0);
    CHECK(live_with_key() == 0);

    CHECK(AES_SIV_Init(ctx, key, key_len) == 1 && AES_SIV_CTX_copy(copy, ctx) == 1);
    CHECK(AES_SIV_Init(ctx, other, other_len) == 1 && live_with_key() != 0);
    CHECK(AES_SIV_CTX_copy(copy, ctx) == 1 && live_with_key() == 0);

    CHECK(AES_SIV_Init(copy, key, key_len) == 1 && live_with_key() != 0);
    AES_SIV_CTX_free(copy);
    CHECK(live_with_key() == 0 && freed_with_key == 0);

    AES_SIV_KEY *const scheduled = AES_SIV_KEY_new(key, key_len);
    CHECK(scheduled != NULL && live_with_key() != 0);
    AES_SIV_KEY_free(scheduled);
    CHECK(live_with_key() == 0 && freed_with_key == 0);
    half = 0;
}

/* A short key schedule leaves nothing of a longer one in memory. */
static void schedules(struct siv_backend const *aesni)
{
    struct siv_aes aes;

    if (aesni == NULL)
        return;
    CHECK(aesni->open(&aes) == 1);
    for (size_t len = 16; len <= 32; len += 8) {
        size_t const used = SIV_BLOCK * (len / 4 + 7);

        CHECK(aesni->set_key(&aes, key, 32) == 1 && aesni->set_key(&aes, key, len) == 1);
        CHECK(check_all(aes.schedule.round_key + used, 0, sizeof aes.schedule.round_key - used));
    }
    aesni->close(&aes);
    CHECK(check_all(aes.schedule.round_key, 0, sizeof aes.schedule.round_key));
}

int main(void)
{
    char const *backend;
    AES_SIV_CTX *ctx;

    CHECK(CRYPTO_set_mem_functions(tracking_malloc, tracking_realloc, tracking_free) == 1);
    backend = check_backend();
    ctx = AES_SIV_CTX_new();
    if (!CHECK(ctx != NULL))
        return EXIT_FAILURE;
    for (size_t key_len = 32; key_len <= 64; key_len += 16) {
        for (size_t other_len = 32; other_len <= 64; other_len += 16)
            one_key_size(ctx, key_len, other_len);
    }
    schedules(siv_backend_aesni());
    AES_SIV_CTX_free(ctx);
    return check_report("wipe", backend);
}

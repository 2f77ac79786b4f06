/* SPDX-License-Identifier: MIT
 *
 * copies.c - AES_SIV_SealCopies gives what AES_SIV_Encrypt gives for each nonce, writes nothing else, and refuses what
 * it must.
 */
#include "check.h"

#define MOST 131 /* more than twice the window in which batches are grouped */
#define LEN 66   /* of the keys in a cookie */
#define CANARY 0xa5

static uint8_t key[64], nonces[MOST * 16], text[LEN];
static uint8_t out[MOST * (LEN + 16) + 1], one[LEN + 16];

/* Compares n copies with messages that are sealed one by one. */
static void compare(AES_SIV_CTX *ctx, size_t key_len, size_t n, size_t nonce_len, size_t len)
{
    size_t const size = len + 16;

    memset(out, CANARY, sizeof out);
    CHECK(AES_SIV_SealCopies(out, key, key_len, nonces, nonce_len, n, text, len) == 1);
    for (size_t i = 0; i < n; i++) {
        size_t one_len = sizeof one;

        CHECK(AES_SIV_Encrypt(ctx, one, &one_len, key, key_len, nonces + i * nonce_len, nonce_len, text, len, NULL, 0));
        CHECK(one_len == size && memcmp(out + i * size, one, size) == 0);
    }
    CHECK(check_all(out + n * size, CANARY, sizeof out - n * size));
}

static void refusals(void)
{
    memset(out, CANARY, sizeof out);
    CHECK(AES_SIV_SealCopies(out, key, 31, nonces, 16, 8, text, LEN) == 0);
    CHECK(AES_SIV_SealCopies(out, NULL, 32, nonces, 16, 8, text, LEN) == 0);
    CHECK(AES_SIV_SealCopies(out, key, 32, NULL, 16, 8, text, LEN) == 0);
    CHECK(AES_SIV_SealCopies(out, key, 32, nonces, 0, 8, text, LEN) == 0);
    CHECK(AES_SIV_SealCopies(out, key, 32, nonces, 16, 8, NULL, LEN) == 0);
    CHECK(AES_SIV_SealCopies(NULL, key, 32, nonces, 16, 8, text, LEN) == 0);
    CHECK(AES_SIV_SealCopies(NULL, key, 32, NULL, 16, 0, NULL, 0) == 1);
    CHECK(check_all(out, CANARY, sizeof out));
}

int main(void)
{
    static size_t const counts[] = {0, 1, 2, 7, 8, 9, 64, 65, MOST};
    static size_t const lengths[] = {0, 1, 16, 34, LEN};
    char const *const backend = check_backend();
    AES_SIV_CTX *const ctx = AES_SIV_CTX_new();

    CHECK(ctx != NULL);
    for (size_t i = 0; i < sizeof nonces; i++)
        nonces[i] = (uint8_t)check_random();
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = text[i] = (uint8_t)check_random();
    for (size_t key_len = 32; key_len <= 64; key_len += 16) {
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            for (size_t j = 0; j < sizeof lengths / sizeof lengths[0]; j++) {
                compare(ctx, key_len, counts[i], 16, lengths[j]);
                compare(ctx, key_len, counts[i], 5, lengths[j]);
            }
        }
    }
    refusals();
    AES_SIV_CTX_free(ctx);
    return check_report("copies", backend);
}

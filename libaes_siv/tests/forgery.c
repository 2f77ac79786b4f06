/* SPDX-License-Identifier: MIT
 *
 * forgery.c - a message that differs in any one bit, or in its shape, from the sealed one is refused, and the output is
 * all zeros.
 */
#include "check.h"

#define MAX 160

static uint8_t key[64], nonce[16], ad[40], text[MAX], sealed[MAX + 16];

/* Tries to open the current contents of `sealed`. */
static int open_now(AES_SIV_CTX *ctx, size_t key_len, size_t len)
{
    uint8_t out[MAX + 1];
    size_t out_len = MAX;
    int ok;

    memset(out, 0xa5, sizeof out);
    ok = AES_SIV_Decrypt(ctx, out, &out_len, key, key_len, nonce, sizeof nonce, sealed, len + 16, ad,
                         sizeof ad);
    CHECK(out_len == len);
    if (ok)
        CHECK(memcmp(out, text, len) == 0);
    else
        CHECK(check_all(out, 0, len));
    CHECK(check_all(out + len, 0xa5, sizeof out - len));
    return ok;
}

/* Flips every bit of the len bytes at p. The message is refused each time, and accepted again at the end. */
static void flip(AES_SIV_CTX *ctx, uint8_t *p, size_t p_len, size_t key_len, size_t len)
{
    for (size_t bit = 0; bit < 8 * p_len; bit++) {
        uint8_t const mask = (uint8_t)(1u << bit % 8);

        p[bit / 8] ^= mask;
        CHECK(open_now(ctx, key_len, len) == 0);
        p[bit / 8] ^= mask;
    }
    CHECK(open_now(ctx, key_len, len) == 1);
}

static void one_shape(AES_SIV_CTX *ctx, size_t key_len, size_t len)
{
    size_t sealed_len = sizeof sealed;
    uint8_t in_place[MAX + 16];
    size_t out_len = MAX;

    check_fill(key, sizeof key);
    check_fill(nonce, sizeof nonce);
    check_fill(ad, sizeof ad);
    check_fill(text, sizeof text);
    CHECK(AES_SIV_Encrypt(ctx, sealed, &sealed_len, key, key_len, nonce, sizeof nonce, text, len, ad,
                          sizeof ad));
    CHECK(sealed_len == len + 16);

    flip(ctx, sealed, len + 16, key_len, len);
    flip(ctx, nonce, sizeof nonce, key_len, len);
    flip(ctx, ad, sizeof ad, key_len, len);
    /* The second half of the key enciphers the text: without one it does not matter, and with a very short
     * one the right text may come out by chance. */
    flip(ctx, key, len < 15 ? key_len / 2 : key_len, key_len, len);

    /* One byte less. Nothing may be written beyond the shorter text. */
    if (len != 0)
        CHECK(open_now(ctx, key_len, len - 1) == 0);

    /* In place, a refused ciphertext is zeroed too. */
    memcpy(in_place, sealed, len + 16);
    in_place[0] ^= 1;
    CHECK(!AES_SIV_Decrypt(ctx, in_place + 16, &out_len, key, key_len, nonce, sizeof nonce, in_place,
                           len + 16, ad, sizeof ad));
    CHECK(check_all(in_place + 16, 0, len));
}

int main(void)
{
    static size_t const lens[] = {0, 1, 15, 16, 17, 64, 100, 144};
    char const *const backend = check_backend();
    AES_SIV_CTX *const ctx = AES_SIV_CTX_new();

    if (!CHECK(ctx != NULL))
        return EXIT_FAILURE;
    for (size_t key_len = 32; key_len <= 64; key_len += 16) {
        for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++)
            one_shape(ctx, key_len, lens[i]);
    }
    AES_SIV_CTX_free(ctx);
    return check_report("forgery", backend);
}

/* SPDX-License-Identifier: MIT
 *
 * misuse.c - every wrong call is refused, leaves its outputs safe, and does not affect the next right call.
 */
#include "check.h"

static uint8_t const key[64] = {0x5a};
static uint8_t const data[32] = {1, 2, 3};

static void lengths_of_keys(AES_SIV_CTX *ctx)
{
    for (size_t len = 0; len <= sizeof key; len++)
        CHECK(AES_SIV_Init(ctx, key, len) == (len == 32 || len == 48 || len == 64));
    CHECK(AES_SIV_Init(ctx, key, SIZE_MAX) == 0);
    CHECK(AES_SIV_Init(ctx, NULL, 32) == 0);
    CHECK(AES_SIV_Init(NULL, key, 32) == 0);
}

static void without_key(AES_SIV_CTX *ctx)
{
    uint8_t v[16], c[32];

    AES_SIV_CTX_cleanup(ctx);
    memset(c, 0xa5, sizeof c);
    CHECK(AES_SIV_AssociateData(ctx, data, 1) == 0);
    CHECK(AES_SIV_EncryptFinal(ctx, v, c, data, 32) == 0);
    CHECK(check_all(c, 0xa5, sizeof c));
    CHECK(AES_SIV_DecryptFinal(ctx, c, v, data, 32) == 0);
    CHECK(check_all(c, 0, sizeof c));

    /* An Init that fails removes the old key. */
    CHECK(AES_SIV_Init(ctx, key, 32) == 1 && AES_SIV_Init(ctx, key, 31) == 0);
    CHECK(AES_SIV_AssociateData(ctx, data, 1) == 0);
}

static void null_pointers(AES_SIV_CTX *ctx)
{
    uint8_t v[16] = {0}, c[32];

    CHECK(AES_SIV_AssociateData(NULL, data, 1) == 0);
    CHECK(AES_SIV_EncryptFinal(NULL, v, c, data, 1) == 0);
    memset(c, 0xa5, sizeof c);
    CHECK(AES_SIV_DecryptFinal(NULL, c, v, data, 32) == 0 && check_all(c, 0, sizeof c));
    AES_SIV_CTX_cleanup(NULL);
    AES_SIV_CTX_free(NULL);

    /* Each of these also ends the message: no tag may lack a component that was refused. */
    CHECK(AES_SIV_Init(ctx, key, 32) == 1);
    CHECK(AES_SIV_AssociateData(ctx, NULL, 1) == 0);
    CHECK(AES_SIV_EncryptFinal(ctx, v, c, data, 32) == 0);
    CHECK(AES_SIV_Init(ctx, key, 32) == 1);
    CHECK(AES_SIV_EncryptFinal(ctx, NULL, c, data, 32) == 0);
    CHECK(AES_SIV_EncryptFinal(ctx, v, c, data, 32) == 0);
    CHECK(AES_SIV_Init(ctx, key, 32) == 1);
    CHECK(AES_SIV_EncryptFinal(ctx, v, NULL, data, 32) == 0);
    CHECK(AES_SIV_Init(ctx, key, 32) == 1);
    CHECK(AES_SIV_EncryptFinal(ctx, v, c, NULL, 32) == 0);

    CHECK(AES_SIV_Init(ctx, key, 32) == 1);
    CHECK(AES_SIV_DecryptFinal(ctx, NULL, v, data, 32) == 0);
    CHECK(AES_SIV_Init(ctx, key, 32) == 1);
    memset(c, 0xa5, sizeof c);
    CHECK(AES_SIV_DecryptFinal(ctx, c, NULL, data, 32) == 0 && check_all(c, 0, sizeof c));
    CHECK(AES_SIV_Init(ctx, key, 32) == 1);
    memset(c, 0xa5, sizeof c);
    CHECK(AES_SIV_DecryptFinal(ctx, c, v, NULL, 32) == 0 && check_all(c, 0, sizeof c));
}

static void final_twice(AES_SIV_CTX *ctx)
{
    uint8_t v[16], c[32], again[16];

    CHECK(AES_SIV_Init(ctx, key, 48) == 1);
    CHECK(AES_SIV_EncryptFinal(ctx, v, c, data, 32) == 1);
    CHECK(AES_SIV_EncryptFinal(ctx, again, c, data, 32) == 0);
    CHECK(AES_SIV_AssociateData(ctx, data, 1) == 0);
    CHECK(AES_SIV_DecryptFinal(ctx, c, v, c, 32) == 0 && check_all(c, 0, sizeof c));

    CHECK(AES_SIV_Init(ctx, key, 48) == 1);
    CHECK(AES_SIV_EncryptFinal(ctx, again, c, data, 32) == 1 && memcmp(v, again, 16) == 0);
}

static void components(AES_SIV_CTX *ctx)
{
    uint8_t v[16], c[32];

    CHECK(AES_SIV_Init(ctx, key, 64) == 1);
    for (int i = 0; i < AES_SIV_MAX_COMPONENTS; i++)
        CHECK(AES_SIV_AssociateData(ctx, data, 5) == 1);
    CHECK(AES_SIV_EncryptFinal(ctx, v, c, data, 32) == 1);

    CHECK(AES_SIV_Init(ctx, key, 64) == 1);
    for (int i = 0; i < AES_SIV_MAX_COMPONENTS; i++)
        CHECK(AES_SIV_AssociateData(ctx, data, 5) == 1);
    CHECK(AES_SIV_AssociateData(ctx, data, 5) == 0);
    CHECK(AES_SIV_EncryptFinal(ctx, v, c, data, 32) == 0);
}

static void one_call_encrypt(AES_SIV_CTX *ctx)
{
    uint8_t out[48];
    size_t len;

    for (len = 0; len < sizeof out; len++) {
        size_t const capacity = len;

        memset(out, 0xa5, sizeof out);
        CHECK(AES_SIV_Encrypt(ctx, out, &len, key, 32, data, 16, data, 32, data, 4) == 0);
        CHECK(len == capacity && check_all(out, 0xa5, sizeof out));
    }
    CHECK(AES_SIV_Encrypt(ctx, out, &len, key, 32, data, 16, data, 32, data, 4) == 1 && len == 48);

    CHECK(AES_SIV_Encrypt(ctx, out, &len, key, 32, data, 16, data, SIZE_MAX, data, 4) == 0);
    CHECK(AES_SIV_Encrypt(ctx, out, &len, key, 32, data, 16, data, SIZE_MAX - 15, data, 4) == 0);
    CHECK(AES_SIV_Encrypt(ctx, NULL, &len, key, 32, data, 16, data, 32, data, 4) == 0);
    CHECK(AES_SIV_Encrypt(ctx, out, NULL, key, 32, data, 16, data, 32, data, 4) == 0);
    CHECK(AES_SIV_Encrypt(NULL, out, &len, key, 32, data, 16, data, 32, data, 4) == 0);
    CHECK(AES_SIV_Encrypt(ctx, out, &len, NULL, 32, data, 16, data, 32, data, 4) == 0);
    CHECK(AES_SIV_Encrypt(ctx, out, &len, key, 40, data, 16, data, 32, data, 4) == 0);
    CHECK(AES_SIV_Encrypt(ctx, out, &len, key, 32, NULL, 16, data, 32, data, 4) == 0);
    CHECK(AES_SIV_Encrypt(ctx, out, &len, key, 32, data, 16, NULL, 32, data, 4) == 0);
    CHECK(AES_SIV_Encrypt(ctx, out, &len, key, 32, data, 16, data, 32, NULL, 4) == 0);
}

static void one_call_decrypt(AES_SIV_CTX *ctx)
{
    uint8_t sealed[48], out[32];
    size_t sealed_len = sizeof sealed;
    size_t len;

    CHECK(AES_SIV_Encrypt(ctx, sealed, &sealed_len, key, 32, data, 16, data, 32, data, 4) == 1);
    for (len = 0; len < sizeof out; len++) {
        size_t const capacity = len;

        memset(out, 0xa5, sizeof out);
        CHECK(AES_SIV_Decrypt(ctx, out, &len, key, 32, data, 16, sealed, 48, data, 4) == 0);
        CHECK(len == capacity && check_all(out, 0xa5, sizeof out));
    }
    CHECK(AES_SIV_Decrypt(ctx, out, &len, key, 32, data, 16, sealed, 48, data, 4) == 1 && len == 32);
    CHECK(memcmp(out, data, 32) == 0);

    for (size_t n = 0; n < 16; n++)
        CHECK(AES_SIV_Decrypt(ctx, out, &len, key, 32, data, 16, sealed, n, data, 4) == 0 && len == 32);
    CHECK(AES_SIV_Decrypt(ctx, NULL, &len, key, 32, data, 16, sealed, 48, data, 4) == 0);
    CHECK(AES_SIV_Decrypt(ctx, out, NULL, key, 32, data, 16, sealed, 48, data, 4) == 0);
    CHECK(AES_SIV_Decrypt(ctx, out, &len, key, 32, data, 16, NULL, 0, data, 4) == 0);
    CHECK(memcmp(out, data, 32) == 0);

    /* From here on the output is large enough, and every failure zeroes it. */
    CHECK(AES_SIV_Decrypt(NULL, out, &len, key, 32, data, 16, sealed, 48, data, 4) == 0);
    CHECK(check_all(out, 0, 32));
    memset(out, 0xa5, sizeof out);
    CHECK(AES_SIV_Decrypt(ctx, out, &len, key, 32, data, 16, NULL, 48, data, 4) == 0);
    CHECK(check_all(out, 0, 32));
    memset(out, 0xa5, sizeof out);
    CHECK(AES_SIV_Decrypt(ctx, out, &len, key, 33, data, 16, sealed, 48, data, 4) == 0);
    CHECK(check_all(out, 0, 32));
    memset(out, 0xa5, sizeof out);
    CHECK(AES_SIV_Decrypt(ctx, out, &len, key, 32, NULL, 16, sealed, 48, data, 4) == 0);
    CHECK(check_all(out, 0, 32));
    memset(out, 0xa5, sizeof out);
    CHECK(AES_SIV_Decrypt(ctx, out, &len, key, 32, data, 16, sealed, 48, NULL, 4) == 0);
    CHECK(check_all(out, 0, 32));
}

int main(void)
{
    char const *const backend = check_backend();
    AES_SIV_CTX *const ctx = AES_SIV_CTX_new();

    if (!CHECK(ctx != NULL))
        return EXIT_FAILURE;
    lengths_of_keys(ctx);
    without_key(ctx);
    null_pointers(ctx);
    final_twice(ctx);
    components(ctx);
    one_call_encrypt(ctx);
    one_call_decrypt(ctx);
    AES_SIV_CTX_free(ctx);
    return check_report("misuse", backend);
}

/* SPDX-License-Identifier: MIT
 *
 * ctgrind.c - does any branch or address depend on a secret? Run it under Valgrind.
 *
 * Keys, associated data and texts are marked as uninitialised, and Memcheck reports every jump and every memory access
 * that depends on them. The test marks outputs as public before it uses them, and so does siv_declassify() in a few
 * places of the library, which is compiled into this program. With the argument "leak" the program deliberately
 * branches on a secret, to show that Memcheck sees it.
 */
#include <valgrind/memcheck.h>

#include "../aes_gcm_siv.h"
#include "check.h"

#define SECRET(p, len) ((void)VALGRIND_MAKE_MEM_UNDEFINED((p), (len)))
#define PUBLIC(p, len) ((void)VALGRIND_MAKE_MEM_DEFINED((p), (len)))

#define MAX 300

static void one_shape(AES_SIV_CTX *ctx, size_t key_len, size_t ad_len, size_t len)
{
    uint8_t key[64], ad[MAX], nonce[16], text[MAX], sealed[MAX + 16], out[MAX];
    size_t sealed_len = sizeof sealed, out_len = sizeof out;
    int ok;

    check_fill(key, sizeof key);
    check_fill(ad, sizeof ad);
    check_fill(nonce, sizeof nonce);
    check_fill(text, sizeof text);
    SECRET(key, sizeof key);
    SECRET(ad, sizeof ad);
    SECRET(nonce, sizeof nonce);
    SECRET(text, sizeof text);

    ok = AES_SIV_Encrypt(ctx, sealed, &sealed_len, key, key_len, nonce, sizeof nonce, text, len, ad, ad_len);
    CHECK(ok == 1 && sealed_len == len + 16);
    PUBLIC(sealed, sealed_len);
    ok = AES_SIV_Decrypt(ctx, out, &out_len, key, key_len, nonce, sizeof nonce, sealed, len + 16, ad, ad_len);
    CHECK(ok == 1 && out_len == len);
    PUBLIC(out, len);
    PUBLIC(text, len);
    CHECK(memcmp(out, text, len) == 0);

    sealed[3] ^= 0x10;
    ok = AES_SIV_Decrypt(ctx, out, &out_len, key, key_len, nonce, sizeof nonce, sealed, len + 16, ad, ad_len);
    CHECK(ok == 0 && check_all(out, 0, len));
}

/* A copied template. */
static void from_template(AES_SIV_CTX *ctx)
{
    AES_SIV_CTX *const tmpl = AES_SIV_CTX_new();
    uint8_t key[32], text[70], v[16], c[70];

    CHECK(tmpl != NULL);
    check_fill(key, sizeof key);
    check_fill(text, sizeof text);
    SECRET(key, sizeof key);
    SECRET(text, sizeof text);
    CHECK(AES_SIV_Init(tmpl, key, sizeof key) == 1 && AES_SIV_CTX_copy(ctx, tmpl) == 1);
    CHECK(AES_SIV_AssociateData(ctx, text, 20) == 1);
    CHECK(AES_SIV_EncryptFinal(ctx, v, c, text, sizeof text) == 1);
    PUBLIC(v, sizeof v);
    PUBLIC(c, sizeof c);
    CHECK(AES_SIV_CTX_copy(ctx, tmpl) == 1 && AES_SIV_AssociateData(ctx, text, 20) == 1);
    CHECK(AES_SIV_DecryptFinal(ctx, c, v, c, sizeof text) == 1);
    AES_SIV_CTX_free(tmpl);
}

/* n messages of the same shape and two of other shapes, with secret keys and texts; then the same, forged. Raw keys of
 * 16 bytes: AES-128-GCM-SIV. */
static void batch(AES_SIV_KEY const *key, size_t n, size_t key_len, size_t ad_len, size_t len)
{
    static uint8_t keys[20][64], ad[MAX], text[20][MAX], sealed[20][MAX + 16], out[20][MAX];
    AES_SIV_MSG msgs[20];
    int const gcm = key == NULL && key_len == 16;

    check_fill(ad, sizeof ad);
    SECRET(ad, sizeof ad);
    for (size_t i = 0; i < n + 2; i++) {
        check_fill(keys[i], sizeof keys[i]);
        check_fill(text[i], sizeof text[i]);
        SECRET(keys[i], sizeof keys[i]);
        SECRET(text[i], sizeof text[i]);
        msgs[i] = (AES_SIV_MSG){.key = key,
                                .raw_key = keys[i],
                                .raw_key_len = key_len,
                                .nonce = text[0],
                                .nonce_len = gcm ? 12 : 16,
                                .ad = ad,
                                .ad_len = ad_len,
                                .in = text[i],
                                .in_len = i < n ? len : i,
                                .out = sealed[i]};
    }
    CHECK((gcm ? AES_GCM_SIV_SealBatch : AES_SIV_SealBatch)(msgs, n + 2) == 1);
    for (int forged = 0; forged <= 1; forged++) {
        for (size_t i = 0; i < n + 2; i++) {
            msgs[i].in = sealed[i];
            msgs[i].in_len = (i < n ? len : i) + 16;
            msgs[i].out = out[i];
            PUBLIC(sealed[i], msgs[i].in_len);
            sealed[i][5] ^= (uint8_t)(forged << 4);
        }
        CHECK((gcm ? AES_GCM_SIV_OpenBatch : AES_SIV_OpenBatch)(msgs, n + 2) == !forged);
        for (size_t i = 0; i < n + 2; i++) {
            size_t const text_len = msgs[i].in_len - 16;

            CHECK(msgs[i].ok == !forged);
            PUBLIC(out[i], text_len);
            PUBLIC(text[i], text_len);
            CHECK(forged ? check_all(out[i], 0, text_len) : memcmp(out[i], text[i], text_len) == 0);
        }
    }
}

static void batches(void)
{
    static size_t const lens[] = {0, 5, 16, 66, 104, 300};
    uint8_t secret[64];

    for (size_t key_len = 32; key_len <= 64; key_len += 16) {
        AES_SIV_KEY *key;

        check_fill(secret, sizeof secret);
        SECRET(secret, sizeof secret);
        key = AES_SIV_KEY_new(secret, key_len);
        CHECK(key != NULL);
        for (size_t n = 1; n <= 18; n++) {
            size_t const len = lens[n % 6];

            batch(key, n, 0, n % 2 == 0 ? 0 : 33, len);
            batch(NULL, n, key_len, lens[5 - n % 6], len);
        }
        AES_SIV_KEY_free(key);
    }
    for (size_t n = 1; n <= 18; n++)
        batch(NULL, n, 16, lens[5 - n % 6], lens[n % 6]);
}

static void leak(void)
{
    uint8_t secret[1] = {1};

    SECRET(secret, sizeof secret);
    if (secret[0] != 0)
        puts("branched on a secret");
}

int main(int argc, char **argv)
{
    static size_t const lens[] = {0, 1, 15, 16, 17, 66, 104, 128, 300};
    char const *const backend = check_backend();
    AES_SIV_CTX *const ctx = AES_SIV_CTX_new();

    if (!CHECK(ctx != NULL))
        return EXIT_FAILURE;
    if (!RUNNING_ON_VALGRIND) {
        printf("run this under valgrind\n");
        return EXIT_FAILURE;
    }
    if (argc > 1 && strcmp(argv[1], "leak") == 0)
        leak();
    for (size_t key_len = 32; key_len <= 64; key_len += 16) {
        for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++)
            one_shape(ctx, key_len, lens[sizeof lens / sizeof lens[0] - 1 - i], lens[i]);
    }
    from_template(ctx);
    batches();
    AES_SIV_CTX_free(ctx);
    return check_report("ctgrind", backend);
}

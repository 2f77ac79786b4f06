/* SPDX-License-Identifier: MIT
 *
 * vectors.c - known answers, computed in every way that the API offers: step by step, in one call, in place.
 */
#include "check.h"

#define MAX 256

struct vector {
    char const *name;
    char const *key;
    char const *components[4]; /* in hexadecimal; the list ends at NULL */
    char const *plaintext;
    char const *sealed;
    int one_call; /* whether AES_SIV_Encrypt can take the components: ad, and perhaps a nonce */
};

#define KEY_A1 "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
#define AD_A1 "101112131415161718191a1b1c1d1e1f2021222324252627"
#define TEXT_A1 "112233445566778899aabbccddee"
#define KEY_A2 "7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f"
#define AD1_A2 "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100"
#define AD2_A2 "102030405060708090a0"
#define NONCE_A2 "09f911029d74e35bd84156c5635688c0"
#define TEXT_A2 \
    "7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553"

static struct vector const vectors[] = {
    {"RFC 5297 A.1", KEY_A1, {AD_A1}, TEXT_A1,
     "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c", 1},
    {"RFC 5297 A.2", KEY_A2, {AD1_A2, AD2_A2, NONCE_A2}, TEXT_A2,
     "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17"
     "dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d", 0},
    {"A.2 as one associated data and a nonce", KEY_A2, {AD1_A2, NONCE_A2}, TEXT_A2,
     "85825e22e90cf2ddda2c548dc7c1b6310dcdaca0cebf9dc6cb90583f5bf1506e"
     "02cd48832b00e4e598b2b22a53e6199d4df0c1666a35a0433b250dc134d776", 1},
    {"the same with an empty text", KEY_A2, {AD1_A2, NONCE_A2}, "", "4cf1e6f9180dca7683caaa9c7bb70ec6", 1},
    {"AES-SIV-CMAC-384 (OpenSSL's test data)",
     KEY_A1 "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0", {AD_A1}, TEXT_A1,
     "89e869b93256785154f0963962fe0740eff356e42dec1f4febded36642f2", 1},
    {"AES-SIV-CMAC-512 (OpenSSL's test data)",
     KEY_A1 "f0f1f2f3f4f5f6f7f8f9fafbfcfdfefffffefdfcfbfaf9f8f7f6f5f4f3f2f1f0", {AD_A1}, TEXT_A1,
     "724dfb2eaf94dbb19b0ba3a299a0801ef3b05a55498ec2552690b89810e4", 1},
};

static void start(AES_SIV_CTX *ctx, struct vector const *vector, uint8_t const *key, size_t key_len)
{
    uint8_t component[MAX];

    CHECK(AES_SIV_Init(ctx, key, key_len) == 1);
    for (size_t i = 0; i < 4 && vector->components[i] != NULL; i++)
        CHECK(AES_SIV_AssociateData(ctx, component, check_unhex(component, vector->components[i])) == 1);
}

static void one_call(AES_SIV_CTX *ctx, struct vector const *vector, uint8_t const *key, size_t key_len,
                     uint8_t const *text, size_t len, uint8_t const *sealed)
{
    uint8_t ad[MAX], nonce[MAX], out[MAX];
    size_t const ad_len = check_unhex(ad, vector->components[0]);
    uint8_t const *const n = vector->components[1] == NULL ? NULL : nonce;
    size_t const n_len = n == NULL ? 0 : check_unhex(nonce, vector->components[1]);
    size_t out_len = len + 16;

    CHECK(AES_SIV_Encrypt(ctx, out, &out_len, key, key_len, n, n_len, text, len, ad, ad_len) == 1);
    CHECK(out_len == len + 16 && memcmp(out, sealed, out_len) == 0);
    out_len = MAX;
    CHECK(AES_SIV_Decrypt(ctx, out, &out_len, key, key_len, n, n_len, sealed, len + 16, ad, ad_len) == 1);
    CHECK(out_len == len && memcmp(out, text, len) == 0);

    memcpy(out + 16, text, len);
    out_len = MAX;
    CHECK(AES_SIV_Encrypt(ctx, out, &out_len, key, key_len, n, n_len, out + 16, len, ad, ad_len) == 1);
    CHECK(out_len == len + 16 && memcmp(out, sealed, out_len) == 0);
    CHECK(AES_SIV_Decrypt(ctx, out + 16, &out_len, key, key_len, n, n_len, out, len + 16, ad, ad_len) == 1);
    CHECK(out_len == len && memcmp(out + 16, text, len) == 0);
}

static void run(AES_SIV_CTX *ctx, struct vector const *vector)
{
    uint8_t key[MAX], text[MAX], sealed[MAX], v[16], c[MAX];
    size_t const key_len = check_unhex(key, vector->key);
    size_t const len = check_unhex(text, vector->plaintext);
    unsigned long const failures = check_failures;

    CHECK(check_unhex(sealed, vector->sealed) == len + 16);

    start(ctx, vector, key, key_len);
    CHECK(AES_SIV_EncryptFinal(ctx, v, c, text, len) == 1);
    CHECK(memcmp(v, sealed, 16) == 0 && memcmp(c, sealed + 16, len) == 0);
    start(ctx, vector, key, key_len);
    CHECK(AES_SIV_DecryptFinal(ctx, c, v, c, len) == 1);
    CHECK(memcmp(c, text, len) == 0);
    start(ctx, vector, key, key_len);
    CHECK(AES_SIV_EncryptFinal(ctx, v, c, c, len) == 1);
    CHECK(memcmp(v, sealed, 16) == 0 && memcmp(c, sealed + 16, len) == 0);

    if (vector->one_call)
        one_call(ctx, vector, key, key_len, text, len, sealed);
    if (check_failures != failures)
        fprintf(stderr, "in vector: %s\n", vector->name);
}

/* No nonce, an empty nonce and empty associated data all differ. For empty associated data, NULL and a pointer are the
 * same. */
static void empty_components(AES_SIV_CTX *ctx)
{
    static uint8_t const key[32] = {1};
    uint8_t absent[16], empty[16], tag[16], v[16];
    size_t len = 16;

    CHECK(AES_SIV_Encrypt(ctx, absent, &len, key, 32, NULL, 0, NULL, 0, NULL, 0) == 1 && len == 16);
    CHECK(AES_SIV_Encrypt(ctx, empty, &len, key, 32, key, 0, NULL, 0, NULL, 0) == 1);
    CHECK(memcmp(absent, empty, 16) != 0);
    CHECK(AES_SIV_Encrypt(ctx, tag, &len, key, 32, NULL, 0, key, 0, key, 0) == 1);
    CHECK(memcmp(tag, absent, 16) == 0);

    CHECK(AES_SIV_Init(ctx, key, 32) == 1 && AES_SIV_AssociateData(ctx, NULL, 0) == 1);
    CHECK(AES_SIV_EncryptFinal(ctx, v, NULL, NULL, 0) == 1 && memcmp(v, absent, 16) == 0);
    CHECK(AES_SIV_Init(ctx, key, 32) == 1 && AES_SIV_AssociateData(ctx, key, 0) == 1);
    CHECK(AES_SIV_DecryptFinal(ctx, NULL, absent, NULL, 0) == 1);
    CHECK(AES_SIV_Init(ctx, key, 32) == 1 && AES_SIV_EncryptFinal(ctx, v, NULL, NULL, 0) == 1);
    CHECK(memcmp(v, absent, 16) != 0);

    len = 0;
    CHECK(AES_SIV_Decrypt(ctx, NULL, &len, key, 32, NULL, 0, absent, 16, NULL, 0) == 1 && len == 0);
    CHECK(AES_SIV_Decrypt(ctx, NULL, &len, key, 32, key, 0, absent, 16, NULL, 0) == 0);
}

int main(void)
{
    char const *const backend = check_backend();
    AES_SIV_CTX *const ctx = AES_SIV_CTX_new();

    if (!CHECK(ctx != NULL))
        return EXIT_FAILURE;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
        run(ctx, &vectors[i]);
    empty_components(ctx);
    AES_SIV_CTX_free(ctx);
    return check_report("vectors", backend);
}

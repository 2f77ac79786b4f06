/* SPDX-License-Identifier: MIT
 *
 * copy.c - AES_SIV_CTX_copy: independent duplicates at any stage, and the template pattern of aes_siv.h.
 */
#include "check.h"

static uint8_t key[64], text[40];

/* Seals text with one more component. Returns whether that gives the expected V || C. */
static int seals_to(AES_SIV_CTX *ctx, uint8_t const *component, size_t len, uint8_t const *expected)
{
    uint8_t v[16], c[sizeof text];

    return AES_SIV_AssociateData(ctx, component, len) == 1 &&
           AES_SIV_EncryptFinal(ctx, v, c, text, sizeof text) == 1 && memcmp(v, expected, 16) == 0 &&
           memcmp(c, expected + 16, sizeof text) == 0;
}

static void template_pattern(AES_SIV_CTX *tmpl, AES_SIV_CTX *tmp, size_t key_len)
{
    uint8_t sealed[sizeof text + 16];

    CHECK(AES_SIV_Init(tmpl, key, key_len) == 1);
    CHECK(AES_SIV_AssociateData(tmpl, NULL, 0) == 1);
    for (int message = 0; message < 20; message++) {
        uint8_t nonce[16];
        size_t len = sizeof sealed;

        check_fill(nonce, sizeof nonce);
        CHECK(AES_SIV_Encrypt(tmp, sealed, &len, key, key_len, nonce, 16, text, sizeof text, NULL, 0) == 1);
        CHECK(AES_SIV_CTX_copy(tmp, tmpl) == 1);
        CHECK(seals_to(tmp, nonce, 16, sealed));
        CHECK(AES_SIV_CTX_copy(tmp, tmpl) == 1 && AES_SIV_AssociateData(tmp, nonce, 16) == 1);
        CHECK(AES_SIV_DecryptFinal(tmp, sealed + 16, sealed, sealed + 16, sizeof text) == 1);
        CHECK(memcmp(sealed + 16, text, sizeof text) == 0);
    }
}

static void independence(AES_SIV_CTX *a, AES_SIV_CTX *b)
{
    uint8_t sealed[sizeof text + 16], v[16], c[sizeof text];
    size_t len = sizeof sealed;

    CHECK(AES_SIV_Encrypt(a, sealed, &len, key, 32, key, 9, text, sizeof text, text, 11) == 1);

    /* b is copied half-way. Wiping a, or giving it a new key, does not affect b. */
    CHECK(AES_SIV_Init(a, key, 32) == 1 && AES_SIV_AssociateData(a, text, 11) == 1);
    CHECK(AES_SIV_CTX_copy(b, a) == 1);
    AES_SIV_CTX_cleanup(a);
    CHECK(AES_SIV_Init(a, key, 64) == 1);
    CHECK(seals_to(b, key, 9, sealed));

    /* From one key size to another. */
    CHECK(AES_SIV_Init(b, key, 32) == 1 && AES_SIV_AssociateData(b, text, 11) == 1);
    CHECK(AES_SIV_CTX_copy(a, b) == 1);
    CHECK(seals_to(a, key, 9, sealed));

    /* A used-up context stays used up in its copy. */
    CHECK(AES_SIV_CTX_copy(b, a) == 1);
    CHECK(AES_SIV_EncryptFinal(b, v, c, text, sizeof text) == 0);
    CHECK(AES_SIV_Init(b, key, 32) == 1 && AES_SIV_AssociateData(b, text, 11) == 1);

    /* Onto itself. */
    CHECK(AES_SIV_CTX_copy(b, b) == 1);
    CHECK(seals_to(b, key, 9, sealed));
}

static void components_are_counted(AES_SIV_CTX *a, AES_SIV_CTX *b)
{
    CHECK(AES_SIV_Init(a, key, 32) == 1);
    for (int i = 0; i < AES_SIV_MAX_COMPONENTS; i++)
        CHECK(AES_SIV_AssociateData(a, text, 1) == 1);
    CHECK(AES_SIV_CTX_copy(b, a) == 1);
    CHECK(AES_SIV_AssociateData(b, text, 1) == 0);
}

static void failures(AES_SIV_CTX *a, AES_SIV_CTX *b)
{
    CHECK(AES_SIV_CTX_copy(NULL, a) == 0 && AES_SIV_CTX_copy(a, NULL) == 0);

    /* There is no key to copy, and b must not go on with its old one. */
    AES_SIV_CTX_cleanup(a);
    CHECK(AES_SIV_Init(b, key, 32) == 1);
    CHECK(AES_SIV_CTX_copy(b, a) == 0);
    CHECK(AES_SIV_AssociateData(b, text, 1) == 0);
    CHECK(AES_SIV_CTX_copy(a, a) == 0);
}

int main(void)
{
    char const *const backend = check_backend();
    AES_SIV_CTX *const a = AES_SIV_CTX_new();
    AES_SIV_CTX *const b = AES_SIV_CTX_new();

    if (!CHECK(a != NULL && b != NULL))
        return EXIT_FAILURE;
    check_fill(key, sizeof key);
    check_fill(text, sizeof text);
    for (size_t key_len = 32; key_len <= 64; key_len += 16)
        template_pattern(a, b, key_len);
    independence(a, b);
    components_are_counted(a, b);
    failures(a, b);
    AES_SIV_CTX_free(a);
    AES_SIV_CTX_free(b);
    return check_report("copy", backend);
}

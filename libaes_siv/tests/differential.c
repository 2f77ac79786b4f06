/* SPDX-License-Identifier: MIT
 *
 * differential.c - random messages of random shapes: compares the backends with each other, and with the AES-SIV of
 * OpenSSL for the shapes that it supports (it has no empty strings).
 */
#include <openssl/evp.h>

#include "../siv_internal.h"
#include "check.h"

#define ROUNDS 6000
#define MAX 600
#define MAX_COMPONENTS 4

struct message {
    uint8_t key[64];
    size_t key_len;
    uint8_t component[MAX_COMPONENTS][MAX];
    size_t component_len[MAX_COMPONENTS];
    size_t components;
    uint8_t text[MAX];
    size_t len;
};

static void random_message(struct message *m)
{
    check_fill(m->key, sizeof m->key);
    m->key_len = 32 + 16 * (check_random() >> 32) % 48;
    m->components = (check_random() >> 32) % (MAX_COMPONENTS + 1);
    for (size_t i = 0; i < m->components; i++) {
        m->component_len[i] = (check_random() >> 32) % (i % 2 == 0 ? MAX + 1 : 33);
        check_fill(m->component[i], m->component_len[i]);
    }
    m->len = (check_random() >> 32) % (MAX + 1);
    check_fill(m->text, m->len);
}

static int start(AES_SIV_CTX *ctx, struct message const *m)
{
    int ok = AES_SIV_Init(ctx, m->key, m->key_len);

    for (size_t i = 0; ok && i < m->components; i++)
        ok = AES_SIV_AssociateData(ctx, m->component[i], m->component_len[i]);
    return ok;
}

/* Whether OpenSSL has AES-SIV. If not, the last line of output says that this comparison is missing. */
static int evp_has_siv(void)
{
    EVP_CIPHER *const cipher = EVP_CIPHER_fetch(NULL, "AES-128-SIV", NULL);

    EVP_CIPHER_free(cipher);
    return cipher != NULL;
}

static int evp_can(struct message const *m)
{
    for (size_t i = 0; i < m->components; i++) {
        if (m->component_len[i] == 0)
            return 0;
    }
    return m->len != 0;
}

static void evp_seal(struct message const *m, uint8_t *v, uint8_t *c)
{
    static char const *const names[] = {"AES-128-SIV", "AES-192-SIV", "AES-256-SIV"};
    EVP_CIPHER *const cipher = EVP_CIPHER_fetch(NULL, names[m->key_len / 16 - 2], NULL);
    EVP_CIPHER_CTX *const evp = EVP_CIPHER_CTX_new();
    int n;

    CHECK(EVP_EncryptInit_ex2(evp, cipher, m->key, NULL, NULL) == 1);
    for (size_t i = 0; i < m->components; i++)
        CHECK(EVP_EncryptUpdate(evp, NULL, &n, m->component[i], (int)m->component_len[i]) == 1);
    CHECK(EVP_EncryptUpdate(evp, c, &n, m->text, (int)m->len) == 1);
    CHECK(EVP_EncryptFinal_ex(evp, c + n, &n) == 1);
    CHECK(EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_GET_TAG, 16, v) == 1);
    EVP_CIPHER_CTX_free(evp);
    EVP_CIPHER_free(cipher);
}

int main(void)
{
    static struct message m;
    static uint8_t v[2][16], c[2][MAX], out[MAX];
    struct siv_backend const *const fast = siv_backend_aesni();
    struct siv_backend const *const plain = siv_backend_libcrypto();
    AES_SIV_CTX *const a = fast == NULL ? NULL : siv_context_new(fast);
    AES_SIV_CTX *const b = siv_context_new(plain);
    int const siv = evp_has_siv();
    unsigned long compared = 0;

    if (fast == NULL)
        printf("backend aesni is not available on this machine\n");
    if (!CHECK(b != NULL && (fast == NULL || a != NULL)))
        return EXIT_FAILURE;

    for (int round = 0; round < ROUNDS; round++) {
        random_message(&m);
        CHECK(start(b, &m) == 1 && AES_SIV_EncryptFinal(b, v[0], c[0], m.text, m.len) == 1);
        if (a != NULL) {
            CHECK(start(a, &m) == 1 && AES_SIV_EncryptFinal(a, v[1], c[1], m.text, m.len) == 1);
            CHECK(memcmp(v[0], v[1], 16) == 0 && memcmp(c[0], c[1], m.len) == 0);
            CHECK(start(a, &m) == 1 && AES_SIV_DecryptFinal(a, out, v[0], c[0], m.len) == 1);
            CHECK(memcmp(out, m.text, m.len) == 0);
            CHECK(start(b, &m) == 1 && AES_SIV_DecryptFinal(b, c[1], v[1], c[1], m.len) == 1);
            CHECK(memcmp(c[1], m.text, m.len) == 0);
        }
        if (siv && evp_can(&m)) {
            evp_seal(&m, v[1], c[1]);
            CHECK(memcmp(v[0], v[1], 16) == 0 && memcmp(c[0], c[1], m.len) == 0);
            compared++;
        }
    }

    /* One backend refuses the keys of the other. */
    if (a != NULL)
        CHECK(AES_SIV_Init(a, m.key, 32) == 1 && AES_SIV_CTX_copy(b, a) == 0);
    AES_SIV_CTX_free(a);
    AES_SIV_CTX_free(b);

    printf("%lu messages compared with OpenSSL's AES-SIV%s\n", compared, siv ? "" : ", missing here");
    int const status = check_report("differential", fast == NULL ? "libcrypto only" : "aesni and libcrypto");

    return status == EXIT_SUCCESS && fast == NULL ? CHECK_SKIP : status;
}

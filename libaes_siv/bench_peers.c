/* SPDX-License-Identifier: MIT
 *
 * bench_peers.c - AES-SIV of OpenSSL (EVP) and of nettle, each called in its fastest way.
 *
 * OpenSSL's interface cannot express empty strings. Empty associated data is left out. OpenSSL 3.0 gives no tag for
 * an empty text, so one byte replaces it, and buffers must have room for that. So its results differ from the others
 * for such messages.
 */
#include "bench_peers.h"

#include <openssl/evp.h>

/* ---- OpenSSL ------------------------------------------------------------------------------------------- */

static EVP_CIPHER *ciphers[2]; /* for keys of 32 and 64 bytes */
static EVP_CIPHER_CTX *evp, *scheduled[2];

static EVP_CIPHER *evp_cipher(size_t key_len)
{
    return ciphers[key_len == 64];
}

/* Makes two templates to copy: a context serves one message, and is made either to seal or to open it. */
static int evp_set_key(unsigned char const *key, size_t key_len)
{
    for (int seal = 0; seal <= 1; seal++) {
        EVP_CIPHER_CTX_free(scheduled[seal]);
        scheduled[seal] = EVP_CIPHER_CTX_new();
        if (scheduled[seal] == NULL ||
            EVP_CipherInit_ex2(scheduled[seal], evp_cipher(key_len), key, NULL, seal, NULL) != 1)
            return 0;
    }
    return 1;
}

static int evp_one(AES_SIV_MSG const *m, int seal)
{
    size_t const text_len = m->in_len - (seal ? 0 : 16);
    int const len = text_len == 0 ? 1 : (int)text_len;
    unsigned char const *const in = seal ? m->in : m->in + 16;
    unsigned char *const out = seal ? m->out + 16 : m->out;
    unsigned char none[16];
    int n;

    if (m->key != NULL ? EVP_CIPHER_CTX_copy(evp, scheduled[seal]) != 1
                       : EVP_CipherInit_ex2(evp, evp_cipher(m->raw_key_len), m->raw_key, NULL, seal, NULL) != 1)
        return 0;
    if (!seal && EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_SET_TAG, 16, (void *)m->in) != 1)
        return 0;
    if (m->ad_len != 0 && EVP_CipherUpdate(evp, NULL, &n, m->ad, (int)m->ad_len) != 1)
        return 0;
    if (EVP_CipherUpdate(evp, NULL, &n, m->nonce, (int)m->nonce_len) != 1 ||
        EVP_CipherUpdate(evp, out, &n, in, len) != 1 || EVP_CipherFinal_ex(evp, none, &n) != 1)
        return 0;
    return !seal || EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_GET_TAG, 16, m->out) == 1;
}

static int evp_run(AES_SIV_MSG *msgs, size_t n, int seal)
{
    int all = 1;

    for (size_t i = 0; i < n; i++)
        all &= msgs[i].ok = evp_one(&msgs[i], seal);
    return all;
}

struct peer const *peer_openssl(void)
{
    static struct peer const peer = {"OpenSSL", 0, evp_set_key, evp_run};

    ciphers[0] = EVP_CIPHER_fetch(NULL, "AES-128-SIV", NULL);
    ciphers[1] = EVP_CIPHER_fetch(NULL, "AES-256-SIV", NULL);
    evp = EVP_CIPHER_CTX_new();
    return ciphers[0] == NULL || ciphers[1] == NULL || evp == NULL ? NULL : &peer;
}

/* ---- Nettle -------------------------------------------------------------------------------------------- */

#ifdef AES_SIV_BENCH_NETTLE

#include <nettle/siv-cmac.h>

static struct siv_cmac_aes128_ctx nettle_short;
static struct siv_cmac_aes256_ctx nettle_long;
static size_t nettle_key_len;

static int nettle_set_key(unsigned char const *key, size_t key_len)
{
    nettle_key_len = key_len;
    if (key_len == 32)
        siv_cmac_aes128_set_key(&nettle_short, key);
    else
        siv_cmac_aes256_set_key(&nettle_long, key);
    return 1;
}

static int nettle_128(AES_SIV_MSG const *m, struct siv_cmac_aes128_ctx const *ctx, int seal)
{
    if (!seal)
        return siv_cmac_aes128_decrypt_message(ctx, m->nonce_len, m->nonce, m->ad_len, m->ad, m->in_len - 16,
                                               m->out, m->in);
    siv_cmac_aes128_encrypt_message(ctx, m->nonce_len, m->nonce, m->ad_len, m->ad, m->in_len + 16, m->out,
                                    m->in);
    return 1;
}

static int nettle_256(AES_SIV_MSG const *m, struct siv_cmac_aes256_ctx const *ctx, int seal)
{
    if (!seal)
        return siv_cmac_aes256_decrypt_message(ctx, m->nonce_len, m->nonce, m->ad_len, m->ad, m->in_len - 16,
                                               m->out, m->in);
    siv_cmac_aes256_encrypt_message(ctx, m->nonce_len, m->nonce, m->ad_len, m->ad, m->in_len + 16, m->out,
                                    m->in);
    return 1;
}

static int nettle_one(AES_SIV_MSG const *m, int seal)
{
    static struct siv_cmac_aes128_ctx short_ctx;
    static struct siv_cmac_aes256_ctx long_ctx;

    if (m->key != NULL)
        return nettle_key_len == 32 ? nettle_128(m, &nettle_short, seal) : nettle_256(m, &nettle_long, seal);
    if (m->raw_key_len == 32) {
        siv_cmac_aes128_set_key(&short_ctx, m->raw_key);
        return nettle_128(m, &short_ctx, seal);
    }
    siv_cmac_aes256_set_key(&long_ctx, m->raw_key);
    return nettle_256(m, &long_ctx, seal);
}

static int nettle_run(AES_SIV_MSG *msgs, size_t n, int seal)
{
    int all = 1;

    for (size_t i = 0; i < n; i++)
        all &= msgs[i].ok = nettle_one(&msgs[i], seal);
    return all;
}

struct peer const *peer_nettle(void)
{
    static struct peer const peer = {"nettle", 1, nettle_set_key, nettle_run};

    return &peer;
}

#else

struct peer const *peer_nettle(void)
{
    return NULL;
}

#endif

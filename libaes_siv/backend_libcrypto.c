/* SPDX-License-Identifier: MIT
 *
 * backend_libcrypto.c - AES through OpenSSL's libcrypto (3.0 or later), for every CPU.
 *
 * Uses only the bare block function, as AES-ECB without padding. The handle of a siv_aes is an EVP_CIPHER_CTX,
 * which open allocates once. A cipher is fetched only when the key size changes. Whether AES itself runs in constant
 * time is up to libcrypto and the CPU.
 */
#include <openssl/evp.h>

#include "siv_internal.h"

static int libcrypto_open(struct siv_aes *aes)
{
    aes->handle = EVP_CIPHER_CTX_new();
    return aes->handle != NULL;
}

static int libcrypto_set_key(struct siv_aes *aes, uint8_t const *key, size_t len)
{
    EVP_CIPHER_CTX *evp = aes->handle;
    EVP_CIPHER *cipher;
    char const *name;
    int ok;

    /* Without a cipher argument EVP keeps its cipher and the memory for the key schedule. */
    if (EVP_CIPHER_CTX_get0_cipher(evp) != NULL && (size_t)EVP_CIPHER_CTX_get_key_length(evp) == len)
        return EVP_EncryptInit_ex2(evp, NULL, key, NULL, NULL) == 1;

    name = len == 16 ? "AES-128-ECB" : len == 24 ? "AES-192-ECB" : "AES-256-ECB";
    cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    if (cipher == NULL)
        return 0;
    ok = EVP_EncryptInit_ex2(evp, cipher, key, NULL, NULL) == 1 && EVP_CIPHER_CTX_set_padding(evp, 0) == 1;
    EVP_CIPHER_free(cipher); /* evp holds its own reference */
    return ok;
}

static int libcrypto_copy(struct siv_aes *dst, struct siv_aes const *src)
{
    return EVP_CIPHER_CTX_copy(dst->handle, src->handle) == 1;
}

static void libcrypto_clear(struct siv_aes *aes)
{
    /* Frees the provider's key schedule, which wipes it. */
    EVP_CIPHER_CTX_reset(aes->handle);
}

static void libcrypto_close(struct siv_aes *aes)
{
    EVP_CIPHER_CTX_free(aes->handle);
    aes->handle = NULL;
}

/* Several blocks in one call hide its cost, and fill the pipeline. */
static int libcrypto_ecb(struct siv_aes const *aes, uint8_t *data, size_t len)
{
    int written = 0;

    return EVP_EncryptUpdate(aes->handle, data, &written, data, (int)len) == 1 && written == (int)len;
}

static int libcrypto_mac(struct siv_aes const *aes, uint8_t state[SIV_BLOCK], uint8_t const *data,
                         size_t blocks)
{
    for (; blocks != 0; blocks--, data += SIV_BLOCK) {
        siv_xor_block(state, data);
        if (!libcrypto_ecb(aes, state, SIV_BLOCK))
            return 0;
    }
    return 1;
}

static int libcrypto_ctr(struct siv_aes const *aes, uint8_t const counter[SIV_BLOCK], uint8_t *out,
                         uint8_t const *in, size_t len)
{
    uint8_t stream[SIV_ECB_BLOCKS * SIV_BLOCK];
    uint64_t const high = siv_load_be64(counter);
    uint64_t low = siv_load_be64(counter + 8);
    int ok = 1;

    while (ok && len != 0) {
        size_t const n = len < sizeof stream ? len : sizeof stream;
        size_t const blocks = (n + SIV_BLOCK - 1) / SIV_BLOCK;

        for (size_t i = 0; i < blocks; i++) {
            siv_store_be64(stream + SIV_BLOCK * i, high);
            siv_store_be64(stream + SIV_BLOCK * i + 8, low++);
        }
        ok = libcrypto_ecb(aes, stream, SIV_BLOCK * blocks);
        for (size_t i = 0; ok && i < n; i++)
            out[i] = in[i] ^ stream[i];
        out += n;
        in += n;
        len -= n;
    }
    siv_wipe(stream, sizeof stream);
    return ok;
}

struct siv_backend const *siv_backend_libcrypto(void)
{
    static struct siv_backend const table = {
        .name = "libcrypto",
        .open = libcrypto_open,
        .set_key = libcrypto_set_key,
        .copy = libcrypto_copy,
        .clear = libcrypto_clear,
        .close = libcrypto_close,
        .mac = libcrypto_mac,
        .ctr = libcrypto_ctr,
        .ecb = libcrypto_ecb,
    };

    return &table;
}

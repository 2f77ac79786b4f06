/* SPDX-License-Identifier: MIT
 *
 * aes_siv.c - AES-SIV (RFC 5297) on top of a backend's AES: CMAC, S2V, tag comparison, public functions.
 *
 * Invariants:
 *   - A context (siv_internal.h) has a key exactly when its phase is not UNKEYED. What depends on the key alone is
 *     in struct siv_key and does not change until the next Init; the state of one message is beside it.
 *   - Every failure of a step, whatever its cause, leaves phase SPENT or UNKEYED. Only Init, or becoming a copy of
 *     a context that works, ends that.
 *   - Nothing here branches on, or indexes by, a secret. Lengths, pointers and the number of components are
 *     public. So are the tag of a sealed message, and whether an opened one is authentic.
 *   - Buffers that held secrets are wiped. Portable C cannot reach copies that the compiler makes in registers or
 *     spills to the stack.
 */
#include <openssl/crypto.h>

#include "siv_internal.h"

#define STRING_(x) #x
#define STRING(x) STRING_(x)

/* ---- CMAC and S2V -------------------------------------------------------------------------------------- */

/* Doubling in GF(2^128), section 2.3. The carry is a secret, so it becomes a mask, not a branch. */
static void dbl(uint8_t block[SIV_BLOCK])
{
    uint64_t high = siv_load_be64(block);
    uint64_t low = siv_load_be64(block + 8);
    uint64_t const carry = high >> 63;

    high = high << 1 | low >> 63;
    low = low << 1 ^ ((0 - carry) & 0x87);
    siv_store_be64(block, high);
    siv_store_be64(block + 8, low);
}

/* out = CMAC(head || tail). The head is any number of whole blocks. The tail has up to 31 bytes, 0 only if the
 * head is empty too. Passing the tail separately lets S2V alter the end of a text without copying the text. */
static int cmac(AES_SIV_CTX const *ctx, uint8_t out[SIV_BLOCK], uint8_t const *head, size_t head_blocks,
                uint8_t const *tail, size_t tail_len)
{
    struct siv_key const *const key = &ctx->key;
    uint8_t last[2 * SIV_BLOCK] = {0};
    size_t const blocks = tail_len > SIV_BLOCK ? 2 : 1;
    uint8_t *const final = last + SIV_BLOCK * (blocks - 1);
    size_t const final_len = tail_len - SIV_BLOCK * (blocks - 1);
    int ok;

    memcpy(last, tail, tail_len);
    if (final_len == SIV_BLOCK) {
        siv_xor_block(final, key->full);
    } else {
        final[final_len] = 0x80;
        siv_xor_block(final, key->part);
    }
    memset(out, 0, SIV_BLOCK);
    ok = ctx->backend->mac(&key->mac, out, head, head_blocks) &&
         ctx->backend->mac(&key->mac, out, last, blocks);
    siv_wipe(last, sizeof last);
    return ok;
}

/* CMAC's subkeys, and S2V's constant first step. */
static int derive(AES_SIV_CTX *ctx)
{
    static uint8_t const zeros[SIV_BLOCK];
    struct siv_key *const key = &ctx->key;

    memset(key->full, 0, SIV_BLOCK);
    if (!ctx->backend->mac(&key->mac, key->full, zeros, 1))
        return 0;
    dbl(key->full);
    memcpy(key->part, key->full, SIV_BLOCK);
    dbl(key->part);
    return cmac(ctx, key->zero, zeros, 0, zeros, SIV_BLOCK);
}

/* The last step of S2V: v = the tag of text under the components so far. Uses up ctx->d. */
static int s2v_final(AES_SIV_CTX *ctx, uint8_t v[SIV_BLOCK], uint8_t const *text, size_t len)
{
    uint8_t tail[2 * SIV_BLOCK] = {0};
    size_t head_len = 0;
    size_t tail_len = SIV_BLOCK;
    int ok;

    if (len >= SIV_BLOCK) {
        /* xorend: D goes onto the last 16 bytes, which lie in one block of CMAC or across two. */
        tail_len = SIV_BLOCK + len % SIV_BLOCK;
        head_len = len - tail_len;
        memcpy(tail, text + head_len, tail_len);
        siv_xor_block(tail + tail_len - SIV_BLOCK, ctx->d);
    } else {
        dbl(ctx->d);
        memcpy(tail, text, len);
        tail[len] = 0x80;
        siv_xor_block(tail, ctx->d);
    }
    ok = cmac(ctx, v, text, head_len / SIV_BLOCK, tail, tail_len);
    siv_wipe(tail, sizeof tail);
    return ok;
}

/* out = in ^ the keystream that tag v selects. */
static int apply_keystream(AES_SIV_CTX const *ctx, uint8_t const v[SIV_BLOCK], uint8_t *out,
                           uint8_t const *in, size_t len)
{
    uint8_t counter[SIV_BLOCK];

    memcpy(counter, v, sizeof counter);
    /* Clears bits 63 and 31, section 2.6. So no carry leaves the low 64 bits, whatever fits in memory, nor the low
     * 32 bits for a text of less than 2^31 blocks. */
    counter[8] &= 0x7f;
    counter[12] &= 0x7f;
    return ctx->backend->ctr(&ctx->key.ctr, counter, out, in, len);
}

int siv_equal(uint8_t const a[SIV_BLOCK], uint8_t const b[SIV_BLOCK])
{
    unsigned difference = 0;

    for (int i = 0; i < SIV_BLOCK; i++)
        difference |= (unsigned)(a[i] ^ b[i]);
    siv_declassify(&difference, sizeof difference); /* only whether it is 0 matters below */
    return difference == 0;
}

/* ---- Contexts ------------------------------------------------------------------------------------------ */

int siv_context_open(AES_SIV_CTX *ctx, struct siv_backend const *backend)
{
    memset(ctx, 0, sizeof *ctx);
    ctx->backend = backend;
    if (!backend->open(&ctx->key.mac))
        return 0;
    if (!backend->open(&ctx->key.ctr)) {
        backend->close(&ctx->key.mac);
        return 0;
    }
    return 1;
}

void siv_context_close(AES_SIV_CTX *ctx)
{
    ctx->backend->close(&ctx->key.mac);
    ctx->backend->close(&ctx->key.ctr);
    siv_wipe(ctx, sizeof *ctx);
}

AES_SIV_CTX *siv_context_new(struct siv_backend const *backend)
{
    AES_SIV_CTX *const ctx = OPENSSL_malloc(sizeof *ctx);

    if (ctx != NULL && !siv_context_open(ctx, backend)) {
        OPENSSL_free(ctx);
        return NULL;
    }
    return ctx;
}

AES_SIV_CTX *AES_SIV_CTX_new(void)
{
    struct siv_backend const *const backend = siv_backend_chosen();

    return backend == NULL ? NULL : siv_context_new(backend);
}

void AES_SIV_CTX_cleanup(AES_SIV_CTX *ctx)
{
    if (ctx == NULL)
        return;
    ctx->backend->clear(&ctx->key.mac);
    ctx->backend->clear(&ctx->key.ctr);
    siv_wipe(ctx->key.full, sizeof ctx->key.full);
    siv_wipe(ctx->key.part, sizeof ctx->key.part);
    siv_wipe(ctx->key.zero, sizeof ctx->key.zero);
    siv_wipe(ctx->d, sizeof ctx->d);
    ctx->components = 0;
    ctx->phase = UNKEYED;
}

void AES_SIV_CTX_free(AES_SIV_CTX *ctx)
{
    if (ctx == NULL)
        return;
    siv_context_close(ctx);
    OPENSSL_free(ctx);
}

int AES_SIV_CTX_copy(AES_SIV_CTX *dst, AES_SIV_CTX const *src)
{
    if (dst == NULL || src == NULL)
        return 0;
    if (dst == src)
        return src->phase != UNKEYED;

    /* The keys of dst need no wiping first: copying overwrites them, and a failure clears them. */
    if (src->phase == UNKEYED || dst->backend != src->backend ||
        !src->backend->copy(&dst->key.mac, &src->key.mac) ||
        !src->backend->copy(&dst->key.ctr, &src->key.ctr)) {
        AES_SIV_CTX_cleanup(dst);
        return 0;
    }
    memcpy(dst->key.full, src->key.full, SIV_BLOCK);
    memcpy(dst->key.part, src->key.part, SIV_BLOCK);
    memcpy(dst->key.zero, src->key.zero, SIV_BLOCK);
    memcpy(dst->d, src->d, SIV_BLOCK);
    dst->components = src->components;
    dst->phase = src->phase;
    return 1;
}

/* ---- Step by step -------------------------------------------------------------------------------------- */

/* Turns NULL with length 0 into an empty string, so that no code below does arithmetic on a null pointer. Returns
 * NULL only for NULL with another length, which is misuse. */
static uint8_t const *bytes(uint8_t const *p, size_t len)
{
    static uint8_t const none[1];

    return p == NULL && len == 0 ? none : p;
}

/* Ends the message: no further step works until Init. */
static void spend(AES_SIV_CTX *ctx)
{
    siv_wipe(ctx->d, sizeof ctx->d);
    if (ctx->phase == READY)
        ctx->phase = SPENT;
}

int AES_SIV_Init(AES_SIV_CTX *ctx, unsigned char const *key, size_t key_len)
{
    size_t const half = key_len / 2;

    if (ctx == NULL)
        return 0;
    if (key == NULL || (key_len != 32 && key_len != 48 && key_len != 64) ||
        !ctx->backend->set_key(&ctx->key.mac, key, half) ||
        !ctx->backend->set_key(&ctx->key.ctr, key + half, half) || !derive(ctx)) {
        AES_SIV_CTX_cleanup(ctx);
        return 0;
    }
    memcpy(ctx->d, ctx->key.zero, SIV_BLOCK);
    ctx->components = 0;
    ctx->phase = READY;
    return 1;
}

int AES_SIV_AssociateData(AES_SIV_CTX *ctx, unsigned char const *data, size_t len)
{
    uint8_t const *const string = bytes(data, len);
    size_t const head_blocks = len == 0 ? 0 : (len - 1) / SIV_BLOCK;
    size_t const head_len = head_blocks * SIV_BLOCK;
    uint8_t mac[SIV_BLOCK] = {0};
    int ok;

    if (ctx == NULL || ctx->phase != READY)
        return 0;
    ok = string != NULL && ctx->components < AES_SIV_MAX_COMPONENTS &&
         cmac(ctx, mac, string, head_blocks, string + head_len, len - head_len);
    dbl(ctx->d);
    siv_xor_block(ctx->d, mac);
    ctx->components++;
    siv_wipe(mac, sizeof mac);
    if (!ok)
        spend(ctx);
    return ok;
}

int AES_SIV_EncryptFinal(AES_SIV_CTX *ctx, unsigned char *v_out, unsigned char *c_out,
                         unsigned char const *plaintext, size_t len)
{
    uint8_t const *const text = bytes(plaintext, len);
    uint8_t v[SIV_BLOCK];
    int ok;

    if (ctx == NULL || ctx->phase != READY)
        return 0;
    if (v_out == NULL || text == NULL || (c_out == NULL && len != 0)) {
        spend(ctx);
        return 0;
    }
    ok = s2v_final(ctx, v, text, len);
    siv_declassify(v, sizeof v); /* v is about to be published, and the CTR code may compare counters */
    ok = ok && apply_keystream(ctx, v, c_out, text, len);
    spend(ctx);
    if (!ok) {
        siv_wipe(v, sizeof v);
        siv_wipe(c_out, len);
    }
    memcpy(v_out, v, SIV_BLOCK);
    return ok;
}

int AES_SIV_DecryptFinal(AES_SIV_CTX *ctx, unsigned char *out, unsigned char const *v, unsigned char const *c,
                         size_t len)
{
    uint8_t const *const text = bytes(c, len);
    uint8_t received[SIV_BLOCK];
    uint8_t computed[SIV_BLOCK];
    int ok = 0;

    if (ctx != NULL && ctx->phase == READY && v != NULL && text != NULL && (out != NULL || len == 0)) {
        memcpy(received, v, SIV_BLOCK);
        ok = apply_keystream(ctx, received, out, text, len) &&
             s2v_final(ctx, computed, bytes(out, len), len) && siv_equal(received, computed);
        siv_wipe(computed, sizeof computed);
    }
    if (ctx != NULL)
        spend(ctx);
    if (!ok && out != NULL)
        siv_wipe(out, len);
    return ok;
}

/* ---- One call ------------------------------------------------------------------------------------------ */

/* Sets the key and adds the components of the one-call functions. */
static int start(AES_SIV_CTX *ctx, uint8_t const *key, size_t key_len, uint8_t const *nonce, size_t nonce_len,
                 uint8_t const *ad, size_t ad_len)
{
    /* A length without a nonce is a mistake. Accepting it would silently give deterministic encryption. */
    if (nonce == NULL && nonce_len != 0)
        return 0;
    return AES_SIV_Init(ctx, key, key_len) && AES_SIV_AssociateData(ctx, ad, ad_len) &&
           (nonce == NULL || AES_SIV_AssociateData(ctx, nonce, nonce_len));
}

int AES_SIV_Encrypt(AES_SIV_CTX *ctx, unsigned char *out, size_t *out_len, unsigned char const *key,
                    size_t key_len, unsigned char const *nonce, size_t nonce_len,
                    unsigned char const *plaintext, size_t plaintext_len, unsigned char const *ad,
                    size_t ad_len)
{
    if (out == NULL || out_len == NULL || *out_len < SIV_BLOCK || *out_len - SIV_BLOCK < plaintext_len)
        return 0;
    *out_len = plaintext_len + SIV_BLOCK;
    return start(ctx, key, key_len, nonce, nonce_len, ad, ad_len) &&
           AES_SIV_EncryptFinal(ctx, out, out + SIV_BLOCK, plaintext, plaintext_len);
}

int AES_SIV_Decrypt(AES_SIV_CTX *ctx, unsigned char *out, size_t *out_len, unsigned char const *key,
                    size_t key_len, unsigned char const *nonce, size_t nonce_len,
                    unsigned char const *ciphertext, size_t ciphertext_len, unsigned char const *ad,
                    size_t ad_len)
{
    size_t const text_len = ciphertext_len - SIV_BLOCK; /* may wrap, which is checked before it is used */

    if (out_len == NULL || ciphertext_len < SIV_BLOCK || *out_len < text_len ||
        (out == NULL && text_len != 0))
        return 0;
    *out_len = text_len;
    if (ciphertext == NULL || !start(ctx, key, key_len, nonce, nonce_len, ad, ad_len)) {
        siv_wipe(out, text_len);
        return 0;
    }
    return AES_SIV_DecryptFinal(ctx, out, ciphertext, ciphertext + SIV_BLOCK, text_len);
}

/* ---- About the library --------------------------------------------------------------------------------- */

char const *aes_siv_version(void)
{
    return STRING(AES_SIV_VERSION_MAJOR) "." STRING(AES_SIV_VERSION_MINOR) "." STRING(AES_SIV_VERSION_PATCH);
}

char const *aes_siv_backend(void)
{
    struct siv_backend const *const backend = siv_backend_chosen();

    return backend == NULL ? NULL : backend->name;
}

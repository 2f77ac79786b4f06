/* SPDX-License-Identifier: MIT
 *
 * gcm_siv.c - AES-128-GCM-SIV (RFC 8452): the public functions, and the algorithm step by step for backends that have
 * only AES, with a POLYVAL for every CPU.
 *
 * Invariants: nothing here branches on, or indexes by, a secret, as long as the CPU multiplies 64-bit integers in
 * constant time. Buffers that held secrets are wiped.
 */
#include "aes_gcm_siv.h"
#include "siv_internal.h"

/* ---- POLYVAL, section 3 -------------------------------------------------------------------------------- */

/* A polynomial: bit i of the little-endian number is the coefficient of x^i. */
struct poly {
    uint64_t low, high;
};

static uint64_t load_le64(uint8_t const *p)
{
    uint64_t x = 0;

    for (int i = 7; i >= 0; i--)
        x = x << 8 | p[i];
    return x;
}

static void store_le64(uint8_t *p, uint64_t x)
{
    for (int i = 0; i < 8; i++) {
        p[i] = (uint8_t)(x & 0xff);
        x >>= 8;
    }
}

static uint64_t reverse(uint64_t x)
{
    static uint64_t const masks[] = {0x5555555555555555, 0x3333333333333333, 0x0f0f0f0f0f0f0f0f,
                                     0x00ff00ff00ff00ff, 0x0000ffff0000ffff, 0x00000000ffffffff};

    for (int i = 0; i < 6; i++)
        x = (x >> (1 << i) & masks[i]) | (x & masks[i]) << (1 << i);
    return x;
}

/* The low half of the product of two polynomials. An integer product adds where this one must xor. If only every fourth
 * bit of the factors is set, the lowest bit of each sum is right, and its carries stay in the three bits above: a sum
 * has at most 15 terms, except at the top, where it leaves the number. */
static uint64_t multiply_low(uint64_t a, uint64_t b)
{
    uint64_t const mask = 0x1111111111111111;
    uint64_t product = 0;

    for (int i = 0; i < 4; i++) {
        uint64_t sum = 0;

        for (int j = 0; j < 4; j++)
            sum ^= (a & mask << j) * (b & mask << ((i - j) & 3));
        product |= sum & mask << i;
    }
    return product;
}

/* The whole product. Its high half, but for a shift, is the low half of the product of the reverse polynomials. */
static struct poly multiply_64(uint64_t a, uint64_t b)
{
    return (struct poly){multiply_low(a, b), reverse(multiply_low(reverse(a), reverse(b))) >> 1};
}

/* a * b * x^-128, by Karatsuba's method. */
static struct poly dot(struct poly a, struct poly b)
{
    struct poly const low = multiply_64(a.low, b.low), high = multiply_64(a.high, b.high);
    struct poly const both = multiply_64(a.low ^ a.high, b.low ^ b.high);
    uint64_t word[4] = {low.low, low.high ^ low.low ^ high.low ^ both.low, high.low ^ low.high ^ high.high ^ both.high,
                        high.high};

    /* 1 = x^128 + x^127 + x^126 + x^121: the two low words move up. */
    for (int i = 0; i < 2; i++) {
        word[i + 1] ^= word[i] << 63 ^ word[i] << 62 ^ word[i] << 57;
        word[i + 2] ^= word[i] ^ word[i] >> 1 ^ word[i] >> 2 ^ word[i] >> 7;
    }
    return (struct poly){word[2], word[3]};
}

/* Takes in len bytes, padded with zeros. */
static void polyval(struct poly *x, struct poly h, uint8_t const *p, size_t len)
{
    for (uint8_t block[SIV_BLOCK] = {0}; len != 0;) {
        size_t const n = len < SIV_BLOCK ? len : SIV_BLOCK;

        memset(block, 0, sizeof block);
        memcpy(block, p, n);
        *x = dot((struct poly){x->low ^ load_le64(block), x->high ^ load_le64(block + 8)}, h);
        siv_wipe(block, sizeof block);
        p += n;
        len -= n;
    }
}

/* ---- Step by step -------------------------------------------------------------------------------------- */

/* Makes the keys of this message, section 4: h for POLYVAL, ctx->key.ctr for AES. */
static int derive(AES_SIV_CTX *ctx, struct poly *h, uint8_t const *key, uint8_t const *nonce)
{
    uint8_t blocks[4 * SIV_BLOCK] = {0};
    uint8_t aes_key[SIV_BLOCK];
    int ok;

    for (unsigned i = 0; i < 4; i++) {
        blocks[SIV_BLOCK * i] = (uint8_t)i;
        memcpy(blocks + SIV_BLOCK * i + 4, nonce, SIV_GCM_NONCE);
    }
    ok = ctx->backend->set_key(&ctx->key.mac, key, SIV_BLOCK) &&
         ctx->backend->ecb(&ctx->key.mac, blocks, sizeof blocks);
    *h = (struct poly){load_le64(blocks), load_le64(blocks + SIV_BLOCK)};
    memcpy(aes_key, blocks + 2 * SIV_BLOCK, 8);
    memcpy(aes_key + 8, blocks + 3 * SIV_BLOCK, 8);
    ok = ok && ctx->backend->set_key(&ctx->key.ctr, aes_key, sizeof aes_key);
    siv_wipe(blocks, sizeof blocks);
    siv_wipe(aes_key, sizeof aes_key);
    return ok;
}

/* The tag of a text and of the associated data, section 4. */
static int make_tag(AES_SIV_CTX const *ctx, struct poly h, AES_SIV_MSG const *m, uint8_t const *text, size_t len,
                    uint8_t tag[SIV_BLOCK])
{
    struct poly x = {0, 0};

    polyval(&x, h, m->ad, m->ad_len);
    polyval(&x, h, text, len);
    x = dot((struct poly){x.low ^ (uint64_t)m->ad_len * 8, x.high ^ (uint64_t)len * 8}, h);
    store_le64(tag, x.low);
    store_le64(tag + 8, x.high);
    siv_wipe(&x, sizeof x);
    for (int i = 0; i < SIV_GCM_NONCE; i++)
        tag[i] ^= m->nonce[i];
    tag[15] &= 0x7f;
    return ctx->backend->ecb(&ctx->key.ctr, tag, SIV_BLOCK);
}

/* out = in ^ the stream that this tag selects. Its first four bytes count, modulo 2^32. */
static int apply_keystream(AES_SIV_CTX const *ctx, uint8_t const tag[SIV_BLOCK], uint8_t *out, uint8_t const *in,
                           size_t len)
{
    uint8_t stream[SIV_ECB_BLOCKS * SIV_BLOCK];
    uint64_t const low = load_le64(tag), rest = low >> 32 << 32;
    uint64_t const high = load_le64(tag + 8) | (uint64_t)1 << 63;
    uint32_t count = (uint32_t)(low & 0xffffffff);
    int ok = 1;

    while (ok && len != 0) {
        size_t const n = len < sizeof stream ? len : sizeof stream;
        size_t const whole = (n + SIV_BLOCK - 1) / SIV_BLOCK * SIV_BLOCK;

        for (size_t at = 0; at < whole; at += SIV_BLOCK) {
            store_le64(stream + at, rest | count++);
            store_le64(stream + at + 8, high);
        }
        ok = ctx->backend->ecb(&ctx->key.ctr, stream, whole);
        for (size_t i = 0; ok && i < n; i++)
            out[i] = in[i] ^ stream[i];
        out += n;
        in += n;
        len -= n;
    }
    siv_wipe(stream, sizeof stream);
    return ok;
}

int siv_gcm_step_by_step(AES_SIV_CTX *ctx, AES_SIV_MSG const *m, int seal)
{
    size_t const len = m->in_len - (seal ? 0 : SIV_BLOCK);
    uint8_t received[SIV_BLOCK], tag[SIV_BLOCK];
    struct poly h;
    int ok = derive(ctx, &h, m->raw_key, m->nonce);

    if (seal) {
        ok = ok && make_tag(ctx, h, m, m->in, len, tag);
        siv_declassify(tag, sizeof tag); /* it is about to be published */
        ok = ok && apply_keystream(ctx, tag, m->out, m->in, len);
        if (ok)
            memcpy(m->out + len, tag, SIV_BLOCK);
        else
            siv_wipe(m->out, m->in_len + SIV_BLOCK);
    } else {
        memcpy(received, m->in + len, SIV_BLOCK);
        ok = ok && apply_keystream(ctx, received, m->out, m->in, len) && make_tag(ctx, h, m, m->out, len, tag) &&
             siv_equal(tag, received);
    }
    siv_wipe(&h, sizeof h);
    siv_wipe(tag, sizeof tag);
    return ok;
}

/* ---- The public functions ------------------------------------------------------------------------------ */

int AES_GCM_SIV_SealBatch(AES_SIV_MSG *msgs, size_t n)
{
    return siv_gcm_batch_run(siv_backend_chosen(), msgs, n, 1);
}

int AES_GCM_SIV_OpenBatch(AES_SIV_MSG *msgs, size_t n)
{
    return siv_gcm_batch_run(siv_backend_chosen(), msgs, n, 0);
}

/* A batch of one. */
static int one(unsigned char *out, unsigned char const *key, unsigned char const *nonce, unsigned char const *in,
               size_t in_len, unsigned char const *ad, size_t ad_len, int seal)
{
    AES_SIV_MSG m = {.raw_key = key, .raw_key_len = AES_GCM_SIV_KEY_LEN, .nonce = nonce,
                     .nonce_len = AES_GCM_SIV_NONCE_LEN, .ad = ad, .ad_len = ad_len, .in = in, .in_len = in_len,
                     .out = out};

    return siv_gcm_batch_run(siv_backend_chosen(), &m, 1, seal);
}

int AES_GCM_SIV_Seal(unsigned char *out, unsigned char const *key, unsigned char const *nonce,
                     unsigned char const *plaintext, size_t plaintext_len, unsigned char const *ad, size_t ad_len)
{
    return one(out, key, nonce, plaintext, plaintext_len, ad, ad_len, 1);
}

int AES_GCM_SIV_Open(unsigned char *out, unsigned char const *key, unsigned char const *nonce,
                     unsigned char const *sealed, size_t sealed_len, unsigned char const *ad, size_t ad_len)
{
    return one(out, key, nonce, sealed, sealed_len, ad, ad_len, 0);
}

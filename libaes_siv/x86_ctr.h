/* SPDX-License-Identifier: MIT
 *
 * x86_ctr.h - the CTR half of AES-SIV and of AES-GCM-SIV, one message at a time. A backend's file includes it.
 *
 * The blocks of one stream are independent, so a single message fills the pipeline. The including file defines
 *   VEC       the kind of vector, x1 or x2 (x86_vec.h)
 *   CTR_VECS  vectors in flight; the blocks of a VEC times CTR_VECS are 8
 */
#include "x86_vec.h"

#define OP(name) CAT(CAT(VEC, _), name)

enum { ctr_bytes = SIV_BLOCK * OP(blocks) }; /* of a vector */

/* out = in ^ the first len bytes of stream; len < 16. */
static INLINE void ctr_partial(__m128i stream, uint8_t *out, uint8_t const *in, size_t len)
{
    uint64_t x = (uint64_t)_mm_cvtsi128_si64(stream);

    if (len & 8) {
        uint64_t y;

        memcpy(&y, in, 8);
        y ^= x;
        memcpy(out, &y, 8);
        x = (uint64_t)_mm_cvtsi128_si64(_mm_srli_si128(stream, 8));
        in += 8;
        out += 8;
    }
    if (len & 4) {
        uint32_t y;

        memcpy(&y, in, 4);
        y ^= (uint32_t)(x & 0xffffffff);
        memcpy(out, &y, 4);
        x >>= 32;
        in += 4;
        out += 4;
    }
    for (len &= 3; len != 0; len--, x >>= 8)
        *out++ = *in++ ^ (uint8_t)(x & 0xff);
}

/* out = in ^ stream for len bytes, fewer than a vector holds. */
static INLINE void ctr_tail(VEC stream, uint8_t *out, uint8_t const *in, size_t len)
{
    int i = 0;

    if (OP(blocks) == 2 && len >= SIV_BLOCK) {
        x1_store(out, x1_xor(x1_load(in), OP(block)(stream, i++)));
        out += SIV_BLOCK;
        in += SIV_BLOCK;
        len -= SIV_BLOCK;
    }
    ctr_partial(OP(block)(stream, i), out, in, len);
}

/* The counters of vector v. AES-SIV: count is two native integers, of which the low one counts, and blocks have its
 * bytes in reverse. AES-GCM-SIV: the first 32 bits of the block count, modulo 2^32. */
static INLINE VEC ctr_blocks(__m128i count, int v, int gcm)
{
    VEC const n = OP(add64)(OP(ordinals)(), OP(all)(_mm_set_epi64x(0, v * OP(blocks))));

    if (gcm)
        return OP(add32)(OP(all)(count), n);
    return OP(shuffle)(OP(add64)(OP(all)(count), n), OP(all)(REVERSE_BYTES));
}

/* Does len bytes, which need exactly vecs vectors. vecs and gcm are constants at every call. */
static INLINE void ctr_chunk(uint8_t const *key, size_t stride, unsigned rounds, __m128i count, uint8_t *out,
                             uint8_t const *in, size_t len, int vecs, int gcm)
{
    VEC stream[CTR_VECS];
    VEC k = OP(broadcast)(key);

    UNROLL
    for (int v = 0; v < vecs; v++)
        stream[v] = OP(xor)(ctr_blocks(count, v, gcm), k);
    UNROLL
    for (unsigned r = 1; r < 10; r++) {
        k = OP(broadcast)(key + stride * r);
        UNROLL
        for (int v = 0; v < vecs; v++)
            stream[v] = OP(enc)(stream[v], k);
    }
    for (unsigned r = 10; r < rounds; r++) {
        k = OP(broadcast)(key + stride * r);
        UNROLL
        for (int v = 0; v < vecs; v++)
            stream[v] = OP(enc)(stream[v], k);
    }
    k = OP(broadcast)(key + stride * rounds);
    UNROLL
    for (int v = 0; v < vecs; v++) {
        size_t const at = (size_t)(ctr_bytes * v);

        stream[v] = OP(enclast)(stream[v], k);
        if (len - at >= ctr_bytes)
            OP(store)(out + at, OP(xor)(OP(load)(in + at), stream[v]));
        else if (len != at)
            ctr_tail(stream[v], out + at, in + at, len - at);
    }
}

/* out = in ^ the stream from this counter on. */
static INLINE void ctr_stream(uint8_t const *key, size_t stride, unsigned rounds, __m128i count, uint8_t *out,
                              uint8_t const *in, size_t len, int gcm)
{
    size_t const full = ctr_bytes * CTR_VECS;
    __m128i const step = _mm_set_epi64x(0, CTR_VECS * OP(blocks));

    for (; len > full; len -= full) {
        ctr_chunk(key, stride, rounds, count, out, in, full, CTR_VECS, gcm);
        count = gcm ? _mm_add_epi32(count, step) : _mm_add_epi64(count, step);
        out += full;
        in += full;
    }
    switch ((len + ctr_bytes - 1) / ctr_bytes) {
#define CASE(n)                                                      \
    case n:                                                          \
        ctr_chunk(key, stride, rounds, count, out, in, len, n, gcm); \
        break;
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
#if CTR_VECS == 8
        CASE(5)
        CASE(6)
        CASE(7)
        CASE(8)
#endif
#undef CASE
    default:
        break;
    }
}

/* As siv_backend.ctr. key is the first round key; the others follow, stride bytes apart. */
static TARGET __attribute__((noinline)) void ctr_xor(uint8_t const *key, size_t stride, unsigned rounds,
                                                     __m128i counter, uint8_t *out, uint8_t const *in,
                                                     size_t len)
{
    ctr_stream(key, stride, rounds, x1_shuffle(counter, REVERSE_BYTES), out, in, len, 0);
}

/* The same for AES-GCM-SIV, with a key of 16 bytes. */
static TARGET __attribute__((noinline)) void gcm_ctr_xor(uint8_t const *key, size_t stride, __m128i counter,
                                                         uint8_t *out, uint8_t const *in, size_t len)
{
    ctr_stream(key, stride, 10, counter, out, in, len, 1);
}

#undef OP

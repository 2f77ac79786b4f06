/* SPDX-License-Identifier: MIT
 *
 * x86_vec.h - AES blocks in vector registers, for the x86-64 backends.
 *
 * A vector is x1, one block in an xmm register, or x2, two blocks in a ymm register. Both have the same operations
 * under parallel names, such as x1_xor and x2_xor. x86_lanes.h and x86_ctr.h use these, and a backend includes them
 * once for each kind of vector.
 *
 * The including file defines TARGET, the attribute that enables instructions in its functions, and SIV_YMM if these
 * include AVX2, VAES and VPCLMULQDQ. Everything is inlined into functions with that attribute.
 */
#ifndef X86_VEC_H_
#define X86_VEC_H_

#include <immintrin.h>

#include "siv_internal.h"

#define INLINE TARGET inline __attribute__((always_inline))

/* Loops over the blocks in flight must be unrolled, or the blocks would be in memory instead of registers. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)

/* How dbl() changes the two 64-bit halves of a number when the other half overflows. */
#define CARRY_DWORDS _MM_SHUFFLE(0, 1, 0, 3)
#define CARRY_BITS _mm_set_epi32(0, 1, 0, 0x87)
#define REVERSE_BYTES _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)

/* ---- One block ----------------------------------------------------------------------------------------- */

typedef __m128i x1;
enum { x1_blocks = 1 };

static INLINE x1 x1_load(uint8_t const *p)
{
    return _mm_loadu_si128((__m128i const *)p);
}

static INLINE void x1_store(uint8_t *p, x1 x)
{
    _mm_storeu_si128((__m128i *)p, x);
}

/* The block at p, in every lane. */
static INLINE x1 x1_broadcast(uint8_t const *p)
{
    return x1_load(p);
}

/* The same block, in every lane. */
static INLINE x1 x1_all(__m128i x)
{
    return x;
}

/* The blocks at p[0] + offset, p[1] + offset, ... */
static INLINE x1 x1_gather(uint8_t const *const *p, size_t offset)
{
    return x1_load(p[0] + offset);
}

/* 0, 1, ... as the low integers of the lanes. */
static INLINE x1 x1_ordinals(void)
{
    return _mm_setzero_si128();
}

static INLINE __m128i x1_block(x1 x, int i)
{
    (void)i;
    return x;
}

#define x1_xor _mm_xor_si128
#define x1_or _mm_or_si128
#define x1_and _mm_and_si128
#define x1_add32 _mm_add_epi32
#define x1_add64 _mm_add_epi64
#define x1_shuffle _mm_shuffle_epi8
#define x1_shuffle32 _mm_shuffle_epi32
#define x1_sll32 _mm_slli_epi32
#define x1_sra32 _mm_srai_epi32
#define x1_low_halves _mm_unpacklo_epi64
#define x1_up _mm_slli_si128
#define x1_down _mm_srli_si128
#define x1_clmul _mm_clmulepi64_si128
#define x1_enc _mm_aesenc_si128
#define x1_enclast _mm_aesenclast_si128
#define x1_zero _mm_setzero_si128

/* ---- Two blocks ---------------------------------------------------------------------------------------- */

#ifdef SIV_YMM

typedef __m256i x2;
enum { x2_blocks = 2 };

static INLINE x2 x2_load(uint8_t const *p)
{
    return _mm256_loadu_si256((__m256i const *)p);
}

static INLINE void x2_store(uint8_t *p, x2 x)
{
    _mm256_storeu_si256((__m256i *)p, x);
}

static INLINE x2 x2_broadcast(uint8_t const *p)
{
    return _mm256_broadcastsi128_si256(x1_load(p));
}

static INLINE x2 x2_all(__m128i x)
{
    return _mm256_broadcastsi128_si256(x);
}

static INLINE x2 x2_gather(uint8_t const *const *p, size_t offset)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(x1_load(p[0] + offset)), x1_load(p[1] + offset), 1);
}

static INLINE x2 x2_ordinals(void)
{
    return _mm256_set_epi64x(0, 1, 0, 0);
}

static INLINE __m128i x2_block(x2 x, int i)
{
    return i == 0 ? _mm256_castsi256_si128(x) : _mm256_extracti128_si256(x, 1);
}

#define x2_xor _mm256_xor_si256
#define x2_or _mm256_or_si256
#define x2_and _mm256_and_si256
#define x2_add32 _mm256_add_epi32
#define x2_add64 _mm256_add_epi64
#define x2_shuffle _mm256_shuffle_epi8
#define x2_shuffle32 _mm256_shuffle_epi32
#define x2_sll32 _mm256_slli_epi32
#define x2_sra32 _mm256_srai_epi32
#define x2_low_halves _mm256_unpacklo_epi64
#define x2_up _mm256_slli_si256
#define x2_down _mm256_srli_si256
#define x2_zero _mm256_setzero_si256

#ifndef AES_SIV_CTGRIND
#define x2_enc _mm256_aesenc_epi128
#define x2_enclast _mm256_aesenclast_epi128
#define x2_clmul _mm256_clmulepi64_epi128
#else
/* Valgrind does not know these three instructions, so pairs for one block replace them. */
static INLINE x2 x2_enc(x2 x, x2 key)
{
    return _mm256_set_m128i(_mm_aesenc_si128(x2_block(x, 1), x2_block(key, 1)),
                            _mm_aesenc_si128(x2_block(x, 0), x2_block(key, 0)));
}

static INLINE x2 x2_enclast(x2 x, x2 key)
{
    return _mm256_set_m128i(_mm_aesenclast_si128(x2_block(x, 1), x2_block(key, 1)),
                            _mm_aesenclast_si128(x2_block(x, 0), x2_block(key, 0)));
}

#define x2_clmul(x, y, halves)                                                          \
    _mm256_set_m128i(_mm_clmulepi64_si128(x2_block((x), 1), x2_block((y), 1), (halves)), \
                     _mm_clmulepi64_si128(x2_block((x), 0), x2_block((y), 0), (halves)))
#endif

#endif

/* ---- Byte positions ------------------------------------------------------------------------------------ */

/* For x1_shuffle: slide(n) moves bytes n places towards the end (n < 0: the beginning) and fills with zeros. */
#define Z4 0x80, 0x80, 0x80, 0x80
static uint8_t const slide_table[48] = {Z4, Z4, Z4, Z4, 0,  1,  2,  3,  4,  5,  6,  7,
                                        8,  9,  10, 11, 12, 13, 14, 15, Z4, Z4, Z4, Z4};
#undef Z4

static INLINE __m128i slide(int n)
{
    return x1_load(slide_table + 16 - n);
}

/* A block of zeros except for CMAC's padding, 0x80, at byte n. */
static INLINE __m128i padding(size_t n)
{
    static uint8_t const table[32] = {[16] = 0x80};

    return x1_load(table + 16 - n);
}

#endif

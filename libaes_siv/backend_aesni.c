/* SPDX-License-Identifier: MIT
 *
 * backend_aesni.c - AES with the AES-NI instructions of x86-64 CPUs.
 *
 * No table look-up and no branch depends on a key or on text: S-boxes are inside the instructions, key
 * expansion included. The functions carry their own target attribute, so the file needs no compiler flags and
 * the rest of the library stays runnable on any x86-64. On other processors the file is just a function that
 * returns NULL.
 */
#include "siv_internal.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <cpuid.h>
#include <emmintrin.h>
#include <smmintrin.h>
#include <wmmintrin.h>

#define TARGET __attribute__((target("aes,sse4.1")))
#define INLINE TARGET inline __attribute__((always_inline))

/* The loops over the blocks in flight must vanish, or the blocks would live in memory, not in registers. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

/* Blocks in flight: an AESENC can start every cycle or so, and takes several to finish. */
#define WIDE 8
#define NARROW 4

static INLINE __m128i load(uint8_t const *p)
{
    return _mm_loadu_si128((__m128i const *)p);
}

static INLINE void store(uint8_t *p, __m128i x)
{
    _mm_storeu_si128((__m128i *)p, x);
}

/* ---- Key expansion, FIPS 197 section 5.2 --------------------------------------------------------------- */

/* Byte selections that put a key word into all four columns, as it is or after RotWord. */
#define ROT_WORD_3 _mm_set1_epi32(0x0c0f0e0d)
#define ROT_WORD_1 _mm_set1_epi32(0x04070605)
#define WORD_3 _mm_set1_epi32(0x0f0e0d0c)

/* SubWord(selected word) ^ rcon, in all four columns. AESENCLAST is ShiftRows, SubBytes and a xor, and
 * ShiftRows does nothing to a state with equal columns. AESKEYGENASSIST would do, but is often slow. */
static INLINE __m128i sub_word(__m128i x, __m128i selection, __m128i rcon)
{
    return _mm_aesenclast_si128(_mm_shuffle_epi8(x, selection), rcon);
}

/* Each word becomes the xor of itself and all the words before it. */
static INLINE __m128i running_xor(__m128i x)
{
    x = _mm_xor_si128(x, _mm_slli_si128(x, 4));
    return _mm_xor_si128(x, _mm_slli_si128(x, 8));
}

static TARGET void expand_128(uint8_t *round_key, uint8_t const *key)
{
    __m128i k = load(key);
    __m128i rcon = _mm_set1_epi32(1);

    store(round_key, k);
    for (int i = 1; i <= 10; i++) {
        k = _mm_xor_si128(running_xor(k), sub_word(k, ROT_WORD_3, rcon));
        store(round_key + SIV_BLOCK * i, k);
        rcon = i == 8 ? _mm_set1_epi32(0x1b) : _mm_slli_epi32(rcon, 1);
    }
}

/* Six words a step, of which the last two are in the low half of b. Steps and round keys are out of phase,
 * which does not matter to a byte array. The last step writes two words too many, still inside of it. */
static TARGET void expand_192(uint8_t *round_key, uint8_t const *key)
{
    __m128i a = load(key);
    __m128i b = _mm_loadl_epi64((__m128i const *)(key + SIV_BLOCK));
    __m128i rcon = _mm_set1_epi32(1);

    store(round_key, a);
    _mm_storel_epi64((__m128i *)(round_key + SIV_BLOCK), b);
    for (int i = 1; i <= 8; i++) {
        a = _mm_xor_si128(running_xor(a), sub_word(b, ROT_WORD_1, rcon));
        b = _mm_xor_si128(running_xor(b), _mm_shuffle_epi32(a, 0xff));
        store(round_key + 24 * i, a);
        _mm_storel_epi64((__m128i *)(round_key + 24 * i + SIV_BLOCK), b);
        rcon = _mm_slli_epi32(rcon, 1);
    }
}

static TARGET void expand_256(uint8_t *round_key, uint8_t const *key)
{
    __m128i a = load(key);
    __m128i b = load(key + SIV_BLOCK);
    __m128i rcon = _mm_set1_epi32(1);

    store(round_key, a);
    store(round_key + SIV_BLOCK, b);
    for (int i = 2; i <= 14; i += 2) {
        a = _mm_xor_si128(running_xor(a), sub_word(b, ROT_WORD_3, rcon));
        store(round_key + SIV_BLOCK * i, a);
        if (i == 14)
            break;
        b = _mm_xor_si128(running_xor(b), sub_word(a, WORD_3, _mm_setzero_si128()));
        store(round_key + SIV_BLOCK * (i + 1), b);
        rcon = _mm_slli_epi32(rcon, 1);
    }
}

/* ---- The table's functions ----------------------------------------------------------------------------- */

static int aesni_open(struct siv_aes *aes)
{
    (void)aes; /* the schedule is part of siv_aes */
    return 1;
}

static int aesni_set_key(struct siv_aes *aes, uint8_t const *key, size_t len)
{
    size_t used;

    if (len == 16)
        expand_128(aes->schedule.round_key, key);
    else if (len == 24)
        expand_192(aes->schedule.round_key, key);
    else
        expand_256(aes->schedule.round_key, key);
    aes->schedule.rounds = (unsigned)(len / 4 + 6);
    used = SIV_BLOCK * (len / 4 + 7);
    /* An earlier, longer key had more round keys. */
    siv_wipe(aes->schedule.round_key + used, sizeof aes->schedule.round_key - used);
    return 1;
}

static int aesni_copy(struct siv_aes *dst, struct siv_aes const *src)
{
    dst->schedule = src->schedule;
    return 1;
}

static void aesni_clear(struct siv_aes *aes)
{
    siv_wipe(aes, sizeof *aes);
}

static TARGET int aesni_mac(struct siv_aes const *aes, uint8_t state[SIV_BLOCK], uint8_t const *data,
                            size_t blocks)
{
    uint8_t const *const first = aes->schedule.round_key;
    uint8_t const *const last = first + SIV_BLOCK * aes->schedule.rounds;
    __m128i x = load(state);

    for (; blocks != 0; blocks--, data += SIV_BLOCK) {
        /* Data and first round key meet outside the chain of dependent instructions, which takes the time. */
        x = _mm_xor_si128(x, _mm_xor_si128(load(data), load(first)));
        for (uint8_t const *k = first + SIV_BLOCK; k != last; k += SIV_BLOCK)
            x = _mm_aesenc_si128(x, load(k));
        x = _mm_aesenclast_si128(x, load(last));
    }
    store(state, x);
    return 1;
}

/* stream[0 .. n-1] = AES(counter), AES(counter + 1), ... n is a constant at every call. */
static INLINE void keystream(struct siv_aes const *aes, __m128i counter, __m128i *stream, int n)
{
    __m128i const reverse = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint8_t const *const first = aes->schedule.round_key;
    uint8_t const *const last = first + SIV_BLOCK * aes->schedule.rounds;
    __m128i key = load(first);

    UNROLL
    for (int i = 0; i < n; i++) {
        __m128i const block = _mm_shuffle_epi8(_mm_add_epi64(counter, _mm_set_epi64x(0, i)), reverse);

        stream[i] = _mm_xor_si128(block, key);
    }
    for (uint8_t const *k = first + SIV_BLOCK; k != last; k += SIV_BLOCK) {
        key = load(k);
        UNROLL
        for (int i = 0; i < n; i++)
            stream[i] = _mm_aesenc_si128(stream[i], key);
    }
    key = load(last);
    UNROLL
    for (int i = 0; i < n; i++)
        stream[i] = _mm_aesenclast_si128(stream[i], key);
}

/* The last len bytes, fewer than WIDE blocks. */
static TARGET void ctr_tail(struct siv_aes const *aes, __m128i counter, uint8_t *out, uint8_t const *in,
                            size_t len)
{
    __m128i stream[WIDE];
    uint8_t partial[SIV_BLOCK];
    size_t i = 0;

    if (len > SIV_BLOCK * NARROW)
        keystream(aes, counter, stream, WIDE);
    else
        keystream(aes, counter, stream, NARROW);

    for (; len >= SIV_BLOCK; i++, len -= SIV_BLOCK)
        store(out + SIV_BLOCK * i, _mm_xor_si128(load(in + SIV_BLOCK * i), stream[i]));
    if (len != 0) {
        store(partial, stream[i]);
        for (size_t j = 0; j < len; j++)
            out[SIV_BLOCK * i + j] = in[SIV_BLOCK * i + j] ^ partial[j];
        siv_wipe(partial, sizeof partial);
    }
    siv_wipe(stream, sizeof stream);
}

static TARGET int aesni_ctr(struct siv_aes const *aes, uint8_t const counter[SIV_BLOCK], uint8_t *out,
                            uint8_t const *in, size_t len)
{
    /* As two native integers, the counting half in the low lane. */
    __m128i count = _mm_set_epi64x((long long)siv_load_be64(counter), (long long)siv_load_be64(counter + 8));

    for (; len >= SIV_BLOCK * WIDE; len -= SIV_BLOCK * WIDE) {
        __m128i stream[WIDE];

        keystream(aes, count, stream, WIDE);
        UNROLL
        for (int i = 0; i < WIDE; i++)
            store(out + SIV_BLOCK * i, _mm_xor_si128(load(in + SIV_BLOCK * i), stream[i]));
        count = _mm_add_epi64(count, _mm_set_epi64x(0, WIDE));
        out += SIV_BLOCK * WIDE;
        in += SIV_BLOCK * WIDE;
    }
    if (len != 0)
        ctr_tail(aes, count, out, in, len);
    return 1;
}

static int cpu_has_aesni(void)
{
    unsigned const needed = bit_AES | bit_SSE4_1;
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & needed) == needed;
}

struct siv_backend const *siv_backend_aesni(void)
{
    static struct siv_backend const table = {
        .name = "aesni",
        .open = aesni_open,
        .set_key = aesni_set_key,
        .copy = aesni_copy,
        .clear = aesni_clear,
        .close = aesni_clear,
        .mac = aesni_mac,
        .ctr = aesni_ctr,
    };

    return cpu_has_aesni() ? &table : NULL;
}

#else

struct siv_backend const *siv_backend_aesni(void)
{
    return NULL;
}

#endif

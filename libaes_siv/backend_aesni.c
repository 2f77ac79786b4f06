/* SPDX-License-Identifier: MIT
 *
 * backend_aesni.c - AES with the AES-NI instructions of x86-64 CPUs, and POLYVAL with PCLMULQDQ.
 *
 * No table look-up and no branch depends on a key or on text: the instructions contain the S-boxes, also for key
 * expansion. The functions have a target attribute, so the file needs no compiler flags and the rest of the library
 * runs on any x86-64. On other processors the file is one function that returns NULL.
 */
#include "siv_internal.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <cpuid.h>

#define TARGET __attribute__((target("aes,sse4.1,pclmul")))

#include "backend_x86.h"

/* A CTR stream with eight blocks in flight. */
#define VEC x1
#define CTR_VECS 8
#include "x86_ctr.h"

/* One message. Contexts use its key expansion. */
#define VECS 1
#define LANES 1
#define FN(name) CAT(lone_, name)
#include "x86_lanes.h"
#undef VECS
#undef LANES
#undef FN

/* Four messages. More do not fit into the sixteen registers, which makes everything slower. */
#define VECS 4
#define LANES 4
#define FN(name) CAT(four_, name)
#include "x86_lanes.h"

/* ---- Key expansion, FIPS 197 section 5.2 --------------------------------------------------------------- */

#define ROT_WORD_1 _mm_set1_epi32(0x04070605)

/* Each step makes six words; the last two are in the low half of b. Steps do not line up with round keys, which
 * does not matter in a byte array. The last step writes two words too many, still within the array. */
TARGET void siv_aesni_expand_192(uint8_t *round_key, uint8_t const *key)
{
    __m128i a = x1_load(key);
    __m128i b = _mm_loadl_epi64((__m128i const *)(key + SIV_BLOCK));
    __m128i rcon = _mm_set1_epi32(1);

    x1_store(round_key, a);
    _mm_storel_epi64((__m128i *)(round_key + SIV_BLOCK), b);
    for (int i = 1; i <= 8; i++) {
        a = lone_next_key(a, b, ROT_WORD_1, rcon);
        b = _mm_xor_si128(b, _mm_slli_si128(b, 4));
        b = _mm_xor_si128(b, _mm_shuffle_epi32(a, 0xff));
        x1_store(round_key + 24 * i, a);
        _mm_storel_epi64((__m128i *)(round_key + 24 * i + SIV_BLOCK), b);
        rcon = _mm_slli_epi32(rcon, 1);
    }
}

/* ---- The table's functions ----------------------------------------------------------------------------- */

int siv_aesni_open(struct siv_aes *aes)
{
    (void)aes; /* the schedule is part of siv_aes */
    return 1;
}

TARGET int siv_aesni_set_key(struct siv_aes *aes, uint8_t const *key, size_t len)
{
    unsigned const rounds = (unsigned)(len / 4 + 6);
    size_t const used = SIV_BLOCK * (rounds + 1);

    lone_set_key(aes->schedule.round_key, &key, 0, rounds);
    aes->schedule.rounds = rounds;
    /* An earlier, longer key had more round keys. */
    siv_wipe(aes->schedule.round_key + used, sizeof aes->schedule.round_key - used);
    return 1;
}

int siv_aesni_copy(struct siv_aes *dst, struct siv_aes const *src)
{
    dst->schedule = src->schedule;
    return 1;
}

void siv_aesni_clear(struct siv_aes *aes)
{
    siv_wipe(aes, sizeof *aes);
}

TARGET int siv_aesni_mac(struct siv_aes const *aes, uint8_t state[SIV_BLOCK], uint8_t const *data,
                         size_t blocks)
{
    struct lone_cmac_key const key = {
        .round_key = aes->schedule.round_key, .rounds = aes->schedule.rounds, .shared = 1};
    __m128i x = x1_load(state);

    lone_absorb_all(&key, &x, &data, SIV_BLOCK * blocks);
    x1_store(state, x);
    return 1;
}

TARGET int siv_aesni_ctr(struct siv_aes const *aes, uint8_t const counter[SIV_BLOCK], uint8_t *out,
                         uint8_t const *in, size_t len)
{
    ctr_xor(aes->schedule.round_key, SIV_BLOCK, aes->schedule.rounds, x1_load(counter), out, in, len);
    return 1;
}

static int cpu_has_aesni(void)
{
    unsigned const needed = bit_AES | bit_SSE4_1 | bit_PCLMUL;
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & needed) == needed;
}

struct siv_backend const *siv_backend_aesni(void)
{
    static struct siv_batch const batch = {.width = 4, .least = 3, .together = four_run, .lone = lone_run};
    static struct siv_batch const gcm = {.width = 4, .least = 3, .together = four_gcm_run, .lone = lone_gcm_run};
    static struct siv_backend const table = {
        .name = "aesni",
        SIV_AESNI_FUNCTIONS,
        .batch = &batch,
        .gcm = &gcm,
    };

    return cpu_has_aesni() ? &table : NULL;
}

#else

struct siv_backend const *siv_backend_aesni(void)
{
    return NULL;
}

#endif

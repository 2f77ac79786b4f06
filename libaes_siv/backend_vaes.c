/* SPDX-License-Identifier: MIT
 *
 * backend_vaes.c - messages eight at a time, with the VAES, VPCLMULQDQ and AVX2 instructions of x86-64 CPUs.
 *
 * VAES does a round of two blocks in the time of one, VPCLMULQDQ two products. That helps with many independent blocks,
 * in batches and in CTR streams; contexts use the functions of the aesni backend. The operating system must also save
 * the wider registers: XGETBV tells whether it does.
 */
#include "siv_internal.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <cpuid.h>

#define TARGET __attribute__((target("aes,avx2,vaes,pclmul,vpclmulqdq")))
#define SIV_YMM

#include "backend_x86.h"

/* A CTR stream with eight blocks in flight. */
#define VEC x2
#define CTR_VECS 4
#include "x86_ctr.h"

/* Eight messages. More do not fit into the sixteen registers. */
#define VECS 4
#define LANES 8
#define FN(name) CAT(eight_, name)
#include "x86_lanes.h"
#undef VECS
#undef LANES
#undef FN

/* Four messages, for the rest of a batch. */
#define VECS 2
#define LANES 4
#define FN(name) CAT(four_, name)
#include "x86_lanes.h"
#undef VEC
#undef VECS
#undef LANES
#undef FN

/* One message. */
#define VEC x1
#define VECS 1
#define LANES 1
#define FN(name) CAT(lone_, name)
#include "x86_lanes.h"

static int together(AES_SIV_MSG *const *msgs, size_t n, int seal)
{
    return n <= 4 ? four_run(msgs, n, seal) : eight_run(msgs, n, seal);
}

static int gcm_together(AES_SIV_MSG *const *msgs, size_t n, int seal)
{
    return n <= 4 ? four_gcm_run(msgs, n, seal) : eight_gcm_run(msgs, n, seal);
}

/* Bits 1 and 2 of XCR0: the operating system saves xmm and ymm. */
static int system_saves_ymm(void)
{
    unsigned eax, edx;

    __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return (eax & 6) == 6;
}

static int cpu_has_vaes(void)
{
    unsigned const needed = bit_AES | bit_SSE4_1 | bit_PCLMUL | bit_OSXSAVE | bit_AVX;
    unsigned eax, ebx, ecx, edx;

    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & needed) != needed || !system_saves_ymm())
        return 0;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (ebx & bit_AVX2) == 0)
        return 0;
#ifdef AES_SIV_CTGRIND
    return 1; /* x86_vec.h replaces the instructions */
#else
    return (ecx & bit_VAES) != 0 && (ecx & bit_VPCLMULQDQ) != 0;
#endif
}

struct siv_backend const *siv_backend_vaes(void)
{
    static struct siv_batch const batch = {.width = 8, .least = 3, .together = together, .lone = lone_run};
    static struct siv_batch const gcm = {.width = 8, .least = 2, .together = gcm_together, .lone = lone_gcm_run};
    static struct siv_backend const table = {
        .name = "vaes",
        SIV_AESNI_FUNCTIONS,
        .batch = &batch,
        .gcm = &gcm,
    };

    return cpu_has_vaes() ? &table : NULL;
}

#else

struct siv_backend const *siv_backend_vaes(void)
{
    return NULL;
}

#endif

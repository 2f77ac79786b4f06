/* SPDX-License-Identifier: MIT
 *
 * x86_lanes.h - messages of one shape, in step. A backend's file includes it once for each number of lanes.
 *
 * Each message is a lane, and a vector holds one or two lanes. This file has what both algorithms need: rows of memory,
 * key expansion, and texts that are gathered block by block. x86_siv.h and x86_gcm_siv.h, included at the end, do the
 * messages.
 *
 * The including file defines
 *   VEC    the kind of vector, x1 or x2 (x86_vec.h)
 *   VECS   vectors in flight
 *   LANES  VECS times the blocks of a VEC
 *   FN(x)  a name for x that is unique to this inclusion
 * and includes x86_ctr.h first. It gets FN(run) and FN(gcm_run), each a siv_run for at most LANES messages.
 *
 * Invariants: nothing branches on, or indexes by, a secret. Texts, keys and tags in memory are in a struct that is
 * wiped. Round keys are loaded at each use, so that the compiler has no reason to keep copies of them elsewhere. Lanes
 * beyond the last message repeat the first one and write nothing.
 */
#include "x86_vec.h"

#define OP(name) CAT(CAT(VEC, _), name)
#define EACH_VEC(v) for (int v = 0; v < VECS; v++)
#define ROW (SIV_BLOCK * LANES) /* a block of each lane, that of lane l at SIV_BLOCK * l */

/* ---- Rows ---------------------------------------------------------------------------------------------- */

static INLINE void FN(put_row)(uint8_t *row, VEC const *k)
{
    UNROLL
    EACH_VEC (v)
        OP(store)(row + SIV_BLOCK * OP(blocks) * v, k[v]);
}

/* siv_wipe() for a few rows. A compiler may turn memset into "rep stos", which takes longer to start than this takes
 * to finish. */
static INLINE void FN(wipe_rows)(uint8_t *rows, size_t n)
{
    VEC nothing[VECS];

    UNROLL
    EACH_VEC (v)
        nothing[v] = OP(zero)();
    for (size_t i = 0; i < n; i++)
        FN(put_row)(rows + ROW * i, nothing);
    siv_wipe(rows, 0);
}

/* ---- Key expansion, FIPS 197 section 5.2, in all lanes ------------------------------------------------- */

/* Byte selections that copy the last word of a key into all four columns, as it is or after RotWord. */
#define ROT_WORD_3 OP(all)(_mm_set1_epi32(0x0c0f0e0d))
#define WORD_3 OP(all)(_mm_set1_epi32(0x0f0e0d0c))

/* The next round key. Each word of a becomes the xor of itself, all the words before it and
 * SubWord(the selected word of b) ^ rcon. AESENCLAST does ShiftRows, SubBytes and an xor, and ShiftRows does not
 * change a state with equal columns. AESKEYGENASSIST would work too, but is often slow. */
static INLINE VEC FN(next_key)(VEC a, VEC b, VEC selection, VEC rcon)
{
    a = OP(xor)(a, OP(up)(a, 4));
    a = OP(xor)(a, OP(up)(a, 8));
    return OP(xor)(a, OP(enclast)(OP(shuffle)(b, selection), rcon));
}

/* Expands the keys at key[lane] + offset, of 16 bytes (10 rounds) or 32 bytes (14). */
static INLINE void FN(expand)(uint8_t *rows, uint8_t const *const *key, size_t offset, unsigned rounds)
{
    VEC a[VECS], b[VECS];
    VEC rcon = OP(all)(_mm_set1_epi32(1));

    UNROLL
    EACH_VEC (v)
        a[v] = OP(gather)(key + OP(blocks) * v, offset);
    FN(put_row)(rows, a);
    if (rounds == 10) {
        for (unsigned r = 1; r <= 10; r++) {
            UNROLL
            EACH_VEC (v)
                a[v] = FN(next_key)(a[v], a[v], ROT_WORD_3, rcon);
            FN(put_row)(rows + ROW * r, a);
            rcon = r == 8 ? OP(all)(_mm_set1_epi32(0x1b)) : OP(sll32)(rcon, 1);
        }
        return;
    }
    UNROLL
    EACH_VEC (v)
        b[v] = OP(gather)(key + OP(blocks) * v, offset + SIV_BLOCK);
    FN(put_row)(rows + ROW, b);
    for (unsigned r = 2; r <= 14; r += 2) {
        UNROLL
        EACH_VEC (v)
            a[v] = FN(next_key)(a[v], b[v], ROT_WORD_3, rcon);
        FN(put_row)(rows + ROW * r, a);
        if (r == 14)
            break;
        UNROLL
        EACH_VEC (v)
            b[v] = FN(next_key)(b[v], a[v], WORD_3, OP(zero)());
        FN(put_row)(rows + ROW * (r + 1), b);
        rcon = OP(sll32)(rcon, 1);
    }
}

/* The same for any key. Keys of 24 bytes come here one by one only. */
static INLINE void FN(set_key)(uint8_t *rows, uint8_t const *const *key, size_t offset, unsigned rounds)
{
    if (LANES == 1 && rounds == 12)
        siv_aesni_expand_192(rows, key[0] + offset);
    else
        FN(expand)(rows, key, offset, rounds);
}

/* ---- Texts --------------------------------------------------------------------------------------------- */

static INLINE void FN(gather)(VEC *block, uint8_t const *const *p, size_t offset)
{
    UNROLL
    EACH_VEC (v)
        block[v] = OP(gather)(p + OP(blocks) * v, offset);
}

/* block = the last `rest` bytes, at least one and fewer than a block, of the len bytes at p[lane], and zeros. `brief`
 * is a row for strings shorter than a block, wiped afterwards. */
static INLINE void FN(gather_end)(uint8_t *brief, VEC *block, uint8_t const *const *p, size_t len, size_t rest)
{
    uint8_t const *at[LANES];

    if (len >= SIV_BLOCK) {
        FN(gather)(block, p, len - SIV_BLOCK);
        UNROLL
        EACH_VEC (v)
            block[v] = OP(shuffle)(block[v], OP(all)(slide(-(int)(SIV_BLOCK - rest))));
        return;
    }
    FN(wipe_rows)(brief, 1);
    for (int l = 0; l < LANES; l++) {
        at[l] = brief + SIV_BLOCK * l;
        memcpy(brief + SIV_BLOCK * l, p[l], rest);
    }
    FN(gather)(block, at, 0);
    FN(wipe_rows)(brief, 1);
}

#include "x86_siv.h"

#include "x86_gcm_siv.h"

#undef OP
#undef EACH_VEC
#undef ROW
#undef ROT_WORD_3
#undef WORD_3

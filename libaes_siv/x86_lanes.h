/* SPDX-License-Identifier: MIT
 *
 * x86_lanes.h - AES-SIV of several messages of one shape, in step. A backend's file includes it.
 *
 * A CBC-MAC must finish one AES before it can start the next. The MACs of other, independent messages fill the
 * waiting time: each message is a lane, and a vector holds one or two lanes. Within one message, the code for nonce,
 * associated data, text and subkeys is in an order that lets the CPU overlap them, which makes a single message (one
 * lane) fast.
 *
 * The including file defines
 *   VEC    the kind of vector, x1 or x2 (x86_vec.h)
 *   VECS   vectors in flight
 *   LANES  VECS times the blocks of a VEC
 *   FN(x)  a name for x that is unique to this inclusion
 * and includes x86_ctr.h first. It gets FN(run), a siv_run for at most LANES messages.
 *
 * Invariants: nothing branches on, or indexes by, a secret. Texts, keys and tags in memory are in struct FN(scratch),
 * which is wiped. Round keys are loaded at each use, so that the compiler has no reason to keep copies of them
 * elsewhere. Lanes beyond the last message repeat the first one and write nothing.
 */
#include "x86_vec.h"

#define OP(name) CAT(CAT(VEC, _), name)
#define EACH_VEC(v) for (int v = 0; v < VECS; v++)
#define ROW (SIV_BLOCK * LANES)

/* The round keys of lane l are at SIV_BLOCK * l of each row. */
struct FN(scratch) {
    _Alignas(64) uint8_t mac_key[ROW * (SIV_MAX_ROUNDS + 1)];
    uint8_t ctr_key[ROW * (SIV_MAX_ROUNDS + 1)];
    uint8_t tag[ROW];
    uint8_t brief[ROW]; /* strings shorter than a block */
};

/* What a CMAC needs. shared: all lanes use the key of a siv_aes, instead of one row each of the above. It is a
 * compile-time constant everywhere. */
struct FN(cmac_key) {
    uint8_t const *round_key;
    unsigned rounds;
    int shared;
    VEC full[VECS], part[VECS];
};

/* ---- AES in all lanes ---------------------------------------------------------------------------------- */

static INLINE VEC FN(round_key)(struct FN(cmac_key) const *key, unsigned r, int v)
{
    if (key->shared)
        return OP(broadcast)(key->round_key + SIV_BLOCK * r);
    return OP(load)(key->round_key + ROW * r + SIV_BLOCK * OP(blocks) * v);
}

/* state = AES(state ^ block) */
static INLINE void FN(absorb)(struct FN(cmac_key) const *key, VEC *state, VEC const *block)
{
    siv_reload(key->round_key);
    UNROLL
    /* The xor of data and first round key stays outside the chain of dependent instructions, which limits speed. */
    EACH_VEC (v)
        state[v] = OP(xor)(state[v], OP(xor)(block[v], FN(round_key)(key, 0, v)));
    UNROLL
    for (unsigned r = 1; r < 10; r++) {
        UNROLL
        EACH_VEC (v)
            state[v] = OP(enc)(state[v], FN(round_key)(key, r, v));
    }
    for (unsigned r = 10; r < key->rounds; r++) {
        UNROLL
        EACH_VEC (v)
            state[v] = OP(enc)(state[v], FN(round_key)(key, r, v));
    }
    UNROLL
    EACH_VEC (v)
        state[v] = OP(enclast)(state[v], FN(round_key)(key, key->rounds, v));
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

/* ---- CMAC and S2V -------------------------------------------------------------------------------------- */

/* Doubling in GF(2^128), RFC 5297 section 2.3. */
static INLINE VEC FN(dbl)(VEC x)
{
    VEC const reverse = OP(all)(REVERSE_BYTES);
    VEC carry;

    x = OP(shuffle)(x, reverse);
    carry = OP(shuffle32)(OP(sra32)(x, 31), CARRY_DWORDS);
    x = OP(xor)(OP(add64)(x, x), OP(and)(carry, OP(all)(CARRY_BITS)));
    return OP(shuffle)(x, reverse);
}

/* d = dbl(d) ^ mac, one step of S2V. */
static INLINE void FN(mix)(VEC *d, VEC const *mac)
{
    UNROLL
    EACH_VEC (v)
        d[v] = OP(xor)(FN(dbl)(d[v]), mac[v]);
}

static INLINE void FN(gather)(VEC *block, uint8_t const *const *p, size_t offset)
{
    UNROLL
    EACH_VEC (v)
        block[v] = OP(gather)(p + OP(blocks) * v, offset);
}

/* Absorbs the first `end` bytes at p[lane], whole blocks. */
static INLINE void FN(absorb_all)(struct FN(cmac_key) const *key, VEC *state, uint8_t const *const *p,
                                  size_t end)
{
    VEC block[VECS];

    for (size_t offset = 0; offset < end; offset += SIV_BLOCK) {
        FN(gather)(block, p, offset);
        FN(absorb)(key, state, block);
    }
}

/* block = the last `rest` bytes, fewer than a block, of the len bytes at p[lane], and CMAC's padding. */
static INLINE void FN(gather_end)(struct FN(scratch) *scratch, VEC *block, uint8_t const *const *p, size_t len,
                                  size_t rest)
{
    VEC const pad = OP(all)(padding(rest));

    if (rest == 0) {
        UNROLL
        EACH_VEC (v)
            block[v] = OP(zero)();
    } else if (len >= SIV_BLOCK) {
        FN(gather)(block, p, len - SIV_BLOCK);
        UNROLL
        EACH_VEC (v)
            block[v] = OP(shuffle)(block[v], OP(all)(slide(-(int)(SIV_BLOCK - rest))));
    } else {
        uint8_t const *at[LANES];

        FN(wipe_rows)(scratch->brief, 1);
        for (int l = 0; l < LANES; l++) {
            at[l] = scratch->brief + SIV_BLOCK * l;
            memcpy(scratch->brief + SIV_BLOCK * l, p[l], rest);
        }
        FN(gather)(block, at, 0);
        FN(wipe_rows)(scratch->brief, 1);
    }
    UNROLL
    EACH_VEC (v)
        block[v] = OP(or)(block[v], pad);
}

/* mac = CMAC(the len bytes at p[lane]) */
static INLINE void FN(cmac)(struct FN(scratch) *scratch, struct FN(cmac_key) const *key, VEC *mac,
                            uint8_t const *const *p, size_t len)
{
    size_t const head = len == 0 ? 0 : (len - 1) / SIV_BLOCK * SIV_BLOCK;
    VEC block[VECS];

    UNROLL
    EACH_VEC (v)
        mac[v] = OP(zero)();
    FN(absorb_all)(key, mac, p, head);
    if (len - head == SIV_BLOCK) {
        FN(gather)(block, p, head);
        UNROLL
        EACH_VEC (v)
            block[v] = OP(xor)(block[v], key->full[v]);
    } else {
        FN(gather_end)(scratch, block, p, len, len - head);
        UNROLL
        EACH_VEC (v)
            block[v] = OP(xor)(block[v], key->part[v]);
    }
    FN(absorb)(key, mac, block);
}

/* The last step of S2V: tag = CMAC(text xorend d), or CMAC(dbl(d) ^ pad(text)) for less than a block. */
static INLINE void FN(finish)(struct FN(scratch) *scratch, struct FN(cmac_key) const *key, VEC *tag, VEC *d,
                              uint8_t const *const *text, size_t len)
{
    size_t const rest = len % SIV_BLOCK;
    VEC block[VECS];

    UNROLL
    EACH_VEC (v)
        tag[v] = OP(zero)();
    if (len < SIV_BLOCK) {
        FN(gather_end)(scratch, block, text, len, len);
        UNROLL
        EACH_VEC (v)
            block[v] = OP(xor)(OP(xor)(block[v], FN(dbl)(d[v])), key->full[v]);
        FN(absorb)(key, tag, block);
        return;
    }
    FN(absorb_all)(key, tag, text, len - SIV_BLOCK - rest);
    FN(gather)(block, text, len - SIV_BLOCK - rest);
    if (rest == 0) {
        UNROLL
        EACH_VEC (v)
            block[v] = OP(xor)(OP(xor)(block[v], d[v]), key->full[v]);
    } else {
        /* d covers parts of the last two blocks. */
        VEC const first = OP(all)(slide((int)rest));
        VEC const second = OP(all)(slide(-(int)(SIV_BLOCK - rest)));

        UNROLL
        EACH_VEC (v)
            block[v] = OP(xor)(block[v], OP(shuffle)(d[v], first));
        FN(absorb)(key, tag, block);
        FN(gather_end)(scratch, block, text, len, rest);
        UNROLL
        EACH_VEC (v)
            block[v] = OP(xor)(OP(xor)(block[v], OP(shuffle)(d[v], second)), key->part[v]);
    }
    FN(absorb)(key, tag, block);
}

/* ---- Messages ------------------------------------------------------------------------------------------ */

/* Derives CMAC's subkeys from its round keys, and d = CMAC(<zero>). */
static INLINE void FN(derive)(struct FN(cmac_key) *key, VEC *d)
{
    VEC none[VECS];

    UNROLL
    EACH_VEC (v)
        key->full[v] = none[v] = d[v] = OP(zero)();
    FN(absorb)(key, key->full, none);
    UNROLL
    EACH_VEC (v) {
        key->full[v] = FN(dbl)(key->full[v]);
        key->part[v] = FN(dbl)(key->full[v]);
    }
    FN(absorb)(key, d, key->full);
}

/* Writes the S2V of every lane to scratch->tag. ready: d contains the associated data already. */
static INLINE void FN(s2v)(struct FN(scratch) *scratch, struct FN(cmac_key) const *key, VEC *d, int ready,
                           AES_SIV_MSG const *const *m, uint8_t const *const *text, size_t len)
{
    int const has_nonce = m[0]->nonce != NULL;
    uint8_t const *ad[LANES], *nonce[LANES];
    VEC mac[VECS], nonce_mac[VECS], tag[VECS];

    UNROLL
    for (int l = 0; l < LANES; l++) {
        ad[l] = m[l]->ad;
        nonce[l] = m[l]->nonce;
    }
    UNROLL
    EACH_VEC (v)
        nonce_mac[v] = OP(zero)();
    /* The nonce comes first: it is short, and the CPU overlaps it with what follows. */
    if (has_nonce)
        FN(cmac)(scratch, key, nonce_mac, nonce, m[0]->nonce_len);
    if (!ready) {
        FN(cmac)(scratch, key, mac, ad, m[0]->ad_len);
        FN(mix)(d, mac);
    }
    if (has_nonce)
        FN(mix)(d, nonce_mac);
    FN(finish)(scratch, key, tag, d, text, len);
    FN(put_row)(scratch->tag, tag);
}

/* The counter that a tag gives, section 2.6. */
static INLINE __m128i FN(counter)(uint8_t const *tag)
{
    return _mm_and_si128(x1_load(tag), _mm_set_epi32(-129, -129, -1, -1));
}

/* Does the work of FN(run). shared, a constant at each call: the key is a scheduled one. */
static INLINE int FN(run_with)(AES_SIV_MSG *const *msgs, size_t n, int seal, int shared)
{
    struct FN(scratch) scratch;
    struct FN(cmac_key) key;
    AES_SIV_MSG const *m[LANES];
    AES_SIV_KEY const *const scheduled = msgs[0]->key;
    size_t const len = msgs[0]->in_len - (seal ? 0 : SIV_BLOCK);
    size_t const stride = shared || LANES == 1 ? SIV_BLOCK : ROW;
    uint8_t const *text[LANES], *raw[LANES];
    uint8_t const *ctr_key;
    VEC d[VECS];
    int all = 1;

    key.shared = shared || LANES == 1; /* with one lane there is no difference */
    UNROLL
    for (size_t l = 0; l < LANES; l++)
        m[l] = msgs[l < n ? l : 0];
    if (seal) {
        UNROLL
        for (size_t l = 0; l < LANES; l++)
            text[l] = m[l]->in;
    } else {
        UNROLL
        for (size_t l = 0; l < LANES; l++)
            text[l] = m[l]->out;
    }
    if (shared) {
        key.round_key = scheduled->ctx.key.mac.schedule.round_key;
        key.rounds = scheduled->ctx.key.mac.schedule.rounds;
        ctr_key = scheduled->ctx.key.ctr.schedule.round_key;
        UNROLL
        EACH_VEC (v) {
            key.full[v] = OP(broadcast)(scheduled->ctx.key.full);
            key.part[v] = OP(broadcast)(scheduled->ctx.key.part);
            d[v] = OP(broadcast)(m[0]->ad_len == 0 ? scheduled->empty : scheduled->ctx.key.zero);
        }
    } else {
        size_t const half = m[0]->raw_key_len / 2;

        key.round_key = scratch.mac_key;
        key.rounds = (unsigned)(half / 4 + 6);
        ctr_key = scratch.ctr_key;
        UNROLL
        for (size_t l = 0; l < LANES; l++)
            raw[l] = m[l]->raw_key;
        FN(set_key)(scratch.mac_key, raw, 0, key.rounds);
        if (len != 0)
            FN(set_key)(scratch.ctr_key, raw, half, key.rounds);
        FN(derive)(&key, d);
    }

    for (size_t l = 0; !seal && len != 0 && l < n; l++)
        ctr_xor(ctr_key + (shared ? 0 : SIV_BLOCK * l), stride, key.rounds, FN(counter)(m[l]->in), m[l]->out,
                m[l]->in + SIV_BLOCK, len);
    FN(s2v)(&scratch, &key, d, shared && m[0]->ad_len == 0, m, text, len);
    for (size_t l = 0; l < n; l++) {
        uint8_t const *const tag = scratch.tag + SIV_BLOCK * l;

        if (seal) {
            ctr_xor(ctr_key + (shared ? 0 : SIV_BLOCK * l), stride, key.rounds, FN(counter)(tag),
                    m[l]->out + SIV_BLOCK, m[l]->in, len);
            x1_store(m[l]->out, x1_load(tag));
            msgs[l]->ok = 1;
        } else {
            int equal = _mm_movemask_epi8(_mm_cmpeq_epi8(x1_load(tag), x1_load(m[l]->in))) == 0xffff;

            siv_declassify(&equal, sizeof equal); /* this is the result */
            msgs[l]->ok = equal;
            all &= equal;
            if (!equal)
                siv_wipe(m[l]->out, len);
        }
    }
    FN(wipe_rows)(scratch.tag, 1);
    if (!shared) {
        /* siv_aesni_expand_192 also writes to the row after its last one. */
        size_t const used = key.rounds + (key.rounds == 12 ? 2 : 1);

        FN(wipe_rows)(scratch.mac_key, used);
        if (len != 0)
            FN(wipe_rows)(scratch.ctr_key, used);
    }
    return all;
}

static TARGET int FN(run)(AES_SIV_MSG *const *msgs, size_t n, int seal)
{
    if (msgs[0]->key != NULL)
        return FN(run_with)(msgs, n, seal, 1);
    return FN(run_with)(msgs, n, seal, 0);
}

#undef OP
#undef EACH_VEC
#undef ROW
#undef ROT_WORD_3
#undef WORD_3

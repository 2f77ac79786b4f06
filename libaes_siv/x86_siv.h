/* SPDX-License-Identifier: MIT
 *
 * x86_siv.h - AES-SIV of several messages of one shape, in step. x86_lanes.h includes it.
 *
 * A CBC-MAC must finish one AES before it can start the next. The MACs of other, independent messages fill the
 * waiting time. Within one message, the code for nonce, associated data, text and subkeys is in an order that lets the
 * CPU overlap them, which makes a single message (one lane) fast.
 */

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
    /* The result must be there by now. Clang would put off the last step, and keep its round key on the stack until then. */
    UNROLL
    EACH_VEC (v)
        __asm__ __volatile__("" : "+x"(state[v]));
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
static INLINE void FN(gather_padded)(struct FN(scratch) *scratch, VEC *block, uint8_t const *const *p, size_t len,
                                     size_t rest)
{
    VEC const pad = OP(all)(padding(rest));

    if (rest == 0) {
        UNROLL
        EACH_VEC (v)
            block[v] = OP(zero)();
    } else {
        FN(gather_end)(scratch->brief, block, p, len, rest);
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
        FN(gather_padded)(scratch, block, p, len, len - head);
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
        FN(gather_padded)(scratch, block, text, len, len);
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
        FN(gather_padded)(scratch, block, text, len, rest);
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

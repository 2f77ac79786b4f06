/* SPDX-License-Identifier: MIT
 *
 * x86_gcm_siv.h - AES-128-GCM-SIV (RFC 8452) of several messages of one shape, in step. x86_lanes.h includes it.
 *
 * As in AES-SIV, the steps of other messages fill the time in which one waits: for the AES of its keys and its tag, and
 * for each product of POLYVAL, which needs the one before.
 */

struct FN(gcm_scratch) {
    _Alignas(64) uint8_t key[ROW * 11]; /* round keys, first of the given key, then of the message's */
    uint8_t h[ROW];                     /* the message's key for POLYVAL */
    uint8_t g[ROW];                     /* h * x^-64 */
    uint8_t nonce[ROW];                 /* after four zeros */
    uint8_t tag[ROW];
    uint8_t brief[ROW]; /* strings shorter than a block */
};

/* ---- AES ----------------------------------------------------------------------------------------------- */

/* Encrypts each of the vectors, of which there are `each` in a row for the lanes of one: one or two. The loops end at a
 * constant. Clang does not unroll others in time, and then keeps the vectors in memory. */
static INLINE void FN(gcm_encrypt)(uint8_t const *rows, VEC *x, int each)
{
    siv_reload(rows);
    UNROLL
    for (int i = 0; i < 2 * VECS; i++)
        if (i < each * VECS)
            x[i] = OP(xor)(x[i], OP(load)(rows + SIV_BLOCK * OP(blocks) * (i / each)));
    UNROLL
    for (int r = 1; r < 10; r++) {
        UNROLL
        for (int i = 0; i < 2 * VECS; i++)
            if (i < each * VECS)
                x[i] = OP(enc)(x[i], OP(load)(rows + ROW * r + SIV_BLOCK * OP(blocks) * (i / each)));
    }
    UNROLL
    for (int i = 0; i < 2 * VECS; i++)
        if (i < each * VECS)
            x[i] = OP(enclast)(x[i], OP(load)(rows + ROW * 10 + SIV_BLOCK * OP(blocks) * (i / each)));
}

/* Two blocks of section 4, of which the first halves make a key. */
static INLINE void FN(gcm_derive)(struct FN(gcm_scratch) const *scratch, VEC *key, int first)
{
    VEC x[2 * VECS];

    UNROLL
    for (int i = 0; i < 2 * VECS; i++)
        x[i] = OP(or)(OP(load)(scratch->nonce + SIV_BLOCK * OP(blocks) * (i / 2)),
                      OP(all)(_mm_set_epi32(0, 0, 0, first + i % 2)));
    FN(gcm_encrypt)(scratch->key, x, 2);
    UNROLL
    EACH_VEC (v)
        key[v] = OP(low_halves)(x[2 * v], x[2 * v + 1]);
}

/* ---- POLYVAL, section 3 -------------------------------------------------------------------------------- */

/* x^-64 = x^64 + x^63 + x^62 + x^57, without the first term, in both halves. */
#define X_MINUS_64 OP(all)(_mm_set1_epi64x((long long)0xc200000000000000))

/* a * x^-64: the low half of a must go, and comes back in another place. */
static INLINE VEC FN(fold)(VEC a)
{
    return OP(xor)(OP(shuffle32)(a, _MM_SHUFFLE(1, 0, 3, 2)), OP(clmul)(a, X_MINUS_64, 0x00));
}

/* x = (x + block) * h * x^-128. With g = h * x^-64, this is (high half * h + low half * g) * x^-64, so that one fold is
 * enough. */
static INLINE void FN(polyval_block)(struct FN(gcm_scratch) const *scratch, VEC *x, VEC const *block)
{
    siv_reload(scratch);
    UNROLL
    EACH_VEC (v) {
        VEC const a = OP(xor)(x[v], block[v]);
        VEC const h = OP(load)(scratch->h + SIV_BLOCK * OP(blocks) * v);
        VEC const g = OP(load)(scratch->g + SIV_BLOCK * OP(blocks) * v);
        VEC const low = OP(xor)(OP(clmul)(a, g, 0x00), OP(clmul)(a, h, 0x01));
        VEC const high = OP(xor)(OP(clmul)(a, g, 0x10), OP(clmul)(a, h, 0x11));

        x[v] = OP(xor)(high, FN(fold)(low));
    }
}

/* The len bytes at p[lane], padded with zeros. */
static INLINE void FN(polyval)(struct FN(gcm_scratch) *scratch, VEC *x, uint8_t const *const *p, size_t len)
{
    size_t const rest = len % SIV_BLOCK;
    VEC block[VECS];

    for (size_t offset = 0; offset < len - rest; offset += SIV_BLOCK) {
        FN(gather)(block, p, offset);
        FN(polyval_block)(scratch, x, block);
    }
    if (rest != 0) {
        FN(gather_end)(scratch->brief, block, p, len, rest);
        FN(polyval_block)(scratch, x, block);
    }
}

/* ---- Messages ------------------------------------------------------------------------------------------ */

/* Makes the keys of each message, section 4. */
static INLINE void FN(gcm_keys)(struct FN(gcm_scratch) *scratch, AES_SIV_MSG const *const *m)
{
    uint8_t const *raw[LANES];
    VEC key[VECS];

    FN(wipe_rows)(scratch->nonce, 1);
    for (int l = 0; l < LANES; l++) {
        raw[l] = m[l]->raw_key;
        memcpy(scratch->nonce + SIV_BLOCK * l + 4, m[l]->nonce, SIV_GCM_NONCE);
    }
    FN(expand)(scratch->key, raw, 0, 10);
    FN(gcm_derive)(scratch, key, 0);
    FN(put_row)(scratch->h, key);
    UNROLL
    EACH_VEC (v)
        key[v] = FN(fold)(key[v]);
    FN(put_row)(scratch->g, key);
    FN(gcm_derive)(scratch, key, 2);
    FN(put_row)(scratch->key, key);
    for (int l = 0; l < LANES; l++)
        raw[l] = scratch->key + SIV_BLOCK * l;
    FN(expand)(scratch->key, raw, 0, 10);
}

/* Writes the tag of every lane to scratch->tag, section 4. */
static INLINE void FN(gcm_tag)(struct FN(gcm_scratch) *scratch, AES_SIV_MSG const *const *m,
                               uint8_t const *const *text, size_t len)
{
    uint8_t const *ad[LANES];
    VEC x[VECS], lengths[VECS];

    UNROLL
    EACH_VEC (v) {
        x[v] = OP(zero)();
        lengths[v] = OP(all)(_mm_set_epi64x((long long)len * 8, (long long)m[0]->ad_len * 8));
    }
    UNROLL
    for (int l = 0; l < LANES; l++)
        ad[l] = m[l]->ad;
    FN(polyval)(scratch, x, ad, m[0]->ad_len);
    FN(polyval)(scratch, x, text, len);
    FN(polyval_block)(scratch, x, lengths);
    UNROLL
    EACH_VEC (v) {
        VEC const nonce = OP(load)(scratch->nonce + SIV_BLOCK * OP(blocks) * v);

        x[v] = OP(and)(OP(xor)(x[v], OP(down)(nonce, 4)), OP(all)(_mm_set_epi32(0x7fffffff, -1, -1, -1)));
    }
    FN(gcm_encrypt)(scratch->key, x, 1);
    FN(put_row)(scratch->tag, x);
}

/* Encrypts or decrypts the text of one lane. The tag with its last bit set is the first counter. */
static INLINE void FN(gcm_text)(struct FN(gcm_scratch) const *scratch, size_t l, uint8_t const *tag, uint8_t *out,
                                uint8_t const *in, size_t len)
{
    __m128i const counter = _mm_or_si128(x1_load(tag), _mm_set_epi32((int)0x80000000, 0, 0, 0));

    gcm_ctr_xor(scratch->key + SIV_BLOCK * l, ROW, counter, out, in, len);
}

static TARGET int FN(gcm_run)(AES_SIV_MSG *const *msgs, size_t n, int seal)
{
    struct FN(gcm_scratch) scratch;
    AES_SIV_MSG const *m[LANES];
    size_t const len = msgs[0]->in_len - (seal ? 0 : SIV_BLOCK);
    uint8_t const *text[LANES];
    int all = 1;

    UNROLL
    for (size_t l = 0; l < LANES; l++) {
        m[l] = msgs[l < n ? l : 0];
        text[l] = seal ? m[l]->in : m[l]->out;
    }
    FN(gcm_keys)(&scratch, m);
    for (size_t l = 0; !seal && len != 0 && l < n; l++)
        FN(gcm_text)(&scratch, l, m[l]->in + len, m[l]->out, m[l]->in, len);
    FN(gcm_tag)(&scratch, m, text, len);
    for (size_t l = 0; l < n; l++) {
        uint8_t const *const tag = scratch.tag + SIV_BLOCK * l;

        if (seal) {
            FN(gcm_text)(&scratch, l, tag, m[l]->out, m[l]->in, len);
            x1_store(m[l]->out + len, x1_load(tag));
            msgs[l]->ok = 1;
        } else {
            int equal = _mm_movemask_epi8(_mm_cmpeq_epi8(x1_load(tag), x1_load(m[l]->in + len))) == 0xffff;

            siv_declassify(&equal, sizeof equal); /* this is the result */
            msgs[l]->ok = equal;
            all &= equal;
            if (!equal)
                siv_wipe(m[l]->out, len);
        }
    }
    FN(wipe_rows)(scratch.key, sizeof scratch / ROW);
    return all;
}

#undef X_MINUS_64

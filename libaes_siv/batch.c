/* SPDX-License-Identifier: MIT
 *
 * batch.c - many messages at once: schedules keys, checks each message, and groups messages of the same shape.
 *
 * The backends do the work for a group (struct siv_batch), or aes_siv.c and gcm_siv.c do it step by step. This file
 * decides by lengths, pointers and results only, which are all public.
 */
#include <openssl/crypto.h>

#include "siv_internal.h"

/* Messages of the same shape are grouped within this many. At least the width of any backend. */
#define WINDOW 64

/* What a call has to do. */
struct work {
    struct siv_backend const *backend;
    int gcm; /* AES-128-GCM-SIV instead of AES-SIV */
    int seal;
};

/* ---- Scheduled keys ------------------------------------------------------------------------------------ */

AES_SIV_KEY *siv_key_new(struct siv_backend const *backend, uint8_t const *key, size_t key_len)
{
    AES_SIV_KEY *const k = OPENSSL_malloc(sizeof *k);

    if (k == NULL)
        return NULL;
    if (!siv_context_open(&k->ctx, backend)) {
        OPENSSL_free(k);
        return NULL;
    }
    if (!AES_SIV_Init(&k->ctx, key, key_len) || !AES_SIV_AssociateData(&k->ctx, NULL, 0)) {
        AES_SIV_KEY_free(k);
        return NULL;
    }
    memcpy(k->empty, k->ctx.d, SIV_BLOCK);
    memcpy(k->ctx.d, k->ctx.key.zero, SIV_BLOCK);
    k->ctx.components = 0;
    return k;
}

AES_SIV_KEY *AES_SIV_KEY_new(unsigned char const *key, size_t key_len)
{
    struct siv_backend const *const backend = siv_backend_chosen();

    return backend == NULL ? NULL : siv_key_new(backend, key, key_len);
}

void AES_SIV_KEY_free(AES_SIV_KEY *key)
{
    if (key == NULL)
        return;
    siv_context_close(&key->ctx);
    OPENSSL_clear_free(key, sizeof *key);
}

/* ---- One message --------------------------------------------------------------------------------------- */

/* Whether every pointer that the lengths require is there. */
static inline int pointers_are_valid(AES_SIV_MSG const *m, int seal)
{
    return (m->key != NULL || m->raw_key != NULL) && (m->nonce != NULL || m->nonce_len == 0) &&
           (m->ad != NULL || m->ad_len == 0) && (m->in != NULL || m->in_len == 0) &&
           (m->out != NULL || (!seal && m->in_len == SIV_BLOCK));
}

static inline int key_is_valid(struct work const *w, AES_SIV_MSG const *m)
{
    if (w->gcm)
        return m->key == NULL && m->raw_key_len == SIV_GCM_KEY;
    if (m->key != NULL)
        return m->key->ctx.backend == w->backend;
    return m->raw_key_len == 32 || m->raw_key_len == 48 || m->raw_key_len == 64;
}

/* Whether the lengths are those of AES-128-GCM-SIV, where that matters: RFC 8452 section 6. */
static inline int lengths_are_valid(struct work const *w, AES_SIV_MSG const *m)
{
    size_t const len = m->in_len - (w->seal ? 0 : SIV_BLOCK);

    return !w->gcm || (m->nonce_len == SIV_GCM_NONCE && (uint64_t)m->ad_len >> 36 == 0 && (uint64_t)len >> 36 == 0);
}

/* Whether all arguments are valid. */
static inline int acceptable(struct work const *w, AES_SIV_MSG const *m)
{
    return key_is_valid(w, m) && lengths_are_valid(w, m) && (w->seal || m->in_len >= SIV_BLOCK) &&
           pointers_are_valid(m, w->seal);
}

/* Leaves no unverified plaintext. */
static void refuse(AES_SIV_MSG *m, int seal)
{
    m->ok = 0;
    if (!seal && m->out != NULL && m->in_len >= SIV_BLOCK)
        siv_wipe(m->out, m->in_len - SIV_BLOCK);
}

/* Does one message through a context, with any backend. */
static int step_by_step(AES_SIV_CTX *ctx, AES_SIV_MSG const *m, int seal)
{
    int const keyed = m->key != NULL ? AES_SIV_CTX_copy(ctx, &m->key->ctx)
                                     : AES_SIV_Init(ctx, m->raw_key, m->raw_key_len);

    if (!keyed)
        return 0;
    if (m->key != NULL && m->ad_len == 0) {
        memcpy(ctx->d, m->key->empty, SIV_BLOCK);
        ctx->components = 1;
    } else if (!AES_SIV_AssociateData(ctx, m->ad, m->ad_len)) {
        return 0;
    }
    if (m->nonce != NULL && !AES_SIV_AssociateData(ctx, m->nonce, m->nonce_len))
        return 0;
    if (seal)
        return AES_SIV_EncryptFinal(ctx, m->out, m->out + SIV_BLOCK, m->in, m->in_len);
    return AES_SIV_DecryptFinal(ctx, m->out, m->in, m->in + SIV_BLOCK, m->in_len - SIV_BLOCK);
}

/* ---- Batches ------------------------------------------------------------------------------------------- */

/* Does the messages one by one, for a backend that does not interleave them. Without a backend, refuses them. */
static int one_by_one(struct work const *w, AES_SIV_MSG *msgs, size_t n)
{
    AES_SIV_CTX ctx;
    int const opened = n != 0 && w->backend != NULL && siv_context_open(&ctx, w->backend);
    int all = 1;

    for (size_t i = 0; i < n; i++) {
        if (opened && acceptable(w, &msgs[i]) &&
            (w->gcm ? siv_gcm_step_by_step : step_by_step)(&ctx, &msgs[i], w->seal))
            msgs[i].ok = 1;
        else
            refuse(&msgs[i], w->seal);
        all &= msgs[i].ok;
    }
    if (opened)
        siv_context_close(&ctx);
    return all;
}

/* Whether two messages can be done in step, provided that their pointers are valid. */
static inline int same_shape(AES_SIV_MSG const *a, AES_SIV_MSG const *b)
{
    return a->key == b->key && (a->key != NULL || a->raw_key_len == b->raw_key_len) && a->in_len == b->in_len &&
           a->ad_len == b->ad_len && a->nonce_len == b->nonce_len && (a->nonce == NULL) == (b->nonce == NULL);
}

/* Does a group in the way that is fastest for its size and kind of key. Returns 1 when all messages are ok. */
static int do_group(struct siv_batch const *batch, AES_SIV_MSG **group, size_t count, int seal)
{
    int all = 1;

    if (count >= batch->least && (group[0]->key != NULL || group[0]->raw_key_len != 48))
        return batch->together(group, count, seal);
    for (size_t i = 0; i < count; i++)
        all &= batch->lone(&group[i], 1, seal);
    return all;
}

/* Moves the messages of the first one's shape to the front, up to limit of them. Returns how many. */
static size_t front_group(AES_SIV_MSG **msgs, size_t n, size_t limit)
{
    size_t count = 1;

    for (size_t i = 1; i < n && count < limit; i++) {
        if (same_shape(msgs[0], msgs[i])) {
            AES_SIV_MSG *const m = msgs[i];

            msgs[i] = msgs[count];
            msgs[count++] = m;
        }
    }
    return count;
}

/* Groups and does at most WINDOW messages of any shapes. */
static int sort_out(struct work const *w, struct siv_batch const *batch, AES_SIV_MSG *msgs, size_t n)
{
    AES_SIV_MSG *pending[WINDOW];
    size_t end = 0;
    int all = 1;

    for (size_t i = 0; i < n; i++) {
        if (acceptable(w, &msgs[i])) {
            pending[end++] = &msgs[i];
        } else {
            refuse(&msgs[i], w->seal);
            all = 0;
        }
    }
    for (size_t at = 0, count; at < end; at += count) {
        count = front_group(pending + at, end - at, batch->width);
        all &= do_group(batch, pending + at, count, w->seal);
    }
    return all;
}

/* A group of adjacent messages, as in a batch of one shape, costs one comparison for each message. Where that ends,
 * sort_out() groups the next WINDOW messages. */
static inline int interleave(struct work const *w, struct siv_batch const *batch, AES_SIV_MSG *msgs, size_t n)
{
    size_t const width = batch->width;
    AES_SIV_MSG *group[WINDOW];
    int all = 1;

    for (size_t at = 0, count; at < n; at += count) {
        AES_SIV_MSG *const first = &msgs[at];
        size_t const most = n - at < width ? n - at : width;

        count = 0;
        if (acceptable(w, first)) {
            while (count < most && same_shape(first, first + count) && pointers_are_valid(first + count, w->seal)) {
                group[count] = first + count;
                count++;
            }
        }
        if (count == most) {
            all &= do_group(batch, group, count, w->seal);
        } else {
            count = n - at < WINDOW ? n - at : WINDOW;
            all &= sort_out(w, batch, first, count);
        }
    }
    return all;
}

static inline int run(struct work const *w, struct siv_batch const *batch, AES_SIV_MSG *msgs, size_t n)
{
    return batch == NULL ? one_by_one(w, msgs, n) : interleave(w, batch, msgs, n);
}

int siv_batch_run(struct siv_backend const *backend, AES_SIV_MSG *msgs, size_t n, int seal)
{
    struct work const w = {.backend = backend, .gcm = 0, .seal = seal};

    return run(&w, backend == NULL ? NULL : backend->batch, msgs, n);
}

int siv_gcm_batch_run(struct siv_backend const *backend, AES_SIV_MSG *msgs, size_t n, int seal)
{
    struct work const w = {.backend = backend, .gcm = 1, .seal = seal};

    return run(&w, backend == NULL ? NULL : backend->gcm, msgs, n);
}

int AES_SIV_SealBatch(AES_SIV_MSG *msgs, size_t n)
{
    return siv_batch_run(siv_backend_chosen(), msgs, n, 1);
}

int AES_SIV_OpenBatch(AES_SIV_MSG *msgs, size_t n)
{
    return siv_batch_run(siv_backend_chosen(), msgs, n, 0);
}

int AES_SIV_SealCopies(unsigned char *out, unsigned char const *key, size_t key_len, unsigned char const *nonces,
                       size_t nonce_len, size_t n, unsigned char const *plaintext, size_t plaintext_len)
{
    AES_SIV_KEY *const scheduled = AES_SIV_KEY_new(key, key_len);
    int ok = scheduled != NULL && nonce_len != 0 && (n == 0 || (nonces != NULL && out != NULL));

    while (ok && n != 0) {
        AES_SIV_MSG msgs[WINDOW];
        size_t const count = n < WINDOW ? n : WINDOW;

        for (size_t i = 0; i < count; i++) {
            msgs[i] = (AES_SIV_MSG){.key = scheduled, .nonce = nonces, .nonce_len = nonce_len,
                                    .in = plaintext, .in_len = plaintext_len, .out = out};
            nonces += nonce_len;
            out += plaintext_len + SIV_BLOCK;
        }
        ok = AES_SIV_SealBatch(msgs, count);
        n -= count;
    }
    AES_SIV_KEY_free(scheduled);
    return ok;
}

/* SPDX-License-Identifier: MIT
 *
 * ke_answer.c - responses: the reference's plans, which are kept, and the cookies that this makes for each session.
 *
 * A plan that is kept costs the reference nothing. A client can push out plans with requests that nobody else sends; then
 * the reference is asked again, which takes it about as long as a session of its own would.
 */
#include <openssl/crypto.h>

#include "ke_internal.h"

#define NEW_COOKIE 5                        /* a record that is not critical */
#define C2S 0                               /* RFC 8915 section 5.1 */
#define S2C 1

static uint8_t const end_of_message[] = {0x80, 0, 0, 0};

/* ---- Plans --------------------------------------------------------------------------------------------- */

static int is_same(nts_ke_address const *a, nts_ke_address const *b)
{
    return a->length == b->length && memcmp(a->octets, b->octets, a->length) == 0;
}

/* Plans count only while the reference has seen the folder of the master keys as it is. */
nts_ke_plan const *nts_ke_plan_find(nts_ke *ke, nts_ke_address const *local, uint8_t const *request, size_t length)
{
    for (struct ke_cached *c = ke->plans; c < ke->plans + KE_PLANS; c++) {
        if (c->length != length || length == 0 || memcmp(c->request, request, length) != 0 || !is_same(&c->local, local))
            continue;
        if (nts_ke_folder_differs(ke))
            return NULL;
        c->used = ++ke->uses;
        return &c->plan;
    }
    return NULL;
}

/* In place of the one that has not been used for longest. */
void nts_ke_plan_keep(nts_ke *ke, nts_ke_address const *local, uint8_t const *request, size_t length,
                      nts_ke_plan const *plan)
{
    struct ke_cached *place = ke->plans;

    if (length == 0 || length > KE_MAX_CACHED)
        return;
    for (struct ke_cached *c = ke->plans; c < ke->plans + KE_PLANS; c++) {
        if (c->length == length && memcmp(c->request, request, length) == 0 && is_same(&c->local, local)) {
            place = c;
            break;
        }
        if (c->used < place->used)
            place = c;
    }
    place->local = *local;
    memcpy(place->request, request, length);
    place->length = length;
    place->used = ++ke->uses;
    place->plan = *plan;
}

void nts_ke_plan_forget(nts_ke *ke)
{
    for (struct ke_cached *c = ke->plans; c < ke->plans + KE_PLANS; c++)
        c->length = c->used = 0;
}

/* ---- Cookies ------------------------------------------------------------------------------------------- */

static int export_key(nts_ke const *ke, SSL *ssl, unsigned number, unsigned direction, uint8_t *out, size_t length)
{
    uint8_t context[5] = {0};

    store16(context + 2, number);
    context[4] = (uint8_t)direction;
    return SSL_export_keying_material(ssl, out, length, ke->settings.label, strlen(ke->settings.label), context,
                                      sizeof context, 1) == 1;
}

/* What a cookie holds: nts/codec/cookies.py. Returns its length, 0 on failure. */
static size_t contents_of(nts_ke const *ke, SSL *ssl, nts_ke_plan const *plan, uint8_t out[KE_MAX_CONTENTS])
{
    size_t n = 0;

    for (uint32_t i = 0; i < plan->context_count; i++) {
        uint32_t const context = plan->contexts[i];

        if (i == 0)
            store16(out, plan->aead);
        else
            store32(out + n, context);
        n += i == 0 ? 2 : 4;
        if (!export_key(ke, ssl, context, S2C, out + n, plan->key_length) ||
            !export_key(ke, ssl, context, C2S, out + n + plan->key_length, plan->key_length))
            return 0;
        n += 2 * plan->key_length;
    }
    return n;
}

/* The records of eight cookies. Returns their length, 0 on failure. */
static size_t seal(nts_ke *ke, uint8_t const *contents, size_t length, uint8_t *out)
{
    static uint8_t const nothing[1];
    AES_SIV_MSG messages[MAX_COOKIES];
    size_t const cookie = COOKIE_HEAD_LEN + TAG_LEN + length;
    uint8_t nonces[MAX_COOKIES * NONCE_LEN];

    nts_random(&ke->generator, nonces, sizeof nonces);
    for (size_t i = 0; i < MAX_COOKIES; i++) {
        uint8_t *const record = out + i * (4 + cookie);

        store16(record, NEW_COOKIE);
        store16(record + 2, cookie);
        store16(record + 4, ke->key.id);
        memcpy(record + 6, nonces + i * NONCE_LEN, NONCE_LEN);
        messages[i] = (AES_SIV_MSG){
            .key = ke->key.siv,
            .nonce = record + 6,
            .nonce_len = NONCE_LEN,
            .ad = nothing,
            .in = contents,
            .in_len = length,
            .out = record + 4 + COOKIE_HEAD_LEN,
        };
    }
    return AES_SIV_SealBatch(messages, MAX_COOKIES) ? MAX_COOKIES * (4 + cookie) : 0;
}

size_t nts_ke_respond(nts_ke *ke, SSL *ssl, nts_ke_plan const *plan, uint8_t out[KE_MAX_RESPONSE])
{
    uint8_t contents[KE_MAX_CONTENTS];
    size_t n = plan->head_length, length, sealed;

    memcpy(out, plan->head, n);
    if (plan->aead == 0)
        return n;
    length = ke->key.siv == NULL ? 0 : contents_of(ke, ssl, plan, contents);
    sealed = length == 0 ? 0 : seal(ke, contents, length, out + n);
    OPENSSL_cleanse(contents, sizeof contents);
    if (sealed == 0)
        return 0;
    n += sealed;
    memcpy(out + n, end_of_message, sizeof end_of_message);
    return n + sizeof end_of_message;
}

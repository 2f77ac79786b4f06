/* SPDX-License-Identifier: MIT
 *
 * respond.c - turns a batch of requests into replies: opens cookies, authenticates, mints cookies, seals. No system
 * calls.
 *
 * Each step handles the whole batch, so that libaes_siv can interleave the messages. nts/codec/cookies.py defines the layout
 * of a cookie, nts/codec/foreign_keys.py those of other servers, nts/protocol/ts_server.py that of a reply.
 */
#include <openssl/crypto.h>
#include <stdlib.h>

#include "internal.h"

#define SERVER_MODE 4
#define LEAP_UNSYNCHRONISED 3
#define COOKIE_FIELD 0x0204
#define AUTHENTICATOR_FIELD 0x0404
#define MASTER_KEY_LEN 32
#define TWO_NONCES 104 /* a cookie of this length has a nonce of 16 or of 20 octets */
#define KISS_POLL 6 /* as in nts/protocol/ts_server.py */

/* ---- Algorithms ---------------------------------------------------------------------------------------- */

static struct cipher const aes_siv = {AES_SIV_OpenBatch, AES_SIV_SealBatch, TAG_LEN};
static struct cipher const aes_gcm_siv = {AES_GCM_SIV_OpenBatch, AES_GCM_SIV_SealBatch, 0};
static struct cipher const *const ciphers[] = {&aes_siv, &aes_gcm_siv};

#define CIPHERS (sizeof ciphers / sizeof *ciphers)

/* RFC 5297 section 6, RFC 8452 section 7 */
static struct algorithm const algorithms[] = {
    {.id = 15, .key_len = 32, .nonce_len = NONCE_LEN, .cipher = &aes_siv},         /* AEAD_AES_SIV_CMAC_256 */
    {.id = 16, .key_len = 48, .nonce_len = NONCE_LEN, .cipher = &aes_siv},         /* AEAD_AES_SIV_CMAC_384 */
    {.id = 17, .key_len = 64, .nonce_len = NONCE_LEN, .cipher = &aes_siv},         /* AEAD_AES_SIV_CMAC_512 */
    {.id = 30, .key_len = 16, .nonce_len = GCM_NONCE_LEN, .cipher = &aes_gcm_siv}, /* AEAD_AES_128_GCM_SIV */
};

/* NULL for an algorithm that the engine leaves to the reference. */
static struct algorithm const *find_algorithm(unsigned id)
{
    for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++)
        if (algorithms[i].id == id)
            return &algorithms[i];
    return NULL;
}

/* ---- The engine's keys and variables ------------------------------------------------------------------- */

static void free_keys(struct master_key *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        AES_SIV_KEY_free(keys[i].siv);
}

int nts_engine_set_keys(nts_engine *engine, uint16_t const *ids, uint8_t const *keys, size_t n)
{
    struct master_key fresh[NTS_MAX_KEYS];

    if (n > NTS_MAX_KEYS)
        return 0;
    for (size_t i = 0; i < n; i++) {
        fresh[i].id = ids[i];
        fresh[i].siv = AES_SIV_KEY_new(keys + MASTER_KEY_LEN * i, MASTER_KEY_LEN);
        if (fresh[i].siv == NULL) {
            free_keys(fresh, i);
            return 0;
        }
    }
    free_keys(engine->keys, engine->key_count);
    memcpy(engine->keys, fresh, n * sizeof *fresh);
    engine->key_count = n;
    return 1;
}

/* Starts with the newest key, which most cookies use. */
static AES_SIV_KEY const *find_key(nts_engine const *engine, unsigned id, unsigned *age)
{
    for (size_t i = engine->key_count; i-- != 0;) {
        if (engine->keys[i].id == id) {
            *age = (unsigned)(engine->key_count - 1 - i);
            return engine->keys[i].siv;
        }
    }
    return NULL;
}

void nts_engine_set_system(nts_engine *engine, nts_system const *system)
{
    uint8_t *const h = engine->header;

    memset(h, 0, HEADER_LEN);
    h[0] = (uint8_t)(system->leap << 6 | SERVER_MODE);
    h[1] = system->stratum;
    h[3] = (uint8_t)system->precision;
    store32(h + 4, system->root_delay);
    store32(h + 8, system->root_dispersion);
    memcpy(h + 12, system->reference_id, 4);
    store64(h + 16, system->reference_time);
}

nts_engine *nts_engine_new(void)
{
    nts_engine *const engine = calloc(1, sizeof *engine);

    if (engine == NULL)
        return NULL;
    engine->cells = engine->own_cells;
    if (aes_siv_backend() == NULL || !nts_random_open(&engine->generator)) {
        nts_engine_free(engine);
        return NULL;
    }
    return engine;
}

void nts_engine_free(nts_engine *engine)
{
    if (engine == NULL)
        return;
    free_keys(engine->keys, engine->key_count);
    nts_forget_imported(engine);
    nts_random_close(&engine->generator);
    nts_loop_free(engine->loop);
    free(engine->limiter);
    OPENSSL_cleanse(engine, sizeof *engine);
    free(engine);
}

char const *nts_engine_backend(void)
{
    return aes_siv_backend();
}

void nts_engine_count_into(nts_engine *engine, uint64_t *cells)
{
    engine->cells = cells;
}

/* ---- The steps of a batch ------------------------------------------------------------------------------ */

/* How many pairs of keys an authentic cookie holds: one after its number, and if it is in doubt which exporter context a
 * client of AEAD 30 uses, another after the algorithm in that context in 32 bits. 0 when it holds anything else. */
static unsigned count_pairs(struct request const *r)
{
    size_t const first = nts_formats[r->format].number_len + 2 * r->algorithm->key_len;

    if (r->keys_len == first)
        return 1;
    if (r->format != NTS_OWN || r->algorithm->id != 30 || r->keys_len != first + SECOND_PAIR)
        return 0;
    nts_declassify(r->keys + first, 4); /* what the length tells anyway */
    return load16(r->keys + first) == 0 && load16(r->keys + first + 2) == 15 ? 2 : 0;
}

/* Whether the engine can answer a request with the keys that its authentic cookie holds. */
static int keys_are_usable(struct request *r)
{
    size_t const number_len = nts_formats[r->format].number_len;

    nts_declassify(r->keys, r->keys_len < number_len ? r->keys_len : number_len); /* the length of the cookie tells it */
    r->algorithm = find_algorithm(nts_number_of(r));
    if (r->algorithm == NULL || !nts_has_room(r->format, r->algorithm->id) ||
        load16(r->packet + r->authenticator + 4) != r->algorithm->nonce_len)
        return 0;
    r->pairs = count_pairs(r);
    return r->pairs != 0;
}

/* The nonce's length in a cookie of our own of this length; nts/codec/cookies.py says why there are several. `again`: the
 * other one, if there are two. */
static size_t own_nonce_len(size_t cookie_len, int again)
{
    switch (cookie_len) {
    case 64: case 96:
        return 12;
    case TWO_NONCES:
        return again ? 20 : NONCE_LEN;
    case 136: case 168:
        return 20;
    default:
        return NONCE_LEN;
    }
}

/* The key with which to open a cookie. Sets format and length of the nonce, and the verdict if the cookie does not open:
 * where it might have been another key, the reference tries all. NULL when there is nothing to try. */
static AES_SIV_KEY const *choose_key(nts_engine const *engine, struct request *r, uint8_t const *cookie,
                                     size_t cookie_len, int again)
{
    AES_SIV_KEY const *const own = find_key(engine, load16(cookie), &r->key_age);
    struct found_key found;
    unsigned const count = nts_find_foreign(engine, cookie, &found);

    r->format = NTS_OWN;
    r->cookie_nonce_len = own_nonce_len(cookie_len, again);
    r->verdict = NTS_NAK_COOKIE;
    if (count == 0)
        return own;
    if (own != NULL || count > 1 || found.siv == NULL)
        r->verdict = NTS_HANDOVER;
    r->format = found.format;
    r->cookie_nonce_len = NONCE_LEN;
    r->key_age = found.age;
    return found.siv;
}

/* Opens the cookies, and sets the verdict of requests whose cookie is not ours or holds nothing that is usable. `again`:
 * those that did not open and may have a nonce of another length. */
static void open_cookies(nts_engine *engine, struct request *requests, size_t n, int again)
{
    AES_SIV_MSG *const messages = engine->messages;
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        struct request *const r = &requests[i];
        uint8_t const *body;
        size_t body_len, head_len;
        AES_SIV_KEY const *key;

        if (again ? r->verdict != NTS_NAK_COOKIE || r->cookie_len != FIELD_HEADER_LEN + TWO_NONCES
                  : r->verdict != NTS_ANSWERED_NTS)
            continue;
        body = r->packet + r->cookie + FIELD_HEADER_LEN;
        body_len = r->cookie_len - FIELD_HEADER_LEN;
        key = choose_key(engine, r, body, body_len, again);
        head_len = nts_formats[r->format].id_len + r->cookie_nonce_len;
        if (key == NULL || body_len < head_len + TAG_LEN || body_len > head_len + TAG_LEN + MAX_KEYS_LEN)
            continue;
        engine->owners[count] = r;
        messages[count++] = (AES_SIV_MSG){
            .key = key,
            .nonce = body + nts_formats[r->format].id_len,
            .nonce_len = r->cookie_nonce_len,
            .ad = body,
            .ad_len = nts_formats[r->format].associates_head ? head_len : 0,
            .in = body + head_len,
            .in_len = body_len - head_len,
            .out = r->keys,
        };
    }
    AES_SIV_OpenBatch(messages, count);
    for (size_t i = 0; i < count; i++) {
        struct request *const r = engine->owners[i];

        if (!messages[i].ok)
            continue;
        r->keys_len = messages[i].in_len - TAG_LEN;
        r->verdict = keys_are_usable(r) ? NTS_ANSWERED_NTS : NTS_HANDOVER;
    }
}

/* Authenticates the requests under a cipher with the C2S keys from their cookies: of the first pair, or of the second
 * where the first did not fit. */
static void authenticate_by(nts_engine *engine, struct request *requests, size_t n, struct cipher const *cipher,
                            unsigned pair)
{
    AES_SIV_MSG *const messages = engine->messages;
    uint8_t nothing; /* the plaintext is empty */
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        struct request *const r = &requests[i];
        uint8_t const *const field = r->packet + r->authenticator;

        if (r->verdict != (pair == 0 ? NTS_ANSWERED_NTS : NTS_NAK_AUTH) || r->algorithm->cipher != cipher ||
            pair >= r->pairs)
            continue;
        r->pair = pair;
        engine->owners[count] = r;
        messages[count++] = (AES_SIV_MSG){
            .raw_key = nts_c2s(r),
            .raw_key_len = r->algorithm->key_len,
            .nonce = field + AUTH_HEAD_LEN,
            .nonce_len = r->algorithm->nonce_len,
            .ad = r->packet,
            .ad_len = r->authenticator,
            .in = field + AUTH_HEAD_LEN + r->algorithm->nonce_len,
            .in_len = TAG_LEN,
            .out = &nothing,
        };
    }
    cipher->open(messages, count);
    for (size_t i = 0; i < count; i++)
        engine->owners[i]->verdict = messages[i].ok ? NTS_ANSWERED_NTS : NTS_NAK_AUTH;
}

/* RFC 8915 section 5.6 */
static void authenticate(nts_engine *engine, struct request *requests, size_t n)
{
    for (size_t i = 0; i < CIPHERS; i++)
        authenticate_by(engine, requests, n, ciphers[i], 0);
    authenticate_by(engine, requests, n, &aes_gcm_siv, 1);
}

/* Refuses what is above the limit. */
static void limit(nts_engine *engine, struct request *requests, size_t n, int64_t now)
{
    for (size_t i = 0; i < n; i++)
        requests[i].verdict = nts_limited(engine->limiter, requests[i].peer, now, requests[i].verdict);
}

/* Sealing fails only when libcrypto runs out of memory. Then the worker ends and is replaced: it must not send a reply
 * whose cookies are still in plaintext. */
static void seal(struct cipher const *cipher, AES_SIV_MSG *messages, size_t n)
{
    if (!cipher->seal(messages, n))
        abort();
}

/* Where in the reply's authenticator the encrypted cookies are. */
static size_t text_at(struct request const *r)
{
    return AUTH_HEAD_LEN + r->algorithm->nonce_len + r->algorithm->cipher->text_at;
}

/* Mints the fresh cookies where the authenticator of the reply will encrypt them in place:
 *   header | Unique Identifier | authenticator: field header, lengths, nonce, encrypted (cookie fields)
 * and the tag before what is encrypted, or after it. */
static void mint(nts_engine *engine, struct request *requests, size_t n)
{
    AES_SIV_MSG *const messages = engine->messages;
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        struct request *const r = &requests[i];
        size_t const field_len = r->cookie_len; /* a fresh cookie has the length of the old one */
        struct format const *format;
        struct master_key const *current;
        uint8_t *cookie, *nonce;

        if (!is_protected(r))
            continue;
        nts_renew(engine, r);
        format = &nts_formats[r->format];
        current = &engine->keys[engine->key_count - 1]; /* exists, since one of the keys opened the cookie */
        cookie = r->reply + HEADER_LEN + r->unique_id_len + text_at(r);
        for (unsigned j = 0; j < r->cookies; j++, cookie += field_len) {
            store16(cookie, COOKIE_FIELD);
            store16(cookie + 2, field_len);
            nts_write_id(cookie + FIELD_HEADER_LEN, r->format, current->id);
            nonce = cookie + FIELD_HEADER_LEN + format->id_len;
            nts_random(&engine->generator, nonce, r->cookie_nonce_len);
            messages[count++] = (AES_SIV_MSG){
                .key = current->siv,
                .nonce = nonce,
                .nonce_len = r->cookie_nonce_len,
                .ad = cookie + FIELD_HEADER_LEN,
                .ad_len = format->associates_head ? format->id_len + r->cookie_nonce_len : 0,
                .in = r->keys,
                .in_len = r->keys_len,
                .out = nonce + r->cookie_nonce_len,
            };
        }
        nts_random(&engine->generator, r->nonce, r->algorithm->nonce_len);
    }
    seal(&aes_siv, messages, count);
}

/* Turns the header of a reply into that of a kiss-o'-death; RFC 5905 section 7.4. */
static void write_kiss(uint8_t *h, char const *code)
{
    h[0] |= LEAP_UNSYNCHRONISED << 6;
    h[1] = 0;
    memcpy(h + 12, code, 4);
}

/* Writes the header of a reply, except the transmit timestamp; RFC 5905 section 9.2. */
static void write_header(nts_engine const *engine, struct request const *r)
{
    uint8_t *const h = r->reply;

    memcpy(h, engine->header, HEADER_LEN);
    h[0] |= r->packet[0] & 0x38;       /* version */
    h[2] = r->packet[2];               /* poll interval */
    memcpy(h + 24, r->packet + 40, 8); /* origin timestamp */
    store64(h + 32, r->received);
    if (r->verdict == NTS_NAK_COOKIE || r->verdict == NTS_NAK_AUTH)
        write_kiss(h, "NTSN"); /* RFC 8915 section 5.7 */
    if (r->verdict == NTS_KISS_RATE) {
        write_kiss(h, "RATE");
        if ((int8_t)h[2] < KISS_POLL)
            h[2] = KISS_POLL;
    }
}

void nts_prepare(nts_engine *engine, struct request *requests, size_t n, int64_t now)
{
    for (size_t i = 0; i < n; i++)
        nts_classify(&requests[i]);
    open_cookies(engine, requests, n, 0);
    open_cookies(engine, requests, n, 1);
    authenticate(engine, requests, n);
    if (engine->limiter != NULL)
        limit(engine, requests, n, now);
    mint(engine, requests, n);
    for (size_t i = 0; i < n; i++) {
        struct request *const r = &requests[i];

        r->reply_len = 0;
        if (r->verdict > NTS_KISS_RATE)
            continue;
        write_header(engine, r);
        memcpy(r->reply + HEADER_LEN, r->packet + r->unique_id, r->unique_id_len);
        r->reply_len = HEADER_LEN + r->unique_id_len;
    }
}

/* Seals the replies under a cipher. */
static void seal_replies(nts_engine *engine, struct request *const *requests, size_t n, struct cipher const *cipher)
{
    AES_SIV_MSG *const messages = engine->messages;
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        struct request *const r = requests[i];
        uint8_t *const field = r->reply + r->reply_len;
        size_t nonce_len, plaintext_len;

        if (!is_protected(r) || r->algorithm->cipher != cipher)
            continue;
        nonce_len = r->algorithm->nonce_len;
        plaintext_len = (size_t)r->cookies * r->cookie_len;
        store16(field, AUTHENTICATOR_FIELD);
        store16(field + 2, AUTH_HEAD_LEN + nonce_len + TAG_LEN + plaintext_len);
        store16(field + 4, nonce_len);
        store16(field + 6, TAG_LEN + plaintext_len);
        memcpy(field + AUTH_HEAD_LEN, r->nonce, nonce_len);
        messages[count++] = (AES_SIV_MSG){
            .raw_key = nts_s2c(r),
            .raw_key_len = r->algorithm->key_len,
            .nonce = field + AUTH_HEAD_LEN,
            .nonce_len = nonce_len,
            .ad = r->reply,
            .ad_len = r->reply_len,
            .in = field + text_at(r),
            .in_len = plaintext_len,
            .out = field + AUTH_HEAD_LEN + nonce_len,
        };
        r->reply_len += AUTH_HEAD_LEN + nonce_len + TAG_LEN + plaintext_len;
    }
    seal(cipher, messages, count);
}

void nts_finish(nts_engine *engine, struct request *const *requests, uint64_t const *transmit, size_t n)
{
    for (size_t i = 0; i < n; i++)
        store64(requests[i]->reply + 40, transmit[i]);
    for (size_t i = 0; i < CIPHERS; i++)
        seal_replies(engine, requests, n, ciphers[i]);
}

void nts_forget(struct request *requests, size_t n)
{
    for (size_t i = 0; i < n; i++)
        OPENSSL_cleanse(requests[i].keys, requests[i].keys_len);
}

/* SPDX-License-Identifier: MIT
 *
 * requests.h - makes NTS requests for tests and fuzzers. It implements the layouts of RFC 8915 and nts/codec/cookies.py a
 * second time, with libaes_siv's functions for single messages, which the engine does not use.
 *
 * Master keys and their identifiers are those in testkit/packets.py.
 */
#ifndef REQUESTS_H_
#define REQUESTS_H_

#include "internal.h"
#include "testing.h"

#define OLD_ID 0x1234
#define CURRENT_ID 0xabcd
#define UNIQUE_ID_LEN 32

enum { UID_FIELD = 0x0104, COOKIE_TYPE = 0x0204, PLACEHOLDER_FIELD = 0x0304, AUTH_FIELD = 0x0404 };

static uint16_t const master_ids[2] = {OLD_ID, CURRENT_ID};

/* 32 octets for each identifier: 0 to 31 and 32 to 63. */
static inline uint8_t const *master_keys(void)
{
    static uint8_t keys[64];

    for (size_t i = 0; i < sizeof keys; i++)
        keys[i] = (uint8_t)i;
    return keys;
}

static inline nts_engine *new_engine(void)
{
    nts_system const system = {.stratum = 2, .precision = -23, .root_delay = 0x100, .root_dispersion = 0x200,
                               .reference_id = {192, 0, 2, 1}, .reference_time = 0x0102030405060708};
    nts_engine *const engine = nts_engine_new();

    if (engine == NULL || !nts_engine_set_keys(engine, master_ids, master_keys(), 2)) {
        nts_engine_free(engine);
        return NULL;
    }
    nts_engine_set_system(engine, &system);
    return engine;
}

/* A kind of session: the number of its AEAD algorithm, and perhaps flags. */
enum {
    FIRST_OF_TWO = 0x10000,  /* its cookies hold two pairs of keys, of which the first is its own, */
    SECOND_OF_TWO = 0x20000, /* or the second */
    PADDED = 0x40000         /* its authenticators have four octets of Additional Padding */
};

static unsigned const session_kinds[] = {15, 16, 17, 30, 30 | PADDED, 30 | FIRST_OF_TWO, 30 | SECOND_OF_TWO};

#define SESSION_KINDS (sizeof session_kinds / sizeof *session_kinds)

static inline unsigned aead_of(unsigned kind)
{
    return kind & 0xffff;
}

static inline size_t session_key_len(unsigned kind)
{
    return aead_of(kind) == 30 ? 16 : 16 * ((size_t)aead_of(kind) - 13);
}

static inline size_t nonce_len_of(unsigned kind)
{
    return aead_of(kind) == 30 ? GCM_NONCE_LEN : NONCE_LEN;
}

static inline size_t auth_len_of(unsigned kind)
{
    return AUTH_HEAD_LEN + nonce_len_of(kind) + TAG_LEN + ((kind & PADDED) != 0 ? 4 : 0);
}

/* The S2C key and then the C2S key of a session of this kind. */
static inline void session_keys(unsigned kind, uint8_t out[128])
{
    for (size_t i = 0; i < 2 * session_key_len(kind); i++)
        out[i] = (uint8_t)(i * 7 + aead_of(kind) * 31 + 1);
}

/* What the cookies of a session hold. Returns the length. */
static inline size_t cookie_contents(unsigned kind, uint8_t out[MAX_KEYS_LEN])
{
    size_t const pair = 2 * session_key_len(kind);

    store16(out, aead_of(kind));
    if ((kind & (FIRST_OF_TWO | SECOND_OF_TWO)) == 0) {
        session_keys(kind, out + 2);
        return 2 + pair;
    }
    memset(out + 2, 0x99, 2 * pair + 4);
    store32(out + 2 + pair, 15);
    session_keys(kind, (kind & FIRST_OF_TWO) != 0 ? out + 2 : out + 2 + pair + 4);
    return 2 + pair + 4 + pair;
}

static inline size_t cookie_len_of(unsigned kind)
{
    uint8_t contents[MAX_KEYS_LEN];

    return COOKIE_HEAD_LEN + TAG_LEN + cookie_contents(kind, contents);
}

/* Seals with functions for a single message, AES-GCM-SIV if the key has its length. Returns 1 on success. */
static inline int seal(uint8_t const *key, size_t key_len, uint8_t const *nonce, uint8_t const *text, size_t text_len,
                       uint8_t const *ad, size_t ad_len, uint8_t *out)
{
    AES_SIV_CTX *const ctx = AES_SIV_CTX_new();
    size_t out_len = text_len + TAG_LEN;
    int ok;

    if (key_len == AES_GCM_SIV_KEY_LEN)
        ok = AES_GCM_SIV_Seal(out, key, nonce, text, text_len, ad, ad_len);
    else
        ok = ctx != NULL && AES_SIV_Encrypt(ctx, out, &out_len, key, key_len, nonce, NONCE_LEN, text, text_len, ad,
                                            ad_len);
    AES_SIV_CTX_free(ctx);
    return ok;
}

/* Makes a cookie with any contents under master key 0 or 1. Returns its length. */
static inline size_t seal_cookie(uint8_t *out, unsigned master, uint8_t const *contents, size_t len)
{
    store16(out, master_ids[master]);
    for (unsigned i = 0; i < NONCE_LEN; i++)
        out[2 + i] = (uint8_t)(0x40 + i);
    if (!seal(master_keys() + (size_t)32 * master, 32, out + 2, contents, len, out, 0, out + COOKIE_HEAD_LEN))
        return 0;
    return COOKIE_HEAD_LEN + TAG_LEN + len;
}

static inline size_t good_cookie(uint8_t *out, unsigned master, unsigned kind)
{
    uint8_t contents[MAX_KEYS_LEN];

    return seal_cookie(out, master, contents, cookie_contents(kind, contents));
}

/* Makes a cookie as a chronyd or an NTPsec with this master key would. Returns its length. */
static inline size_t foreign_cookie(uint8_t *out, unsigned format, unsigned master, unsigned aead)
{
    size_t const key_len = session_key_len(aead), number_len = format == NTS_NTPSEC ? 4 : 0;
    uint8_t const high = (uint8_t)(master_ids[master] >> 8), low = (uint8_t)(master_ids[master] & 0xff);
    uint8_t contents[4 + 128] = {(uint8_t)aead}, keys[128];

    session_keys(aead, keys);
    memcpy(contents + number_len, keys + key_len, key_len);
    memcpy(contents + number_len + key_len, keys, key_len);
    memcpy(out, format == NTS_NTPSEC ? (uint8_t[4]){low, high} : (uint8_t[4]){0, 0, high, low}, 4);
    memset(out + 4, 0x40, NONCE_LEN);
    if (!seal(master_keys() + (size_t)32 * master, 32, out + 4, contents, number_len + 2 * key_len, out,
              format == NTS_NTPSEC ? 20 : 0, out + 20))
        return 0;
    return 20 + TAG_LEN + number_len + 2 * key_len;
}

/* Appends an authenticator with the session's C2S key to a packet. Returns the new length. */
static inline size_t authenticate_packet(uint8_t *packet, size_t len, unsigned kind)
{
    uint8_t keys[128];
    uint8_t *const field = packet + len;
    size_t const key_len = session_key_len(kind), nonce_len = nonce_len_of(kind);

    session_keys(kind, keys);
    memset(field, 0, auth_len_of(kind));
    store16(field, AUTH_FIELD);
    store16(field + 2, auth_len_of(kind));
    store16(field + 4, nonce_len);
    store16(field + 6, TAG_LEN);
    memset(field + 8, 0x33, nonce_len);
    return seal(keys + key_len, key_len, field + 8, packet, 0, packet, len, field + 8 + nonce_len)
               ? len + auth_len_of(kind)
               : 0;
}

static inline size_t add_field(uint8_t *packet, size_t len, unsigned type, size_t body_len, uint8_t fill)
{
    store16(packet + len, type);
    store16(packet + len + 2, body_len + FIELD_HEADER_LEN);
    memset(packet + len + FIELD_HEADER_LEN, fill, body_len);
    return len + FIELD_HEADER_LEN + body_len;
}

/* Makes a good request with that many placeholders. `packet` has room for NTS_MAX_REQUEST octets. Returns the
 * length. */
static inline size_t good_request(uint8_t *packet, unsigned master, unsigned kind, unsigned placeholders)
{
    size_t len = HEADER_LEN;

    memset(packet, 0x5a, HEADER_LEN);
    packet[0] = 0x23; /* NTPv4, client */
    len = add_field(packet, len, UID_FIELD, UNIQUE_ID_LEN, 0x77);
    len = add_field(packet, len, COOKIE_TYPE, cookie_len_of(kind), 0);
    good_cookie(packet + len - cookie_len_of(kind), master, kind);
    for (unsigned i = 0; i < placeholders; i++)
        len = add_field(packet, len, PLACEHOLDER_FIELD, cookie_len_of(kind), 0);
    return authenticate_packet(packet, len, kind);
}

/* The same with a cookie of another server's format. */
static inline size_t foreign_request(uint8_t *packet, unsigned format, unsigned master, unsigned aead,
                                     unsigned placeholders)
{
    uint8_t cookie[200];
    size_t const cookie_len = foreign_cookie(cookie, format, master, aead);
    size_t len = HEADER_LEN;

    memset(packet, 0x5a, HEADER_LEN);
    packet[0] = 0x23;
    len = add_field(packet, len, UID_FIELD, UNIQUE_ID_LEN, 0x77);
    len = add_field(packet, len, COOKIE_TYPE, cookie_len, 0);
    memcpy(packet + len - cookie_len, cookie, cookie_len);
    while (placeholders-- != 0)
        len = add_field(packet, len, PLACEHOLDER_FIELD, cookie_len, 0);
    return authenticate_packet(packet, len, aead);
}

#endif

/* SPDX-License-Identifier: MIT
 *
 * foreign.c - cookies in the formats of other servers: finds the keys that may have sealed them, and turns the plaintext of
 * one format into that of another. No system calls. nts/codec/foreign_keys.py defines the formats.
 */
#include <openssl/crypto.h>

#include "internal.h"

struct format const nts_formats[NTS_FORMATS] = {
    [NTS_OWN] = {.id_len = 2, .number_len = 2, .s2c_first = 1},
    [NTS_CHRONY] = {.id_len = 4},
    [NTS_NTPSEC] = {.id_len = 4, .number_len = 4, .associates_head = 1},
};

/* ---- Keys ---------------------------------------------------------------------------------------------- */

static void free_imported(struct imported_key *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        AES_SIV_KEY_free(keys[i].siv);
}

void nts_forget_imported(nts_engine *engine)
{
    free_imported(engine->imported, engine->imported_count);
    engine->imported_count = 0;
}

int nts_engine_set_imported(nts_engine *engine, nts_imported const *keys, size_t n)
{
    struct imported_key fresh[NTS_MAX_IMPORTED];

    if (n > NTS_MAX_IMPORTED)
        return 0;
    for (size_t i = 0; i < n; i++) {
        fresh[i].id = keys[i].id;
        fresh[i].format = keys[i].format;
        fresh[i].siv = keys[i].usable ? AES_SIV_KEY_new(keys[i].key, sizeof keys[i].key) : NULL;
        if (keys[i].usable && fresh[i].siv == NULL) {
            free_imported(fresh, i);
            return 0;
        }
    }
    nts_forget_imported(engine);
    memcpy(engine->imported, fresh, n * sizeof *fresh);
    engine->imported_count = n;
    return 1;
}

void nts_engine_set_format(nts_engine *engine, unsigned format)
{
    engine->format = format;
}

/* The identifier with which a cookie begins. */
static unsigned id_of(uint8_t const *cookie, unsigned format)
{
    if (format == NTS_NTPSEC) /* the least octet first */
        return (unsigned)cookie[3] << 24 | (unsigned)cookie[2] << 16 | (unsigned)cookie[1] << 8 | cookie[0];
    return load16(cookie) << 16 | load16(cookie + 2);
}

/* Whether a key may have sealed this cookie in this format; of several, the newest of ours, or else the last imported. */
static int find(nts_engine const *engine, uint8_t const *cookie, unsigned format, struct found_key *found)
{
    unsigned const id = id_of(cookie, format);

    for (size_t i = engine->key_count; i-- != 0;) {
        if (engine->keys[i].id == id) {
            *found = (struct found_key){engine->keys[i].siv, format, (unsigned)(engine->key_count - 1 - i)};
            return 1;
        }
    }
    for (size_t i = engine->imported_count; i-- != 0;) {
        if (engine->imported[i].format == format && engine->imported[i].id == id) {
            *found = (struct found_key){engine->imported[i].siv, format, (unsigned)engine->key_count};
            return 1;
        }
    }
    return 0;
}

void nts_write_id(uint8_t *out, unsigned format, unsigned id)
{
    if (format == NTS_NTPSEC) {
        memcpy(out, (uint8_t[4]){id & 0xff, id >> 8 & 0xff}, 4);
        return;
    }
    if (format == NTS_CHRONY) {
        store16(out, 0);
        out += 2;
    }
    store16(out, id);
}

unsigned nts_find_foreign(nts_engine const *engine, uint8_t const *cookie, struct found_key *found)
{
    unsigned count = 0;

    for (unsigned format = NTS_CHRONY; engine->key_count != 0 && format < NTS_FORMATS; format++)
        count += (unsigned)find(engine, cookie, format, found);
    return count;
}

/* ---- Plaintexts ---------------------------------------------------------------------------------------- */

unsigned nts_number_of(struct request const *r)
{
    switch (r->format) {
    case NTS_OWN:
        return r->keys_len < 2 ? 0 : load16(r->keys);
    case NTS_CHRONY: /* the length tells */
        return r->keys_len == 64 ? 15 : r->keys_len == 32 ? 30 : 0;
    default:
        return r->keys_len < 4 || r->keys[1] != 0 || r->keys[2] != 0 || r->keys[3] != 0 ? 0 : r->keys[0];
    }
}

static void write_number(uint8_t *out, unsigned format, unsigned number)
{
    if (format == NTS_OWN)
        store16(out, number);
    else if (format == NTS_NTPSEC)
        nts_write_id(out, format, number);
}

int nts_has_room(unsigned format, unsigned algorithm)
{
    int const is_aes_siv = algorithm >= 15 && algorithm <= 17;

    return format == NTS_CHRONY ? algorithm == 15 || algorithm == 30 : is_aes_siv || format == NTS_OWN;
}

void nts_renew(nts_engine const *engine, struct request *r)
{
    size_t const key_len = r->algorithm->key_len;
    size_t const keys_len = r->keys_len - nts_formats[r->format].number_len;
    size_t const room = r->cookie_len - FIELD_HEADER_LEN - TAG_LEN - keys_len; /* for all but tag and keys */
    struct format const *to = &nts_formats[engine->format];
    unsigned format = engine->format;
    uint8_t keys[2][64];

    if (r->pairs == 2 || !nts_has_room(format, r->algorithm->id) || to->id_len + NONCE_LEN + to->number_len != room) {
        format = NTS_OWN;
        to = &nts_formats[format];
    }
    r->cookie_nonce_len = room - to->id_len - to->number_len;
    if (format == r->format)
        return;
    memcpy(keys[0], nts_s2c(r), key_len);
    memcpy(keys[1], nts_c2s(r), key_len);
    OPENSSL_cleanse(r->keys, r->keys_len);
    r->format = format;
    r->keys_len = to->number_len + 2 * key_len;
    write_number(r->keys, format, r->algorithm->id);
    memcpy(nts_s2c(r), keys[0], key_len);
    memcpy(nts_c2s(r), keys[1], key_len);
    OPENSSL_cleanse(keys, sizeof keys);
}

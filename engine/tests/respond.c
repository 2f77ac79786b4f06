/* SPDX-License-Identifier: MIT
 *
 * respond.c - hand-made packets through nts_test_answer: takes replies apart and opens them with libaes_siv's functions
 * for single messages; NAKs; batches; changes of keys. tests/server/test_engine_parity.py compares each octet with the
 * reference.
 */
#include "check.h"
#include "requests.h"

#define RECEIVED 0xe000000011111111
#define TRANSMIT 0xe000000022222222
#define CANARY 0xa5

static nts_engine *engine;

struct answer {
    uint32_t verdict;
    size_t len;
    uint8_t reply[NTS_MAX_REQUEST];
};

/* Has one packet answered, from a copy in memory of exactly its size. Checks that nothing is written beyond the length
 * of the request. */
static struct answer ask(uint8_t const *packet, size_t len)
{
    static uint8_t replies[NTS_MAX_REQUEST];
    uint64_t const received = RECEIVED;
    uint8_t *const copy = malloc(len == 0 ? 1 : len);
    struct answer a;

    if (copy == NULL)
        abort();
    memcpy(copy, packet, len);
    memset(replies, CANARY, sizeof replies);
    nts_test_answer(engine, copy, len, &len, &received, 1, TRANSMIT, &a.verdict, replies, &a.len, NULL);
    free(copy);
    CHECK(a.len <= len);
    CHECK((a.len != 0) == (a.verdict <= NTS_KISS_RATE));
    if (len < NTS_MAX_REQUEST)
        CHECK(check_all(replies + len, CANARY, NTS_MAX_REQUEST - len));
    memcpy(a.reply, replies, sizeof replies);
    return a;
}

/* Opens the authenticator of a reply. Returns the length of the cookies in it, 0 when it is not authentic. */
static size_t open_answer(struct answer const *a, unsigned kind, uint8_t *cookies)
{
    size_t const field = HEADER_LEN + FIELD_HEADER_LEN + UNIQUE_ID_LEN, key_len = session_key_len(kind);
    size_t const nonce_len = nonce_len_of(kind), sealed = field + AUTH_HEAD_LEN + nonce_len;
    size_t out_len = a->len - sealed - TAG_LEN;
    uint8_t keys[128];
    AES_SIV_CTX *const ctx = AES_SIV_CTX_new();
    int ok;

    session_keys(kind, keys);
    CHECK(load16(a->reply + field) == AUTH_FIELD && load16(a->reply + field + 2) == a->len - field);
    CHECK(load16(a->reply + field + 4) == nonce_len && load16(a->reply + field + 6) == a->len - sealed);
    if (aead_of(kind) == 30)
        ok = AES_GCM_SIV_Open(cookies, keys, a->reply + field + 8, a->reply + sealed, a->len - sealed, a->reply, field);
    else
        ok = AES_SIV_Decrypt(ctx, cookies, &out_len, keys, key_len, a->reply + field + 8, nonce_len, a->reply + sealed,
                             a->len - sealed, a->reply, field);
    AES_SIV_CTX_free(ctx);
    return ok ? out_len : 0;
}

static void check_header(struct answer const *a, int nak)
{
    uint8_t const *const r = a->reply;

    CHECK((r[0] & 0x3f) == 0x24 && r[0] >> 6 == (nak ? 3 : 0));
    CHECK(r[1] == (nak ? 0 : 2) && r[2] == 0x5a && r[3] == 0xe9);
    CHECK(memcmp(r + 4, "\0\0\1\0\0\0\2\0", 8) == 0);
    CHECK(memcmp(r + 12, nak ? "NTSN" : "\300\0\2\1", 4) == 0);
    CHECK(load64(r + 16) == 0x0102030405060708 && load64(r + 24) == 0x5a5a5a5a5a5a5a5a);
    CHECK(load64(r + 32) == RECEIVED && load64(r + 40) == TRANSMIT);
}

static void check_plain(void)
{
    uint8_t packet[HEADER_LEN];
    struct answer a;

    memset(packet, 0x5a, sizeof packet);
    packet[0] = 0xe3; /* NTPv4, with a leap indicator that the reply must not repeat */
    a = ask(packet, sizeof packet);
    CHECK(a.verdict == NTS_ANSWERED_PLAIN && a.len == HEADER_LEN);
    check_header(&a, 0);
    packet[0] = 0x1b;
    a = ask(packet, sizeof packet);
    CHECK(a.verdict == NTS_ANSWERED_PLAIN && a.reply[0] == 0x1c);
}

/* The reply is authentic, and each fresh cookie works in a next request. */
static void check_exchanges(unsigned kind, unsigned placeholders)
{
    size_t const field_len = FIELD_HEADER_LEN + cookie_len_of(kind);
    unsigned const wanted = placeholders < 8 ? placeholders + 1 : 8;
    uint8_t packet[NTS_MAX_REQUEST], cookies[NTS_MAX_REQUEST];

    for (unsigned master = 0; master < 2; master++) {
        size_t const len = good_request(packet, master, kind, placeholders);
        struct answer a = ask(packet, len);

        CHECK(a.verdict == NTS_ANSWERED_NTS);
        check_header(&a, 0);
        CHECK(memcmp(a.reply + HEADER_LEN, packet + HEADER_LEN, FIELD_HEADER_LEN + UNIQUE_ID_LEN) == 0);
        CHECK(open_answer(&a, kind, cookies) == wanted * field_len);
        for (unsigned i = 0; i < wanted; i++) {
            uint8_t const *const field = cookies + i * field_len;
            uint8_t next[NTS_MAX_REQUEST];
            size_t next_len = HEADER_LEN + FIELD_HEADER_LEN + UNIQUE_ID_LEN;

            CHECK(load16(field) == COOKIE_TYPE && load16(field + 2) == field_len);
            CHECK(load16(field + 4) == CURRENT_ID);
            for (unsigned j = 0; j < i; j++)
                CHECK(memcmp(field + 6, cookies + j * field_len + 6, NONCE_LEN) != 0);
            memcpy(next, packet, next_len);
            memcpy(next + next_len, field, field_len);
            next_len = authenticate_packet(next, next_len + field_len, kind);
            CHECK(ask(next, next_len).verdict == NTS_ANSWERED_NTS);
        }
        a.reply[a.len - 1] ^= 1;
        CHECK(open_answer(&a, kind, cookies) == 0);
    }
}

static void check_nak(uint8_t const *packet, size_t len, enum nts_verdict verdict)
{
    struct answer const a = ask(packet, len);

    CHECK(a.verdict == (uint32_t)verdict);
    CHECK(a.len == HEADER_LEN + FIELD_HEADER_LEN + UNIQUE_ID_LEN);
    check_header(&a, 1);
    CHECK(memcmp(a.reply + HEADER_LEN, packet + HEADER_LEN, FIELD_HEADER_LEN + UNIQUE_ID_LEN) == 0);
}

/* Flips every bit of the cookie, and of nonce and tag. */
static void check_naks(unsigned kind)
{
    size_t const cookie = HEADER_LEN + FIELD_HEADER_LEN + UNIQUE_ID_LEN + FIELD_HEADER_LEN;
    uint8_t packet[NTS_MAX_REQUEST];
    size_t const len = good_request(packet, 1, kind, 0), nonce = len - auth_len_of(kind) + AUTH_HEAD_LEN;

    for (size_t bit = 8 * cookie; bit < 8 * (cookie + cookie_len_of(kind)); bit++) {
        packet[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
        check_nak(packet, len, NTS_NAK_COOKIE);
        packet[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
    }
    for (size_t bit = 8 * nonce; bit < 8 * (nonce + nonce_len_of(kind) + TAG_LEN); bit++) {
        packet[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
        check_nak(packet, len, NTS_NAK_AUTH);
        packet[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
    }
    CHECK(ask(packet, len).verdict == NTS_ANSWERED_NTS);
}

/* Authentic cookies that hold other things than keys for the nonce of the request are for the reference to judge. */
static void check_foreign_contents(unsigned kind)
{
    static unsigned const algorithms[] = {0, 1, 14, 15, 16, 17, 18, 30, 0x0f0f, 0xffff};
    uint8_t contents[200], packet[NTS_MAX_REQUEST];

    for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++) {
        for (size_t size = 2; size <= MAX_KEYS_LEN; size += 4) {
            unsigned const aead = algorithms[i];
            int const known = (aead >= 15 && aead <= 17) || aead == 30;
            size_t len = HEADER_LEN;
            struct answer a;

            if (known && size == 2 + 2 * session_key_len(aead) && nonce_len_of(aead) == nonce_len_of(kind))
                continue;
            memset(contents, 9, sizeof contents);
            store16(contents, aead);
            memset(packet, 0x5a, HEADER_LEN);
            packet[0] = 0x23;
            len = add_field(packet, len, UID_FIELD, UNIQUE_ID_LEN, 0x77);
            len = add_field(packet, len, COOKIE_TYPE, COOKIE_HEAD_LEN + TAG_LEN + size, 0);
            seal_cookie(packet + len - COOKIE_HEAD_LEN - TAG_LEN - size, 1, contents, size);
            a = ask(packet, authenticate_packet(packet, len, kind));
            if (size == 30 || size == 62 || size == 102) /* by its length, one with another nonce */
                CHECK(a.verdict == NTS_NAK_COOKIE);
            else
                CHECK(a.verdict == NTS_HANDOVER && a.len == 0);
        }
    }
}

/* In batches of all sizes, each packet gets the same answer as alone. */
static void check_batches(void)
{
    static uint8_t packets[NTS_BATCH][NTS_MAX_REQUEST], replies[NTS_BATCH][NTS_MAX_REQUEST];
    size_t lengths[NTS_BATCH], reply_lengths[NTS_BATCH];
    uint64_t received[NTS_BATCH];
    uint32_t verdicts[NTS_BATCH];

    for (int round = 0; round < 100; round++) {
        size_t const n = 1 + check_random() % NTS_BATCH;

        for (size_t i = 0; i < n; i++) {
            lengths[i] = good_request(packets[i], check_random() % 2, session_kinds[check_random() % SESSION_KINDS],
                                      (unsigned)(check_random() % 9));
            received[i] = RECEIVED;
            if (check_random() % 3 == 0)
                packets[i][check_random() % lengths[i]] ^= (uint8_t)check_random();
            if (check_random() % 8 == 0)
                lengths[i] = HEADER_LEN;
        }
        nts_test_answer(engine, packets[0], NTS_MAX_REQUEST, lengths, received, n, TRANSMIT, verdicts, replies[0],
                          reply_lengths, NULL);
        for (size_t i = 0; i < n; i++) {
            struct answer const alone = ask(packets[i], lengths[i]);

            CHECK(verdicts[i] == alone.verdict && reply_lengths[i] == alone.len);
            if (alone.len != 0)
                CHECK(memcmp(replies[i], alone.reply, HEADER_LEN) == 0);
        }
    }
}

/* Asks with cookies of other servers' formats, while fresh ones have each of the formats. Fresh cookies are as long, and
 * work in the next request. */
static void check_formats(unsigned aead)
{
    size_t const cookie = HEADER_LEN + FIELD_HEADER_LEN + UNIQUE_ID_LEN + FIELD_HEADER_LEN;
    uint8_t packet[NTS_MAX_REQUEST], cookies[NTS_MAX_REQUEST];

    for (unsigned format = NTS_CHRONY; format < NTS_FORMATS; format++) {
        size_t const len = foreign_request(packet, format, 0, aead, 1);
        size_t const cookie_len = load16(packet + cookie - 2) - (size_t)FIELD_HEADER_LEN;

        if (!nts_has_room(format, aead))
            continue;
        for (unsigned fresh = NTS_OWN; fresh < NTS_FORMATS; fresh++) {
            struct answer a;

            nts_engine_set_format(engine, fresh);
            a = ask(packet, len);
            CHECK(a.verdict == NTS_ANSWERED_NTS);
            CHECK(open_answer(&a, aead, cookies) == 2 * (FIELD_HEADER_LEN + cookie_len));
            CHECK(fresh != NTS_OWN || load16(cookies + FIELD_HEADER_LEN) == CURRENT_ID);
            memcpy(packet + cookie, cookies + FIELD_HEADER_LEN, cookie_len);
            CHECK(authenticate_packet(packet, len - auth_len_of(aead), aead) == len);
        }
        for (size_t bit = 8 * cookie; bit < 8 * (cookie + cookie_len); bit++) {
            packet[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
            CHECK(ask(packet, len).verdict != NTS_ANSWERED_NTS);
            packet[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
        }
    }
    nts_engine_set_format(engine, NTS_OWN);
}

/* Keys of other servers: good ones, one that only the reference can use, none, and too many. */
static void check_imported(void)
{
    static nts_imported keys[NTS_MAX_IMPORTED + 1];
    uint8_t packet[NTS_MAX_REQUEST];
    size_t const len = foreign_request(packet, NTS_NTPSEC, 0, 15, 0);

    for (size_t i = 0; i <= NTS_MAX_IMPORTED; i++)
        keys[i] = (nts_imported){.id = OLD_ID, .format = NTS_NTPSEC, .usable = 1};
    memcpy(keys[3].key, master_keys(), 32);
    CHECK(nts_engine_set_keys(engine, master_ids + 1, master_keys() + 32, 1) == 1);
    check_nak(packet, len, NTS_NAK_COOKIE);
    CHECK(nts_engine_set_imported(engine, keys, 4) == 1);
    CHECK(ask(packet, len).verdict == NTS_ANSWERED_NTS);
    CHECK(nts_engine_set_imported(engine, keys, NTS_MAX_IMPORTED + 1) == 0);
    CHECK(ask(packet, len).verdict == NTS_ANSWERED_NTS);
    CHECK(nts_engine_set_imported(engine, keys, NTS_MAX_IMPORTED) == 1);
    check_nak(packet, len, NTS_NAK_COOKIE); /* the last with this identifier has another key */
    keys[3].usable = 0;
    CHECK(nts_engine_set_imported(engine, keys, 4) == 1);
    CHECK(ask(packet, len).verdict == NTS_HANDOVER);
    keys[3].usable = 1;
    keys[2].format = NTS_CHRONY;
    keys[2].id = 0x34120000; /* the same octets */
    keys[3].key[0] ^= 1;
    CHECK(nts_engine_set_imported(engine, keys, 4) == 1);
    CHECK(ask(packet, len).verdict == NTS_HANDOVER); /* either may have sealed it: the reference tries both */
    keys[3].key[0] ^= 1;
    CHECK(nts_engine_set_imported(engine, keys, 4) == 1);
    CHECK(nts_engine_set_keys(engine, master_ids, master_keys(), 0) == 1);
    check_nak(packet, len, NTS_NAK_COOKIE); /* without a key of ours there is nothing to give back */
    CHECK(nts_engine_set_imported(engine, keys, 0) == 1);
    CHECK(nts_engine_set_keys(engine, master_ids, master_keys(), 2) == 1);
}

static void check_keys(void)
{
    static uint16_t ids[NTS_MAX_KEYS + 1];
    static uint8_t keys[NTS_MAX_KEYS + 1][32];
    uint8_t packet[NTS_MAX_REQUEST];
    size_t const len = good_request(packet, 0, 15, 0);

    CHECK(nts_engine_set_keys(engine, ids, keys[0], NTS_MAX_KEYS + 1) == 0);
    CHECK(ask(packet, len).verdict == NTS_ANSWERED_NTS); /* the old keys stay */
    CHECK(nts_engine_set_keys(engine, ids, keys[0], 0) == 1);
    check_nak(packet, len, NTS_NAK_COOKIE);
    for (uint16_t i = 0; i < NTS_MAX_KEYS; i++)
        ids[i] = i;
    ids[NTS_MAX_KEYS - 1] = OLD_ID;
    CHECK(nts_engine_set_keys(engine, ids, keys[0], NTS_MAX_KEYS) == 1);
    check_nak(packet, len, NTS_NAK_COOKIE); /* right identifier, wrong key */
    memcpy(keys[NTS_MAX_KEYS - 1], master_keys(), 32);
    CHECK(nts_engine_set_keys(engine, ids, keys[0], NTS_MAX_KEYS) == 1);
    CHECK(ask(packet, len).verdict == NTS_ANSWERED_NTS);
    CHECK(nts_engine_set_keys(engine, master_ids, master_keys(), 2) == 1);
}

int main(void)
{
    char const *const backend = check_backend();

    engine = new_engine();
    if (!CHECK(engine != NULL))
        return EXIT_FAILURE;
    CHECK(strcmp(nts_engine_backend(), backend) == 0);
    check_plain();
    for (size_t i = 0; i < SESSION_KINDS; i++) {
        for (unsigned placeholders = 0; placeholders <= 10; placeholders++)
            check_exchanges(session_kinds[i], placeholders);
        check_naks(session_kinds[i]);
        check_formats(aead_of(session_kinds[i]));
    }
    check_foreign_contents(15);
    check_foreign_contents(30);
    check_batches();
    check_keys();
    check_imported();
    nts_engine_free(engine);
    nts_engine_free(NULL);
    return check_report("respond", backend);
}

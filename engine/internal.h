/* SPDX-License-Identifier: MIT
 *
 * internal.h - what the engine's files share: requests, algorithms, the random generator, the engine itself.
 */
#ifndef NTS_ENGINE_INTERNAL_H_
#define NTS_ENGINE_INTERNAL_H_

#include <string.h>
#include <sys/socket.h>

#include "aes_gcm_siv.h"
#include "aes_siv.h"
#include "nts_engine.h"

#define HEADER_LEN 48
#define FIELD_HEADER_LEN 4
#define NONCE_LEN 16    /* of a cookie, and of the authenticator in a request that the engine answers */
#define GCM_NONCE_LEN 12 /* of the authenticator under AEAD 30 */
#define TAG_LEN 16
#define AUTH_HEAD_LEN (FIELD_HEADER_LEN + 4) /* of an authenticator, before its nonce */
#define MAX_COOKIES 8
#define COOKIE_HEAD_LEN (2 + NONCE_LEN) /* of a cookie of our own: key identifier and nonce */
#define MAX_KEYS_LEN (4 + 2 * 64)       /* a cookie's plaintext: algorithm and both keys */

/* ---- Octets -------------------------------------------------------------------------------------------- */

static inline unsigned load16(uint8_t const *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static inline uint64_t load64(uint8_t const *p)
{
    uint64_t x = 0;

    for (int i = 0; i < 8; i++)
        x = x << 8 | p[i];
    return x;
}

static inline void store16(uint8_t *p, size_t x)
{
    p[0] = (uint8_t)(x >> 8 & 0xff);
    p[1] = (uint8_t)(x & 0xff);
}

static inline void store32(uint8_t *p, uint32_t x)
{
    store16(p, x >> 16);
    store16(p + 2, x & 0xffff);
}

static inline void store64(uint8_t *p, uint64_t x)
{
    store32(p, (uint32_t)(x >> 32));
    store32(p + 4, (uint32_t)(x & 0xffffffff));
}

/* Tells Valgrind (tests/ctgrind.c) that these octets, though decrypted with a secret key, are public. */
#ifdef NTS_ENGINE_CTGRIND
#include <valgrind/memcheck.h>
#define nts_declassify(p, len) ((void)VALGRIND_MAKE_MEM_DEFINED((p), (len)))
#else
#define nts_declassify(p, len) ((void)(p), (void)(len))
#endif

/* ---- Algorithms ---------------------------------------------------------------------------------------- */

struct cipher {
    int (*open)(AES_SIV_MSG *msgs, size_t n);
    int (*seal)(AES_SIV_MSG *msgs, size_t n);
    size_t text_at; /* where in what it seals the text begins, behind the tag or before it */
};

/* An AEAD algorithm that the engine implements; respond.c has the table. Lengths are in octets. */
struct algorithm {
    unsigned id; /* in the IANA registry */
    size_t key_len;
    size_t nonce_len; /* in an authenticator */
    struct cipher const *cipher;
};

/* ---- Requests ------------------------------------------------------------------------------------------ */

/* A packet and what the engine has found in it. Offsets are from the start of the packet; lengths are of whole fields,
 * in octets. */
struct request {
    uint8_t const *packet;
    size_t length;
    uint64_t received; /* NTP timestamp */
    struct sockaddr_storage const *peer;
    int misdirected; /* sent to a broadcast or multicast address */
    enum nts_verdict verdict;
    unsigned unique_id, unique_id_len;
    unsigned cookie, cookie_len;
    unsigned authenticator;
    unsigned cookies;                  /* to send back; 0 for a plain request */
    unsigned key_age;                  /* how many master keys are newer than the one that sealed the cookie */
    unsigned format;                   /* of the cookie, and then of fresh ones: enum nts_format */
    size_t cookie_nonce_len;           /* likewise */
    struct algorithm const *algorithm; /* of the cookie's keys */
    uint8_t keys[MAX_KEYS_LEN];        /* the cookie's plaintext, until nts_forget() */
    size_t keys_len;
    unsigned pairs;                    /* how many pairs of keys that is */
    unsigned pair;                     /* the one in use: 0 or 1 */
    uint8_t nonce[NONCE_LEN];          /* of the reply's authenticator */
    uint8_t *reply;                    /* room for NTS_MAX_REQUEST octets */
    size_t reply_len;                  /* 0: no reply */
};

/* packet.c: sets verdict and offsets. NTS_ANSWERED_NTS means only that the fields are as expected: nothing has been
 * decrypted yet. */
void nts_classify(struct request *request);

/* Whether the reply is protected by NTS. */
static inline int is_protected(struct request const *r)
{
    return r->verdict == NTS_ANSWERED_NTS || (r->verdict == NTS_KISS_RATE && r->cookies != 0);
}

/* ---- Formats of cookies -------------------------------------------------------------------------------- */

/* identifier of the key | nonce | tag | encrypted (number of the algorithm, keys) */
struct format {
    size_t id_len;
    size_t number_len;
    int s2c_first;       /* the order of the keys */
    int associates_head; /* identifier and nonce are associated data */
};

extern struct format const nts_formats[NTS_FORMATS];

#define SECOND_PAIR (4 + 2 * AES_GCM_SIV_KEY_LEN) /* octets of it in a cookie; nts/codec/cookies.py */

/* The keys in a cookie's plaintext: those of the pair in use. */
static inline uint8_t *nts_s2c(struct request *r)
{
    struct format const *const f = &nts_formats[r->format];

    return r->keys + f->number_len + r->pair * SECOND_PAIR + (f->s2c_first ? 0 : r->algorithm->key_len);
}

static inline uint8_t *nts_c2s(struct request *r)
{
    struct format const *const f = &nts_formats[r->format];

    return r->keys + f->number_len + r->pair * SECOND_PAIR + (f->s2c_first ? r->algorithm->key_len : 0);
}

struct found_key {
    AES_SIV_KEY const *siv; /* NULL: only the reference opens its cookies */
    unsigned format;
    unsigned age;
};

/* foreign.c: one of the keys that may have sealed a cookie in a format of others, and how many there are. */
unsigned nts_find_foreign(nts_engine const *engine, uint8_t const *cookie, struct found_key *found);

/* foreign.c: writes a key's identifier in a format's order and length. */
void nts_write_id(uint8_t *out, unsigned format, unsigned id);

/* foreign.c: the algorithm that a plaintext names; 0 for none. */
unsigned nts_number_of(struct request const *r);

/* foreign.c: whether cookies of a format may hold keys for this algorithm. */
int nts_has_room(unsigned format, unsigned algorithm);

/* foreign.c: turns the plaintext into that of fresh cookies, which are as long as the old one: in the engine's format if
 * that makes them as long, else in our own. */
void nts_renew(nts_engine const *engine, struct request *r);

/* foreign.c */
void nts_forget_imported(nts_engine *engine);

/* ---- Random octets ------------------------------------------------------------------------------------- */

/* AES-256 in counter mode, seeded by the kernel. Each pool of output starts with the key for the next pool; only the
 * rest is given out. */
struct generator {
    void *cipher; /* an EVP_CIPHER_CTX */
    uint8_t pool[4096];
    size_t used;
    unsigned refills;
    void (*fn)(void *context, uint8_t *out, size_t n); /* set by tests to replace the generator */
    void *context;
};

/* random.c */
int nts_random_open(struct generator *generator);
void nts_random_close(struct generator *generator);
void nts_random(struct generator *generator, uint8_t *out, size_t n);

/* ---- The limit of requests per prefix ------------------------------------------------------------------ */

struct limiter;

/* limit.c: what becomes of a request with this verdict from this peer. `now` is in ns, by a clock that is never set. */
enum nts_verdict nts_limited(struct limiter *limiter, struct sockaddr_storage const *peer, int64_t now,
                             enum nts_verdict verdict);

/* ---- The engine ---------------------------------------------------------------------------------------- */

struct master_key {
    unsigned id;
    AES_SIV_KEY *siv;
};

/* A key of another server. */
struct imported_key {
    unsigned format, id;
    AES_SIV_KEY *siv; /* NULL: only the reference opens its cookies */
};

struct loop; /* sockets and buffers: loop.c */

struct nts_engine {
    struct master_key keys[NTS_MAX_KEYS];
    size_t key_count;           /* the last key is current */
    struct imported_key imported[NTS_MAX_IMPORTED];
    size_t imported_count;
    unsigned format;            /* of fresh cookies */
    uint8_t header[HEADER_LEN]; /* of every reply, without version, poll interval and timestamps */
    struct generator generator;
    struct limiter *limiter; /* NULL: no limit */
    uint64_t *cells;
    uint64_t own_cells[NTS_CELLS];
    struct loop *loop;
    AES_SIV_MSG messages[NTS_BATCH * MAX_COOKIES];
    struct request *owners[NTS_BATCH];
};

/* respond.c: the two halves of answering a batch. nts_prepare opens cookies, authenticates requests, applies the limit,
 * if there is one, at the time `now`, draws all random octets and mints cookies. nts_finish fills in transmit timestamps
 * and seals; the caller runs it just before it sends those replies. */
void nts_prepare(nts_engine *engine, struct request *requests, size_t n, int64_t now);
void nts_finish(nts_engine *engine, struct request *const *requests, uint64_t const *transmit, size_t n);

/* respond.c: wipes the keys of the clients. */
void nts_forget(struct request *requests, size_t n);

/* loop.c */
void nts_loop_free(struct loop *loop);

/* Waits for datagrams, up to timeout_ms (-1: forever). Returns 1 when there are some, 0 when there are none, and -1
 * when a wake descriptor is readable. */
int nts_wait(nts_engine *engine, int timeout_ms);

/* Answers what nts_wait has found, up to a limit for each socket. Returns how many datagrams that was. */
size_t nts_serve(nts_engine *engine);

#endif

/* SPDX-License-Identifier: MIT
 *
 * internal.h - what the engine's files share: the shape of a request, the generator, the engine itself.
 */
#ifndef NTS_ENGINE_INTERNAL_H_
#define NTS_ENGINE_INTERNAL_H_

#include <string.h>

#include "aes_siv.h"
#include "nts_engine.h"

#define HEADER_LEN 48
#define FIELD_HEADER_LEN 4
#define NONCE_LEN 16
#define TAG_LEN AES_SIV_TAG_LEN
#define AUTH_LEN (FIELD_HEADER_LEN + 4 + NONCE_LEN + TAG_LEN) /* an authenticator that encrypts nothing */
#define MAX_COOKIES 8
#define COOKIE_HEAD_LEN (2 + NONCE_LEN) /* key identifier and nonce */
#define MAX_KEYS_LEN (2 + 2 * 64)       /* a cookie's plaintext: algorithm, S2C, C2S */

/* ---- Octets -------------------------------------------------------------------------------------------- */

static inline unsigned load16(uint8_t const *p)
{
    return (unsigned)p[0] << 8 | p[1];
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

/* Marks as public what was decrypted with a secret and is none, for the Valgrind run of tests/ctgrind.c. */
#ifdef NTS_ENGINE_CTGRIND
#include <valgrind/memcheck.h>
#define nts_declassify(p, len) ((void)VALGRIND_MAKE_MEM_DEFINED((p), (len)))
#else
#define nts_declassify(p, len) ((void)(p), (void)(len))
#endif

/* ---- Requests ------------------------------------------------------------------------------------------ */

/* A packet and what the engine has found out about it. Offsets are into the packet, lengths those of whole
 * fields, in octets. */
struct request {
    uint8_t const *packet;
    size_t length;
    uint64_t received; /* NTP timestamp */
    enum nts_verdict verdict;
    unsigned unique_id, unique_id_len;
    unsigned cookie, cookie_len;
    unsigned authenticator;
    unsigned cookies;           /* to send back */
    uint8_t keys[MAX_KEYS_LEN]; /* what the cookie holds */
    uint8_t nonce[NONCE_LEN];   /* of the reply's authenticator */
    uint8_t *reply;             /* NTS_MAX_REQUEST octets of room */
    size_t reply_len;           /* 0: none */
};

/* packet.c: sets verdict and offsets. NTS_ANSWERED_NTS means: of the right shape, and not looked into yet. */
void nts_classify(struct request *request);

/* ---- Random octets ------------------------------------------------------------------------------------- */

/* A generator seeded by the kernel: AES-256 in counter mode, whose key is replaced by a part of its own output
 * before the rest is given out. */
struct generator {
    void *cipher; /* an EVP_CIPHER_CTX */
    uint8_t pool[4096];
    size_t used;
    unsigned refills;
    void (*fn)(void *context, uint8_t *out, size_t n); /* for tests, in place of the generator */
    void *context;
};

/* random.c */
int nts_random_open(struct generator *generator);
void nts_random_close(struct generator *generator);
void nts_random(struct generator *generator, uint8_t *out, size_t n);

/* ---- The engine ---------------------------------------------------------------------------------------- */

struct master_key {
    unsigned id;
    AES_SIV_KEY *siv;
};

struct loop; /* sockets and buffers: loop.c */

struct nts_engine {
    struct master_key keys[NTS_MAX_KEYS];
    size_t key_count;           /* the last one is current */
    uint8_t header[HEADER_LEN]; /* of every reply, but for version, poll and three timestamps */
    struct generator generator;
    uint64_t *cells;
    uint64_t own_cells[NTS_VERDICTS];
    struct loop *loop;
    AES_SIV_MSG messages[NTS_BATCH * MAX_COOKIES];
    struct request *owners[NTS_BATCH];
};

/* respond.c: the two halves of answering a batch. The first one opens and authenticates, draws all random octets
 * and mints the cookies. The second one fills in the transmit timestamps and seals, for those requests whose
 * replies leave next, as close to their leaving as can be. */
void nts_prepare(nts_engine *engine, struct request *requests, size_t n);
void nts_finish(nts_engine *engine, struct request *const *requests, uint64_t const *transmit, size_t n);

/* loop.c */
void nts_loop_free(struct loop *loop);

#endif

/* SPDX-License-Identifier: MIT
 *
 * siv_internal.h - what aes_siv.c, the backends and the tests share. Not installed; nothing here is exported.
 *
 * A backend supplies raw AES in the two forms that SIV needs, a CBC-MAC chain and a CTR stream. aes_siv.c makes
 * AES-SIV for contexts from these: CMAC subkeys and padding, S2V, tag comparison. A backend may also handle whole
 * messages, several in step (struct siv_batch): x86_lanes.h, written once for all vector widths. If it does not,
 * gcm_siv.c makes AES-GCM-SIV from its AES.
 */
#ifndef SIV_INTERNAL_H_
#define SIV_INTERNAL_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "aes_siv.h"

#define SIV_BLOCK 16
#define SIV_MAX_ROUNDS 14
#define SIV_ECB_BLOCKS 16 /* in one call of siv_backend.ecb */
#define SIV_GCM_KEY 16    /* bytes of a key of AES-128-GCM-SIV */
#define SIV_GCM_NONCE 12  /* and of its nonce */

/* ---- Backends ------------------------------------------------------------------------------------------ */

/* One expanded AES key. The layout is up to the backend that opened it. */
struct siv_aes {
    union {
        struct {
            uint8_t round_key[SIV_BLOCK * (SIV_MAX_ROUNDS + 1)];
            unsigned rounds;
        } schedule;   /* backends that expand keys themselves */
        void *handle; /* backends that keep the key in an object of another library */
    };
};

/* Seals or opens n messages of the same shape. The caller has checked their arguments. They have the same kind of
 * key: the same scheduled one, or raw ones of the same length. A NULL nonce means none; other pointers may be NULL
 * where the length is 0. Sets ok of each message, and zeroes the outputs of those that are not authentic. Returns 0
 * only when some are not. */
typedef int siv_run(AES_SIV_MSG *const *msgs, size_t n, int seal);

/* How a backend interleaves messages. */
struct siv_batch {
    size_t width;      /* how many messages `together` takes at most */
    size_t least;      /* from how many on `together` is faster than `lone` */
    siv_run *together; /* for scheduled keys, and raw keys of 32 or 64 bytes */
    siv_run *lone;     /* one message */
};

/* Every function but open needs an opened siv_aes; copy (as src), mac, ctr and ecb need one with a key. The int
 * functions return 1 or 0. When mac, ctr or ecb fails half-way, the caller discards the output. */
struct siv_backend {
    char const *name;

    /* Obtains what a key will need. There is no key until set_key. */
    int (*open)(struct siv_aes *aes);

    /* Replaces the key. len is 16, 24 or 32. After a failure the caller calls clear. */
    int (*set_key)(struct siv_aes *aes, uint8_t const *key, size_t len);

    /* Replaces the key of dst with that of src, which has one. dst and src differ. */
    int (*copy)(struct siv_aes *dst, struct siv_aes const *src);

    /* Wipes the key; aes stays open. */
    void (*clear)(struct siv_aes *aes);

    /* Wipes the key and releases what open obtained. */
    void (*close)(struct siv_aes *aes);

    /* state = AES(state ^ block) for each of the blocks in turn. */
    int (*mac)(struct siv_aes const *aes, uint8_t state[SIV_BLOCK], uint8_t const *data, size_t blocks);

    /* out = in ^ AES(counter) || AES(counter + 1) || ... for len bytes; out may be in. Only the low 64 bits count.
     * The top one of them is 0 at the start (section 2.6 clears it), so they never overflow into the high 64 bits,
     * and the result equals that of a 128-bit increment. */
    int (*ctr)(struct siv_aes const *aes, uint8_t const counter[SIV_BLOCK], uint8_t *out, uint8_t const *in,
               size_t len);

    /* Encrypts len bytes in place: whole blocks, at most SIV_ECB_BLOCKS. NULL in a backend with `gcm`. */
    int (*ecb)(struct siv_aes const *aes, uint8_t *data, size_t len);

    /* Work on whole messages, of AES-SIV and of AES-128-GCM-SIV; both NULL: they are done step by step. In a backend
     * with them, open, set_key and copy cannot fail, and a siv_aes holds the key schedule of FIPS 197, round key by
     * round key. */
    struct siv_batch const *batch, *gcm;
};

/* Each returns its table, or NULL if this build or this CPU has no such backend. */
struct siv_backend const *siv_backend_vaes(void);
struct siv_backend const *siv_backend_aesni(void);
struct siv_backend const *siv_backend_libcrypto(void);

/* The backend of this process. The first call that succeeds chooses it. Returns NULL when AES_SIV_BACKEND names one
 * that does not exist here. Several threads may call this. */
struct siv_backend const *siv_backend_chosen(void);

/* The public functions of similar names, for a given backend: a test can use several backends. */
AES_SIV_CTX *siv_context_new(struct siv_backend const *backend);
AES_SIV_KEY *siv_key_new(struct siv_backend const *backend, uint8_t const *key, size_t key_len);
int siv_batch_run(struct siv_backend const *backend, AES_SIV_MSG *msgs, size_t n, int seal);
int siv_gcm_batch_run(struct siv_backend const *backend, AES_SIV_MSG *msgs, size_t n, int seal);

/* ---- Keys and contexts --------------------------------------------------------------------------------- */

/* One SIV key, expanded. */
struct siv_key {
    struct siv_aes mac;      /* K1 of section 2.2, for S2V */
    struct siv_aes ctr;      /* K2, for the text */
    uint8_t full[SIV_BLOCK]; /* CMAC's subkey for a complete last block (K1 of RFC 4493) */
    uint8_t part[SIV_BLOCK]; /* CMAC's subkey for a padded last block (K2 of RFC 4493) */
    uint8_t zero[SIV_BLOCK]; /* CMAC(<zero>), with which every S2V starts */
};

struct AES_SIV_CTX_st {
    struct siv_backend const *backend;
    struct siv_key key;
    uint8_t d[SIV_BLOCK]; /* D of section 2.4 */
    unsigned components;
    enum { UNKEYED, READY, SPENT } phase;
};

/* Nothing in here changes from AES_SIV_KEY_new to _free, so that threads may share it. */
struct AES_SIV_KEY_st {
    AES_SIV_CTX ctx;          /* a template without components */
    uint8_t empty[SIV_BLOCK]; /* D after one empty component, as the cookies of NTS have it */
};

/* siv_context_new() and AES_SIV_CTX_free() for a context that is part of something else. */
int siv_context_open(AES_SIV_CTX *ctx, struct siv_backend const *backend);
void siv_context_close(AES_SIV_CTX *ctx);

/* One message of AES-128-GCM-SIV through a context, which only lends its two siv_aes. The caller has checked the
 * arguments, and zeroes the output of a message that does not open. Returns 0 when the message is not authentic or the
 * backend fails. */
int siv_gcm_step_by_step(AES_SIV_CTX *ctx, AES_SIV_MSG const *m, int seal);

/* ---- Bytes --------------------------------------------------------------------------------------------- */

static inline uint64_t siv_load_be64(uint8_t const *p)
{
    uint64_t x = 0;

    for (int i = 0; i < 8; i++)
        x = x << 8 | p[i];
    return x;
}

static inline void siv_store_be64(uint8_t *p, uint64_t x)
{
    for (int i = 7; i >= 0; i--) {
        p[i] = (uint8_t)(x & 0xff);
        x >>= 8;
    }
}

/* x ^= y, for one block. */
static inline void siv_xor_block(uint8_t x[SIV_BLOCK], uint8_t const y[SIV_BLOCK])
{
    for (int i = 0; i < SIV_BLOCK; i++)
        x[i] ^= y[i];
}

/* Whether the two blocks are equal: aes_siv.c. The time taken does not depend on where they differ. */
int siv_equal(uint8_t const a[SIV_BLOCK], uint8_t const b[SIV_BLOCK]);

/* A memset to zero that the compiler must not drop, even when the memory is not used afterwards. */
static inline void siv_wipe(void *p, size_t len)
{
#if defined(__GNUC__)
    if (len != 0)
        memset(p, 0, len);
    /* The compiler must assume that this reads the memory. */
    __asm__ __volatile__("" : : "r"(p) : "memory");
#else
    volatile uint8_t *bytes = p;

    while (len-- != 0)
        *bytes++ = 0;
#endif
}

#if defined(__GNUC__)
/* Makes the compiler load what is at p from memory again at its next use. Otherwise it would keep it in registers,
 * and when it runs out of those, in copies on the stack that nobody wipes. */
static inline void siv_reload(void const *p)
{
    __asm__ __volatile__("" : : "r"(p) : "memory");
}
#endif

/* ---- Constant-time checking ---------------------------------------------------------------------------- */

/* Tells Valgrind (tests/ctgrind.c) what SIV reveals by design: the tag of a message that is being sealed, and
 * whether one that is being opened is authentic. Does nothing in normal builds. */
#ifdef AES_SIV_CTGRIND
#include <valgrind/memcheck.h>
#define siv_declassify(p, len) ((void)VALGRIND_MAKE_MEM_DEFINED((p), (len)))
#else
#define siv_declassify(p, len) ((void)(p), (void)(len))
#endif

#endif

/* SPDX-License-Identifier: MIT
 *
 * siv_internal.h - what aes_siv.c, the backends and the tests share. Not installed, nothing here is exported.
 *
 * A backend supplies raw AES in the two shapes that SIV needs, a CBC-MAC chain and a CTR stream. Everything
 * that makes these AES-SIV (CMAC subkeys and padding, S2V, tag comparison) is in aes_siv.c, once, for contexts.
 * A backend may supply whole messages as well, several in step (struct siv_batch): x86_lanes.h, once for all
 * widths of vectors.
 */
#ifndef SIV_INTERNAL_H_
#define SIV_INTERNAL_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "aes_siv.h"

#define SIV_BLOCK 16
#define SIV_MAX_ROUNDS 14

/* ---- Backends ------------------------------------------------------------------------------------------ */

/* One expanded AES key. The backend that opened it owns the layout. */
struct siv_aes {
    union {
        struct {
            uint8_t round_key[SIV_BLOCK * (SIV_MAX_ROUNDS + 1)];
            unsigned rounds;
        } schedule;   /* backends that expand keys themselves */
        void *handle; /* backends that keep the key in an object of another library */
    };
};

/* Does the whole of n messages of the same shape: seals them, or opens them. Their arguments are in order, and
 * they have the same kind of key: the same scheduled one, or raw ones of the same length. NULL stands for no
 * nonce; the other pointers may be NULL where the length is 0. Sets ok of each; the outputs of those that are
 * not authentic are zeroed. Returns 1 when all are authentic; it cannot fail otherwise. */
typedef int siv_run(AES_SIV_MSG *const *msgs, size_t n, int seal);

/* How a backend interleaves messages. */
struct siv_batch {
    size_t width;      /* messages that together takes at most */
    size_t least;      /* from how many on together is faster than lone for each */
    siv_run *together; /* for scheduled keys, and raw keys of 32 or 64 bytes */
    siv_run *lone;     /* one message */
};

/* The caller's part: every function but open gets an opened siv_aes, and mac and ctr one with a key. The int
 * functions return 1 or 0. Where mac or ctr fails half-way, the caller discards its output. */
struct siv_backend {
    char const *name;

    /* Obtains what a key will need. Until set_key there is none. */
    int (*open)(struct siv_aes *aes);

    /* Replaces the key. len is 16, 24 or 32. After a failure the caller calls clear. */
    int (*set_key)(struct siv_aes *aes, uint8_t const *key, size_t len);

    /* Replaces the key of dst with that of src, which has one. dst and src differ. */
    int (*copy)(struct siv_aes *dst, struct siv_aes const *src);

    /* Wipes the key; aes remains open. */
    void (*clear)(struct siv_aes *aes);

    /* Wipes the key and releases what open obtained. */
    void (*close)(struct siv_aes *aes);

    /* state = AES(state ^ block) for each of the blocks in turn. */
    int (*mac)(struct siv_aes const *aes, uint8_t state[SIV_BLOCK], uint8_t const *data, size_t blocks);

    /* out = in ^ AES(counter) || AES(counter + 1) || ... for len bytes; out may be in. The low 64 bits count.
     * The top one of them is 0 at the start (section 2.6 clears it), so that for any len they never overflow
     * into the high 64 bits, and the result is what a 128-bit increment gives. */
    int (*ctr)(struct siv_aes const *aes, uint8_t const counter[SIV_BLOCK], uint8_t *out, uint8_t const *in,
               size_t len);

    /* What works on whole messages, or NULL: they are then done step by step. With it, open, set_key and copy
     * cannot fail, and a siv_aes has its schedule as the standard has it, round key by round key. */
    struct siv_batch const *batch;
};

/* Each returns its table, or NULL where this build or this CPU has no such backend. */
struct siv_backend const *siv_backend_vaes(void);
struct siv_backend const *siv_backend_aesni(void);
struct siv_backend const *siv_backend_libcrypto(void);

/* The backend of this process, chosen at the first call that succeeds. NULL when AES_SIV_BACKEND asks for one
 * that does not exist here. Safe to call from several threads. */
struct siv_backend const *siv_backend_chosen(void);

/* The public functions of nearly these names with a given backend, which lets a test hold several. */
AES_SIV_CTX *siv_context_new(struct siv_backend const *backend);
AES_SIV_KEY *siv_key_new(struct siv_backend const *backend, uint8_t const *key, size_t key_len);
int siv_batch_run(struct siv_backend const *backend, AES_SIV_MSG *msgs, size_t n, int seal);

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

/* memset to zero that a compiler must not drop, even when the memory is dead afterwards. */
static inline void siv_wipe(void *p, size_t len)
{
#if defined(__GNUC__)
    if (len != 0)
        memset(p, 0, len);
    /* As far as the compiler knows, this reads the memory. */
    __asm__ __volatile__("" : : "r"(p) : "memory");
#else
    volatile uint8_t *bytes = p;

    while (len-- != 0)
        *bytes++ = 0;
#endif
}

#if defined(__GNUC__)
/* What lies at p and beyond is to be read from memory when it is wanted again. A compiler would rather keep it in
 * registers, and where these do not suffice, in copies on the stack that nobody wipes. */
static inline void siv_reload(void const *p)
{
    __asm__ __volatile__("" : : "r"(p) : "memory");
}
#endif

/* ---- Constant-time checking ---------------------------------------------------------------------------- */

/* Marks as public what SIV reveals by design, for the Valgrind run of tests/ctgrind.c: the tag of a message
 * that is being sealed, and whether one that is being opened is authentic. Nothing in the library proper. */
#ifdef AES_SIV_CTGRIND
#include <valgrind/memcheck.h>
#define siv_declassify(p, len) ((void)VALGRIND_MAKE_MEM_DEFINED((p), (len)))
#else
#define siv_declassify(p, len) ((void)(p), (void)(len))
#endif

#endif

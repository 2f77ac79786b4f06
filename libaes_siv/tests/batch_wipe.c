/* SPDX-License-Identifier: MIT
 *
 * batch_wipe.c - a batch leaves no round key on its stack, nor the tag that a forged message should have had. Of
 * AES-128-GCM-SIV, it leaves no key that was derived for a message either.
 *
 * One or two round keys reveal the whole key, since the others can be computed from them in both directions.
 *
 * The batch runs in a thread whose stack is a mapped file, which the test then reads and searches. This library cannot
 * control what libcrypto leaves there, or the compiler in debug builds and for the address sanitizer. In these cases
 * the search runs, but its findings do not count.
 */
#define _DEFAULT_SOURCE

#include "../aes_gcm_siv.h"
#include "../siv_internal.h"
#include "check.h"
#include "stack.h"

#define MAX_MESSAGES 20
#define LEN 104

static uint8_t keys[MAX_MESSAGES][64], sealed[MAX_MESSAGES][LEN + 16], out[MAX_MESSAGES][LEN + 16];
static uint8_t const data[188] = {5};
static AES_SIV_MSG batch[MAX_MESSAGES];
static uint8_t secrets[MAX_MESSAGES * (2 * (SIV_MAX_ROUNDS + 1) + 1)][16]; /* round keys, tags */
static size_t secret_count;
static uint8_t begins[1 << 16]; /* whether a secret begins with these two bytes */
static size_t count;
static int seal;
static int gcm; /* AES-128-GCM-SIV instead of AES-SIV */

/* Leaves a key for the search to find, so deep in the stack that the end of the thread does not overwrite it. */
static void leave_key(void)
{
    uint8_t volatile copy[8192];

    for (size_t i = 0; i < sizeof copy; i++)
        copy[i] = keys[0][i % 64];
}

static void *work(void *leave)
{
    if (leave != NULL) {
        leave_key();
        return NULL;
    }
    if (seal)
        CHECK((gcm ? AES_GCM_SIV_SealBatch : AES_SIV_SealBatch)(batch, count) == 1);
    else
        CHECK((gcm ? AES_GCM_SIV_OpenBatch : AES_SIV_OpenBatch)(batch, count) == 0);
    return NULL;
}

static void add_secret(uint8_t const *secret)
{
    memcpy(secrets[secret_count++], secret, 16);
    begins[secret[0] << 8 | secret[1]] = 1;
}

/* Adds all round keys of one half of a key. Those of libcrypto are out of reach, except the first one, which is the
 * half itself. */
static void add_round_keys(struct siv_aes const *aes, uint8_t const *half)
{
    if (siv_backend_chosen()->batch == NULL) {
        add_secret(half);
        return;
    }
    CHECK(memcmp(aes->schedule.round_key, half, 16) == 0);
    for (unsigned r = 0; r <= aes->schedule.rounds; r++)
        add_secret(aes->schedule.round_key + SIV_BLOCK * r);
}

/* RFC 8452 section 4: the key itself and what it makes for a nonce, POLYVAL's key and the message's AES key. */
static void add_gcm_keys(uint8_t const *raw)
{
    struct siv_backend const *const backend = siv_backend_chosen();
    uint8_t block[SIV_BLOCK], encrypted[4][SIV_BLOCK], made[2][SIV_BLOCK];
    struct siv_aes aes;

    CHECK(backend->open(&aes) && backend->set_key(&aes, raw, SIV_GCM_KEY));
    add_round_keys(&aes, raw);
    for (unsigned i = 0; i < 4; i++) {
        memset(block, 0, sizeof block);
        memset(encrypted[i], 0, SIV_BLOCK);
        block[0] = (uint8_t)i;
        memcpy(block + 4, data, SIV_GCM_NONCE);
        CHECK(backend->mac(&aes, encrypted[i], block, 1));
        memcpy(made[i / 2] + 8 * (i % 2), encrypted[i], 8);
    }
    add_secret(made[0]);
    CHECK(backend->set_key(&aes, made[1], SIV_BLOCK));
    add_round_keys(&aes, made[1]);
    backend->close(&aes);
}

/* Collects what to search for: the keys of the batch and, when opening, the right tags. */
static void collect(size_t key_len)
{
    secret_count = 0;
    memset(begins, 0, sizeof begins);
    for (size_t i = 0; gcm && i < count; i++)
        add_gcm_keys(keys[i]);
    for (size_t i = 0; !gcm && i < count && (i == 0 || batch[i].key == NULL); i++) {
        AES_SIV_KEY *const key = AES_SIV_KEY_new(keys[i], key_len);

        if (!CHECK(key != NULL))
            return;
        add_round_keys(&key->ctx.key.mac, keys[i]);
        add_round_keys(&key->ctx.key.ctr, keys[i] + key_len / 2);
        AES_SIV_KEY_free(key);
    }
    for (size_t i = 0; i < count && !seal; i++)
        add_secret(sealed[i]);
}

/* Returns how many of the secrets are on the stack of a thread that has done the batch. With `leave`, the thread leaves
 * one there instead. */
static unsigned long found(size_t key_len, int leave)
{
    unsigned long hits = 0;
    uint8_t const *left;

    collect(key_len);
    left = stack_after(work, leave ? &count : NULL);
    if (left == NULL)
        return 0;
    for (uint8_t const *p = left; p <= left + STACK - 16; p++) {
        for (size_t i = 0; begins[p[0] << 8 | p[1]] && i < secret_count; i++)
            hits += memcmp(p, secrets[i], 16) == 0;
    }
    return hits;
}

/* Makes messages with a key each, or all with the scheduled one. */
static void prepare(size_t key_len, size_t len, AES_SIV_KEY const *scheduled)
{
    for (size_t i = 0; i < count; i++) {
        batch[i] = (AES_SIV_MSG){.key = scheduled,
                                 .raw_key = keys[i],
                                 .raw_key_len = key_len,
                                 .nonce = data,
                                 .nonce_len = gcm ? SIV_GCM_NONCE : 16,
                                 .ad = data,
                                 .ad_len = sizeof data,
                                 .in = data,
                                 .in_len = len,
                                 .out = sealed[i]};
    }
}

/* Gives each message to open a wrong tag; `sealed` keeps the right one. The messages have no text, since a wrong tag
 * would decrypt to another text, whose right tag the test does not know. */
static void forge(void)
{
    static uint8_t forged[MAX_MESSAGES][LEN + 16];

    for (size_t i = 0; i < count; i++) {
        memcpy(forged[i], sealed[i], sizeof forged[i]);
        forged[i][i % 16] ^= 1;
        batch[i].in = forged[i];
        batch[i].in_len = 16;
        batch[i].out = out[i];
    }
}

/* Does batches of all sizes. With `strict`, nothing may be found. */
static void search(size_t key_len, AES_SIV_KEY const *scheduled, int strict)
{
    for (count = 1; count <= MAX_MESSAGES; count++) {
        prepare(key_len, LEN, scheduled);
        seal = 1;
        CHECK(found(key_len, 0) == 0 || !strict);
        prepare(key_len, 0, scheduled);
        CHECK((gcm ? AES_GCM_SIV_SealBatch : AES_SIV_SealBatch)(batch, count) == 1);
        forge();
        seal = 0;
        CHECK(found(key_len, 0) == 0 || !strict);
    }
}

int main(void)
{
    char const *const backend = check_backend();
#if defined(__SANITIZE_ADDRESS__)
    int const searchable = 0; /* locals may not be on the stack */
    int const strict = 0;
#elif defined(__OPTIMIZE__)
    int const searchable = 1;
    int const strict = strcmp(backend, "libcrypto") != 0;
#else
    int const searchable = 1;
    int const strict = 0; /* every variable is in memory, and the compiler makes copies */
#endif

    for (size_t i = 0; i < MAX_MESSAGES; i++)
        check_fill(keys[i], sizeof keys[i]);
    for (size_t key_len = 32; key_len <= 64; key_len += 16) {
        AES_SIV_KEY *const scheduled = AES_SIV_KEY_new(keys[0], key_len);

        search(key_len, NULL, strict);
        search(key_len, scheduled, strict);
        AES_SIV_KEY_free(scheduled);
    }
    gcm = 1;
    search(SIV_GCM_KEY, NULL, strict);
    gcm = 0;
    count = 1;
    seal = 1;
    CHECK(found(32, 1) != 0 || !searchable); /* shows that the search works */
    return check_report("batch_wipe", backend);
}

/* SPDX-License-Identifier: MIT
 *
 * batch_misuse.c - an invalid message is refused, wherever it is in a batch, and does not affect the others.
 */
#include "../siv_internal.h"
#include "check.h"

#define N 21
#define LEN 40

static uint8_t const raw_key[64] = {0x5a};
static uint8_t const data[LEN] = {1, 2, 3};
static uint8_t sealed[N][LEN + 16], out[N][LEN + 16];
static AES_SIV_MSG batch[N];
static AES_SIV_KEY *key, *foreign;

/* Valid messages, with raw keys in the first half and a scheduled one in the second. */
static void good(int seal)
{
    for (size_t i = 0; i < N; i++) {
        memset(out[i], 0xa5, sizeof out[i]);
        batch[i] = (AES_SIV_MSG){.key = i < N / 2 ? NULL : key,
                                 .raw_key = raw_key,
                                 .raw_key_len = 32,
                                 .nonce = data,
                                 .nonce_len = 16,
                                 .ad = data,
                                 .ad_len = 20,
                                 .in = seal ? data : sealed[i],
                                 .in_len = LEN + (seal ? 0 : 16),
                                 .out = out[i],
                                 .ok = -1};
    }
}

/* Makes one kind of mistake. Returns 0 when there is none with this number. */
static int spoil(AES_SIV_MSG *m, int number, int seal)
{
    switch (number) {
    case 0:
        m->key = NULL;
        m->raw_key = NULL;
        return 1;
    case 1:
        m->key = NULL;
        m->raw_key_len = 31;
        return 1;
    case 2:
        m->key = NULL;
        m->raw_key_len = 0;
        return 1;
    case 3:
        m->key = foreign;
        return 1;
    case 4:
        m->nonce = NULL;
        return 1;
    case 5:
        m->ad = NULL;
        return 1;
    case 6:
        m->in = NULL;
        return 1;
    case 7:
        m->out = NULL;
        return 1;
    case 8:
        if (seal)
            m->in = NULL;
        else
            m->in_len = 15;
        return 1;
    case 9:
        if (seal)
            m->ad = NULL;
        else
            m->in_len = 0;
        return 1;
    default:
        return 0;
    }
}

static void one(int seal, size_t at, int number)
{
    AES_SIV_MSG *const m = &batch[at];
    size_t const len = seal ? LEN + 16 : LEN;

    good(seal);
    spoil(m, number, seal);
    CHECK((seal ? AES_SIV_SealBatch(batch, N) : AES_SIV_OpenBatch(batch, N)) == 0);
    CHECK(m->ok == 0);
    /* Sealing leaves the output of a refused message unchanged; opening zeroes the plaintext. */
    if (m->out != NULL && (seal || m->in_len < 16))
        CHECK(check_all(out[at], 0xa5, sizeof out[at]));
    else if (m->out != NULL)
        CHECK(check_all(out[at], 0, LEN) && check_all(out[at] + LEN, 0xa5, 16));
    for (size_t i = 0; i < N; i++) {
        if (i != at)
            CHECK(batch[i].ok == 1 && memcmp(out[i], seal ? sealed[i] : data, len) == 0);
    }
}

/* Strings of length 0 need no pointers, and an empty output needs none either. */
static void without_pointers(void)
{
    uint8_t tags[N][16];

    for (int scheduled = 0; scheduled <= 1; scheduled++) {
        for (size_t n = 1; n <= N; n++) {
            for (size_t i = 0; i < n; i++)
                batch[i] = (AES_SIV_MSG){
                    .key = scheduled ? key : NULL, .raw_key = raw_key, .raw_key_len = 32, .out = tags[i]};
            CHECK(AES_SIV_SealBatch(batch, n) == 1);
            for (size_t i = 0; i < n; i++)
                batch[i] = (AES_SIV_MSG){.key = batch[i].key,
                                         .raw_key = raw_key,
                                         .raw_key_len = 32,
                                         .in = tags[i],
                                         .in_len = 16};
            CHECK(AES_SIV_OpenBatch(batch, n) == 1);
            tags[n - 1][15] ^= 1;
            CHECK(AES_SIV_OpenBatch(batch, n) == 0 && batch[n - 1].ok == 0);
        }
    }
}

static void keys(void)
{
    for (size_t len = 0; len <= sizeof raw_key; len++) {
        AES_SIV_KEY *const k = AES_SIV_KEY_new(raw_key, len);

        CHECK((k != NULL) == (len == 32 || len == 48 || len == 64));
        AES_SIV_KEY_free(k);
    }
    CHECK(AES_SIV_KEY_new(NULL, 32) == NULL);
    CHECK(AES_SIV_KEY_new(raw_key, SIZE_MAX) == NULL);
    AES_SIV_KEY_free(NULL);
}

int main(void)
{
    char const *const backend = check_backend();
    struct siv_backend const other = *siv_backend_libcrypto(); /* at another address, so it counts as another backend */

    keys();
    key = AES_SIV_KEY_new(raw_key, 32);
    foreign = siv_key_new(&other, raw_key, 32);
    if (!CHECK(key != NULL && foreign != NULL))
        return EXIT_FAILURE;
    good(1);
    CHECK(AES_SIV_SealBatch(batch, N) == 1);
    memcpy(sealed, out, sizeof sealed);
    for (size_t at = 0; at < N; at++) {
        for (int seal = 0; seal <= 1; seal++) {
            for (int number = 0; spoil(&(AES_SIV_MSG){0}, number, seal); number++)
                one(seal, at, number);
        }
    }
    without_pointers();
    AES_SIV_KEY_free(key);
    AES_SIV_KEY_free(foreign);
    return check_report("batch_misuse", backend);
}

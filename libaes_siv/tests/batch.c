/* SPDX-License-Identifier: MIT
 *
 * batch.c - compares batches of random messages with what the libcrypto backend does step by step, one message at a
 * time: sealing, opening, in place and not, with forgeries among authentic messages; AES-SIV and AES-128-GCM-SIV. Since
 * every backend agrees with that one, they agree with each other.
 */
#include "../aes_gcm_siv.h"
#include "../siv_internal.h"
#include "check.h"

#define ROUNDS 240
#define MAX_MESSAGES 140 /* messages in a batch: more than the window in which the library groups them */
#define MAX_LEN 1400
#define KEYS 6
#define CANARY 0xa5

struct message {
    uint8_t key[64], nonce[32], ad[MAX_LEN], text[MAX_LEN];
    uint8_t sealed[MAX_LEN + 16]; /* by libcrypto */
    uint8_t buffer[MAX_LEN + 16 + 8];
    uint8_t other[MAX_LEN + 16 + 8];
    int forged;
};

static struct message messages[MAX_MESSAGES];
static AES_SIV_MSG batch[MAX_MESSAGES];
static AES_SIV_KEY *keys[KEYS];
static uint8_t raw_keys[KEYS][64];
static AES_SIV_CTX *reference;
static int gcm;       /* AES-128-GCM-SIV instead of AES-SIV */
static size_t before; /* how much of the tag comes before the text */

static size_t below(size_t n)
{
    return (size_t)(check_random() >> 32) % n;
}

static size_t key_len(size_t k)
{
    return 32 + 16 * (k % 3);
}

/* Mostly short, as in NTS; sometimes any length; often a boundary. */
static size_t random_len(size_t max)
{
    static size_t const boundaries[] = {0, 0, 1, 15, 16, 17, 31, 32, 33, 66, 84, 104, 112, 127, 128, 129, 188};

    switch (below(4)) {
    case 0:
        return boundaries[below(sizeof boundaries / sizeof boundaries[0])] % (max + 1);
    case 1:
        return below(max + 1);
    default:
        return below(max < 200 ? max + 1 : 200);
    }
}

/* Chooses lengths and kind of key. random_message() fills in the pointers and texts. */
static AES_SIV_MSG random_shape(void)
{
    AES_SIV_MSG shape = {.nonce_len = below(3) == 0 ? below(33) : 16, .ad_len = random_len(MAX_LEN)};

    shape.in_len = random_len(MAX_LEN);
    if (gcm) {
        shape.nonce_len = 12;
        shape.raw_key_len = 16;
        return shape;
    }
    if (below(2) == 0)
        shape.key = keys[below(KEYS)];
    else
        shape.raw_key_len = key_len(below(3));
    if (below(8) == 0)
        shape.nonce = messages[0].nonce; /* means: no nonce */
    return shape;
}

/* Seals the message as the test expects it. */
static void seal_alone(struct message *m, AES_SIV_MSG const *b)
{
    size_t k = 0;

    if (gcm) {
        AES_SIV_MSG alone = *b;

        alone.out = m->sealed;
        CHECK(siv_gcm_batch_run(siv_backend_libcrypto(), &alone, 1, 1) == 1);
        return;
    }
    while (b->key != NULL && keys[k] != b->key)
        k++;
    CHECK(AES_SIV_Init(reference, b->key != NULL ? raw_keys[k] : m->key,
                       b->key != NULL ? key_len(k) : b->raw_key_len) == 1);
    CHECK(AES_SIV_AssociateData(reference, m->ad, b->ad_len) == 1);
    if (b->nonce != NULL)
        CHECK(AES_SIV_AssociateData(reference, m->nonce, b->nonce_len) == 1);
    CHECK(AES_SIV_EncryptFinal(reference, m->sealed, m->sealed + 16, m->text, b->in_len) == 1);
}

static void random_message(struct message *m, AES_SIV_MSG *b, AES_SIV_MSG const *shape)
{
    check_fill(m->key, sizeof m->key);
    check_fill(m->nonce, sizeof m->nonce);
    check_fill(m->ad, shape->ad_len);
    check_fill(m->text, shape->in_len);
    memset(m->buffer, CANARY, sizeof m->buffer);
    memset(m->other, CANARY, sizeof m->other);
    *b = *shape;
    b->raw_key = m->key;
    b->nonce = shape->nonce != NULL ? NULL : m->nonce;
    if (b->nonce == NULL)
        b->nonce_len = 0;
    b->ad = shape->ad_len == 0 && below(2) == 0 ? NULL : m->ad;
    b->in = m->text;
    b->out = m->buffer;
    b->ok = -1;

    if (shape->key != NULL)
        b->raw_key = below(2) == 0 ? NULL : m->key; /* is ignored */
    seal_alone(m, b);
}

static void seal(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (below(2) == 0) { /* in place */
            memcpy(messages[i].buffer + before, messages[i].text, batch[i].in_len);
            batch[i].in = messages[i].buffer + before;
        }
    }
    CHECK((gcm ? AES_GCM_SIV_SealBatch : AES_SIV_SealBatch)(batch, n) == 1);
    for (size_t i = 0; i < n; i++) {
        struct message const *const m = &messages[i];
        size_t const len = batch[i].in_len + 16;

        CHECK(batch[i].ok == 1 && memcmp(m->buffer, m->sealed, len) == 0);
        CHECK(check_all(m->buffer + len, CANARY, sizeof m->buffer - len));
    }
}

/* Forges one in `one_in` messages; 0: none. */
static void open(size_t n, size_t one_in)
{
    int all = 1;

    for (size_t i = 0; i < n; i++) {
        struct message *const m = &messages[i];

        batch[i].in = m->buffer;
        batch[i].ok = -1;
        batch[i].in_len += 16;
        m->forged = one_in != 0 && below(one_in) == 0;
        if (m->forged) {
            m->buffer[below(batch[i].in_len)] ^= (uint8_t)(1 << below(8));
            all = 0;
        }
        batch[i].out = below(2) == 0 ? m->other : m->buffer + before;
    }
    CHECK((gcm ? AES_GCM_SIV_OpenBatch : AES_SIV_OpenBatch)(batch, n) == all);
    for (size_t i = 0; i < n; i++) {
        struct message const *const m = &messages[i];
        size_t const len = batch[i].in_len - 16;

        CHECK(batch[i].ok == !m->forged);
        CHECK(m->forged ? check_all(batch[i].out, 0, len) : memcmp(batch[i].out, m->text, len) == 0);
        /* In place, the tag of AES-GCM-SIV follows. */
        CHECK(check_all(batch[i].out + len + (batch[i].out == m->buffer ? 16 : 0), CANARY, 8));
    }
}

/* n messages of up to `shapes` different shapes. */
static void one_batch(size_t n, size_t shapes, size_t forged_one_in)
{
    AES_SIV_MSG shape[MAX_MESSAGES];

    for (size_t i = 0; i < shapes; i++)
        shape[i] = random_shape();
    for (size_t i = 0; i < n; i++)
        random_message(&messages[i], &batch[i], &shape[below(shapes)]);
    seal(n);
    open(n, forged_one_in);
}

/* Batches of all sizes and many mixtures. */
static void batches(int of_gcm)
{
    gcm = of_gcm;
    before = gcm ? 0 : 16;
    for (size_t n = 1; n <= 64; n++)
        one_batch(n, 1, n % 4);
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t const n = round % 16 == 0 ? MAX_MESSAGES : 1 + below(24);

        one_batch(n, 1 + below(round % 4 == 0 ? n : 3), round % 3 == 0 ? 0 : 1 + below(9));
    }
}

int main(void)
{
    char const *const backend = check_backend();

    reference = siv_context_new(siv_backend_libcrypto());
    if (!CHECK(reference != NULL))
        return EXIT_FAILURE;
    for (size_t k = 0; k < KEYS; k++) {
        check_fill(raw_keys[k], sizeof raw_keys[k]);
        keys[k] = AES_SIV_KEY_new(raw_keys[k], key_len(k));
        if (!CHECK(keys[k] != NULL))
            return EXIT_FAILURE;
    }
    CHECK(AES_SIV_SealBatch(NULL, 0) == 1 && AES_SIV_OpenBatch(NULL, 0) == 1);
    CHECK(AES_GCM_SIV_SealBatch(NULL, 0) == 1 && AES_GCM_SIV_OpenBatch(NULL, 0) == 1);
    batches(0);
    batches(1);
    for (size_t k = 0; k < KEYS; k++)
        AES_SIV_KEY_free(keys[k]);
    AES_SIV_KEY_free(NULL);
    AES_SIV_CTX_free(reference);
    return check_report("batch", backend);
}

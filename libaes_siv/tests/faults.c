/* SPDX-License-Identifier: MIT
 *
 * faults.c - a backend that fails at its n-th call, for every n of a sequence of operations: the public function
 * returns 0 with clean outputs, and the context refuses further steps.
 */
#include "../siv_internal.h"
#include "check.h"

static struct siv_backend const *real;
static long calls_left;
static long open_objects;

static int may_work(void)
{
    return calls_left-- != 0;
}

static int faulty_open(struct siv_aes *aes)
{
    if (!may_work() || !real->open(aes))
        return 0;
    open_objects++;
    return 1;
}

static int faulty_set_key(struct siv_aes *aes, uint8_t const *key, size_t len)
{
    return real->set_key(aes, key, len) && may_work();
}

static int faulty_copy(struct siv_aes *dst, struct siv_aes const *src)
{
    return real->copy(dst, src) && may_work();
}

static void faulty_clear(struct siv_aes *aes)
{
    real->clear(aes);
}

static void faulty_close(struct siv_aes *aes)
{
    open_objects--;
    real->close(aes);
}

static int faulty_mac(struct siv_aes const *aes, uint8_t state[SIV_BLOCK], uint8_t const *data, size_t blocks)
{
    return real->mac(aes, state, data, blocks) && may_work();
}

/* Fails after the work is done. The caller must not see what it wrote. */
static int faulty_ctr(struct siv_aes const *aes, uint8_t const counter[SIV_BLOCK], uint8_t *out,
                      uint8_t const *in, size_t len)
{
    return real->ctr(aes, counter, out, in, len) && may_work();
}

static int faulty_ecb(struct siv_aes const *aes, uint8_t *data, size_t len)
{
    return real->ecb(aes, data, len) && may_work();
}

static struct siv_backend const faulty = {
    .name = "faulty",
    .open = faulty_open,
    .set_key = faulty_set_key,
    .copy = faulty_copy,
    .clear = faulty_clear,
    .close = faulty_close,
    .mac = faulty_mac,
    .ctr = faulty_ctr,
    .ecb = faulty_ecb,
};

static uint8_t const key[32] = {9};
static uint8_t const text[40] = {1, 2, 3, 4};

/* After a failure the context refuses every step until it gets a key. */
static int stuck(AES_SIV_CTX *ctx)
{
    calls_left = -1;
    CHECK(AES_SIV_AssociateData(ctx, text, 1) == 0);
    return 0;
}

static int seal(AES_SIV_CTX *ctx, uint8_t *v, uint8_t *c)
{
    memset(v, 0xa5, 16);
    memset(c, 0xa5, sizeof text);
    if (AES_SIV_EncryptFinal(ctx, v, c, text, sizeof text))
        return 1;
    CHECK(check_all(v, 0, 16) && check_all(c, 0, sizeof text));
    return stuck(ctx);
}

static int open(AES_SIV_CTX *ctx, uint8_t const *v, uint8_t const *c)
{
    uint8_t out[sizeof text];

    memset(out, 0xa5, sizeof out);
    if (AES_SIV_DecryptFinal(ctx, out, v, c, sizeof text))
        return CHECK(memcmp(out, text, sizeof text) == 0);
    CHECK(check_all(out, 0, sizeof out));
    return stuck(ctx);
}

/* A batch of three: with a scheduled key, without, and with one. A failure sets ok to 0 and leaves clean outputs. */
static int batch(AES_SIV_KEY const *scheduled)
{
    uint8_t sealed[3][sizeof text + 16], out[3][sizeof text];
    AES_SIV_MSG msgs[3];
    int all = 1;

    memset(out, 0xa5, sizeof out);
    for (size_t i = 0; i < 3; i++)
        msgs[i] = (AES_SIV_MSG){.key = i == 1 ? NULL : scheduled,
                                .raw_key = key,
                                .raw_key_len = sizeof key,
                                .ad = text,
                                .ad_len = i * 3,
                                .in = text,
                                .in_len = sizeof text,
                                .out = sealed[i]};
    if (!siv_batch_run(&faulty, msgs, 3, 1)) {
        CHECK(!msgs[0].ok || !msgs[1].ok || !msgs[2].ok);
        return 0;
    }
    for (size_t i = 0; i < 3; i++) {
        msgs[i].in = sealed[i];
        msgs[i].in_len = sizeof sealed[i];
        msgs[i].out = out[i];
    }
    all = siv_batch_run(&faulty, msgs, 3, 0);
    for (size_t i = 0; i < 3; i++)
        CHECK(msgs[i].ok ? memcmp(out[i], text, sizeof text) == 0 : check_all(out[i], 0, sizeof text));
    CHECK(all == (msgs[0].ok && msgs[1].ok && msgs[2].ok));
    return all;
}

/* Two messages of AES-128-GCM-SIV. */
static int gcm_conversation(void)
{
    uint8_t sealed[2][sizeof text + 16], out[2][sizeof text];
    AES_SIV_MSG msgs[2];
    int all;

    memset(sealed, 0xa5, sizeof sealed);
    memset(out, 0xa5, sizeof out);
    for (size_t i = 0; i < 2; i++)
        msgs[i] = (AES_SIV_MSG){.raw_key = key, .raw_key_len = 16, .nonce = text, .nonce_len = 12, .ad = text,
                                .ad_len = 9, .in = text, .in_len = sizeof text, .out = sealed[i]};
    if (!siv_gcm_batch_run(&faulty, msgs, 2, 1)) {
        for (size_t i = 0; i < 2; i++)
            CHECK(msgs[i].ok || check_all(sealed[i], 0, sizeof sealed[i]) ||
                  check_all(sealed[i], 0xa5, sizeof sealed[i]));
        return 0;
    }
    for (size_t i = 0; i < 2; i++) {
        msgs[i].in = sealed[i];
        msgs[i].in_len = sizeof sealed[i];
        msgs[i].out = out[i];
    }
    all = siv_gcm_batch_run(&faulty, msgs, 2, 0);
    for (size_t i = 0; i < 2; i++)
        CHECK(msgs[i].ok ? memcmp(out[i], text, sizeof text) == 0 : check_all(out[i], 0, sizeof text));
    CHECK(all == (msgs[0].ok && msgs[1].ok));
    return all;
}

static int batch_conversation(void)
{
    AES_SIV_KEY *const scheduled = siv_key_new(&faulty, key, sizeof key);
    int const ok = scheduled != NULL && batch(scheduled);

    AES_SIV_KEY_free(scheduled);
    return ok;
}

/* Returns whether all of it worked. */
static int conversation(AES_SIV_CTX *a, AES_SIV_CTX *b)
{
    uint8_t v[16], c[sizeof text];

    if (a == NULL || b == NULL)
        return 0;
    if (!AES_SIV_Init(a, key, sizeof key) || !AES_SIV_AssociateData(a, text, 33))
        return stuck(a);
    if (!AES_SIV_CTX_copy(b, a))
        return stuck(b);
    return seal(a, v, c) && open(b, v, c);
}

int main(void)
{
    char const *const name = check_backend();
    int ok = 0;

    real = siv_backend_chosen();
    for (long n = 0; !ok && n < 1000; n++) {
        calls_left = n;
        AES_SIV_CTX *const a = siv_context_new(&faulty);
        AES_SIV_CTX *const b = siv_context_new(&faulty);

        ok = conversation(a, b);
        AES_SIV_CTX_free(a);
        AES_SIV_CTX_free(b);
        CHECK(open_objects == 0);
    }
    CHECK(ok);
    ok = 0;
    for (long n = 0; !ok && n < 1000; n++) {
        calls_left = n;
        ok = batch_conversation();
        CHECK(open_objects == 0);
    }
    CHECK(ok);
    ok = real->ecb == NULL; /* such a backend has nothing that can fail */
    for (long n = 0; !ok && n < 1000; n++) {
        calls_left = n;
        ok = gcm_conversation();
        CHECK(open_objects == 0);
    }
    CHECK(ok);
    return check_report("faults", name);
}

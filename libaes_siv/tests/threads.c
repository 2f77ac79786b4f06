/* SPDX-License-Identifier: MIT
 *
 * threads.c - several threads use the library for the first time at once, each with its own context. Then all of them
 * share a scheduled key. AES_SIV_SANITIZE=thread finds the most.
 */
#include <pthread.h>

#include "check.h"

#define THREADS 8
#define MESSAGES 200

struct result {
    char const *backend;
    unsigned long failures;
};

static void *work(void *argument)
{
    static uint8_t const key[32] = {3};
    struct result *const result = argument;
    AES_SIV_CTX *const ctx = AES_SIV_CTX_new();

    result->failures = ctx == NULL;
    for (int i = 0; ctx != NULL && i < MESSAGES; i++) {
        uint8_t text[100] = {(uint8_t)i}, sealed[116], out[100];
        size_t sealed_len = sizeof sealed, out_len = sizeof out;

        if (!AES_SIV_Encrypt(ctx, sealed, &sealed_len, key, 32, text, 16, text, 100, NULL, 0) ||
            !AES_SIV_Decrypt(ctx, out, &out_len, key, 32, text, 16, sealed, 116, NULL, 0) ||
            memcmp(out, text, 100) != 0)
            result->failures++;
    }
    result->backend = aes_siv_backend();
    AES_SIV_CTX_free(ctx);
    return NULL;
}

static AES_SIV_KEY *shared;

static void *work_in_batches(void *argument)
{
    struct result *const result = argument;
    uint8_t text[5][66] = {{0}}, sealed[5][82];
    AES_SIV_MSG msgs[5];

    result->failures = 0;
    result->backend = aes_siv_backend();
    for (int round = 0; round < MESSAGES; round++) {
        for (size_t i = 0; i < 5; i++)
            msgs[i] = (AES_SIV_MSG){.key = shared,
                                    .nonce = text[0],
                                    .nonce_len = 16,
                                    .in = text[i],
                                    .in_len = 66,
                                    .out = sealed[i]};
        result->failures += !AES_SIV_SealBatch(msgs, 5);
        for (size_t i = 0; i < 5; i++) {
            msgs[i].in = sealed[i];
            msgs[i].in_len = 82;
            msgs[i].out = text[i];
        }
        result->failures += !AES_SIV_OpenBatch(msgs, 5);
    }
    return NULL;
}

static void run_all(void *(*function)(void *))
{
    struct result results[THREADS];
    pthread_t threads[THREADS];
    int started = 0;

    while (started < THREADS &&
           CHECK(pthread_create(&threads[started], NULL, function, &results[started]) == 0))
        started++;
    for (int i = 0; i < started; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);

    char const *const backend = check_backend();

    for (int i = 0; i < started; i++)
        CHECK(results[i].failures == 0 && results[i].backend == backend);
}

int main(void)
{
    static uint8_t const key[32] = {4};

    run_all(work);
    char const *const backend = check_backend();

    shared = AES_SIV_KEY_new(key, sizeof key);
    CHECK(shared != NULL);
    run_all(work_in_batches);
    AES_SIV_KEY_free(shared);
    return check_report("threads", backend);
}

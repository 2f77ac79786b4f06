/* SPDX-License-Identifier: MIT
 *
 * threads.c - the first use of the library happens in several threads at once, and each works with its own
 * context. Most telling when built with AES_SIV_SANITIZE=thread.
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

int main(void)
{
    struct result results[THREADS];
    pthread_t threads[THREADS];
    int started = 0;

    while (started < THREADS && CHECK(pthread_create(&threads[started], NULL, work, &results[started]) == 0))
        started++;
    for (int i = 0; i < started; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);

    char const *const backend = check_backend();

    for (int i = 0; i < started; i++)
        CHECK(results[i].failures == 0 && results[i].backend == backend);
    return check_report("threads", backend);
}

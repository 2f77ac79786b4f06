/* SPDX-License-Identifier: MIT
 *
 * batch_wipe.c - a batch leaves on its stack neither a key, nor the tag that a forged message should have had.
 *
 * The batch runs in a thread whose stack is a file of ours in memory, which is read and searched afterwards.
 * What libcrypto leaves where is not for this library to say, nor what a compiler leaves in debug builds and
 * for the address sanitizer: there, the search runs and its findings do not count.
 */
#define _DEFAULT_SOURCE

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

#define STACK ((size_t)1 << 18)
#define MOST 20
#define LEN 104

static uint8_t keys[MOST][64], sealed[MOST][LEN + 16], out[MOST][LEN + 16];
static uint8_t const data[188] = {5};
static AES_SIV_MSG batch[MOST];
static size_t count;
static int seal;

/* What the search has to find: deep down, where the end of the thread does not overwrite it. */
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
        CHECK(AES_SIV_SealBatch(batch, count) == 1);
    else
        CHECK(AES_SIV_OpenBatch(batch, count) == 0);
    return NULL;
}

/* How many of the secrets are on the stack of a thread that has done the batch; or that leaves one there. */
static unsigned long found(size_t key_len, int leave)
{
    pthread_attr_t attributes;
    pthread_t thread;
    unsigned long hits = 0;
    static uint8_t left[STACK];
    FILE *const file = tmpfile();
    uint8_t *stack;

    if (!CHECK(file != NULL) || !CHECK(ftruncate(fileno(file), (off_t)STACK) == 0))
        return 0;
    stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    if (!CHECK(stack != MAP_FAILED))
        return 0;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstack(&attributes, stack, STACK) == 0);
    CHECK(pthread_create(&thread, &attributes, work, leave ? &count : NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_attr_destroy(&attributes) == 0);
    CHECK(pread(fileno(file), left, STACK, 0) == (ssize_t)STACK);
    for (uint8_t const *p = left; p <= left + STACK - 16; p++) {
        for (size_t i = 0; i < count; i++) {
            hits += memcmp(p, keys[i], 16) == 0 || memcmp(p, keys[i] + key_len / 2, 16) == 0;
            hits += !seal && memcmp(p, sealed[i], 16) == 0;
        }
    }
    CHECK(munmap(stack, STACK) == 0 && fclose(file) == 0);
    return hits;
}

static void prepare(size_t key_len, size_t len)
{
    for (size_t i = 0; i < count; i++) {
        check_fill(keys[i], sizeof keys[i]);
        batch[i] = (AES_SIV_MSG){.raw_key = keys[i],
                                 .raw_key_len = key_len,
                                 .nonce = data,
                                 .nonce_len = 16,
                                 .ad = data,
                                 .ad_len = sizeof data,
                                 .in = data,
                                 .in_len = len,
                                 .out = sealed[i]};
    }
}

/* The tag in each message to open is wrong, the right one is in sealed. The messages have no text: another tag
 * would give another text, of which nobody knows the right tag. */
static void forge(void)
{
    static uint8_t forged[MOST][LEN + 16];

    for (size_t i = 0; i < count; i++) {
        memcpy(forged[i], sealed[i], sizeof forged[i]);
        forged[i][i % 16] ^= 1;
        batch[i].in = forged[i];
        batch[i].in_len = 16;
        batch[i].out = out[i];
    }
}

int main(void)
{
    char const *const backend = check_backend();
#if defined(__SANITIZE_ADDRESS__)
    int const searchable = 0; /* locals may be elsewhere */
    int const strict = 0;
#elif defined(__OPTIMIZE__)
    int const searchable = 1;
    int const strict = strcmp(backend, "libcrypto") != 0;
#else
    int const searchable = 1;
    int const strict = 0; /* every variable is in memory, and the compiler copies at will */
#endif

    for (size_t key_len = 32; key_len <= 64; key_len += 16) {
        for (count = 1; count <= MOST; count++) {
            prepare(key_len, LEN);
            seal = 1;
            CHECK(found(key_len, 0) == 0 || !strict);
            prepare(key_len, 0);
            CHECK(AES_SIV_SealBatch(batch, count) == 1);
            forge();
            seal = 0;
            CHECK(found(key_len, 0) == 0 || !strict);
        }
    }
    count = 1;
    seal = 1;
    CHECK(found(32, 1) != 0 || !searchable); /* or the search would prove nothing */
    return check_report("batch_wipe", backend);
}

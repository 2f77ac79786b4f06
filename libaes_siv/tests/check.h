/* SPDX-License-Identifier: MIT
 *
 * check.h - for all test programs: a check macro, hexadecimal strings and repeatable random bytes.
 *
 * A program calls CHECK any number of times and returns check_report(). A failed check does not end the program.
 */
#ifndef CHECK_H_
#define CHECK_H_

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aes_siv.h"

#define CHECK_SKIP 77

static unsigned long check_count, check_failures;

#define CHECK(condition) check_that((condition) != 0, #condition, __FILE__, __LINE__)

static inline int check_that(int holds, char const *text, char const *file, int line)
{
    check_count++;
    if (!holds) {
        check_failures++;
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, text);
    }
    return holds;
}

/* Prints one line about what the program did. Returns its exit status. */
static inline int check_report(char const *name, char const *backend)
{
    printf("%s on %s: %lu checks, %lu failed\n", name, backend, check_count, check_failures);
    return check_failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Returns the backend in use. Ends the program as skipped if ctest asks for one that this machine lacks. */
static inline char const *check_backend(void)
{
    char const *const wanted = getenv("AES_SIV_BACKEND");
    char const *const backend = aes_siv_backend();

    if (backend == NULL) {
        printf("backend %s is not available on this machine\n", wanted == NULL ? "(any)" : wanted);
        exit(CHECK_SKIP);
    }
    if (wanted != NULL && wanted[0] != '\0')
        CHECK(strcmp(backend, wanted) == 0);
    return backend;
}

static inline unsigned check_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* Decodes lower-case hexadecimal digits. Returns the number of bytes. */
static inline size_t check_unhex(uint8_t *out, char const *hex)
{
    size_t const len = strlen(hex) / 2;

    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(check_digit(hex[2 * i]) << 4 | check_digit(hex[2 * i + 1]));
    return len;
}

static inline int check_all(uint8_t const *p, uint8_t value, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] != value)
            return 0;
    }
    return 1;
}

/* Gives the same numbers in every run (xorshift64). */
static inline uint64_t check_random(void)
{
    static uint64_t x = 88172645463325252u;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x;
}

static inline void check_fill(uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(check_random() >> 32);
}

#endif

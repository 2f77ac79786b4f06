/* SPDX-License-Identifier: MIT
 *
 * fuzz_ke.c - feeds any octets to what reads an NTS-KE client's octets itself: as a ClientHello to nts_ke_hello and as a
 * request to nts_ke_shape. (All else is read by the TLS library.) A libFuzzer target; driver.c runs it without libFuzzer.
 *
 * Invariants: what is usual is partial until its last octet is there; no octet more makes partial or usual of what is
 * unusual; the same octets in other memory get the same judgement; a request is judged alike as a whole and in pieces, and
 * is not partial when it is too long.
 */
#include <stdio.h>
#include <stdlib.h>

#include "ke_internal.h"

int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size);

static struct ke_groups const groups = {.count = 4, .ids = {0x11eb, 0x11ec, 29, 23}, .ours = {0, 1, 1, 1}};

static void require(int holds, char const *what)
{
    if (!holds) {
        fprintf(stderr, "fuzz_ke: broken: %s\n", what);
        abort();
    }
}

/* Judges octets in memory of exactly their size, so that sanitizers see reads beyond it. */
static enum ke_hello judge(uint8_t const *data, size_t size)
{
    uint8_t *const copy = malloc(size == 0 ? 1 : size);
    enum ke_hello verdict;
    int choice = -1;

    if (copy == NULL)
        abort();
    if (size != 0)
        memcpy(copy, data, size);
    verdict = nts_ke_hello(copy, size, &groups, &choice);
    require(choice < (int)groups.count, "a group that is not ours");
    free(copy);
    return verdict;
}

static void try_hello(uint8_t const *data, size_t size)
{
    enum ke_hello const verdict = judge(data, size);
    enum ke_hello before = KE_HELLO_PARTIAL;

    require(verdict != KE_HELLO_USUAL || size <= KE_MAX_HELLO, "a long ClientHello is usual");
    for (size_t n = 0; n <= size; n += size - n > 64 && n > 16 ? 13 : 1) {
        enum ke_hello const now = judge(data, n);

        require(before != KE_HELLO_UNUSUAL || now == KE_HELLO_UNUSUAL, "more octets make good what was unusual");
        require(verdict == KE_HELLO_UNUSUAL || n == size || now == KE_HELLO_PARTIAL, "a beginning is not partial");
        before = now;
    }
    require(before == verdict, "the same octets, another judgement");
}

static void try_request(uint8_t const *data, size_t size)
{
    size_t whole_parsed = 0, parsed = 0, step = size == 0 ? 1 : 1 + data[0] % 32;
    enum ke_shape const whole = nts_ke_shape(data, size, &whole_parsed);
    enum ke_shape shape = KE_PARTIAL;

    for (size_t n = step < size ? step : size; shape == KE_PARTIAL; n = size - n > step ? n + step : size) {
        shape = nts_ke_shape(data, n, &parsed);
        if (n == size)
            break;
    }
    require(shape == whole, "a request in pieces is judged otherwise");
    require(shape != KE_PARTIAL || size <= NTS_KE_MAX_REQUEST, "a request that is too long is partial");
}

int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size)
{
    try_hello(data, size);
    try_request(data, size);
    return 0;
}

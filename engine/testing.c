/* SPDX-License-Identifier: MIT
 *
 * testing.c - the engine without sockets and without chance, for tests and fuzzers.
 */
#include "testing.h"

#include <netinet/in.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "internal.h"

static void draw(void *context, uint8_t *out, size_t n)
{
    nts_test_octets *const source = context;

    if (n > source->length - source->drawn)
        abort();
    memcpy(out, source->octets + source->drawn, n);
    source->drawn += n;
}

void nts_test_draw_from(nts_engine *engine, nts_test_octets *source)
{
    engine->generator.fn = source == NULL ? NULL : draw;
    engine->generator.context = source;
}

void nts_test_answer(nts_engine *engine, uint8_t const *packets, size_t stride, size_t const *lengths,
                     uint64_t const *received, size_t n, uint64_t transmit, uint32_t *verdicts, uint8_t *replies,
                     size_t *reply_lengths, int32_t *key_ages)
{
    struct request requests[NTS_BATCH];
    struct request *answered[NTS_BATCH] = {0};
    uint64_t stamps[NTS_BATCH] = {0};
    struct sockaddr_storage peer = {.ss_family = AF_INET};
    size_t count = 0;

    ((struct sockaddr_in *)&peer)->sin_addr.s_addr = htonl(0xc0000201);
    n = n < NTS_BATCH ? n : NTS_BATCH;
    for (size_t i = 0; i < n; i++) {
        requests[i] = (struct request){
            .packet = packets + i * stride,
            .length = lengths[i],
            .received = received[i],
            .peer = &peer,
            .reply = replies + i * NTS_MAX_REQUEST,
        };
    }
    nts_prepare(engine, requests, n, 1);
    for (size_t i = 0; i < n; i++) {
        if (requests[i].reply_len != 0) {
            stamps[count] = transmit;
            answered[count++] = &requests[i];
        }
    }
    nts_finish(engine, answered, stamps, count);
    for (size_t i = 0; i < n; i++) {
        verdicts[i] = requests[i].verdict;
        reply_lengths[i] = requests[i].reply_len;
        if (key_ages != NULL)
            key_ages[i] = is_protected(&requests[i]) ? (int32_t)requests[i].key_age : -1;
    }
    OPENSSL_cleanse(requests, sizeof requests);
}

uint32_t nts_test_limited(nts_engine *engine, uint8_t const *address, size_t length, int64_t now, uint32_t verdict)
{
    struct sockaddr_storage peer = {.ss_family = length == 4 ? AF_INET : AF_INET6};

    memcpy(length == 4 ? (void *)&((struct sockaddr_in *)&peer)->sin_addr
                       : (void *)&((struct sockaddr_in6 *)&peer)->sin6_addr, address, length);
    return nts_limited(engine->limiter, &peer, now, (enum nts_verdict)verdict);
}

int nts_test_wait(nts_engine *engine, int timeout_ms)
{
    return nts_wait(engine, timeout_ms);
}

size_t nts_test_serve(nts_engine *engine)
{
    return nts_serve(engine);
}

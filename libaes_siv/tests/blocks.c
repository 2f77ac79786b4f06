/* SPDX-License-Identifier: MIT
 *
 * blocks.c - the functions of a backend's table: AES itself (FIPS 197), chaining, counting.
 */
#include "../siv_internal.h"
#include "check.h"

/* Encrypts one block: the MAC of that block from a zero state. */
static void aes(struct siv_backend const *backend, struct siv_aes const *key, uint8_t const *in, uint8_t *out)
{
    memset(out, 0, SIV_BLOCK);
    CHECK(backend->mac(key, out, in, 1) == 1);
}

/* FIPS 197 appendix C. */
static void known_answers(struct siv_backend const *backend, struct siv_aes *key)
{
    static char const *const answers[] = {
        "69c4e0d86a7b0430d8cdb78070b4c55a",
        "dda97ca4864cdfe06eaf70a0ec0d7191",
        "8ea2b7ca516745bfeafc49904b496089",
    };
    uint8_t raw[32], in[SIV_BLOCK], out[SIV_BLOCK], expected[SIV_BLOCK];

    check_unhex(raw, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
    check_unhex(in, "00112233445566778899aabbccddeeff");
    for (size_t i = 0; i < 3; i++) {
        CHECK(backend->set_key(key, raw, 16 + 8 * i) == 1);
        aes(backend, key, in, out);
        check_unhex(expected, answers[i]);
        CHECK(memcmp(out, expected, SIV_BLOCK) == 0);
    }
}

static void chaining(struct siv_backend const *backend, struct siv_aes const *key)
{
    uint8_t data[20 * SIV_BLOCK], at_once[SIV_BLOCK] = {0}, one_by_one[SIV_BLOCK] = {0}, block[SIV_BLOCK];

    check_fill(data, sizeof data);
    CHECK(backend->mac(key, at_once, data, 20) == 1);
    for (size_t i = 0; i < 20; i++) {
        memcpy(block, data + SIV_BLOCK * i, SIV_BLOCK);
        siv_xor_block(block, one_by_one);
        aes(backend, key, block, one_by_one);
    }
    CHECK(memcmp(at_once, one_by_one, SIV_BLOCK) == 0);
    CHECK(backend->mac(key, at_once, data, 0) == 1);
    CHECK(memcmp(at_once, one_by_one, SIV_BLOCK) == 0);
}

/* Every length around the sizes of batches, from counters with the longest carries. Real counters start with bits 63
 * and 31 clear; the last ones here are reached by texts of 2^31 blocks and more. */
static void counting(struct siv_backend const *backend, struct siv_aes const *key)
{
    static char const *const starts[] = {
        "00000000000000000000000000000000", "ffffffffffffffff7fffffff7ffffff0",
        "0123456789abcdef00000000000000fe", "fffffffffffffffe000000000000fffb",
        "00000000000000ff00000000fffffffe", "a5a5a5a5a5a5a5a5000000fffffffff9",
        "ffffffffffffffff7fffffffffffff00", "5555555555555555007fffffffffffff",
    };
    uint8_t counter[SIV_BLOCK], in[600], out[600 + 1], block[SIV_BLOCK], stream[600 + SIV_BLOCK];

    check_fill(in, sizeof in);
    for (size_t start = 0; start < sizeof starts / sizeof starts[0]; start++) {
        check_unhex(counter, starts[start]);
        memcpy(block, counter, SIV_BLOCK);
        for (size_t at = 0; at < 600; at += SIV_BLOCK) {
            aes(backend, key, block, stream + at);
            for (int i = SIV_BLOCK - 1; i >= 0 && ++block[i] == 0; i--)
                continue; /* the full 128-bit increment of the RFC */
        }
        for (size_t len = 0; len <= sizeof in; len++) {
            int same = 1;

            memset(out, 0xa5, sizeof out);
            CHECK(backend->ctr(key, counter, out, in, len) == 1);
            for (size_t i = 0; i < len; i++)
                same &= out[i] == (in[i] ^ stream[i]);
            CHECK(same && check_all(out + len, 0xa5, sizeof out - len));
            CHECK(backend->ctr(key, counter, out, out, len) == 1);
            CHECK(memcmp(out, in, len) == 0);
        }
    }
}

/* As many blocks as one call may have, and one. */
static void several(struct siv_backend const *backend, struct siv_aes const *key)
{
    uint8_t data[SIV_ECB_BLOCKS * SIV_BLOCK], expected[sizeof data];

    check_fill(data, sizeof data);
    for (size_t at = 0; at < sizeof data; at += SIV_BLOCK)
        aes(backend, key, data + at, expected + at);
    CHECK(backend->ecb(key, data, SIV_BLOCK) == 1);
    CHECK(backend->ecb(key, data + SIV_BLOCK, sizeof data - SIV_BLOCK) == 1);
    CHECK(memcmp(data, expected, sizeof data) == 0);
}

int main(void)
{
    char const *const name = check_backend();
    struct siv_backend const *const backend = siv_backend_chosen();
    struct siv_aes key, other;

    CHECK(strcmp(backend->name, name) == 0);
    if (!CHECK(backend->open(&key) == 1 && backend->open(&other) == 1))
        return EXIT_FAILURE;
    known_answers(backend, &key);
    for (size_t len = 16; len <= 32; len += 8) {
        uint8_t raw[32];

        check_fill(raw, sizeof raw);
        CHECK(backend->set_key(&key, raw, len) == 1 && backend->copy(&other, &key) == 1);
        backend->clear(&key);
        chaining(backend, &other);
        counting(backend, &other);
        if (CHECK((backend->ecb == NULL) == (backend->gcm != NULL)) && backend->ecb != NULL)
            several(backend, &other);
    }
    backend->close(&key);
    backend->close(&other);
    return check_report("blocks", name);
}

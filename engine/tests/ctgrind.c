/* SPDX-License-Identifier: MIT
 *
 * ctgrind.c - does any branch or address in the engine depend on a secret? Run it under Valgrind.
 *
 * The master keys are marked as uninitialised, and so are the clients' keys, which come from cookies decrypted with
 * them. Memcheck reports every jump and every memory access that depends on either. Some values are public although
 * they come from a secret: whether something is authentic (libaes_siv declares that), the algorithm in a cookie, which
 * its length tells, and replies. With the argument "leak" the program deliberately branches on a client's key, to show
 * that Memcheck sees it.
 */
#include <valgrind/memcheck.h>

#include "check.h"
#include "requests.h"

#define PACKETS 18

static uint8_t packets[PACKETS][NTS_MAX_REQUEST];
static size_t lengths[PACKETS];
static enum nts_verdict expected[PACKETS];

static void make_packets(void)
{
    for (size_t i = 0; i < PACKETS; i++) {
        expected[i] = NTS_ANSWERED_NTS;
        lengths[i] = good_request(packets[i], i % 2, session_kinds[i % SESSION_KINDS],
                                  (unsigned)(i / SESSION_KINDS));
    }
    for (unsigned i = 14; i < PACKETS; i++) /* fresh cookies have chrony's format, or our own */
        lengths[i] = foreign_request(packets[i], i % 2 ? NTS_CHRONY : NTS_NTPSEC, i / 16, 15, 1);
    packets[3][lengths[3] - 1] ^= 1;
    expected[3] = NTS_NAK_AUTH;
    packets[4][HEADER_LEN + 36 + 50] ^= 1;
    expected[4] = NTS_NAK_COOKIE;
    packets[5][HEADER_LEN + 36 + 4] ^= 1; /* no master key has this identifier */
    expected[5] = NTS_NAK_COOKIE;
    lengths[6] = HEADER_LEN;
    expected[6] = NTS_ANSWERED_PLAIN;
}

static nts_engine *engine_with_secret_keys(void)
{
    nts_engine *const engine = new_engine();
    uint8_t secret[64];

    memcpy(secret, master_keys(), sizeof secret);
    (void)VALGRIND_MAKE_MEM_UNDEFINED(secret, sizeof secret);
    if (engine != NULL)
        CHECK(nts_engine_set_keys(engine, master_ids, secret, 2));
    if (engine != NULL)
        nts_engine_set_format(engine, NTS_CHRONY);
    return engine;
}

static void leak(nts_engine *engine)
{
    struct request request = {.packet = packets[0], .length = lengths[0]};
    static uint8_t reply[NTS_MAX_REQUEST];

    request.reply = reply;
    nts_prepare(engine, &request, 1, 0);
    if (request.keys[2] != 0)
        puts("branched on a secret");
}

int main(int argc, char **argv)
{
    static uint8_t replies[PACKETS][NTS_MAX_REQUEST];
    uint64_t const received[PACKETS] = {0};
    uint32_t verdicts[PACKETS];
    size_t reply_lengths[PACKETS];
    char const *const backend = check_backend();
    nts_engine *const engine = engine_with_secret_keys();

    if (!CHECK(engine != NULL))
        return EXIT_FAILURE;
    if (!RUNNING_ON_VALGRIND) {
        printf("run this under valgrind\n");
        return EXIT_FAILURE;
    }
    make_packets();
    if (argc > 1 && strcmp(argv[1], "leak") == 0)
        leak(engine);
    for (size_t n = 1; n <= PACKETS; n++) { /* one message, and several interleaved */
        nts_test_answer(engine, packets[0], NTS_MAX_REQUEST, lengths, received, n, 1, verdicts, replies[0],
                          reply_lengths, NULL);
        for (size_t i = 0; i < n; i++)
            CHECK(verdicts[i] == expected[i] && reply_lengths[i] != 0);
    }
    nts_engine_free(engine);
    return check_report("ctgrind", backend);
}

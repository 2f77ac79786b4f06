/* SPDX-License-Identifier: MIT
 *
 * wipe.c - no client's key stays in memory after a batch, and no master key after it has left the ring: not in the
 * engine's memory, not in any that it has freed, and not on the stack.
 *
 * Linked with --wrap for the allocator's functions, to search what is freed, and for nts_finish, which sees the engine's
 * memory while the keys are in use: that shows that the search finds them. The stack is that of a thread, in a mapped
 * file. As in libaes_siv/tests/batch_wipe.c, findings there do not count where the compiler or libcrypto decides what is
 * left.
 */
#define _GNU_SOURCE /* recvmmsg */
#include <arpa/inet.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <openssl/crypto.h>

#include "check.h"
#include "requests.h"
#include "stack.h"
#include "udp.h"

#define PIECE 16 /* octets of a key that must not be left together */

void __real_free(void *p);
void *__wrap_malloc(size_t size);
void __wrap_free(void *p);
void __real_nts_finish(nts_engine *engine, struct request *const *requests, uint64_t const *transmit, size_t n);
void __wrap_nts_finish(nts_engine *engine, struct request *const *requests, uint64_t const *transmit, size_t n);

/* ---- Secrets ------------------------------------------------------------------------------------------- */

static uint8_t secrets[64][PIECE];
static size_t secret_count;
static uint8_t begins[256]; /* whether a secret begins with this octet */
static unsigned long freed_with_secret;
static unsigned long in_use; /* findings while a batch is being answered */

static void add_secret(uint8_t const *key, size_t len)
{
    for (size_t at = 0; at + PIECE <= len; at += 8) {
        memcpy(secrets[secret_count++], key + at, PIECE);
        begins[key[at]] = 1;
    }
}

static unsigned long found(void const *memory, size_t len)
{
    uint8_t const *const bytes = memory;
    unsigned long hits = 0;

    for (size_t at = 0; at + PIECE <= len; at++)
        for (size_t i = 0; begins[bytes[at]] && i < secret_count; i++)
            hits += memcmp(bytes + at, secrets[i], PIECE) == 0;
    return hits;
}

/* Searches a block by way of the kernel: padding is in there too, which Valgrind takes for uninitialised. */
static unsigned long found_in_block(void *block)
{
    size_t const len = block == NULL ? 0 : malloc_usable_size(block);
    uint8_t *const copy = calloc(1, len + 1);
    int const memory = open("/proc/self/mem", O_RDONLY);
    unsigned long hits;

    CHECK(copy != NULL && memory >= 0 && pread(memory, copy, len, (off_t)(uintptr_t)block) == (ssize_t)len);
    hits = found(copy, len);
    close(memory);
    __real_free(copy);
    return hits;
}

static unsigned long found_in_engine(nts_engine *engine)
{
    return found_in_block(engine) + found_in_block(engine->loop);
}

/* ---- The allocator ------------------------------------------------------------------------------------- */

void *__wrap_malloc(size_t size)
{
    return calloc(1, size); /* so that the search reads nothing uninitialised */
}

void __wrap_free(void *p)
{
    if (p != NULL)
        freed_with_secret += found(p, malloc_usable_size(p));
    __real_free(p);
}

static void *crypto_malloc(size_t size, char const *file, int line)
{
    (void)file, (void)line;
    return malloc(size);
}

static void *crypto_realloc(void *p, size_t size, char const *file, int line)
{
    void *const moved = crypto_malloc(size, file, line);

    if (moved != NULL && p != NULL) {
        size_t const old = malloc_usable_size(p);

        memcpy(moved, p, old < size ? old : size);
        free(p);
    }
    return moved;
}

static void crypto_free(void *p, char const *file, int line)
{
    (void)file, (void)line;
    free(p);
}

/* ---- The stack ----------------------------------------------------------------------------------------- */

/* Runs a function in a thread and returns what of the secrets is on its stack. */
static unsigned long left_on_stack(void *(*function)(void *), void *argument)
{
    uint8_t const *const left = stack_after(function, argument);

    return left == NULL ? 0 : found(left, STACK);
}

static void *leave_secret(void *unused)
{
    uint8_t volatile copy[8192];

    for (size_t i = 0; i < sizeof copy; i++)
        copy[i] = secrets[0][i % PIECE];
    return unused;
}

/* ---- Clients' keys ------------------------------------------------------------------------------------- */

void __wrap_nts_finish(nts_engine *engine, struct request *const *requests, uint64_t const *transmit, size_t n)
{
    if (in_use == 0)
        in_use = found_in_engine(engine);
    __real_nts_finish(engine, requests, transmit, n);
}

static void *serve(void *engine)
{
    CHECK(nts_wait(engine, 1000) == 1);
    nts_serve(engine);
    return NULL;
}

/* A request with an authentic cookie that holds other things than keys for its nonce, and with those as secrets. */
static size_t request_for_others(uint8_t *packet)
{
    uint8_t contents[2 + 64];
    size_t const cookie_len = COOKIE_HEAD_LEN + TAG_LEN + sizeof contents;
    size_t len = HEADER_LEN;

    check_fill(contents, sizeof contents);
    store16(contents, 30);
    add_secret(contents + 2, sizeof contents - 2);
    memset(packet, 0, HEADER_LEN);
    packet[0] = 0x23;
    len = add_field(packet, len, UID_FIELD, UNIQUE_ID_LEN, 0x77);
    len = add_field(packet, len, COOKIE_TYPE, cookie_len, 0);
    seal_cookie(packet + len - cookie_len, 1, contents, sizeof contents);
    return authenticate_packet(packet, len, 15);
}

/* Answers, refuses and hands over requests that bring keys of all kinds, few and many at a time. */
static void check_sessions(int strict)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t to_len = sizeof to;
    int const server = bound_socket((struct sockaddr *)&to, sizeof to);
    int const client = bound_socket((struct sockaddr *)&to, sizeof to);
    uint8_t packet[NTS_MAX_REQUEST], keys[128];
    nts_engine *const engine = new_engine();

    CHECK(server >= 0 && client >= 0 && engine != NULL);
    CHECK(getsockname(server, (struct sockaddr *)&to, &to_len) == 0);
    CHECK(nts_engine_attach(engine, &server, 1, NULL, 0) == 1);
    for (int round = 0; round < 6; round++) {
        secret_count = 0;
        in_use = 0;
        nts_engine_set_format(engine, (unsigned)round % NTS_FORMATS);
        for (size_t i = 0; i < SESSION_KINDS; i++) {
            session_keys(session_kinds[i], keys);
            add_secret(keys, 2 * session_key_len(session_kinds[i]));
        }
        for (unsigned i = 0; i < (round < 3 ? 4u : NTS_BATCH); i++) {
            size_t len = good_request(packet, i % 2, session_kinds[(i + (unsigned)round) % SESSION_KINDS], i % 3);

            if (i % 4 == 2) /* for a fresh cookie of which the plaintext has to be turned around */
                len = foreign_request(packet, NTS_NTPSEC, i / 4 % 2, 15 + (i + (unsigned)round) % 3, i % 3);
            if (i % 4 == 1)
                packet[len - 1] ^= 1; /* a NAK */
            if (i == 3)
                len = request_for_others(packet);
            CHECK(sendto(client, packet, len, 0, (struct sockaddr *)&to, to_len) == (ssize_t)len);
        }
        CHECK(left_on_stack(serve, engine) == 0 || !strict);
        CHECK(in_use != 0); /* shows that the search works */
        CHECK(found_in_engine(engine) == 0);
        while (recv(client, packet, sizeof packet, 0) > 0)
            continue;
    }
    nts_engine_free(engine);
    close(server);
    close(client);
}

/* ---- Master keys --------------------------------------------------------------------------------------- */

static void *set_keys(void *engine)
{
    CHECK(nts_engine_set_keys(engine, master_ids, master_keys(), 2) == 1);
    return NULL;
}

static void *set_imported(void *engine)
{
    nts_imported key = {.format = NTS_CHRONY, .usable = 1};

    memcpy(key.key, master_keys(), sizeof key.key);
    CHECK(nts_engine_set_imported(engine, &key, 1) == 1);
    OPENSSL_cleanse(&key, sizeof key);
    return NULL;
}

static void check_masters(int strict)
{
    static nts_imported const none[NTS_MAX_IMPORTED + 1];
    static uint8_t const other[64] = {1};
    static uint16_t const ids[NTS_MAX_KEYS + 1] = {0};
    nts_engine *const engine = nts_engine_new();

    CHECK(engine != NULL);
    secret_count = 0;
    add_secret(master_keys(), 64);
    CHECK(left_on_stack(set_keys, engine) == 0 || !strict);
    /* A new ring, an empty one, and the end; a ring that is refused changes nothing. */
    CHECK(nts_engine_set_keys(engine, master_ids, other, 2) == 1);
    CHECK(nts_engine_set_keys(engine, master_ids, master_keys(), 2) == 1);
    CHECK(nts_engine_set_keys(engine, ids, other, NTS_MAX_KEYS + 1) == 0);
    CHECK(nts_engine_set_keys(engine, master_ids, master_keys(), 0) == 1);
    CHECK(nts_engine_set_keys(engine, master_ids, master_keys(), 2) == 1);
    CHECK(left_on_stack(set_imported, engine) == 0 || !strict);
    CHECK(nts_engine_set_imported(engine, none, 0) == 1);
    CHECK(left_on_stack(set_imported, engine) == 0 || !strict);
    CHECK(nts_engine_set_imported(engine, none, NTS_MAX_IMPORTED + 1) == 0);
    CHECK(found_in_engine(engine) == 0); /* libaes_siv has them */
    nts_engine_free(engine);
}

int main(void)
{
    char const *backend;
    void *leak;
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__)
    int strict = 1;
#else
    int strict = 0;
#endif

    CHECK(CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) == 1);
    backend = check_backend();
    strict &= strcmp(backend, "libcrypto") != 0;
    check_masters(strict);
    check_sessions(strict);
    CHECK(freed_with_secret == 0);
    CHECK(left_on_stack(leave_secret, NULL) != 0 || !strict); /* shows that these searches work too */
    leak = OPENSSL_malloc(PIECE);
    if (CHECK(leak != NULL))
        memcpy(leak, secrets[0], PIECE);
    OPENSSL_free(leak);
    CHECK(freed_with_secret == 1);
    return check_report("wipe", backend);
}

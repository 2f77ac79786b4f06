/* SPDX-License-Identifier: MIT
 *
 * steady.c - the loop over real sockets on loopback, IPv4 and, where available, IPv6: serves thousands of batches of
 * all kinds of packets without an allocation, counts every packet and sends every reply.
 *
 * Linked with --wrap for the allocator's functions, which covers the engine and libaes_siv; libcrypto lets us replace
 * its allocator. The libcrypto backend cannot set a key without allocating, so with it the test only checks that
 * everything is freed. argv[1] is the number of batches; under valgrind, which is slow, the default is lower.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/crypto.h>

#include "check.h"
#include "requests.h"
#include "udp.h"

#define BATCHES 10000
#define BATCHES_UNDER_VALGRIND 200
#define BURST 16
#define KINDS 8

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **p, size_t alignment, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **p, size_t alignment, size_t size);
void __wrap_free(void *p);

static unsigned long allocations;
static long alive; /* allocations less releases */

void *__wrap_malloc(size_t size)
{
    alive++;
    allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    alive++;
    allocations++;
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    alive += p == NULL;
    allocations++;
    return __real_realloc(p, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    alive++;
    allocations++;
    return __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **p, size_t alignment, size_t size)
{
    alive++;
    allocations++;
    return __real_posix_memalign(p, alignment, size);
}

void __wrap_free(void *p)
{
    alive -= p != NULL;
    __real_free(p);
}

static void *crypto_malloc(size_t size, char const *file, int line)
{
    (void)file, (void)line;
    return malloc(size);
}

static void *crypto_realloc(void *p, size_t size, char const *file, int line)
{
    (void)file, (void)line;
    return realloc(p, size);
}

static void crypto_free(void *p, char const *file, int line)
{
    (void)file, (void)line;
    free(p);
}

struct kind {
    uint8_t packet[NTS_MAX_REQUEST + 12];
    size_t len;
    enum nts_verdict verdict;
};

static struct kind kinds[KINDS];

static void make_kinds(void)
{
    static unsigned const sessions[] = {15, 30, 30 | SECOND_OF_TWO, 16, 17};

    for (size_t i = 0; i < 5; i++) { /* all algorithms, few and many cookies */
        kinds[i].len = good_request(kinds[i].packet, i % 2, sessions[i], (unsigned)i * 2);
        kinds[i].verdict = NTS_ANSWERED_NTS;
    }
    kinds[3].packet[kinds[3].len - 1] ^= 1;
    kinds[3].verdict = NTS_NAK_AUTH;
    kinds[4].packet[HEADER_LEN + 36 + 50] ^= 1;
    kinds[4].verdict = NTS_NAK_COOKIE;
    kinds[5].packet[0] = 0x1b;
    kinds[5].len = HEADER_LEN;
    kinds[5].verdict = NTS_ANSWERED_PLAIN;
    kinds[6].len = NTS_MAX_REQUEST + 12;
    kinds[6].verdict = NTS_DROP_LENGTH;
    kinds[7].len = add_field(kinds[7].packet, HEADER_LEN, 0xf123, 24, 0);
    kinds[7].packet[0] = 0x23;
    kinds[7].verdict = NTS_HANDOVER;
}

/* A socket on loopback, and its address; -1 if this machine lacks the family. */
static int loopback_socket(int family, struct sockaddr_storage *address, socklen_t *len)
{
    int fd;

    memset(address, 0, sizeof *address);
    address->ss_family = (sa_family_t)family;
    if (family == AF_INET)
        ((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        ((struct sockaddr_in6 *)address)->sin6_addr = in6addr_loopback;
    *len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    fd = bound_socket((struct sockaddr *)address, *len);
    CHECK(fd < 0 || getsockname(fd, (struct sockaddr *)address, len) == 0);
    return fd;
}

/* Returns how many replies have come, and adds up their octets. */
static unsigned long drain(int client, uint64_t *octets)
{
    uint8_t reply[NTS_MAX_REQUEST];
    unsigned long got = 0;
    ssize_t len;

    for (; (len = recv(client, reply, sizeof reply, 0)) > 0; got++)
        *octets += (uint64_t)len;
    return got;
}

static void run(nts_engine *engine, int family, unsigned long batches)
{
    static uint64_t cells[NTS_CELLS];
    uint64_t expected[NTS_CELLS] = {0};
    struct sockaddr_storage to, own;
    socklen_t to_len, own_len;
    int const server = loopback_socket(family, &to, &to_len);
    int const client = loopback_socket(family, &own, &own_len);
    unsigned long before, replies = 0, uncovered = 0, handovers = 0, silent = 0;
    long alive_before;
    uint64_t answered;
    int wake[2];

    if (server < 0 || client < 0) {
        printf("no %s here\n", family == AF_INET ? "IPv4" : "IPv6");
        return;
    }
    memset(cells, 0, sizeof cells);
    CHECK(pipe(wake) == 0);
    CHECK(nts_engine_attach(engine, &server, 1, wake, 1) == 1);
    nts_engine_count_into(engine, cells);
    before = allocations;
    alive_before = alive;
    for (unsigned long batch = 0; batch < batches; batch++) {
        size_t served;

        for (unsigned i = 0; i < BURST; i++) {
            size_t const which = check_random() % KINDS;
            struct kind const *const kind = &kinds[which];

            CHECK(sendto(client, kind->packet, kind->len, 0, (struct sockaddr *)&to, to_len) == (ssize_t)kind->len);
            expected[NTS_OCTETS_RECEIVED] += kind->len < NTS_MAX_REQUEST + 4 ? kind->len : NTS_MAX_REQUEST + 4;
            if (kind->verdict == NTS_ANSWERED_NTS) /* make_kinds() takes the two master keys in turn */
                expected[which % 2 == 0 ? NTS_KEY_AGE_1 : NTS_KEY_AGE_0]++;
            if (kind->verdict == NTS_HANDOVER)
                uncovered++;
            else
                expected[kind->verdict]++;
        }
        CHECK(nts_wait(engine, 1000) == 1);
        served = nts_serve(engine);
        CHECK(served == BURST);
        /* Lets the queue overflow at times, and empties it at others. */
        while (batch % 256 >= 160 && nts_engine_handover(engine) != NULL) {
            nts_handover const *const packet = nts_engine_handover(engine);

            CHECK(packet->length == kinds[7].len && memcmp(packet->packet, kinds[7].packet, packet->length) == 0);
            nts_engine_handover_done(engine, packet->packet, handovers % 8 == 7 ? 0 : HEADER_LEN);
            silent += handovers++ % 8 == 7;
        }
        replies += drain(client, &expected[NTS_OCTETS_SENT]);
    }
    CHECK(alive == alive_before);
    if (strcmp(aes_siv_backend(), "libcrypto") != 0 && !CHECK(allocations == before))
        fprintf(stderr, "%lu allocations in %lu batches\n", allocations - before, batches);
    for (; nts_engine_handover(engine) != NULL; handovers++, silent++)
        nts_engine_handover_done(engine, NULL, 0);
    expected[NTS_HANDOVERS] = handovers;
    CHECK(cells[NTS_DROP_BUSY] + handovers == uncovered);
    CHECK(batches < 200 || cells[NTS_DROP_BUSY] != 0);
    cells[NTS_DROP_BUSY] = 0;
    CHECK(memcmp(cells, expected, sizeof cells) == 0);
    answered = cells[NTS_ANSWERED_PLAIN] + cells[NTS_ANSWERED_NTS] + cells[NTS_NAK_COOKIE] + cells[NTS_NAK_AUTH];
    CHECK(replies == answered + handovers - silent);
    CHECK(nts_wait(engine, 0) == 0);
    CHECK(write(wake[1], "", 1) == 1 && nts_wait(engine, -1) == -1);
    close(wake[0]);
    close(wake[1]);
    close(server);
    close(client);
}

int main(int argc, char **argv)
{
    /* memcheck.sh passes no arguments; valgrind sets this in the environment of what it runs. */
    char const *const preload = getenv("LD_PRELOAD");
    int const slow = preload != NULL && strstr(preload, "vgpreload") != NULL;
    unsigned long const batches = argc > 1 ? strtoul(argv[1], NULL, 10) : slow ? BATCHES_UNDER_VALGRIND : BATCHES;
    char const *backend;
    nts_engine *engine;

    /* must come before OpenSSL's first allocation */
    CHECK(CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) == 1);
    backend = check_backend();
    engine = new_engine();
    if (!CHECK(engine != NULL))
        return EXIT_FAILURE;
    CHECK(allocations > 0); /* the counter works */
    make_kinds();
    run(engine, AF_INET, batches);
    run(engine, AF_INET6, batches / 10 + 1);
    nts_engine_free(engine);
    return check_report("steady", backend);
}

/* SPDX-License-Identifier: MIT
 *
 * bench.c - nanoseconds for the messages of Network Time Security: every backend of this CPU, for single messages
 * and in batches, beside OpenSSL and nettle.
 *
 * An exchange is what a time server does for one request: open the cookie, verify the request with the key from the
 * cookie, seal a new cookie, seal the response that carries it. Each step uses the output of the one before. Nonces
 * are made in advance.
 *
 * All implementations take turns, round by round, so that a change of clock frequency affects all of them. The
 * result is the median round of each. Before the clock starts, all results are compared, except where OpenSSL's
 * interface cannot express the message (bench_peers.c).
 */
#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_peers.h"
#include "siv_internal.h"

#define SETS 64 /* different keys and messages, used in turn */
#define MAX_ROUNDS 1001
#define MAX_SIDES 5
#define MAX_CELLS 32
#define PER_ROUND 2048 /* operations, or twice the number of exchanges */

/* An implementation of AES-SIV: one of our backends, or a peer. */
struct side {
    char const *name;
    struct siv_backend const *backend; /* NULL for a peer */
    struct peer const *peer;           /* NULL for a backend */
    AES_SIV_KEY *key; /* the server's */
};

static struct side sides[MAX_SIDES];
static size_t side_count;
static struct side const *nettle; /* ratios are relative to it; NULL if it is not available */

/* Keys of 16 bytes are for AES-128-GCM-SIV, which only backends have. */
static inline int run(struct side const *side, AES_SIV_MSG *msgs, size_t n, int seal)
{
    if (n != 0 && msgs[0].key == NULL && msgs[0].raw_key_len == SIV_GCM_KEY)
        return siv_gcm_batch_run(side->backend, msgs, n, seal);
    return side->peer != NULL ? side->peer->run(msgs, n, seal) : siv_batch_run(side->backend, msgs, n, seal);
}

static void must(int ok, char const *what, struct side const *side)
{
    if (ok)
        return;
    fprintf(stderr, "aes_siv_bench: %s: %s failed\n", side->name, what);
    exit(EXIT_FAILURE);
}

static void set_key(struct side *side, size_t key_len)
{
    unsigned char key[64];

    memset(key, 0x5a, sizeof key);
    AES_SIV_KEY_free(side->key);
    side->key = siv_key_new(side->peer != NULL ? siv_backend_libcrypto() : side->backend, key, key_len);
    must(side->key != NULL && (side->peer == NULL || side->peer->set_key(key, key_len)), "key expansion", side);
}

static void fill(unsigned char *p, size_t len)
{
    static unsigned x = 1;

    for (size_t i = 0; i < len; i++) {
        x = x * 1103515245u + 12345u;
        p[i] = (unsigned char)(x >> 16 & 0xff);
    }
}

/* ---- Single operations --------------------------------------------------------------------------------- */

struct shape {
    char const *name;
    int seal;
    int scheduled; /* the key is expanded in advance, instead of coming with the message */
    size_t ad_len;
    size_t len; /* of the plaintext */
};

static struct shape const shapes[] = {
    {"open cookie, 82 B, scheduled key *", 0, 1, 0, 66},
    {"seal cookie, 66 B, scheduled key *", 1, 1, 0, 66},
    {"verify request, AD 188 B, empty text *", 0, 0, 188, 0},
    {"seal response, AD 84 B, 104 B", 1, 0, 84, 104},
    {"seal response, AD 84 B, 832 B", 1, 0, 84, 832},
};

#define TEXT 832

static struct operation {
    unsigned char raw_key[64], nonce[16], ad[188], text[TEXT + 1], sealed[TEXT + 17], out[TEXT + 17];
} operations[SETS];

static AES_SIV_MSG messages[SETS];

/* Sets up the messages of this shape. The side itself seals those that it is to open. */
static void prepare(struct side const *side, struct shape const *s)
{
    for (size_t i = 0; i < SETS; i++) {
        struct operation *const o = &operations[i];

        messages[i] = (AES_SIV_MSG){.key = s->scheduled ? side->key : NULL,
                                    .raw_key = o->raw_key,
                                    .raw_key_len = 32,
                                    .nonce = o->nonce,
                                    .nonce_len = sizeof o->nonce,
                                    .ad = o->ad,
                                    .ad_len = s->ad_len,
                                    .in = o->text,
                                    .in_len = s->len,
                                    .out = o->sealed};
    }
    must(run(side, messages, SETS, 1), s->name, side);
    for (size_t i = 0; i < SETS; i++) {
        messages[i].out = operations[i].out;
        if (!s->seal) {
            messages[i].in = operations[i].sealed;
            messages[i].in_len = s->len + 16;
        }
    }
}

static int operate(struct side const *side, size_t first, size_t n, int seal)
{
    return run(side, messages + first, n, seal);
}

/* ---- Exchanges ----------------------------------------------------------------------------------------- */

#define COOKIE_TEXT(key_len) (2 * (key_len) + 2)

/* Room for keys of 64 bytes. Each output has a spare byte, for bench_peers.c. */
static struct exchange {
    unsigned char cookie_nonce[16], cookie[COOKIE_TEXT(64) + 17];
    unsigned char request_ad[188], request_nonce[16], request_tag[17];
    unsigned char keys[COOKIE_TEXT(64) + 1]; /* from the cookie: the client's, then the server's */
    unsigned char new_nonce[16], response_ad[84], response_nonce[16];
    unsigned char inner[4 + 16 + COOKIE_TEXT(64) + 18], response[16 + 4 + 16 + COOKIE_TEXT(64) + 18];
} exchanges[SETS];

/* The part of a request that is authenticated, for keys of 16 and 32 bytes. (In reality it grows with longer keys.) */
static size_t request_ad_len(size_t key_len)
{
    return key_len == SIV_GCM_KEY ? 156 : 188;
}

/* Starts a message with what every step sets. */
static inline AES_SIV_MSG *message(size_t i, AES_SIV_KEY const *key, unsigned char const *raw_key, size_t key_len,
                            unsigned char const *nonce)
{
    messages[i] = (AES_SIV_MSG){
        .key = key, .raw_key = raw_key, .raw_key_len = key_len, .nonce = nonce,
        .nonce_len = key == NULL && key_len == SIV_GCM_KEY ? SIV_GCM_NONCE : 16};
    return &messages[i];
}

static inline void with_ad(AES_SIV_MSG *m, unsigned char const *ad, size_t ad_len)
{
    m->ad = ad;
    m->ad_len = ad_len;
}

static inline void with_text(AES_SIV_MSG *m, unsigned char const *in, size_t in_len, unsigned char *out)
{
    m->in = in;
    m->in_len = in_len;
    m->out = out;
}

static int serve(struct side const *side, struct exchange *e, size_t n, size_t key_len)
{
    size_t const cookie_text = COOKIE_TEXT(key_len);

    for (size_t i = 0; i < n; i++)
        with_text(message(i, side->key, NULL, 0, e[i].cookie_nonce), e[i].cookie, cookie_text + 16, e[i].keys);
    if (!run(side, messages, n, 0))
        return 0;
    for (size_t i = 0; i < n; i++) {
        AES_SIV_MSG *const m = message(i, NULL, e[i].keys, key_len, e[i].request_nonce);

        with_ad(m, e[i].request_ad, request_ad_len(key_len));
        with_text(m, e[i].request_tag, 16, e[i].response);
    }
    if (!run(side, messages, n, 0))
        return 0;
    for (size_t i = 0; i < n; i++)
        with_text(message(i, side->key, NULL, 0, e[i].new_nonce), e[i].keys, cookie_text, e[i].inner + 4);
    if (!run(side, messages, n, 1))
        return 0;
    for (size_t i = 0; i < n; i++) {
        AES_SIV_MSG *const m = message(i, NULL, e[i].keys + key_len, key_len, e[i].response_nonce);

        with_ad(m, e[i].response_ad, sizeof e[i].response_ad);
        with_text(m, e[i].inner, cookie_text + 38, e[i].response);
    }
    return run(side, messages, n, 1);
}

/* Has the side itself make its cookies and requests. */
static void prepare_exchanges(struct side *side, size_t key_len)
{
    set_key(side, key_len < 32 ? 32 : key_len);
    for (size_t i = 0; i < SETS; i++) {
        struct exchange *const e = &exchanges[i];
        unsigned char keys[COOKIE_TEXT(64) + 1];
        AES_SIV_MSG *m = message(0, side->key, NULL, 0, e->cookie_nonce);

        memset(keys, 0, sizeof keys);
        memcpy(keys, operations[i].text, 2 * key_len);
        with_text(m, keys, COOKIE_TEXT(key_len), e->cookie);
        must(run(side, m, 1, 1), "cookie", side);
        m = message(0, NULL, keys, key_len, e->request_nonce);
        with_ad(m, e->request_ad, request_ad_len(key_len));
        with_text(m, NULL, 0, e->request_tag);
        if (side->peer != NULL)
            m->in = e->inner;
        must(run(side, m, 1, 1), "request", side);
    }
    must(serve(side, exchanges, SETS, key_len), "exchange", side);
}

/* ---- Measuring ----------------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* One column of a table: a side, and how many messages it gets at a time. */
struct cell {
    struct side *side;
    size_t n;
    size_t key_len; /* of an exchange */
    double ns[MAX_ROUNDS];
};

static struct cell cells[MAX_CELLS];
static size_t cell_count;

static void add_cell(struct side *side, size_t n, size_t key_len)
{
    if (cell_count < MAX_CELLS)
        cells[cell_count++] = (struct cell){.side = side, .n = n, .key_len = key_len};
}

static void measure_operations(struct cell *c, size_t round, struct shape const *s)
{
    double begin;

    prepare(c->side, s);
    begin = now();
    for (size_t i = 0; i < PER_ROUND; i += c->n)
        must(operate(c->side, i % SETS, c->n, s->seal), s->name, c->side);
    c->ns[round] = (now() - begin) / PER_ROUND;
}

static void measure_exchanges(struct cell *c, size_t round)
{
    double begin;

    prepare_exchanges(c->side, c->key_len);
    begin = now();
    for (size_t i = 0; i < PER_ROUND / 2; i += c->n)
        must(serve(c->side, exchanges + i % SETS, c->n, c->key_len), "exchange", c->side);
    c->ns[round] = (now() - begin) / (PER_ROUND / 2.0);
}

static int compare(void const *a, void const *b)
{
    double const x = *(double const *)a, y = *(double const *)b;

    return (x > y) - (x < y);
}

static void measure_all_exchanges(size_t rounds)
{
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < cell_count; i++)
            measure_exchanges(&cells[i], round);
    }
}

static double median(struct cell *c, size_t rounds)
{
    qsort(c->ns, rounds, sizeof c->ns[0], compare);
    return c->ns[rounds / 2];
}

/* ---- Comparing results --------------------------------------------------------------------------------- */

/* Whether all exact sides send the same cookies and responses. */
static void check_results(size_t key_len)
{
    static struct exchange expected[SETS];
    int first = 1;

    for (size_t i = 0; i < side_count; i++) {
        if (sides[i].peer != NULL && (!sides[i].peer->exact || key_len == SIV_GCM_KEY))
            continue;
        prepare_exchanges(&sides[i], key_len);
        for (size_t n = 0; n < SETS; n++)
            memset(exchanges[n].request_tag + 16, 0, 1);
        if (first)
            memcpy(expected, exchanges, sizeof expected);
        must(memcmp(expected, exchanges, sizeof expected) == 0, "comparison", &sides[i]);
        first = 0;
    }
}

/* ---- Tables -------------------------------------------------------------------------------------------- */

static void print_ratio(double theirs, double ours)
{
    printf("%8.1f (%4.1fx)", ours, theirs / ours);
}

/* Peers alone, each backend alone and with batches of n. */
static void operation_table(size_t rounds, size_t n)
{
    cell_count = 0;
    for (size_t i = 0; i < side_count; i++) {
        set_key(&sides[i], 32);
        add_cell(&sides[i], 1, 0);
        if (sides[i].backend != NULL && sides[i].backend->batch != NULL)
            add_cell(&sides[i], n, 0);
    }
    printf("%-40s", "ns per operation, 32-byte keys");
    for (size_t c = 0; c < cell_count; c++) {
        char title[32];

        snprintf(title, sizeof title, "%s/%zu", cells[c].side->name, cells[c].n);
        printf("%14s", title);
    }
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        printf("\n%-40s", shapes[s].name);
        for (size_t round = 0; round < rounds; round++) {
            for (size_t c = 0; c < cell_count; c++)
                measure_operations(&cells[c], round, &shapes[s]);
        }
        for (size_t c = 0; c < cell_count; c++)
            printf("%14.1f", median(&cells[c], rounds));
    }
    printf("\n\n");
}

static void exchange_table(size_t rounds, size_t key_len)
{
    static size_t const batches[] = {1, 2, 4, 8, 16, 32, 64};
    size_t const count = sizeof batches / sizeof batches[0];
    size_t c = 0;
    double reference = 0;

    cell_count = 0;
    for (size_t i = 0; i < side_count; i++) {
        for (size_t b = 0; b < (sides[i].peer != NULL ? 1 : count); b++)
            add_cell(&sides[i], batches[b], key_len);
    }
    measure_all_exchanges(rounds);

    printf("ns per exchange, %zu-byte keys (%s)\n", key_len,
           nettle != NULL ? "how many times as fast as nettle" : "no nettle here: ratios to OpenSSL");
    printf("%-12s", "at a time");
    for (size_t b = 0; b < count; b++)
        printf("%16zu ", batches[b]);
    for (; c < cell_count && cells[c].side->peer != NULL; c++) {
        double const ns = median(&cells[c], rounds);

        printf("\n%-12s%8.1f%s", cells[c].side->name, ns, cells[c].side->peer->exact ? "" : " *");
        if (cells[c].side == nettle || reference == 0)
            reference = ns;
    }
    for (size_t b = 0; c < cell_count; c++, b++) {
        if (b % count == 0)
            printf("\n%-12s", cells[c].side->name);
        print_ratio(reference, median(&cells[c], rounds));
        printf(" ");
    }
    printf("\n\n");
}

/* Exchanges with AES-128-GCM-SIV, whose cookies are still AES-SIV's, beside those with AES-SIV alone. */
static void gcm_table(size_t rounds)
{
    static size_t const batches[] = {1, 4, 8, 64};
    size_t const count = sizeof batches / sizeof batches[0];

    cell_count = 0;
    for (size_t i = 0; i < side_count; i++) {
        for (size_t b = 0; b < count && sides[i].backend != NULL; b++) {
            add_cell(&sides[i], batches[b], 32);
            add_cell(&sides[i], batches[b], SIV_GCM_KEY);
        }
    }
    measure_all_exchanges(rounds);

    printf("ns per exchange with AES-128-GCM-SIV (divided by that with AES-SIV, 32-byte keys)\n%-12s", "at a time");
    for (size_t b = 0; b < count; b++)
        printf("%16zu ", batches[b]);
    for (size_t c = 0; c < cell_count; c += 2) {
        double const siv = median(&cells[c], rounds), gcm = median(&cells[c + 1], rounds);

        if (c % (2 * count) == 0)
            printf("\n%-12s", cells[c].side->name);
        printf("%8.1f (%4.2f)  ", gcm, gcm / siv);
    }
    printf("\n\n");
}

/* ---- Program ------------------------------------------------------------------------------------------- */

static void add_peer(struct peer const *peer)
{
    if (peer != NULL)
        sides[side_count++] = (struct side){.name = peer->name, .peer = peer};
}

static void add_backend(struct siv_backend const *backend)
{
    if (backend != NULL)
        sides[side_count++] = (struct side){.name = backend->name, .backend = backend};
}

int main(int argc, char **argv)
{
    size_t const rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 51;

    if (argc > 2 || rounds == 0 || rounds > MAX_ROUNDS) {
        fprintf(stderr, "usage: aes_siv_bench [rounds, 1 to %d]\n", MAX_ROUNDS);
        return 2;
    }
    fill((unsigned char *)operations, sizeof operations);
    fill((unsigned char *)exchanges, sizeof exchanges);
    add_peer(peer_openssl()); /* peers come first, and nettle last among them */
    add_peer(peer_nettle());
    for (size_t i = 0; i < side_count; i++) {
        if (sides[i].peer->exact)
            nettle = &sides[i];
    }
    add_backend(siv_backend_libcrypto());
    add_backend(siv_backend_aesni());
    add_backend(siv_backend_vaes());

    printf("libaes_siv %s, median of %zu rounds, NAME/N: N messages at a time%s\n\n", aes_siv_version(), rounds,
           nettle != NULL ? "" : "; built without nettle (Debian: nettle-dev)");
    check_results(32);
    check_results(64);
    check_results(SIV_GCM_KEY);
    operation_table(rounds, 32);
    exchange_table(rounds, 32);
    exchange_table(rounds, 64);
    gcm_table(rounds);
    printf("* OpenSSL's interface cannot express empty strings. Its exchange leaves out empty associated data, and has\n"
           "  one byte in place of an empty text.\n");
    for (size_t i = 0; i < side_count; i++)
        AES_SIV_KEY_free(sides[i].key);
    return EXIT_SUCCESS;
}

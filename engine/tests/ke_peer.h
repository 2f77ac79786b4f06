/* SPDX-License-Identifier: MIT
 *
 * ke_peer.h - an NTS-KE server on loopback, a stand-in for the reference, and TLS clients, all in one thread.
 */
#ifndef KE_PEER_H_
#define KE_PEER_H_

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "ke_internal.h"

#define KEY_ID 0x1234

static uint8_t const good_request[] = {0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 15, 0x80, 0, 0, 0};
static uint8_t const agreed_head[] = {0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 15};
static uint8_t const bad_request[] = {0x80, 2, 0, 2, 0, 1, 0x80, 0, 0, 0};

struct bench {
    nts_ke *ke;
    nts_ke_tls *tls;
    int listener, called;
    struct sockaddr_in address;
    struct stat folder;
    unsigned questions[3], handovers, evictions, failures;
    uint64_t verdicts[NTS_KE_VERDICTS + 1]; /* and agreements */
    nts_ke_session *foreign; /* the last one handed over */
    int foreign_fd;
};

/* ---- The certificate ----------------------------------------------------------------------------------- */

/* Writes a self-signed certificate and its key, and returns the settings with them. */
static inline nts_ke_tls *new_tls(void)
{
    static char chain[] = "/tmp/nts-chain-XXXXXX", key[] = "/tmp/nts-key-XXXXXX";
    char problem[NTS_KE_TEXT];
    EVP_PKEY_CTX *const maker = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
    EVP_PKEY *pair = NULL;
    X509 *const x = X509_new();
    nts_ke_tls *tls;
    FILE *f;

    memcpy(chain + sizeof chain - 7, "XXXXXX", 6);
    memcpy(key + sizeof key - 7, "XXXXXX", 6);
    CHECK(EVP_PKEY_keygen_init(maker) == 1 && EVP_PKEY_CTX_set_ec_paramgen_curve_nid(maker, NID_X9_62_prime256v1) == 1 &&
          EVP_PKEY_keygen(maker, &pair) == 1);
    EVP_PKEY_CTX_free(maker);
    CHECK(X509_set_version(x, 2) && ASN1_INTEGER_set(X509_get_serialNumber(x), 1) &&
          X509_gmtime_adj(X509_getm_notBefore(x), 0) && X509_gmtime_adj(X509_getm_notAfter(x), 86400) &&
          X509_set_pubkey(x, pair) && X509_sign(x, pair, EVP_sha256()));
    f = fdopen(mkstemp(chain), "w");
    CHECK(PEM_write_X509(f, x) && fclose(f) == 0);
    f = fdopen(mkstemp(key), "w");
    CHECK(PEM_write_PrivateKey(f, pair, NULL, NULL, 0, NULL, NULL) && fclose(f) == 0);
    X509_free(x);
    EVP_PKEY_free(pair);
    tls = nts_ke_tls_new(chain, key, problem, sizeof problem);
    if (!CHECK(tls != NULL))
        fprintf(stderr, "%s\n", problem);
    CHECK(nts_ke_tls_new(chain, chain, problem, sizeof problem) == NULL && problem[0] != 0); /* that is no key */
    unlink(chain);
    unlink(key);
    return tls;
}

/* ---- The server ---------------------------------------------------------------------------------------- */

static inline void open_bench(struct bench *b, nts_ke_settings const *settings)
{
    static uint16_t const groups[] = {0x11ec, 29, 23};
    static char const *const names[] = {"X25519MLKEM768", "X25519", "P-256"};
    static uint8_t const ours[] = {0, 1, 1};
    static uint8_t const master[32] = {7};
    nts_ke_settings wanted = *settings;
    socklen_t length = sizeof b->address;

    *b = (struct bench){.foreign_fd = -1};
    memcpy(wanted.label, "EXPORTER-network-time-security", 31);
    b->tls = new_tls();
    b->ke = nts_ke_new(&wanted);
    if (!CHECK(b->ke != NULL && b->tls != NULL))
        exit(EXIT_FAILURE);
    b->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    b->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(bind(b->listener, (struct sockaddr *)&b->address, length) == 0 && listen(b->listener, 512) == 0 &&
          getsockname(b->listener, (struct sockaddr *)&b->address, &length) == 0 && stat(".", &b->folder) == 0);
    b->called = eventfd(1, 0); /* readable: nts_ke_run returns after each turn */
    nts_ke_count_into(b->ke, &(nts_ke_counting){.cells = b->verdicts});
    nts_ke_set_tls(b->ke, b->tls);
    nts_ke_set_groups(b->ke, groups, names, ours, 3);
    CHECK(nts_ke_set_key(b->ke, KEY_ID, master) && nts_ke_attach(b->ke, &b->listener, 1, b->called));
}

static inline void close_bench(struct bench *b)
{
    nts_ke_free(b->ke);
    nts_ke_tls_free(b->tls);
    close(b->listener);
    close(b->called);
    if (b->foreign_fd >= 0)
        close(b->foreign_fd);
}

/* Does what nts/server/ke_native.py does, with a reference that grants one request. */
static inline void settle(struct bench *b)
{
    nts_ke_question question;
    nts_ke_handover handover;
    nts_ke_report const *reports;
    nts_ke_session *evicted;
    size_t n;

    while (nts_ke_handover_next(b->ke, &handover)) {
        b->handovers++;
        if (b->foreign_fd >= 0)
            close(b->foreign_fd);
        b->foreign = handover.session;
        b->foreign_fd = handover.descriptor;
    }
    while (nts_ke_question_next(b->ke, &question)) {
        nts_ke_plan plan = {.verdict = NTS_KE_BAD_REQUEST, .head_length = sizeof bad_request};

        b->questions[question.kind]++;
        memcpy(plan.head, bad_request, sizeof bad_request);
        CHECK(question.local.length == 4 && memcmp(question.local.octets, &b->address.sin_addr, 4) == 0);
        if (question.kind == NTS_KE_ASK_TRUNCATED)
            plan.verdict = NTS_KE_TRUNCATED;
        if (question.kind == NTS_KE_ASK_TIMED_OUT)
            plan.verdict = NTS_KE_TIMED_OUT;
        if (question.kind == NTS_KE_ASK_REQUEST && question.length == sizeof good_request &&
            memcmp(question.request, good_request, sizeof good_request) == 0) {
            plan = (nts_ke_plan){.verdict = NTS_KE_AGREED, .aead = 15, .aead_cell = NTS_KE_VERDICTS, .key_length = 32, .contexts = {15},
                                 .context_count = 1, .head_length = sizeof agreed_head};
            memcpy(plan.head, agreed_head, sizeof agreed_head);
        }
        nts_ke_question_done(b->ke, &plan);
    }
    while ((evicted = nts_ke_evicted_next(b->ke)) != NULL) {
        b->evictions++;
        CHECK(evicted == b->foreign);
        nts_ke_release(b->ke, evicted);
        close(b->foreign_fd);
        b->foreign_fd = -1;
    }
    reports = nts_ke_reports(b->ke, &n);
    for (size_t i = 0; i < n; i++)
        b->failures += reports[i].verdict == NTS_KE_TLS_FAILED;
}

static inline void turn(struct bench *b)
{
    nts_ke_run(b->ke, ".", (int64_t)b->folder.st_ctim.tv_sec * 1000000000 + b->folder.st_ctim.tv_nsec, b->folder.st_ino);
    settle(b);
}

/* ---- Clients ------------------------------------------------------------------------------------------- */

/* A connected, non-blocking socket. */
static inline int dial(struct bench const *b)
{
    int const fd = socket(AF_INET, SOCK_STREAM, 0);

    CHECK(connect(fd, (struct sockaddr const *)&b->address, sizeof b->address) == 0);
    CHECK(setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &(int){1}, sizeof(int)) == 0);
    return fd;
}

struct client {
    SSL_CTX *context;
    SSL *ssl;
    int fd;
    uint8_t response[4096];
    size_t length;
    int closed; /* SSL_ERROR_ZERO_RETURN, or another */
};

static inline void open_client(struct client *c, struct bench const *b, char const *groups)
{
    *c = (struct client){.context = SSL_CTX_new(TLS_client_method()), .fd = dial(b)};
    CHECK(SSL_CTX_set1_groups_list(c->context, groups) == 1);
    CHECK(SSL_CTX_set_alpn_protos(c->context, (uint8_t const *)"\7ntske/1", 8) == 0);
    c->ssl = SSL_new(c->context);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_connect_state(c->ssl);
    SSL_set_mode(c->ssl, SSL_MODE_AUTO_RETRY);
}

static inline void close_client(struct client *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->context);
    close(c->fd);
}

static inline void set_blocking(int fd, int blocking)
{
    struct timeval const t = {.tv_sec = blocking ? 5 : 0, .tv_usec = blocking ? 0 : 1};

    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
}

/* Takes turns with the server until the handshake is through. Returns whether it is. */
static inline int shake_hands(struct client *c, struct bench *b)
{
    set_blocking(c->fd, 0);
    for (int i = 0; i < 1000; i++) {
        int const done = SSL_do_handshake(c->ssl);

        if (done == 1)
            return 1;
        if (SSL_get_error(c->ssl, done) != SSL_ERROR_WANT_READ)
            break;
        turn(b);
    }
    return 0;
}

/* Takes turns until the server has closed. */
static inline void finish_client(struct client *c, struct bench *b)
{
    for (int i = 0; i < 1000 && c->closed == 0; i++) {
        int const got = SSL_read(c->ssl, c->response + c->length, (int)(sizeof c->response - c->length));

        if (got > 0) {
            c->length += (size_t)got;
            continue;
        }
        c->closed = SSL_get_error(c->ssl, got);
        if (c->closed == SSL_ERROR_WANT_READ)
            c->closed = 0;
        ERR_clear_error();
        turn(b);
    }
}

#endif

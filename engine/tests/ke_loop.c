/* SPDX-License-Identifier: MIT
 *
 * ke_loop.c - the NTS-KE loop over real sockets on loopback: sessions, requests in pieces, questions and plans, time-outs,
 * evictions, connections for the reference. argv[1] is the number of sessions.
 */
#define _GNU_SOURCE /* memmem */
#include "ke_peer.h"

static nts_ke_settings const usual = {.max_sessions = 400, .max_per_prefix = 300, .prefix4 = 32, .prefix6 = 64,
                                      .session_ms = 5000, .linger_ms = 1000};

/* A whole session, with the request in pieces of so many octets. */
static void session(struct bench *b, uint8_t const *request, size_t length, size_t piece, struct client *c)
{
    open_client(c, b, "X25519:P-256");
    CHECK(shake_hands(c, b));
    for (size_t at = 0; at < length; at += piece) {
        size_t const n = piece < length - at ? piece : length - at;

        CHECK(SSL_write(c->ssl, request + at, (int)n) == (int)n);
        turn(b);
    }
    finish_client(c, b);
    CHECK(c->closed == SSL_ERROR_ZERO_RETURN);
}

static int is_agreed(struct client const *c)
{
    size_t const cookie = 4 + COOKIE_HEAD_LEN + TAG_LEN + 66;

    if (c->length != sizeof agreed_head + 8 * cookie + 4 || memcmp(c->response, agreed_head, sizeof agreed_head) != 0)
        return 0;
    for (size_t i = 0; i < 8; i++) {
        uint8_t const *const record = c->response + sizeof agreed_head + i * cookie;

        if (load16(record) != 5 || load16(record + 2) != cookie - 4 || load16(record + 4) != KEY_ID)
            return 0;
    }
    return 1;
}

static void check_sessions(int count)
{
    struct bench b;
    struct client c;

    open_bench(&b, &usual);
    for (int i = 0; i < count; i++) {
        session(&b, good_request, sizeof good_request, 1 + (size_t)i % sizeof good_request, &c);
        CHECK(is_agreed(&c));
        close_client(&c);
    }
    turn(&b);
    turn(&b);
    CHECK(b.questions[NTS_KE_ASK_REQUEST] == 1); /* then the plan is there */
    CHECK(b.verdicts[NTS_KE_AGREED] == (uint64_t)count && b.verdicts[NTS_KE_VERDICTS] == (uint64_t)count && b.handovers == 0);
    CHECK(nts_ke_count(b.ke) == 0);
    /* Without a key, or with another folder, the reference is asked again. */
    b.folder.st_ino++;
    session(&b, good_request, sizeof good_request, 99, &c);
    close_client(&c);
    b.folder.st_ino--;
    CHECK(nts_ke_set_key(b.ke, 0, NULL) && b.questions[NTS_KE_ASK_REQUEST] == 2);
    session(&b, bad_request, sizeof bad_request, 99, &c);
    CHECK(c.length == sizeof bad_request && b.questions[NTS_KE_ASK_REQUEST] == 3);
    close_client(&c);
    close_bench(&b);
}

/* The cookie opens with the master key, and holds the keys that the client has. */
static void check_contents(void)
{
    static uint8_t const master[32] = {7}, contexts[2][5] = {{0, 0, 0, 15, 1}, {0, 0, 0, 15, 0}};
    uint8_t expected[66] = {0, 15}, found[66];
    size_t length = sizeof found;
    AES_SIV_CTX *const siv = AES_SIV_CTX_new();
    struct bench b;
    struct client c;

    open_bench(&b, &usual);
    session(&b, good_request, sizeof good_request, 99, &c);
    for (int i = 0; i < 2; i++)
        CHECK(SSL_export_keying_material(c.ssl, expected + 2 + 32 * i, 32, "EXPORTER-network-time-security", 30,
                                         contexts[i], 5, 1) == 1);
    for (size_t i = 0; i < 8; i++) {
        uint8_t const *const cookie = c.response + sizeof agreed_head + i * 104 + 4;

        CHECK(AES_SIV_Decrypt(siv, found, &length, master, 32, cookie + 2, 16, cookie + 18, 82, (uint8_t const *)"", 0));
        CHECK(length == 66 && memcmp(found, expected, 66) == 0);
    }
    for (size_t at = 2; at + 16 <= sizeof expected; at += 8) /* no key stays in the loop's own memory */
        CHECK(memmem(b.ke, sizeof *b.ke, expected + at, 16) == NULL);
    CHECK(memmem(b.ke, sizeof *b.ke, c.response, 64) != NULL); /* but this search finds what is there */
    AES_SIV_CTX_free(siv);
    close_client(&c);
    close_bench(&b);
}

static void check_long_requests(void)
{
    static uint8_t request[40000] = {0x3f, 0xff};
    struct bench b;
    struct client c;

    open_bench(&b, &usual);
    for (size_t length = 16380; length < 16390; length++) { /* a record of zeros, too long from 16385 on */
        store16(request + 2, length - 8);
        memcpy(request + length - 4, bad_request + 6, 4);
        session(&b, request, length, 5000, &c);
        CHECK(c.length == sizeof bad_request);
        memset(request + length - 4, 0, 4);
        close_client(&c);
    }
    turn(&b);
    CHECK(b.verdicts[NTS_KE_BAD_REQUEST] == 10 && b.questions[NTS_KE_ASK_REQUEST] == 10);
    close_bench(&b);
}

static void check_truncated(void)
{
    struct bench b;
    struct client c;

    open_bench(&b, &usual);
    for (int how = 0; how < 2; how++) {
        open_client(&c, &b, "P-256");
        CHECK(shake_hands(&c, &b) && SSL_write(c.ssl, good_request, 7) == 7);
        if (how == 0)
            CHECK(SSL_shutdown(c.ssl) == 0);
        else
            CHECK(shutdown(c.fd, SHUT_WR) == 0);
        finish_client(&c, &b);
        CHECK(c.length == sizeof bad_request);
        close_client(&c);
    }
    CHECK(b.verdicts[NTS_KE_TRUNCATED] == 2 && b.questions[NTS_KE_ASK_TRUNCATED] == 2);
    close_bench(&b);
}

/* Octets that are no usual ClientHello, whole or in pieces, and what a client may do before one. */
static void check_handovers(void)
{
    static uint8_t const start[] = {22, 3, 1, 2, 0, 1, 0, 1, 0xfc};
    struct linger const reset = {.l_onoff = 1};
    struct bench b;
    struct client c;
    uint8_t seen[16];
    int fd;

    open_bench(&b, &usual);
    fd = dial(&b);
    CHECK(send(fd, "GET / HTTP/1.0", 14, 0) == 14);
    for (int i = 0; i < 5; i++)
        turn(&b);
    CHECK(b.handovers == 1 && recv(b.foreign_fd, seen, sizeof seen, 0) == 14 && memcmp(seen, "GET /", 5) == 0);
    close(fd);
    nts_ke_release(b.ke, b.foreign);
    for (size_t n = 1; n <= sizeof start; n++) { /* not enough to tell */
        fd = dial(&b);
        CHECK(send(fd, start, n, 0) == (ssize_t)n);
        for (int i = 0; i < 3; i++)
            turn(&b);
        CHECK(b.handovers == 1 && nts_ke_count(b.ke) == 1);
        if (n % 2)
            CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
        close(fd);
        for (int i = 0; i < 3; i++)
            turn(&b);
        CHECK(b.verdicts[NTS_KE_CLOSED_EARLY] == n && nts_ke_count(b.ke) == 0);
    }
    open_client(&c, &b, "P-384"); /* a group that is not among ours */
    CHECK(!shake_hands(&c, &b) && b.handovers == 2);
    close_client(&c);
    nts_ke_release(b.ke, b.foreign);
    CHECK(nts_ke_count(b.ke) == 0);
    close_bench(&b);
}

static void check_deadlines(void)
{
    nts_ke_settings hasty = usual;
    struct bench b;
    struct client c;
    int fd;

    hasty.session_ms = 300;
    hasty.linger_ms = 100;
    open_bench(&b, &hasty);
    fd = dial(&b);
    open_client(&c, &b, "X25519");
    CHECK(shake_hands(&c, &b));
    for (int i = 0; i < 12; i++) {
        usleep(100000);
        turn(&b);
    }
    finish_client(&c, &b);
    CHECK(c.length == sizeof bad_request && c.closed == SSL_ERROR_ZERO_RETURN);
    CHECK(b.verdicts[NTS_KE_TLS_TIMED_OUT] == 1 && b.verdicts[NTS_KE_TIMED_OUT] == 1);
    CHECK(nts_ke_count(b.ke) == 0); /* though the client has not closed */
    close_client(&c);
    close(fd);
    close_bench(&b);
}

static void check_limits(void)
{
    nts_ke_settings narrow = usual;
    struct bench b;
    struct client c;
    int fds[4];

    narrow.max_per_prefix = 3;
    open_bench(&b, &narrow);
    fds[0] = dial(&b);
    CHECK(send(fds[0], "x", 1, 0) == 1); /* the reference has it, and must give it up */
    turn(&b);
    turn(&b);
    CHECK(b.handovers == 1);
    for (int i = 1; i < 4; i++)
        fds[i] = dial(&b);
    for (int i = 0; i < 6; i++)
        turn(&b);
    CHECK(b.evictions == 1 && nts_ke_count(b.ke) == 3);
    session(&b, good_request, sizeof good_request, 99, &c);
    CHECK(is_agreed(&c) && b.verdicts[NTS_KE_EVICTED] == 1);
    close_client(&c);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    close_bench(&b);
    narrow.rate_per_prefix = 2;
    open_bench(&b, &narrow);
    for (int i = 0; i < 4; i++)
        fds[i] = dial(&b);
    for (int i = 0; i < 8; i++)
        turn(&b);
    CHECK(b.verdicts[NTS_KE_REFUSED] == 2 || b.verdicts[NTS_KE_REFUSED] == 1); /* two seconds at most */
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    close_bench(&b);
}

/* What does not decrypt after a good ClientHello ends in an alert, and has a reason. */
static void check_garbage(void)
{
    static uint8_t const record[] = {23, 3, 3, 0, 32, 1, 2, 3};
    uint8_t const padding[29] = {0};
    nts_ke_report const *reports;
    struct bench b;
    struct client c;
    size_t n;

    open_bench(&b, &usual);
    open_client(&c, &b, "X25519");
    set_blocking(c.fd, 0);
    CHECK(SSL_do_handshake(c.ssl) != 1);
    for (int i = 0; i < 3; i++)
        turn(&b);
    CHECK(send(c.fd, record, sizeof record, 0) == sizeof record && send(c.fd, padding, sizeof padding, 0) == 29);
    for (int i = 0; i < 3; i++)
        nts_ke_run(b.ke, ".", 0, 0);
    reports = nts_ke_reports(b.ke, &n);
    CHECK(n == 1 && reports[0].verdict == NTS_KE_TLS_FAILED && !reports[0].lost && reports[0].reason[0] != 0);
    close_client(&c);
    close_bench(&b);
}

static void check_drain(void)
{
    struct bench b;
    struct client c;

    open_bench(&b, &usual);
    open_client(&c, &b, "X25519");
    CHECK(shake_hands(&c, &b));
    nts_ke_drain(b.ke, INT64_MAX);
    close(b.listener);
    CHECK(SSL_write(c.ssl, good_request, sizeof good_request) == sizeof good_request);
    finish_client(&c, &b);
    CHECK(is_agreed(&c));
    close_client(&c);
    b.listener = -1;
    nts_ke_expire(b.ke);
    settle(&b);
    CHECK(nts_ke_count(b.ke) == 0);
    close_bench(&b);
}

int main(int argc, char **argv)
{
    check_backend();
    check_sessions(argc > 1 ? atoi(argv[1]) : 32);
    if (argc > 1)
        return check_report("ke_loop", aes_siv_backend());
    check_contents();
    check_long_requests();
    check_truncated();
    check_handovers();
    check_deadlines();
    check_limits();
    check_garbage();
    check_drain();
    return check_report("ke_loop", aes_siv_backend());
}

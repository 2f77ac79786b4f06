/* SPDX-License-Identifier: MIT
 *
 * ke_session.c - the connection of one client: the states of nts/server/ke_connection.py, in the same order, with the
 * same verdicts. Every connection gets a verdict in the end, and only one.
 *
 * epoll reports changes only (EPOLLET), since octets that have only been looked at stay where they are. So whoever stops
 * before the socket is empty asks to be told again.
 */
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "ke_internal.h"

#define DISCARDS 16 /* reads in one turn, so that a fast sender does not hold up the others */
#define ENDS (EPOLLRDHUP | EPOLLHUP | EPOLLERR)

/* ---- Verdicts ------------------------------------------------------------------------------------------ */

/* Notes the verdict, unless there is one already. */
static nts_ke_report *judge(nts_ke *ke, nts_ke_session *s, unsigned verdict)
{
    nts_ke_report *const report = s->judged ? NULL : nts_ke_note(ke, &s->peer, verdict);

    s->judged = 1;
    if (report != NULL && s->has_shaken)
        nts_ke_tls_group(s->ssl, report->group, sizeof report->group);
    return report;
}

/* Closes at once. */
static void end(nts_ke *ke, nts_ke_session *s, unsigned verdict)
{
    (void)judge(ke, s, verdict);
    nts_ke_close(ke, s);
}

/* The peer is gone; `error` is errno, 0 when it has closed. */
static void lose(nts_ke *ke, nts_ke_session *s, int error)
{
    nts_ke_report *report;

    if (s->state <= KE_HANDSHAKE) {
        end(ke, s, NTS_KE_CLOSED_EARLY);
        return;
    }
    report = judge(ke, s, NTS_KE_TLS_FAILED);
    if (report != NULL) {
        report->lost = 1;
        report->error = error;
    }
    nts_ke_close(ke, s);
}

/* ---- Sending ------------------------------------------------------------------------------------------- */

/* Sends what TLS has written, in one piece if the socket takes it. Returns 1 when all is sent, 0 when the rest must wait,
 * -1 when the peer is gone. */
static int flush(nts_ke *ke, nts_ke_session *s, int flags)
{
    BIO *const out = SSL_get_wbio(s->ssl);
    char *octets;
    long const length = BIO_get_mem_data(out, &octets);
    ssize_t sent;

    if (length <= 0)
        return 1;
    sent = send(s->watched.fd, octets, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT | flags);
    if (sent == length) {
        (void)BIO_reset(out);
        return 1;
    }
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return -1;
    while (sent > 0)
        sent -= BIO_read(out, ke->input, (int)(sent < KE_READ_SIZE ? sent : KE_READ_SIZE));
    return 0;
}

/* Waits until the socket takes more, and then for octets again. */
static void want_write(nts_ke *ke, nts_ke_session *s, int wanted)
{
    if (s->wants_write == wanted)
        return;
    s->wants_write = wanted;
    nts_ke_watch(ke, s);
}

/* Closes because TLS has failed; `result` is what its function returned. An alert that it has written goes out. */
static void fail(nts_ke *ke, nts_ke_session *s, int result)
{
    nts_ke_report *report;

    if (SSL_get_error(s->ssl, result) == SSL_ERROR_ZERO_RETURN) {
        ERR_clear_error();
        (void)flush(ke, s, 0);
        lose(ke, s, 0);
        return;
    }
    (void)flush(ke, s, 0);
    report = judge(ke, s, NTS_KE_TLS_FAILED);
    if (report != NULL)
        nts_ke_tls_reason(report->reason, sizeof report->reason);
    ERR_clear_error();
    nts_ke_close(ke, s);
}

/* ---- After the response -------------------------------------------------------------------------------- */

/* Takes what the client still sends, until it closes: closing a socket with unread octets would reset the connection, and
 * the response could be lost. */
static void discard(nts_ke *ke, nts_ke_session *s)
{
    for (int i = 0; i < DISCARDS; i++) {
        ssize_t const got = recv(s->watched.fd, ke->input, sizeof ke->input, MSG_DONTWAIT);

        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0) {
            nts_ke_close(ke, s);
            return;
        }
    }
    nts_ke_watch(ke, s);
}

/* Sends response, close_notify and FIN in one segment, and frees what TLS has. */
static void finish(nts_ke *ke, nts_ke_session *s)
{
    int const sent = flush(ke, s, MSG_MORE); /* until SHUT_WR */

    if (sent < 0 || (sent > 0 && shutdown(s->watched.fd, SHUT_WR) != 0)) {
        nts_ke_close(ke, s);
        return;
    }
    if (sent == 0) {
        want_write(ke, s, 1);
        return;
    }
    SSL_free(s->ssl);
    s->ssl = NULL;
    s->state = KE_LINGERING;
    want_write(ke, s, 0);
}

static void forget_request(nts_ke_session *s)
{
    free(s->request);
    s->request = NULL;
    s->request_length = s->request_parsed = 0;
}

void nts_ke_session_answer(nts_ke *ke, nts_ke_session *s, nts_ke_plan const *plan)
{
    size_t const length = nts_ke_respond(ke, s->ssl, plan, ke->response);
    nts_ke_report *report;

    if (length == 0) {
        ERR_clear_error();
        lose(ke, s, ENOMEM);
        return;
    }
    report = judge(ke, s, plan->verdict);
    if (report != NULL)
        report->aead = plan->aead;
    if (plan->aead != 0)
        ke->counting.cells[plan->aead_cell]++;
    forget_request(s);
    s->state = KE_CLOSING;
    s->deadline = nts_ke_now() + (int64_t)ke->settings.linger_ms * KE_NS_PER_MS;
    /* In one TLS record: some clients read only one. */
    if (SSL_write(s->ssl, ke->response, (int)length) != (int)length) {
        ERR_clear_error();
        nts_ke_close(ke, s);
        return;
    }
    (void)SSL_shutdown(s->ssl); /* close_notify (section 4) */
    finish(ke, s);
}

/* ---- The request --------------------------------------------------------------------------------------- */

static void ask(nts_ke *ke, nts_ke_session *s, unsigned question)
{
    s->state = KE_ASKING;
    s->question = question;
    nts_ke_enqueue(&ke->questions, s);
}

/* Keeps what has come of the request, since the buffer is for all. Returns 0 when memory is short. */
static int keep_request(nts_ke *ke, nts_ke_session *s, size_t length)
{
    if (length != s->request_length) {
        uint8_t *const request = realloc(s->request, length);

        if (request == NULL)
            return 0;
        memcpy(request, ke->request, length);
        s->request = request;
        s->request_length = length;
    }
    return 1;
}

static void ask_request(nts_ke *ke, nts_ke_session *s, size_t length)
{
    nts_ke_plan const *plan = NULL;
    nts_ke_address local;

    if (length <= KE_MAX_CACHED && nts_ke_local_address(s->watched.fd, &local))
        plan = nts_ke_plan_find(ke, &local, ke->request, length);
    if (plan != NULL)
        nts_ke_session_answer(ke, s, plan);
    else if (keep_request(ke, s, length))
        ask(ke, s, NTS_KE_ASK_REQUEST);
    else
        lose(ke, s, ENOMEM);
}

/* Goes on along the records from *parsed, as MessageReader in nts/codec/records.py does. */
enum ke_shape nts_ke_shape(uint8_t const *octets, size_t length, size_t *parsed)
{
    while (length - *parsed >= 4) {
        unsigned const type = load16(octets + *parsed) & 0x7fff;
        size_t const after = *parsed + 4 + load16(octets + *parsed + 2);

        if (after > NTS_KE_MAX_REQUEST)
            return KE_HOPELESS;
        if (after > length)
            return KE_PARTIAL;
        if (type == 0) /* stays there, so that octets which follow do not change what this returns */
            return KE_COMPLETE;
        *parsed = after;
    }
    return length > NTS_KE_MAX_REQUEST ? KE_HOPELESS : KE_PARTIAL;
}

/* Reads all that has arrived: octets after the End of Message record make the request malformed. */
static void read_request(nts_ke *ke, nts_ke_session *s)
{
    size_t length = s->request_length;
    enum ke_shape shape = KE_PARTIAL;
    int got, error;

    if (length != 0)
        memcpy(ke->request, s->request, length);
    while (length <= NTS_KE_MAX_REQUEST) {
        got = SSL_read(s->ssl, ke->request + length, KE_READ_SIZE);
        if (got <= 0) {
            error = SSL_get_error(s->ssl, got);
            if (error == SSL_ERROR_ZERO_RETURN && shape != KE_COMPLETE) {
                ask(ke, s, NTS_KE_ASK_TRUNCATED);
            } else if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_ZERO_RETURN) {
                fail(ke, s, got);
            } else if (shape == KE_COMPLETE) {
                ask_request(ke, s, length);
            } else if (!keep_request(ke, s, length)) {
                lose(ke, s, ENOMEM);
            }
            return;
        }
        length += (size_t)got;
        shape = nts_ke_shape(ke->request, length, &s->request_parsed);
        if (shape == KE_HOPELESS)
            break;
    }
    ask_request(ke, s, length);
}

/* ---- The handshake ------------------------------------------------------------------------------------- */

static void hand_over(nts_ke *ke, nts_ke_session *s)
{
    s->state = KE_FOREIGN;
    nts_ke_enqueue(&ke->handovers, s);
}

/* Looks at the ClientHello without taking it. Returns how many octets TLS is to read, 0 when it is not its turn. */
static size_t look(nts_ke *ke, nts_ke_session *s, uint32_t events)
{
    ssize_t const got = recv(s->watched.fd, ke->input, KE_MAX_HELLO + 1, MSG_PEEK | MSG_DONTWAIT);
    int choice;

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got <= 0) {
        lose(ke, s, got < 0 ? errno : 0);
        return 0;
    }
    switch (nts_ke_hello(ke->input, (size_t)got, &ke->groups, &choice)) {
    case KE_HELLO_PARTIAL:
        if ((events & ENDS) != 0)
            lose(ke, s, 0);
        return 0;
    case KE_HELLO_UNUSUAL:
        hand_over(ke, s);
        return 0;
    case KE_HELLO_USUAL:
        break;
    }
    s->ssl = nts_ke_tls_accept(ke->context);
    if (s->ssl == NULL) {
        hand_over(ke, s);
        return 0;
    }
    if (choice >= 0)
        nts_ke_tls_choose(s->ssl, ke->groups.ids[choice], ke->groups.names[choice]);
    s->state = KE_HANDSHAKE;
    return (size_t)got;
}

/* Gives TLS what it has got, and sends what it writes. */
static void advance(nts_ke *ke, nts_ke_session *s)
{
    int sent;

    ERR_clear_error();
    if (s->state == KE_HANDSHAKE) {
        int const done = SSL_do_handshake(s->ssl);

        if (done != 1 && SSL_get_error(s->ssl, done) != SSL_ERROR_WANT_READ) {
            fail(ke, s, done);
            return;
        }
        if (done == 1) {
            s->has_shaken = 1;
            nts_ke_count_handshake(ke, s->ssl, (nts_ke_now() - s->accepted) / 1000);
            s->state = KE_REQUEST;
        }
    }
    if (s->state == KE_REQUEST)
        read_request(ke, s);
    if (s->state != KE_HANDSHAKE && s->state != KE_REQUEST)
        return;
    sent = flush(ke, s, 0);
    if (sent < 0) {
        lose(ke, s, errno);
        return;
    }
    if (sent == 0)
        want_write(ke, s, 1);
    if (s->state == KE_REQUEST) /* until then, a client without TCP_NODELAY does not send its request */
        (void)setsockopt(s->watched.fd, IPPROTO_TCP, TCP_QUICKACK, &(int){1}, sizeof(int));
}

/* ---- Steps --------------------------------------------------------------------------------------------- */

static void receive(nts_ke *ke, nts_ke_session *s, size_t most, uint32_t events)
{
    ssize_t const got = recv(s->watched.fd, ke->input, most, MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got == 0 && s->state == KE_REQUEST) {
        ask(ke, s, NTS_KE_ASK_TRUNCATED);
        return;
    }
    if (got <= 0) {
        lose(ke, s, got < 0 ? errno : 0);
        return;
    }
    if (BIO_write(SSL_get_rbio(s->ssl), ke->input, (int)got) != (int)got) {
        lose(ke, s, ENOMEM);
        return;
    }
    advance(ke, s);
    if ((got == (ssize_t)sizeof ke->input || (events & ENDS) != 0) && !s->wants_write && s->state != KE_GONE &&
        s->state != KE_ASKING)
        nts_ke_watch(ke, s); /* there may be more */
}

void nts_ke_session_proceed(nts_ke *ke, nts_ke_session *s, uint32_t events)
{
    size_t most = sizeof ke->input;
    int sent;

    if (s->state == KE_HELLO) {
        most = look(ke, s, events);
        if (most != 0)
            receive(ke, s, most, events);
        return;
    }
    if (s->state == KE_LINGERING && (events & EPOLLERR) != 0) { /* reset: there is nothing left to take */
        nts_ke_close(ke, s);
        return;
    }
    if (s->state == KE_LINGERING) {
        discard(ke, s);
        return;
    }
    if (s->state == KE_CLOSING) {
        finish(ke, s);
        return;
    }
    if (s->state != KE_HANDSHAKE && s->state != KE_REQUEST)
        return;
    if (!s->wants_write) {
        receive(ke, s, most, events);
        return;
    }
    /* What waits goes first, so that nobody can make it grow. */
    sent = flush(ke, s, 0);
    if (sent < 0)
        lose(ke, s, errno);
    else if (sent > 0)
        want_write(ke, s, 0);
}

void nts_ke_session_expire(nts_ke *ke, nts_ke_session *s)
{
    if (s->state == KE_REQUEST)
        ask(ke, s, NTS_KE_ASK_TIMED_OUT); /* section 4.1.3 */
    else if (s->state != KE_FOREIGN && s->state != KE_ASKING)
        end(ke, s, NTS_KE_TLS_TIMED_OUT); /* unless there is a verdict already */
}

void nts_ke_session_evict(nts_ke *ke, nts_ke_session *s)
{
    if (s->state == KE_FOREIGN && s->watched.fd < 0) { /* the reference has its descriptor */
        nts_ke_limits_remove(&ke->limits, &s->member);
        nts_ke_enqueue(&ke->evicted, s);
        return;
    }
    end(ke, s, NTS_KE_EVICTED);
}

/* SPDX-License-Identifier: MIT
 *
 * nts_ke.h - the loop of the NTS-KE server in C: accepts connections, speaks TLS 1.3, answers requests, bounds who stays.
 *
 * nts/server/ke_daemon.py with nts/server/ke_connection.py is the reference; this is a faster implementation of part of it.
 * It decides nothing about NTS-KE. For each distinct request to each local address it asks the reference once for a
 * plan: the response without its cookies, and the keys that go into those. It forgets the plans when the master key or
 * the certificate changes.
 *
 * A connection whose ClientHello is not of the usual kind goes to the reference with its descriptor, before TLS has read
 * from it. ke_hello.c says what is usual.
 *
 * A loop belongs to one thread. It knows nothing of Python; nts/_engine_build.py reads the text between the cffi markers.
 */
#ifndef NTS_KE_H_
#define NTS_KE_H_

#include <stddef.h>
#include <stdint.h>

/* cffi:begin */

/* The members of nts.protocol.ke_server.Verdict, in the same order. */
enum nts_ke_verdict {
    NTS_KE_AGREED,
    NTS_KE_NO_PROTOCOL,
    NTS_KE_NO_AEAD,
    NTS_KE_UNKNOWN_CRITICAL,
    NTS_KE_BAD_REQUEST,
    NTS_KE_TRUNCATED,
    NTS_KE_TIMED_OUT,
    NTS_KE_NO_MASTER_KEY,
    NTS_KE_NO_ALPN,
    NTS_KE_TLS_FAILED,
    NTS_KE_TLS_TIMED_OUT,
    NTS_KE_CLOSED_EARLY,
    NTS_KE_EVICTED,
    NTS_KE_REFUSED,
    NTS_KE_VERDICTS
};

enum {
    NTS_KE_MAX_REQUEST = 16384, /* octets; nts.protocol.ke_server.MAX_REQUEST */
    NTS_KE_MAX_HEAD = 512,      /* octets of a response without cookies */
    NTS_KE_MAX_SOCKETS = 64,
    NTS_KE_MAX_GROUPS = 32,
    NTS_KE_MAX_BOUNDS = 16,
    NTS_KE_TEXT = 80,
    NTS_KE_LABEL = 256 /* TLS has no room for longer ones */
};

typedef struct nts_ke nts_ke;
typedef struct nts_ke_tls nts_ke_tls;
typedef struct nts_ke_session nts_ke_session;

typedef struct {
    uint32_t max_sessions, max_per_prefix;
    uint32_t rate_per_prefix;  /* a second; 0: any number */
    uint32_t prefix4, prefix6; /* bits */
    uint32_t session_ms, linger_ms; /* from accept to the end of the request, from the response to the close */
    uint32_t verbose;          /* report every connection, not only those in which TLS failed */
    char label[NTS_KE_LABEL];  /* of the TLS exporter */
} nts_ke_settings;

/* Where to count: cells of nts.server.ke_counters.LAYOUT, which must outlive the loop. Those of the verdicts come first. */
typedef struct {
    uint64_t *cells;
    uint32_t group; /* index of the cell of the first group; the last one is for all that have no name here */
    uint32_t group_count;
    char groups[NTS_KE_MAX_BOUNDS][NTS_KE_TEXT]; /* names, in any case */
    uint32_t handshake; /* index of the first cell of the durations: one for each bound, one for more, the sum in us */
    uint32_t bound_count;
    int64_t bounds_us[NTS_KE_MAX_BOUNDS];
} nts_ke_counting;

/* A network address: 4 octets, or 16. */
typedef struct {
    uint8_t octets[16];
    uint32_t length;
    uint32_t port, scope;
} nts_ke_address;

/* What became of a connection. */
typedef struct {
    uint32_t verdict;
    uint32_t aead;        /* agreed on; 0: none */
    uint32_t lost;        /* a TLS failure: the peer is gone, rather than at odds with the protocol */
    int32_t error;        /* with `lost`: errno, or 0 when the peer closed */
    char group[NTS_KE_TEXT];  /* of the handshake, if it was complete */
    char reason[NTS_KE_TEXT]; /* why TLS failed, by the library's text */
    nts_ke_address peer;
} nts_ke_report;

enum nts_ke_question_kind {
    NTS_KE_ASK_REQUEST,   /* a request, complete or hopeless */
    NTS_KE_ASK_TRUNCATED, /* the client closed before the end of its request */
    NTS_KE_ASK_TIMED_OUT
};

/* What the reference is asked. */
typedef struct {
    uint32_t kind;
    uint8_t const *request;
    size_t length;
    nts_ke_address local;
} nts_ke_question;

/* nts.protocol.ke_server.Plan */
typedef struct {
    uint32_t verdict;
    uint32_t aead;        /* 0: no cookies, so the head is the whole response */
    uint32_t aead_cell;   /* which counts agreements on it */
    uint32_t key_length;  /* octets of one key */
    uint32_t contexts[2]; /* AEAD numbers for the exporter's context */
    uint32_t context_count;
    uint32_t head_length;
    uint8_t head[NTS_KE_MAX_HEAD];
} nts_ke_plan;

/* A connection that goes to the reference. Its descriptor belongs to the caller from now on; the session counts towards
 * the limits until nts_ke_release. */
typedef struct {
    nts_ke_session *session;
    int32_t descriptor;
    int64_t accepted_ns; /* monotonic */
    nts_ke_address peer;
} nts_ke_handover;

/* ---- TLS ---- */

/* The name and version of the TLS library. */
char const *nts_ke_library(void);

/* Server settings with a certificate chain and its key, two PEM files. NULL, and the reason in `problem`, when they
 * cannot be used. */
nts_ke_tls *nts_ke_tls_new(char const *chain, char const *key, char *problem, size_t room);
void nts_ke_tls_free(nts_ke_tls *tls);

/* What a server with these settings answers to the octets of a ClientHello: octets in `out`, at most `room`. */
size_t nts_ke_tls_try(nts_ke_tls *tls, uint8_t const *hello, size_t length, uint8_t *out, size_t room);

/* ---- The loop ---- */

/* NULL when memory, descriptors or random octets are short, or AES_SIV_BACKEND names a backend that does not exist. */
nts_ke *nts_ke_new(nts_ke_settings const *settings);

void nts_ke_count_into(nts_ke *ke, nts_ke_counting const *counting);

/* Closes all connections, wipes and frees the loop. */
void nts_ke_free(nts_ke *ke);

/* New connections use these settings, which the loop keeps as long as it needs them. */
void nts_ke_set_tls(nts_ke *ke, nts_ke_tls *tls);

/* New cookies are sealed with this key of 32 octets; NULL: there is none. Returns 0 when memory is short. */
int nts_ke_set_key(nts_ke *ke, uint32_t id, uint8_t const *key);

/* The TLS groups of the reference, its favourite first, with this library's names, and whether this library has them. A
 * ClientHello goes to the reference if that would take a group which this library lacks. */
void nts_ke_set_groups(nts_ke *ke, uint16_t const *ids, char const *const *names, uint8_t const *ours, size_t n);

/* Serves these listening sockets, which must be non-blocking. nts_ke_run returns when the descriptor `also` is readable.
 * Returns 0 when there are too many, or they cannot be watched. */
int nts_ke_attach(nts_ke *ke, int const *listeners, size_t n, int also);

/* Serves until the caller has something to do, at most for a quarter of a second. `folder` holds the master keys: while it
 * has another change time or inode, plans do not count, and the reference is asked. */
void nts_ke_run(nts_ke *ke, char const *folder, int64_t ctime_ns, uint64_t inode);

/* Accepts who waits already, until `until_ns` of the monotonic clock, and then listens no more. */
void nts_ke_drain(nts_ke *ke, int64_t until_ns);

/* Ends all connections as if their time were up. */
void nts_ke_expire(nts_ke *ke);

/* How many connections there are, with those of the reference. */
size_t nts_ke_count(nts_ke const *ke);

/* The question that has waited longest. Returns 0 when there is none. */
int nts_ke_question_next(nts_ke *ke, nts_ke_question *question);

/* Answers that question by this plan, and keeps the plan for the same request. */
void nts_ke_question_done(nts_ke *ke, nts_ke_plan const *plan);

/* The next connection for the reference. Returns 0 when there is none. */
int nts_ke_handover_next(nts_ke *ke, nts_ke_handover *handover);

/* The next connection of the reference that must be closed to make room; NULL when there is none. */
nts_ke_session *nts_ke_evicted_next(nts_ke *ke);

/* The reference has closed this connection. */
void nts_ke_release(nts_ke *ke, nts_ke_session *session);

/* Reports since the last call, *n of them, valid until the next call of any function. */
nts_ke_report const *nts_ke_reports(nts_ke *ke, size_t *n);

/* cffi:end */

#endif

/* SPDX-License-Identifier: MIT
 *
 * ke_internal.h - what the files of the NTS-KE loop share: sessions, limits, plans, the loop itself.
 */
#ifndef NTS_KE_INTERNAL_H_
#define NTS_KE_INTERNAL_H_

#include <openssl/ssl.h>

#include "internal.h"
#include "nts_ke.h"

#define KE_NS_PER_MS 1000000
#define KE_READ_SIZE 16384 /* octets from a socket or from TLS in one turn */
#define KE_REQUEST_ROOM (NTS_KE_MAX_REQUEST + KE_READ_SIZE)
#define KE_MAX_CACHED 512 /* octets of a request whose plan is kept */
#define KE_MAX_HELLO 4096 /* octets of a usual ClientHello with its record's header */
#define KE_PLANS 32

/* ---- ke_hello.c: ClientHellos -------------------------------------------------------------------------- */

/* TLS groups of the reference, its favourite first. */
struct ke_groups {
    size_t count;
    uint16_t ids[NTS_KE_MAX_GROUPS];
    uint8_t ours[NTS_KE_MAX_GROUPS]; /* whether this library has it too */
    char names[NTS_KE_MAX_GROUPS][NTS_KE_TEXT];
};

enum ke_hello {
    KE_HELLO_PARTIAL, /* it may become usual */
    KE_HELLO_USUAL,
    KE_HELLO_UNUSUAL
};

/* If it is usual, *choice becomes the index of the group to take, or -1 where the library does as the reference would. */
enum ke_hello nts_ke_hello(uint8_t const *octets, size_t length, struct ke_groups const *groups, int *choice);

/* ---- ke_limits.c: who may stay ------------------------------------------------------------------------- */

struct ke_prefix;

/* The part of a session that the limits use. */
struct ke_member {
    struct ke_prefix *prefix; /* NULL: not held */
    struct ke_member *older, *newer; /* of the same prefix */
};

struct ke_limits {
    nts_ke_settings settings;
    uint64_t multipliers[5];
    struct ke_prefix **buckets;
    unsigned buckets_log2;
    struct ke_prefix *first, *last; /* those with members, in the order in which they came to have some */
    struct ke_prefix *idle;         /* those without, which still count arrivals */
    size_t total;
    int64_t second;
};

int nts_ke_limits_open(struct ke_limits *limits, nts_ke_settings const *settings, uint64_t const multipliers[5]);
void nts_ke_limits_close(struct ke_limits *limits);

/* Whether one more connection from this address at this time, in s, is within the rate. */
int nts_ke_limits_admit(struct ke_limits *limits, nts_ke_address const *peer, int64_t second);

/* Holds one more. *surplus becomes another that must go, or NULL. Returns 0 when memory is short. */
int nts_ke_limits_add(struct ke_limits *limits, nts_ke_address const *peer, struct ke_member *member,
                      struct ke_member **surplus);
void nts_ke_limits_remove(struct ke_limits *limits, struct ke_member *member);

/* The oldest member of the prefix with the most; NULL when there is none. */
struct ke_member *nts_ke_limits_first_to_go(struct ke_limits const *limits);

/* ---- Sessions ------------------------------------------------------------------------------------------ */

enum ke_kind { KE_ALSO, KE_LISTENER, KE_SESSION };

/* What an epoll event points to. */
struct ke_watched {
    enum ke_kind kind;
    int fd;
};

enum ke_state {
    KE_HELLO,     /* until the ClientHello is there */
    KE_HANDSHAKE, /* until TLS and ALPN are settled */
    KE_REQUEST,   /* until the End of Message record */
    KE_ASKING,    /* until the reference has said how to answer */
    KE_CLOSING,   /* until response and close_notify are sent */
    KE_LINGERING, /* until the client closes too */
    KE_FOREIGN,   /* the reference has it */
    KE_GONE       /* closed; freed at the end of the turn */
};

struct nts_ke_session {
    struct ke_watched watched; /* comes first */
    struct ke_member member;
    enum ke_state state;
    int judged;     /* it has its verdict */
    int has_shaken; /* the handshake is complete */
    int wants_write;
    int is_watched; /* by epoll */
    unsigned question; /* an nts_ke_question_kind, for KE_ASKING */
    nts_ke_session *older, *newer; /* of all, or of those that are gone */
    nts_ke_session *queued;        /* the next one for the reference */
    SSL *ssl;
    int64_t accepted, deadline;
    uint8_t *request; /* what has come of it */
    size_t request_length, request_parsed;
    nts_ke_address peer;
};

/* ---- ke_tls.c: what differs between TLS libraries ------------------------------------------------------ */

/* An nts_ke_tls is an SSL_CTX. */
static inline SSL_CTX *ke_context(nts_ke_tls *tls)
{
    return (SSL_CTX *)tls;
}

/* A server's connection over a pair of memory BIOs; NULL when memory is short. */
SSL *nts_ke_tls_accept(SSL_CTX *context);

/* Has it take this group alone. The library wants its number or its name. */
void nts_ke_tls_choose(SSL *ssl, uint16_t group, char const *name);
void nts_ke_tls_group(SSL *ssl, char *name, size_t room);

/* Takes the errors off the library's queue, the text of the first into `reason`. */
void nts_ke_tls_reason(char *reason, size_t room);

/* ---- ke_answer.c: plans and cookies -------------------------------------------------------------------- */

struct ke_cached {
    nts_ke_address local;
    uint8_t request[KE_MAX_CACHED];
    size_t length; /* 0: not in use */
    uint64_t used;
    nts_ke_plan plan;
};

#define KE_MAX_KEY 64 /* octets of a key of any AEAD algorithm */
#define KE_MAX_CONTENTS (2 + 2 * KE_MAX_KEY + 4 + 2 * KE_MAX_KEY) /* of a cookie, before it is sealed */
#define KE_MAX_RESPONSE (NTS_KE_MAX_HEAD + MAX_COOKIES * (4 + COOKIE_HEAD_LEN + TAG_LEN + KE_MAX_CONTENTS) + 4)

/* The plan for this request; NULL when there is none. */
nts_ke_plan const *nts_ke_plan_find(nts_ke *ke, nts_ke_address const *local, uint8_t const *request, size_t length);
void nts_ke_plan_keep(nts_ke *ke, nts_ke_address const *local, uint8_t const *request, size_t length,
                      nts_ke_plan const *plan);
void nts_ke_plan_forget(nts_ke *ke);

/* The response by a plan. Returns its length, 0 on failure. */
size_t nts_ke_respond(nts_ke *ke, SSL *ssl, nts_ke_plan const *plan, uint8_t out[KE_MAX_RESPONSE]);

/* ---- ke_session.c: one connection ---------------------------------------------------------------------- */

enum ke_shape {
    KE_PARTIAL,
    KE_COMPLETE, /* there is an End of Message record */
    KE_HOPELESS  /* there is none within the longest request */
};

/* Whether a request is there, by the records from *parsed on, which this moves on. */
enum ke_shape nts_ke_shape(uint8_t const *octets, size_t length, size_t *parsed);

/* Goes on until the socket would block. `events` are those of epoll, 0 just after accept. */
void nts_ke_session_proceed(nts_ke *ke, nts_ke_session *s, uint32_t events);
void nts_ke_session_expire(nts_ke *ke, nts_ke_session *s);
void nts_ke_session_evict(nts_ke *ke, nts_ke_session *s);
void nts_ke_session_answer(nts_ke *ke, nts_ke_session *s, nts_ke_plan const *plan);

/* ---- The loop ------------------------------------------------------------------------------------------ */

struct ke_queue {
    nts_ke_session *first, *last;
};

struct nts_ke {
    nts_ke_settings settings;
    SSL_CTX *context;
    struct generator generator;
    struct master_key key; /* siv NULL: none */
    struct ke_groups groups;
    struct ke_limits limits;
    struct ke_cached plans[KE_PLANS];
    uint64_t uses;
    nts_ke_counting counting;
    uint64_t own_cells[NTS_KE_VERDICTS + 4 * NTS_KE_MAX_BOUNDS];
    char const *folder; /* while nts_ke_run runs */
    int64_t folder_ctime;
    uint64_t folder_inode;
    int folder_is_known; /* in this turn: 1 as it was, -1 changed */
    int epoll, accepting;
    struct ke_watched listeners[NTS_KE_MAX_SOCKETS], also;
    size_t listener_count;
    int64_t next_sweep;
    nts_ke_session *first, *last; /* all, oldest first */
    nts_ke_session *gone;
    size_t count;
    struct ke_queue questions, handovers, evicted;
    nts_ke_report *reports;
    size_t report_count, report_room;
    uint8_t input[KE_READ_SIZE], request[KE_REQUEST_ROOM], response[KE_MAX_RESPONSE];
};

/* ke.c */
int64_t nts_ke_now(void);
int nts_ke_folder_differs(nts_ke *ke);

/* Has epoll say what there is to read or, if it wants that, that the socket takes more; also what it has said before. */
void nts_ke_watch(nts_ke *ke, nts_ke_session *s);

/* Takes a session out of the limits and all lists but that of the gone, and closes it. */
void nts_ke_close(nts_ke *ke, nts_ke_session *s);

/* ke_news.c */
void nts_ke_enqueue(struct ke_queue *queue, nts_ke_session *s);
void nts_ke_leave(struct ke_queue *queue, nts_ke_session *s);
void nts_ke_address_of(struct sockaddr_storage const *from, nts_ke_address *to);

/* The address that a client has connected to. Returns 0 when the socket has none. */
int nts_ke_local_address(int fd, nts_ke_address *local);

/* Counts what became of a connection. Returns the report, in which the caller says what it knows besides; NULL when
 * nobody wants to know, or memory is short. */
nts_ke_report *nts_ke_note(nts_ke *ke, nts_ke_address const *peer, unsigned verdict);
void nts_ke_count_handshake(nts_ke *ke, SSL *ssl, int64_t us);

#endif

/* SPDX-License-Identifier: MIT
 *
 * nts_engine.h - the packet engine of the time server: answers the common requests of nts/protocol/ts_server.py in C.
 *
 * nts/protocol/ts_server.py is the reference; this is a faster implementation of part of it. The engine answers a packet with
 * the reference's verdict and reply, octet for octet, given the same keys, clock and random octets. A packet that it
 * does not cover gets NTS_HANDOVER, and the reference judges it.
 *
 * The engine covers: all checks of length, version and mode; plain NTPv3 and NTPv4 requests without extension fields;
 * NTS requests with a Unique Identifier, a cookie for AEAD 15, 16, 17 or 30, placeholders as long as the cookie, and
 * finally an authenticator with a nonce of 16 octets (AEAD 30: 12) and nothing encrypted; and the NTS NAKs to those. Cookies
 * may have the format of another server. Where more than one key may have sealed a cookie, the reference tries them.
 *
 * An engine belongs to one thread. Only nts_engine_new, nts_engine_attach and the nts_engine_set_ functions allocate. (With the
 * libcrypto backend, OpenSSL also allocates and frees memory for each client's key.) The engine knows nothing of
 * Python; nts/_engine_build.py reads the text between the two cffi markers.
 */
#ifndef NTS_ENGINE_H_
#define NTS_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

/* cffi:begin */

/* The members of nts.protocol.ts_server.Verdict, in the same order, and one more. */
enum nts_verdict {
    NTS_ANSWERED_PLAIN,
    NTS_ANSWERED_NTS,
    NTS_NAK_COOKIE,
    NTS_NAK_AUTH,
    NTS_KISS_RATE,
    NTS_DROP_DESTINATION,
    NTS_DROP_LENGTH,
    NTS_DROP_VERSION,
    NTS_DROP_MODE,
    NTS_DROP_MAC,
    NTS_DROP_FIELDS,
    NTS_DROP_UNIQUE_ID,
    NTS_DROP_INCOMPLETE,
    NTS_DROP_PADDING,
    NTS_DROP_ENCRYPTED,
    NTS_DROP_RATE,
    NTS_DROP_BUSY, /* a handover for which the queue has no room */
    NTS_VERDICTS,  /* the number of verdicts above */
    NTS_HANDOVER   /* for the reference to judge */
};

/* What the engine counts: verdicts, and after them the members of nts.server.ts_daemon.Cell, in the same order. */
enum nts_cell {
    NTS_HANDOVERS = NTS_VERDICTS, /* packets given to the reference */
    NTS_OCTETS_RECEIVED,          /* of UDP payload, up to 2052 of each datagram */
    NTS_OCTETS_SENT,
    NTS_KEY_AGE_0, /* authenticated requests by how many master keys are newer than the one that sealed the cookie */
    NTS_KEY_AGE_1,
    NTS_KEY_AGE_2,
    NTS_KEY_AGE_3,
    NTS_KEY_AGE_4,
    NTS_KEY_AGE_5,
    NTS_KEY_AGE_6,
    NTS_KEY_AGE_7, /* seven or more */
    NTS_XDP_FRAMES,  /* that came by AF_XDP */
    NTS_XDP_DAMAGED, /* of those, with a wrong length or checksum */
    NTS_CELLS
};

enum {
    NTS_BATCH = 64,         /* packets in one batch and in one system call */
    NTS_MAX_REQUEST = 2048, /* octets; nts.protocol.ts_server.MAX_REQUEST */
    NTS_MAX_KEYS = 128,
    NTS_MAX_IMPORTED = 1024, /* 8 files, 64 keys in each, those of NTPsec in two orders of octets */
    NTS_MAX_SOCKETS = 64,
    NTS_MAX_HANDOVERS = 256 /* packets that can wait for the reference */
};

/* The members of nts.codec.keyring.CookieFormat, in the same order. */
enum nts_format { NTS_OWN, NTS_CHRONY, NTS_NTPSEC, NTS_FORMATS };

typedef struct nts_engine nts_engine;

/* A key of another server, whose cookies we open. */
typedef struct {
    uint32_t id;
    uint8_t format; /* NTS_CHRONY or NTS_NTPSEC */
    uint8_t usable; /* 0: only the reference knows its algorithm, and gets its cookies */
    uint8_t key[32];
} nts_imported;

/* An AF_XDP socket: raw frames from one receive queue of an interface. */
typedef struct nts_xsk nts_xsk;

/* What the server says of its clock (RFC 5905 section 7.3). Times are as on the wire. */
typedef struct {
    uint8_t leap;
    uint8_t stratum;
    int8_t precision;
    uint32_t root_delay;
    uint32_t root_dispersion;
    uint8_t reference_id[4];
    uint64_t reference_time;
} nts_system;

/* nts.protocol.rate_limit.Limit */
typedef struct {
    uint32_t rate;  /* requests per second and prefix; 0: no limit */
    uint32_t burst; /* 1 or more */
    uint32_t prefix4, prefix6; /* bits */
    uint32_t nts;   /* 1: limit authenticated requests too */
} nts_limit;

/* A packet for the reference. */
typedef struct {
    uint8_t packet[2052];
    uint32_t length;
    uint64_t received; /* NTP timestamp */
} nts_handover;

/* A new engine without keys or sockets. NULL when memory is short, when the kernel gives no random octets, or when
 * AES_SIV_BACKEND names a backend that does not exist. */
nts_engine *nts_engine_new(void);

/* Wipes and frees the engine. The sockets stay open. */
void nts_engine_free(nts_engine *engine);

/* The AES implementation in use: aes_siv_backend(). */
char const *nts_engine_backend(void);

/* Replaces the master keys: n identifiers, and n keys of 32 octets one after another. The last key is the current one.
 * Returns 1. Returns 0 and keeps the old keys when there are more than NTS_MAX_KEYS or memory is short. */
int nts_engine_set_keys(nts_engine *engine, uint16_t const *ids, uint8_t const *keys, size_t n);

/* Replaces the keys of other servers. Returns 1. Returns 0 and keeps the old ones when there are more than
 * NTS_MAX_IMPORTED or memory is short. */
int nts_engine_set_imported(nts_engine *engine, nts_imported const *keys, size_t n);

/* The format of fresh cookies. */
void nts_engine_set_format(nts_engine *engine, unsigned format);

void nts_engine_set_system(nts_engine *engine, nts_system const *system);

/* Limits how many requests a prefix may send, from now on, and forgets what was sent before. Returns 1. Returns 0 and
 * keeps the old limit when memory is short. */
int nts_engine_set_limit(nts_engine *engine, nts_limit const *limit);

/* Where to count: NTS_CELLS cells, which must outlive the engine. */
void nts_engine_count_into(nts_engine *engine, uint64_t *cells);

/* Serves these UDP sockets, which must be bound and non-blocking. A readable descriptor in `wake` ends a wait. Returns
 * 1, or 0 when there are too many, memory is short, or a socket refuses its options. */
int nts_engine_attach(nts_engine *engine, int const *sockets, size_t n, int const *wake, size_t wakes);

/* A new AF_XDP socket with memory for its frames, which processes forked from this one share. Wants CAP_NET_RAW, and leave
 * to lock 4 MiB. NULL when it cannot be had: errno says why. */
nts_xsk *nts_xsk_open(void);

/* Binds it to a queue, without copies if the driver can. 0 when it cannot be bound: errno says why. A BPF program must
 * send it the frames. */
int nts_xsk_bind(nts_xsk *xsk, uint32_t interface, uint32_t queue);

/* Whether a bound one does without copies. */
int nts_xsk_is_zero_copy(nts_xsk const *xsk);

int nts_xsk_descriptor(nts_xsk const *xsk);

/* How many frames the kernel has dropped since all were in use. */
uint64_t nts_xsk_lost(nts_xsk const *xsk);

void nts_xsk_close(nts_xsk *xsk);

/* Serves these bound AF_XDP sockets too, which must outlive the engine and which no other process serves. Call it after
 * nts_engine_attach, once. Returns 1, or 0 when there are too many or memory is short. */
int nts_engine_attach_xsks(nts_engine *engine, nts_xsk *const *xsks, size_t n);

/* Waits for datagrams and answers them until there is something that only the caller can do. Call nts_engine_attach
 * first. Returns
 *    1  when it is the turn of a handover: nothing else waits, or the last one was long enough ago;
 *   -1  when a descriptor in `wake` is readable;
 *    0  when it is time to look at the keys and at the system variables: after timeout_ms, or when datagrams are
 *       waiting and `folder`, which holds the master keys, does not have this change time and inode. The next call
 *       answers those datagrams without another look. A folder that cannot be examined has change time 0 and inode 0.
 */
int nts_engine_run(nts_engine *engine, char const *folder, int64_t ctime_ns, uint64_t inode, int timeout_ms);

/* The handover that has waited longest; NULL when there is none. */
nts_handover const *nts_engine_handover(nts_engine const *engine);

/* What becomes of that packet, on which the reference has this verdict, under the limit: the same, NTS_KISS_RATE or
 * NTS_DROP_RATE. Call it once for each packet that is to get a reply. */
uint32_t nts_engine_limit_handover(nts_engine *engine, uint32_t verdict);

/* Sends the reference's reply to that packet, unless `length` is 0, and removes the packet from the queue. */
void nts_engine_handover_done(nts_engine *engine, uint8_t const *reply, size_t length);

/* cffi:end */

#endif

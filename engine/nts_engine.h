/* SPDX-License-Identifier: MIT
 *
 * nts_engine.h - the packet engine of the time server: answers the common requests of nts/protocol/ts_server.py in C.
 *
 * The reference is nts/protocol/ts_server.py; this is a second implementation of a part of it, for speed. A packet that
 * is not in the part, whatever is odd about it, gets NTS_HANDOVER and is the reference's to judge. For all
 * others, verdict and reply are the reference's, octet by octet, given the same keys, clock and random octets.
 *
 * In the part: everything about length, version and mode; plain NTPv3 and NTPv4 requests without extension
 * fields; NTS requests whose fields are a Unique Identifier, a cookie, placeholders as long as the cookie, and
 * last an authenticator with a 16-octet nonce and nothing encrypted; and the NTS NAKs to those.
 *
 * An engine belongs to one thread. Only nts_engine_new, nts_engine_attach and nts_engine_set_keys allocate; with the
 * backend libcrypto, OpenSSL does inside for each client's key, and gives it back. The engine knows nothing of Python;
 * what stands between the two markers is also what the Python binding reads.
 */
#ifndef NTS_ENGINE_H_
#define NTS_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

/* cffi:begin */

/* The members of nts.protocol.ts_server.Verdict, in its order, and one more. */
enum nts_verdict {
    NTS_ANSWERED_PLAIN,
    NTS_ANSWERED_NTS,
    NTS_NAK_COOKIE,
    NTS_NAK_AUTH,
    NTS_DROP_LENGTH,
    NTS_DROP_VERSION,
    NTS_DROP_MODE,
    NTS_DROP_MAC,
    NTS_DROP_FIELDS,
    NTS_DROP_UNIQUE_ID,
    NTS_DROP_INCOMPLETE,
    NTS_DROP_PADDING,
    NTS_DROP_ENCRYPTED,
    NTS_DROP_BUSY, /* odd, and more of them than the reference has time for */
    NTS_VERDICTS,  /* how many of those there are */
    NTS_HANDOVER   /* for the reference to judge */
};

enum {
    NTS_BATCH = 64,         /* packets in one call of nts_engine_answer, and in one system call */
    NTS_MAX_REQUEST = 2048, /* octets; nts.protocol.ts_server.MAX_REQUEST */
    NTS_MAX_KEYS = 128,
    NTS_MAX_SOCKETS = 64,
    NTS_MAX_ODD = 256 /* packets that wait for the reference */
};

typedef struct nts_engine nts_engine;

/* What the server says of its clock (RFC 5905 section 7.3); times as on the wire. */
typedef struct {
    uint8_t leap;
    uint8_t stratum;
    int8_t precision;
    uint32_t root_delay;
    uint32_t root_dispersion;
    uint8_t reference_id[4];
    uint64_t reference_time;
} nts_system;

/* A packet for the reference. */
typedef struct {
    uint8_t packet[2052];
    uint32_t length;
    uint64_t received; /* NTP timestamp */
} nts_odd;

/* A new engine without keys or sockets; NULL when memory or the kernel's random numbers are not to be had, or
 * when AES_SIV_BACKEND names a backend that is not there. */
nts_engine *nts_engine_new(void);

/* Wipes and releases it. The sockets stay open. */
void nts_engine_free(nts_engine *engine);

/* The AES implementation in use: aes_siv_backend(). */
char const *nts_engine_backend(void);

/* Replaces the master keys: n identifiers, n keys of 32 octets one after another, the last one current.
 * Returns 1, or 0 when there are too many or memory is short; then the old keys stay. */
int nts_engine_set_keys(nts_engine *engine, uint16_t const *ids, uint8_t const *keys, size_t n);

void nts_engine_set_system(nts_engine *engine, nts_system const *system);

/* Where to count: NTS_VERDICTS cells, which outlive the engine. */
void nts_engine_count_into(nts_engine *engine, uint64_t *cells);

/* --- without sockets, for tests and fuzzing --- */

/* From now on random octets are what fn gives, until fn is NULL. */
void nts_engine_random_for_tests(nts_engine *engine, void (*fn)(void *context, uint8_t *out, size_t n),
                                 void *context);

/* Judges n <= NTS_BATCH packets as one batch. Packet i is lengths[i] octets at packets + i * stride, and arrived
 * at received[i]; every reply's transmit timestamp is `transmit`. Reply i goes to replies + i * NTS_MAX_REQUEST
 * and has reply_lengths[i] octets, 0 for none. */
void nts_engine_answer(nts_engine *engine, uint8_t const *packets, size_t stride, size_t const *lengths,
                       uint64_t const *received, size_t n, uint64_t transmit, uint32_t *verdicts,
                       uint8_t *replies, size_t *reply_lengths);

/* --- with sockets: nothing of this before nts_engine_attach --- */

/* Serve these UDP sockets, which are bound and non-blocking; `wake` are descriptors that end a wait when they
 * become readable. Returns 1, or 0 when there are too many, memory is short, or a socket refuses its options. */
int nts_engine_attach(nts_engine *engine, int const *sockets, size_t n, int const *wake, size_t wakes);

/* Waits for datagrams, up to timeout_ms (-1: for ever). Returns 1 when there are some, 0 when not, and -1 when a
 * descriptor of `wake` is readable. */
int nts_engine_wait(nts_engine *engine, int timeout_ms);

/* Answers what has come, up to a bound, and returns how many datagrams that were. Odd ones wait for the reference;
 * those for which there is no room are dropped as NTS_DROP_BUSY. */
size_t nts_engine_serve(nts_engine *engine);

/* Waits and serves, again and again, until there is something to do that is not the engine's. Returns 1 when an odd
 * packet's turn has come: because nothing else waits, or because the last one was long enough ago. Returns -1 when
 * a descriptor of `wake` is readable, and 0 when it is time to look after keys and system variables: after
 * timeout_ms, or as soon as datagrams have come and `folder`, that of the master keys, is seen to have changed. These
 * datagrams are answered by the next call. */
int nts_engine_run(nts_engine *engine, char const *folder, int timeout_ms);

/* The odd packet that has waited longest; NULL when there is none. */
nts_odd const *nts_engine_odd(nts_engine const *engine);

/* The reference is through with that packet: sends its reply, unless that has no octets, and forgets the packet. */
void nts_engine_odd_done(nts_engine *engine, uint8_t const *reply, size_t length);

/* cffi:end */

#endif

/* SPDX-License-Identifier: MIT
 *
 * limit.c - the limit of requests per prefix: nts/protocol/rate_limit.py says what it is. Pure: no clock, no system
 * calls, no memory but the table's.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "internal.h"

#define SETS_LOG2 13
#define WAYS 4
#define WORDS 4 /* of 32 bits in a prefix */
#define NS_PER_S 1000000000
#define KISS_INTERVAL (8 * (int64_t)NS_PER_S)

/* Times are in ns. An empty bucket is as good as a new one of the prefix ::. */
struct bucket {
    uint64_t high, low; /* the prefix */
    int64_t full_at;    /* when it will have all its tokens again */
    int64_t next_kiss;
};

struct limiter {
    int64_t interval;       /* from one token to the next */
    int64_t slack;          /* how far ahead full_at may be of the time for one more request to pass */
    unsigned prefix4, prefix6; /* bits, of 128 */
    uint32_t nts;           /* limit authenticated requests too */
    uint64_t multipliers[WORDS + 1];
    struct bucket buckets[1 << SETS_LOG2][WAYS];
};

int nts_engine_set_limit(nts_engine *engine, nts_limit const *limit)
{
    struct limiter *fresh = NULL;

    if (limit->rate != 0) {
        fresh = calloc(1, sizeof *fresh);
        if (fresh == NULL)
            return 0;
        fresh->interval = NS_PER_S / limit->rate;
        fresh->slack = (int64_t)(limit->burst - 1) * fresh->interval;
        fresh->prefix4 = 96 + limit->prefix4;
        fresh->prefix6 = limit->prefix6;
        fresh->nts = limit->nts;
        nts_random(&engine->generator, (uint8_t *)fresh->multipliers, sizeof fresh->multipliers);
    }
    free(engine->limiter);
    engine->limiter = fresh;
    return 1;
}

static uint64_t mask(unsigned bits)
{
    return bits == 0 ? 0 : bits < 64 ? ~(uint64_t)0 << (64 - bits) : ~(uint64_t)0;
}

/* Which set a prefix belongs to: multiply-shift hashing, in which no two prefixes share a set more often than by chance.
 * Who does not know the multipliers cannot choose prefixes that do. */
static struct bucket *set_of(struct limiter *limiter, uint64_t high, uint64_t low)
{
    uint64_t const *const m = limiter->multipliers;
    uint64_t const sum = m[0] * (high >> 32) + m[1] * (high & 0xffffffff) + m[2] * (low >> 32) +
                         m[3] * (low & 0xffffffff) + m[4];

    return limiter->buckets[sum >> (64 - SETS_LOG2)];
}

/* The prefix's bucket, which may be a new one in place of the fullest of its set. */
static struct bucket *bucket_of(struct limiter *limiter, uint64_t high, uint64_t low)
{
    struct bucket *const set = set_of(limiter, high, low);
    struct bucket *fullest = set;

    for (struct bucket *b = set; b < set + WAYS; b++) {
        if (b->high == high && b->low == low)
            return b;
        if (b->full_at < fullest->full_at)
            fullest = b;
    }
    *fullest = (struct bucket){.high = high, .low = low};
    return fullest;
}

static struct bucket *bucket_of_peer(struct limiter *limiter, struct sockaddr_storage const *peer)
{
    uint64_t high = 0, low;
    unsigned bits = limiter->prefix6;

    if (peer->ss_family == AF_INET6) {
        uint8_t const *const address = ((struct sockaddr_in6 const *)peer)->sin6_addr.s6_addr;

        high = load64(address);
        low = load64(address + 8);
    } else {
        low = (uint64_t)0xffff << 32 | ntohl(((struct sockaddr_in const *)peer)->sin_addr.s_addr);
        bits = limiter->prefix4;
    }
    return bucket_of(limiter, high & mask(bits), low & mask(bits < 64 ? 0 : bits - 64));
}

enum nts_verdict nts_limited(struct limiter *limiter, struct sockaddr_storage const *peer, int64_t now,
                             enum nts_verdict verdict)
{
    struct bucket *bucket;

    if (verdict > NTS_NAK_AUTH || (verdict == NTS_ANSWERED_NTS && !limiter->nts))
        return verdict;
    bucket = bucket_of_peer(limiter, peer);
    bucket->full_at = bucket->full_at > now ? bucket->full_at : now;
    if (bucket->full_at - now <= limiter->slack) {
        bucket->full_at += limiter->interval;
        return verdict;
    }
    if (verdict == NTS_NAK_COOKIE || verdict == NTS_NAK_AUTH || now < bucket->next_kiss)
        return NTS_DROP_RATE;
    bucket->next_kiss = now + KISS_INTERVAL;
    return NTS_KISS_RATE;
}

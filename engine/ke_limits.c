/* SPDX-License-Identifier: MIT
 *
 * ke_limits.c - who may stay connected: nts/server/limits.py says what the limits are. Pure: no clock, no system calls.
 *
 * Prefixes are in a hash table with chains. One without connections stays only until the end of the second in which its
 * arrivals count.
 */
#include <stdlib.h>

#include "ke_internal.h"

struct ke_prefix {
    uint64_t high, low;
    struct ke_prefix *chained;          /* the next one in the same bucket */
    struct ke_prefix *before, *after;   /* of those with members, or of those without */
    struct ke_member *oldest, *newest;
    size_t count;
    uint64_t arrivals; /* within this second */
};

int nts_ke_limits_open(struct ke_limits *limits, nts_ke_settings const *settings, uint64_t const multipliers[5])
{
    *limits = (struct ke_limits){.settings = *settings, .buckets_log2 = 4};
    memcpy(limits->multipliers, multipliers, sizeof limits->multipliers);
    while ((uint64_t)1 << limits->buckets_log2 < settings->max_sessions)
        limits->buckets_log2++;
    limits->buckets = calloc((size_t)1 << limits->buckets_log2, sizeof *limits->buckets);
    return limits->buckets != NULL;
}

/* ---- Prefixes ------------------------------------------------------------------------------------------ */

static uint64_t mask(unsigned bits)
{
    return bits == 0 ? 0 : bits < 64 ? ~(uint64_t)0 << (64 - bits) : ~(uint64_t)0;
}

/* The prefix of an address, as one in IPv6 with zeros behind it. An IPv4 address counts as mapped into IPv6. */
static void prefix_of(struct ke_limits const *limits, nts_ke_address const *peer, uint64_t *high, uint64_t *low)
{
    static uint8_t const mapped[12] = {[10] = 0xff, [11] = 0xff};
    int const in_v6 = peer->length == 16;
    int const v4 = !in_v6 || memcmp(peer->octets, mapped, sizeof mapped) == 0;
    unsigned const bits = v4 ? 96 + limits->settings.prefix4 : limits->settings.prefix6;

    *high = in_v6 ? load64(peer->octets) : 0;
    *low = in_v6 ? load64(peer->octets + 8) : 0xffff00000000 | load64((uint8_t[8]){[4] = peer->octets[0], peer->octets[1],
                                                                       peer->octets[2], peer->octets[3]});
    *high &= mask(bits);
    *low &= mask(bits < 64 ? 0 : bits - 64);
}

/* Multiply-shift hashing, as in limit.c: who does not know the multipliers cannot choose prefixes that collide. */
static struct ke_prefix **bucket_of(struct ke_limits const *limits, uint64_t high, uint64_t low)
{
    uint64_t const *const m = limits->multipliers;
    uint64_t const sum = m[0] * (high >> 32) + m[1] * (high & 0xffffffff) + m[2] * (low >> 32) +
                         m[3] * (low & 0xffffffff) + m[4];

    return &limits->buckets[sum >> (64 - limits->buckets_log2)];
}

static void link_last(struct ke_limits *limits, struct ke_prefix *p)
{
    p->before = limits->last;
    p->after = NULL;
    *(limits->last == NULL ? &limits->first : &limits->last->after) = p;
    limits->last = p;
}

static void link_idle(struct ke_limits *limits, struct ke_prefix *p)
{
    p->before = NULL;
    p->after = limits->idle;
    if (p->after != NULL)
        p->after->before = p;
    limits->idle = p;
}

static void unlink_prefix(struct ke_limits *limits, struct ke_prefix *p)
{
    if (p->before != NULL)
        p->before->after = p->after;
    else
        *(p == limits->idle ? &limits->idle : &limits->first) = p->after;
    if (p->after != NULL)
        p->after->before = p->before;
    else if (p == limits->last)
        limits->last = p->before;
}

/* Frees an idle prefix. */
static void drop(struct ke_limits *limits, struct ke_prefix *p)
{
    struct ke_prefix **at = bucket_of(limits, p->high, p->low);

    while (*at != p)
        at = &(*at)->chained;
    *at = p->chained;
    unlink_prefix(limits, p);
    free(p);
}

/* The prefix of an address, which may be a new one; NULL when memory is short. */
static struct ke_prefix *find(struct ke_limits *limits, nts_ke_address const *peer)
{
    uint64_t high, low;
    struct ke_prefix **bucket, *p;

    prefix_of(limits, peer, &high, &low);
    bucket = bucket_of(limits, high, low);
    for (p = *bucket; p != NULL; p = p->chained)
        if (p->high == high && p->low == low)
            return p;
    p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    p->high = high;
    p->low = low;
    p->chained = *bucket;
    *bucket = p;
    link_idle(limits, p);
    return p;
}

void nts_ke_limits_close(struct ke_limits *limits)
{
    while (limits->first != NULL)
        nts_ke_limits_remove(limits, limits->first->oldest);
    while (limits->idle != NULL)
        drop(limits, limits->idle);
    free(limits->buckets);
}

/* ---- The rate ------------------------------------------------------------------------------------------ */

static void start_second(struct ke_limits *limits, int64_t second)
{
    limits->second = second;
    while (limits->idle != NULL)
        drop(limits, limits->idle);
    for (struct ke_prefix *p = limits->first; p != NULL; p = p->after)
        p->arrivals = 0;
}

int nts_ke_limits_admit(struct ke_limits *limits, nts_ke_address const *peer, int64_t second)
{
    struct ke_prefix *p;

    if (limits->settings.rate_per_prefix == 0)
        return 1;
    if (second != limits->second)
        start_second(limits, second);
    p = find(limits, peer);
    return p != NULL && ++p->arrivals <= limits->settings.rate_per_prefix;
}

/* ---- The members --------------------------------------------------------------------------------------- */

int nts_ke_limits_add(struct ke_limits *limits, nts_ke_address const *peer, struct ke_member *member,
                      struct ke_member **surplus)
{
    struct ke_prefix *const p = find(limits, peer);

    *surplus = NULL;
    if (p == NULL)
        return 0;
    if (p->count++ == 0) {
        unlink_prefix(limits, p);
        link_last(limits, p);
    }
    *member = (struct ke_member){.prefix = p, .older = p->newest};
    *(p->newest == NULL ? &p->oldest : &p->newest->newer) = member;
    p->newest = member;
    limits->total++;
    if (p->count > limits->settings.max_per_prefix)
        *surplus = p->oldest;
    else if (limits->total > limits->settings.max_sessions)
        *surplus = nts_ke_limits_first_to_go(limits);
    return 1;
}

void nts_ke_limits_remove(struct ke_limits *limits, struct ke_member *member)
{
    struct ke_prefix *const p = member->prefix;

    if (p == NULL)
        return;
    *(member->older == NULL ? &p->oldest : &member->older->newer) = member->newer;
    *(member->newer == NULL ? &p->newest : &member->newer->older) = member->older;
    *member = (struct ke_member){0};
    limits->total--;
    if (--p->count != 0)
        return;
    unlink_prefix(limits, p);
    link_idle(limits, p);
    if (limits->settings.rate_per_prefix == 0)
        drop(limits, p);
}

struct ke_member *nts_ke_limits_first_to_go(struct ke_limits const *limits)
{
    struct ke_prefix const *most = limits->first;

    for (struct ke_prefix const *p = limits->first; p != NULL; p = p->after)
        if (p->count > most->count)
            most = p;
    return most == NULL ? NULL : most->oldest;
}

/* SPDX-License-Identifier: MIT
 *
 * ke_hello.c - which ClientHellos are usual: those that every TLS library takes for the same. Pure.
 *
 * A usual one is alone in one TLS record, well-formed to the last octet, without repetitions, offers TLS 1.3 and ntske/1,
 * and brings a key share that this server takes. It has only extensions of which the meaning for a server is settled.
 * Whatever else may be good or bad: the reference decides, with the TLS library that it has.
 */
#include "ke_internal.h"

#define RECORD_HEADER 5
#define MESSAGE_HEADER 4
#define HANDSHAKE 22
#define CLIENT_HELLO 1
#define TLS_1_2 0x0303
#define TLS_1_3 0x0304
#define MAX_NAME 255
#define NO_LIMIT 0x4001 /* octets: what a record of TLS 1.3 may hold anyway */

/* Extensions, in the IANA registry */
enum {
    SERVER_NAME = 0,
    STATUS_REQUEST = 5,
    SUPPORTED_GROUPS = 10,
    EC_POINT_FORMATS = 11,
    SIGNATURE_ALGORITHMS = 13,
    ALPN = 16,
    SIGNED_CERTIFICATE_TIMESTAMP = 18,
    PADDING = 21,
    ENCRYPT_THEN_MAC = 22,
    EXTENDED_MASTER_SECRET = 23,
    COMPRESS_CERTIFICATE = 27,
    RECORD_SIZE_LIMIT = 28,
    SESSION_TICKET = 35,
    SUPPORTED_VERSIONS = 43,
    PSK_KEY_EXCHANGE_MODES = 45,
    POST_HANDSHAKE_AUTH = 49,
    SIGNATURE_ALGORITHMS_CERT = 50,
    KEY_SHARE = 51,
    RENEGOTIATION_INFO = 0xff01
};

/* Octets of a client's share, which a library may check before or after anything else. */
static struct {
    uint16_t group;
    size_t length;
} const shares[] = {
    {23, 65},             /* secp256r1 */
    {24, 97},             /* secp384r1 */
    {29, 32},             /* x25519 */
    {0x11eb, 1184 + 65},  /* SecP256r1MLKEM768 */
    {0x11ec, 1184 + 32},  /* X25519MLKEM768 */
    {0x11ed, 1568 + 97},  /* SecP384r1MLKEM1024 */
};

/* ---- Octets that are read one after another ------------------------------------------------------------ */

/* `left` is what has not been read; `bad` says that more was wanted once than there was. */
struct cursor {
    uint8_t const *at;
    size_t left;
    int bad;
};

static struct cursor take(struct cursor *c, size_t n)
{
    struct cursor const taken = {.at = c->at, .left = n};

    if (n > c->left) {
        c->bad = 1;
        c->left = 0;
        return (struct cursor){.at = c->at, .bad = 1};
    }
    c->at += n;
    c->left -= n;
    return taken;
}

static unsigned take8(struct cursor *c)
{
    struct cursor const one = take(c, 1);

    return one.bad ? 0 : one.at[0];
}

static unsigned take16(struct cursor *c)
{
    struct cursor const two = take(c, 2);

    return two.bad ? 0 : load16(two.at);
}

static struct cursor take_vector8(struct cursor *c)
{
    return take(c, take8(c));
}

static struct cursor take_vector16(struct cursor *c)
{
    return take(c, take16(c));
}

/* Whether there is nothing left, and has always been enough. */
static int ends(struct cursor const *c)
{
    return !c->bad && c->left == 0;
}

/* ---- Extensions ---------------------------------------------------------------------------------------- */

/* What the extensions of one ClientHello have shown. */
struct findings {
    struct ke_groups const *groups;
    int versions, ntske, signatures;
    int own_shares, best; /* shares for groups of ours, and the place of the one that the reference prefers */
    uint16_t shares[NTS_KE_MAX_GROUPS]; /* their groups */
    size_t share_count;
    struct cursor list; /* supported_groups */
};

static int is_in(uint16_t const *list, size_t n, unsigned value)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] == value)
            return 1;
    return 0;
}

/* Whether a vector holds one or more numbers of 16 bits, with the wanted one among them (-1: any). */
static int is_list16(struct cursor vector, struct cursor const *rest, int wanted)
{
    int found = wanted < 0;

    if (vector.bad || vector.left == 0 || vector.left % 2 != 0 || !ends(rest))
        return 0;
    while (vector.left != 0)
        found |= (int)take16(&vector) == wanted;
    return found;
}

static int is_name_list(struct cursor body)
{
    struct cursor list = take_vector16(&body);
    unsigned const type = take8(&list);
    struct cursor const name = take_vector16(&list);

    return ends(&body) && ends(&list) && type == 0 && !name.bad && name.left != 0 && name.left <= MAX_NAME &&
           memchr(name.at, 0, name.left) == NULL;
}

static int offers_ntske(struct cursor body)
{
    static char const own[] = "ntske/1";
    struct cursor list = take_vector16(&body);
    int found = 0;

    if (!ends(&body) || list.left == 0)
        return 0;
    while (list.left != 0) {
        struct cursor const name = take_vector8(&list);

        if (name.bad || name.left == 0)
            return 0;
        found |= name.left == sizeof own - 1 && memcmp(name.at, own, sizeof own - 1) == 0;
    }
    return found && !list.bad;
}

/* The group's place in the reference's order; -1 if it has no such group. */
static int place_of(struct ke_groups const *groups, unsigned group)
{
    for (size_t i = 0; i < groups->count; i++)
        if (groups->ids[i] == group)
            return (int)i;
    return -1;
}

/* Whether there is a share for us, no two are for the same group, and those for our groups have the right length. */
static int has_share(struct cursor body, struct findings *found)
{
    struct ke_groups const *const groups = found->groups;
    struct cursor list = take_vector16(&body);

    if (!ends(&body))
        return 0;
    while (list.left != 0) {
        unsigned const group = take16(&list);
        struct cursor const share = take_vector16(&list);
        int const place = place_of(groups, group);
        size_t wanted = 0;

        if (share.bad || share.left == 0 || found->share_count == NTS_KE_MAX_GROUPS ||
            is_in(found->shares, found->share_count, group))
            return 0;
        found->shares[found->share_count++] = (uint16_t)group;
        if (place < 0 || !groups->ours[place])
            continue;
        for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
            if (shares[i].group == group)
                wanted = shares[i].length;
        if (share.left != wanted)
            return 0;
        if (found->own_shares++ == 0 || place < found->best)
            found->best = place;
    }
    return found->own_shares != 0 && !list.bad;
}

/* Whether the client supports the groups of all its shares, as it must (RFC 8446 section 4.2.8). */
static int supports_its_shares(struct findings const *found)
{
    for (size_t i = 0; i < found->share_count; i++) {
        struct cursor list = found->list;

        while (list.left != 0 && take16(&list) != found->shares[i])
            if (list.left == 0)
                return 0;
    }
    return 1;
}

/* Whether the body of an extension is usual. */
static int is_usual(unsigned type, struct cursor body, struct findings *found)
{
    static uint8_t const ocsp[] = {1, 0, 0, 0, 0};

    switch (type) {
    case SERVER_NAME:
        return is_name_list(body);
    case STATUS_REQUEST:
        return body.left == sizeof ocsp && memcmp(body.at, ocsp, sizeof ocsp) == 0;
    case SUPPORTED_GROUPS:
        found->list = take_vector16(&body);
        return is_list16(found->list, &body, -1);
    case EC_POINT_FORMATS:
    case PSK_KEY_EXCHANGE_MODES: {
        struct cursor const list = take_vector8(&body);

        return ends(&body) && list.left != 0;
    }
    case SIGNATURE_ALGORITHMS:
    case SIGNATURE_ALGORITHMS_CERT: {
        struct cursor const list = take_vector16(&body);

        found->signatures |= type == SIGNATURE_ALGORITHMS;
        return is_list16(list, &body, -1);
    }
    case ALPN:
        return found->ntske = offers_ntske(body);
    case SUPPORTED_VERSIONS: {
        struct cursor const list = take_vector8(&body);

        return found->versions = is_list16(list, &body, TLS_1_3);
    }
    case COMPRESS_CERTIFICATE: {
        struct cursor const list = take_vector8(&body);

        return is_list16(list, &body, -1);
    }
    case RECORD_SIZE_LIMIT:
        return body.left == 2 && load16(body.at) == NO_LIMIT;
    case KEY_SHARE:
        return has_share(body, found);
    case RENEGOTIATION_INFO:
        return body.left == 1 && body.at[0] == 0;
    case SIGNED_CERTIFICATE_TIMESTAMP:
    case ENCRYPT_THEN_MAC:
    case EXTENDED_MASTER_SECRET:
    case SESSION_TICKET:
    case POST_HANDSHAKE_AUTH:
        return body.left == 0;
    case PADDING:
        return 1;
    default:
        return 0;
    }
}

static int has_usual_extensions(struct cursor list, struct findings *found)
{
    uint64_t seen = 0;

    while (list.left != 0) {
        unsigned const type = take16(&list);
        struct cursor const body = take_vector16(&list);
        uint64_t const bit = (uint64_t)1 << (type < 63 ? type : 63); /* the last is for the only type above */

        if (body.bad || (seen & bit) != 0 || !is_usual(type, body, found))
            return 0;
        seen |= bit;
    }
    return !list.bad && found->versions && found->ntske && found->signatures && found->own_shares != 0 && found->list.left != 0 &&
           supports_its_shares(found);
}

/* ---- The message --------------------------------------------------------------------------------------- */

/* Whether the octets so far are how a usual ClientHello begins; then *length becomes that of the record. */
static int begins_usual(uint8_t const *p, size_t n, size_t *length)
{
    *length = KE_MAX_HELLO;
    if ((n > 0 && p[0] != HANDSHAKE) || (n > 1 && p[1] != 3) || (n > 2 && (p[2] == 0 || p[2] > 3)))
        return 0;
    if (n >= RECORD_HEADER)
        *length = RECORD_HEADER + load16(p + 3);
    if (*length > KE_MAX_HELLO || *length < RECORD_HEADER + MESSAGE_HEADER)
        return 0;
    if ((n > 5 && p[5] != CLIENT_HELLO) || (n > 6 && p[6] != 0))
        return 0;
    return n < RECORD_HEADER + MESSAGE_HEADER || load16(p + 7) + RECORD_HEADER + MESSAGE_HEADER == *length;
}

/* Whether this library is to take a group that the reference would take too. That takes its favourite of those for which
 * there are shares, or asks for a share of a better one, if the client supports any. */
static int has_common_group(struct findings const *found, int *choice)
{
    struct ke_groups const *const groups = found->groups;
    struct cursor list = found->list;

    *choice = found->own_shares > 1 ? found->best : -1;
    while (list.left != 0) {
        int const place = place_of(groups, take16(&list));

        if (place < 0 || place >= found->best)
            continue;
        if (!groups->ours[place])
            return 0;
        *choice = -1; /* the library asks for it too */
    }
    return 1;
}

enum ke_hello nts_ke_hello(uint8_t const *octets, size_t length, struct ke_groups const *groups, int *choice)
{
    struct findings found = {.groups = groups};
    struct cursor c = {.at = octets, .left = length}, session, ciphers, compression, extensions;
    size_t whole;
    unsigned version;

    if (!begins_usual(octets, length, &whole) || length > whole)
        return KE_HELLO_UNUSUAL;
    if (length < whole || length < RECORD_HEADER + MESSAGE_HEADER)
        return KE_HELLO_PARTIAL;
    (void)take(&c, RECORD_HEADER + MESSAGE_HEADER);
    version = take16(&c);
    (void)take(&c, 32); /* random */
    session = take_vector8(&c);
    ciphers = take_vector16(&c);
    compression = take_vector8(&c);
    extensions = take_vector16(&c);
    if (!ends(&c) || version != TLS_1_2 || session.left > 32 || !is_list16(ciphers, &c, -1) || compression.left != 1 ||
        compression.at[0] != 0 || !has_usual_extensions(extensions, &found))
        return KE_HELLO_UNUSUAL;
    return has_common_group(&found, choice) ? KE_HELLO_USUAL : KE_HELLO_UNUSUAL;
}

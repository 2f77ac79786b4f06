/* SPDX-License-Identifier: MIT
 *
 * classify.c - which packets the engine answers, by a table; and that it reads nothing beyond the end of a packet.
 */
#include "check.h"
#include "requests.h"

struct row {
    char const *name;
    char const *fields; /* as in fields_of() below */
    enum nts_verdict verdict;
    unsigned cookies;
};

/* U unique identifier, C cookie, P placeholder as long as the cookie, A authenticator, X unknown; lower case: the same
 * with a fault. */
static struct row const rows[] = {
    {"plain", "", NTS_ANSWERED_PLAIN, 0},
    {"usual", "UCA", NTS_ANSWERED_NTS, 1},
    {"cookie first", "CUA", NTS_ANSWERED_NTS, 1},
    {"one placeholder", "UCPA", NTS_ANSWERED_NTS, 2},
    {"seven", "UCPPPPPPPA", NTS_ANSWERED_NTS, 8},
    {"ten", "UCPPPPPPPPPPA", NTS_ANSWERED_NTS, 8},
    {"identifier after placeholders", "CPUA", NTS_ANSWERED_NTS, 2},
    {"no authenticator", "UC", NTS_HANDOVER, 0},
    {"authenticator alone", "A", NTS_HANDOVER, 0},
    {"identifier alone", "U", NTS_HANDOVER, 0},
    {"no identifier", "CA", NTS_HANDOVER, 0},
    {"no cookie", "UA", NTS_HANDOVER, 0},
    {"two identifiers", "UUCA", NTS_HANDOVER, 0},
    {"two cookies", "UCCA", NTS_HANDOVER, 0},
    {"two authenticators", "UCAA", NTS_HANDOVER, 0},
    {"placeholder before the cookie", "UPCA", NTS_HANDOVER, 0},
    {"cookie after the authenticator", "UAC", NTS_HANDOVER, 0},
    {"something after the authenticator", "UCAX", NTS_HANDOVER, 0},
    {"unknown field", "XUCA", NTS_HANDOVER, 0},
    {"unknown field in the middle", "UCXA", NTS_HANDOVER, 0},
    {"short identifier", "uCA", NTS_HANDOVER, 0},
    {"placeholder of another length", "UCpA", NTS_HANDOVER, 0},
    {"authenticator with something encrypted", "UCa", NTS_HANDOVER, 0},
    {"cookie without a body", "UcA", NTS_HANDOVER, 0},
    {"short nonce", "UCG", NTS_ANSWERED_NTS, 1},
    {"short nonce and padding", "UCPg", NTS_ANSWERED_NTS, 2},
};

static size_t fields_of(uint8_t *packet, char const *fields)
{
    size_t len = HEADER_LEN;

    memset(packet, 0, HEADER_LEN);
    packet[0] = 0x23;
    for (; *fields != '\0'; fields++) {
        switch (*fields) {
        case 'U': len = add_field(packet, len, UID_FIELD, 32, 1); break;
        case 'u': len = add_field(packet, len, UID_FIELD, 28, 1); break;
        case 'C': len = add_field(packet, len, COOKIE_TYPE, 100, 2); break;
        case 'c': len = add_field(packet, len, COOKIE_TYPE, 8, 2); break;
        case 'P': len = add_field(packet, len, PLACEHOLDER_FIELD, 100, 3); break;
        case 'p': len = add_field(packet, len, PLACEHOLDER_FIELD, 104, 3); break;
        case 'A':
        case 'a':
            len = add_field(packet, len, AUTH_FIELD, *fields == 'A' ? 36 : 40, 4);
            store16(packet + len - (*fields == 'A' ? 36 : 40), NONCE_LEN);
            store16(packet + len - (*fields == 'A' ? 34 : 38), *fields == 'A' ? TAG_LEN : TAG_LEN + 4);
            break;
        case 'G':
        case 'g':
            len = add_field(packet, len, AUTH_FIELD, *fields == 'G' ? 32 : 36, 4);
            store16(packet + len - (*fields == 'G' ? 32 : 36), GCM_NONCE_LEN);
            store16(packet + len - (*fields == 'G' ? 30 : 34), TAG_LEN);
            break;
        default: len = add_field(packet, len, 0xf123, 24, 5); break;
        }
    }
    return len;
}

/* Classifies a copy in memory of exactly its size, so that valgrind and the sanitizers see reads beyond it. */
static struct request classified(uint8_t const *packet, size_t len)
{
    struct request r = {.length = len};
    uint8_t *const copy = malloc(len == 0 ? 1 : len);

    if (copy == NULL)
        abort();
    memcpy(copy, packet, len);
    r.packet = copy;
    nts_classify(&r);
    free(copy);
    r.packet = packet;
    return r;
}

static void check_rows(void)
{
    uint8_t packet[4096];

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t const len = fields_of(packet, rows[i].fields);
        struct request const r = classified(packet, len);

        if (!CHECK(r.verdict == rows[i].verdict))
            fprintf(stderr, "%s: verdict %d\n", rows[i].name, (int)r.verdict);
        if (rows[i].verdict != NTS_ANSWERED_NTS)
            continue;
        CHECK(r.cookies == rows[i].cookies);
        CHECK(load16(packet + r.unique_id) == UID_FIELD && load16(packet + r.unique_id + 2) == r.unique_id_len);
        CHECK(load16(packet + r.cookie) == COOKIE_TYPE && load16(packet + r.cookie + 2) == r.cookie_len);
        CHECK(load16(packet + r.authenticator) == AUTH_FIELD);
        CHECK(load16(packet + r.authenticator + 2) == len - r.authenticator);
    }
}

static void check_header(void)
{
    uint8_t packet[4096];
    size_t const len = fields_of(packet, "UCA");

    for (unsigned first = 0; first < 256; first++) {
        unsigned const version = first >> 3 & 7, mode = first & 7;
        enum nts_verdict const refused = version != 3 && version != 4 ? NTS_DROP_VERSION : NTS_DROP_MODE;
        int const good = (version == 3 || version == 4) && mode == 3;

        packet[0] = (uint8_t)first;
        CHECK(classified(packet, HEADER_LEN).verdict == (good ? NTS_ANSWERED_PLAIN : refused));
        CHECK(classified(packet, len).verdict == (!good ? refused : version == 3 ? NTS_DROP_MAC : NTS_ANSWERED_NTS));
    }
}

/* The verdict on NTPv4 packets without the expected fields. Up to 24 octets after the header are a MAC: RFC 7822
 * section 7.5.1.4. */
static enum nts_verdict by_length(size_t len)
{
    return len < HEADER_LEN || len % 4 != 0 ? NTS_DROP_LENGTH
           : len == HEADER_LEN              ? NTS_ANSWERED_PLAIN
           : len <= HEADER_LEN + 24         ? NTS_DROP_MAC
                                            : NTS_HANDOVER;
}

static void check_lengths(void)
{
    uint8_t packet[4096];
    size_t len = fields_of(packet, "UCPA");

    for (size_t n = 0; n < len; n++)
        CHECK(classified(packet, n).verdict == by_length(n));
    for (size_t n = NTS_MAX_REQUEST - 4; n <= NTS_MAX_REQUEST + 8; n++)
        CHECK((classified(packet, n).verdict == NTS_DROP_LENGTH) == (n > NTS_MAX_REQUEST || n % 4 != 0));
    /* Every length that a field can claim. No placeholder here, since a longer cookie could swallow it. */
    len = fields_of(packet, "UCA");
    for (size_t field = HEADER_LEN; field < len; field += load16(packet + field + 2)) {
        unsigned const own = load16(packet + field + 2);

        for (unsigned claim = 0; claim < 0x10000; claim += claim < 512 ? 1 : 251) {
            store16(packet + field + 2, claim);
            CHECK((classified(packet, len).verdict == NTS_ANSWERED_NTS) == (claim == own));
        }
        store16(packet + field + 2, own);
    }
    /* The lengths in the authenticator. If the nonce is short, there is padding. */
    for (size_t at = len - auth_len_of(15) + 4; at < len - auth_len_of(15) + 8; at += 2) {
        for (unsigned claim = 0; claim < 64; claim++) {
            int const good = claim == 16 || (claim == GCM_NONCE_LEN && at == len - auth_len_of(15) + 4);

            store16(packet + at, claim);
            CHECK((classified(packet, len).verdict == NTS_ANSWERED_NTS) == good);
        }
        store16(packet + at, 16);
    }
    len = fields_of(packet, "UCG");
    store16(packet + len - auth_len_of(30) + 4, NONCE_LEN); /* more than the field has room for */
    CHECK(classified(packet, len).verdict == NTS_HANDOVER);
}

/* A packet that was sent to a group is refused whatever it is. */
static void check_misdirected(void)
{
    uint8_t packet[4096];
    size_t const lengths[] = {0, HEADER_LEN, fields_of(packet, "UCA")};

    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct request r = {.packet = packet, .length = lengths[i], .misdirected = 1};

        nts_classify(&r);
        CHECK(r.verdict == NTS_DROP_DESTINATION);
    }
}

static void check_noise(void)
{
    uint8_t packet[NTS_MAX_REQUEST];

    for (unsigned i = 0; i < 20000; i++) {
        size_t const len = check_random() % 100 * 4;

        check_fill(packet, len);
        packet[0] = 0x23;
        CHECK(classified(packet, len).verdict == by_length(len));
    }
}

int main(void)
{
    check_rows();
    check_header();
    check_lengths();
    check_misdirected();
    check_noise();
    return check_report("classify", "any");
}

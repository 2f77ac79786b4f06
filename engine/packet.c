/* SPDX-License-Identifier: MIT
 *
 * packet.c - decides which packets the engine answers. Pure: no keys, no clock, no system calls.
 *
 * Cheap checks come first, in the order of nts/protocol/ts_server.py. A packet that passes them is either plain, or has exactly
 * the fields that walk() expects, or is handed over: only the reference judges anything else.
 */
#include "internal.h"

enum { UNIQUE_IDENTIFIER = 0x0104, COOKIE = 0x0204, PLACEHOLDER = 0x0304, AUTHENTICATOR = 0x0404 };

#define MIN_UNIQUE_ID_LEN (FIELD_HEADER_LEN + 32) /* RFC 8915 section 5.3 */
#define MIN_FIELD_LEN 16                          /* RFC 7822 section 7.5 */
#define MAX_MAC_LEN 24                            /* RFC 7822 section 7.5.1.4 */
#define MIN_AUTHENTICATOR_LEN (AUTH_HEAD_LEN + GCM_NONCE_LEN + TAG_LEN)
#define CLIENT_MODE 3

/* Whether this field, the last one of the packet, has a nonce as long as one of our algorithms wants it, nothing
 * encrypted, and perhaps Additional Padding; RFC 8915 section 5.6. */
static int is_authenticator(uint8_t const *field, size_t len)
{
    unsigned const nonce_len = load16(field + 4);

    return (nonce_len == NONCE_LEN || nonce_len == GCM_NONCE_LEN) && load16(field + 6) == TAG_LEN &&
           len >= AUTH_HEAD_LEN + nonce_len + TAG_LEN;
}

/* Expects a Unique Identifier and a cookie in either order, placeholders, an authenticator; RFC 8915 section 5.7. */
static enum nts_verdict walk(struct request *r)
{
    size_t offset = HEADER_LEN;
    unsigned placeholders = 0;

    r->cookie_len = 0;
    while (r->length - offset >= MIN_AUTHENTICATOR_LEN) {
        unsigned const type = load16(r->packet + offset);
        unsigned const len = load16(r->packet + offset + 2);

        if (len < MIN_FIELD_LEN || len % 4 != 0 || len > r->length - offset)
            return NTS_HANDOVER;
        switch (type) {
        case UNIQUE_IDENTIFIER:
            if (r->unique_id_len != 0 || len < MIN_UNIQUE_ID_LEN)
                return NTS_HANDOVER;
            r->unique_id = (unsigned)offset;
            r->unique_id_len = len;
            break;
        case COOKIE:
            if (r->cookie_len != 0)
                return NTS_HANDOVER;
            r->cookie = (unsigned)offset;
            r->cookie_len = len;
            break;
        case PLACEHOLDER:
            if (len != r->cookie_len) /* also when no cookie has come yet */
                return NTS_HANDOVER;
            placeholders++;
            break;
        case AUTHENTICATOR:
            if (len != r->length - offset || r->unique_id_len == 0 || r->cookie_len == 0 ||
                !is_authenticator(r->packet + offset, len))
                return NTS_HANDOVER;
            r->authenticator = (unsigned)offset;
            r->cookies = placeholders < MAX_COOKIES ? placeholders + 1 : MAX_COOKIES;
            return NTS_ANSWERED_NTS;
        default:
            return NTS_HANDOVER;
        }
        offset += len;
    }
    return NTS_HANDOVER;
}

void nts_classify(struct request *r)
{
    r->unique_id_len = r->cookies = 0;
    r->keys_len = 0;
    if (r->misdirected) {
        r->verdict = NTS_DROP_DESTINATION;
    } else if (r->length < HEADER_LEN || r->length > NTS_MAX_REQUEST || r->length % 4 != 0) {
        r->verdict = NTS_DROP_LENGTH;
    } else {
        unsigned const version = r->packet[0] >> 3 & 7;

        if (version != 3 && version != 4)
            r->verdict = NTS_DROP_VERSION;
        else if ((r->packet[0] & 7) != CLIENT_MODE)
            r->verdict = NTS_DROP_MODE;
        else if (r->length == HEADER_LEN)
            r->verdict = NTS_ANSWERED_PLAIN;
        else if (version == 3 || r->length <= HEADER_LEN + MAX_MAC_LEN)
            r->verdict = NTS_DROP_MAC; /* NTPv3 has no extension fields, and what is this short is a MAC */
        else
            r->verdict = walk(r);
    }
}

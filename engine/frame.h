/* SPDX-License-Identifier: MIT
 *
 * frame.h - UDP datagrams in Ethernet frames, as nts/server/xdp_filter.py lets them through. Pure: no keys, no clock, no
 * system calls.
 */
#ifndef NTS_ENGINE_FRAME_H_
#define NTS_ENGINE_FRAME_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define NTS_FRAME_MAX (14 + 1280) /* octets of the longest frame; nts/server/xdp_filter.py says why */

/* Every host and every path in use takes IPv4 packets of so many octets (RFC 791 section 3.1). Routers may have to fragment
 * longer ones: allow_fragmentation() in nts/system/udp.py says why. */
#define NTS_SHORT_PACKET 576

/* A datagram and who sent it to whom. */
struct frame_datagram {
    size_t payload; /* where it starts in the frame */
    size_t length;  /* of the payload */
    struct sockaddr_storage peer, own;
};

/* Finds the datagram in a frame of `size` octets. Returns 0 when it is none that the kernel would deliver: a length or a
 * checksum is wrong, or it is no UDP in plain IPv4 or IPv6. The filter has looked at addresses and port. */
int nts_frame_open(uint8_t const *frame, size_t size, struct frame_datagram *datagram);

/* Writes the headers of a reply, whose payload of `length` octets is at the same place in `reply` as that of the request in
 * its frame: addresses and ports change sides, checksums are made. `id` identifies a datagram that routers may have to
 * fragment. Returns the length of the frame. */
size_t nts_frame_reply(uint8_t const *request, uint8_t *reply, size_t length, uint16_t id);

#endif

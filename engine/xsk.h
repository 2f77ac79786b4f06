/* SPDX-License-Identifier: MIT
 *
 * xsk.h - an AF_XDP socket for one receive queue: the rings that it shares with the kernel, and the frames in them.
 *
 * A frame is in one place: the kernel has it to fill, it holds a packet, a worker has it in hand, or it is on its way out.
 * There are as many places in each ring as there are frames, so no ring is ever full, and nothing here allocates.
 */
#ifndef NTS_ENGINE_XSK_H_
#define NTS_ENGINE_XSK_H_

#include "frame.h"
#include "internal.h"

/* A packet that a worker has in hand. */
struct xsk_frame {
    uint8_t *request; /* the Ethernet frame; before it, in 8 octets, the time of nts/server/xdp_filter.py */
    uint32_t size;
    uint8_t *reply;   /* room for NTS_FRAME_MAX octets */
};

struct nts_xsk;

/* Begins to serve, in this process: takes back what a worker that was killed had in hand. */
void nts_xsk_start(struct nts_xsk *xsk);

/* Takes up to `most` packets in hand, NTS_BATCH or fewer. Returns how many. All of the last batch must have been given back. */
size_t nts_xsk_take(struct nts_xsk *xsk, struct xsk_frame *frames, uint32_t most);

/* Gives frame i of the batch back: without a reply, or with one of so many octets, which leaves with nts_xsk_flush. */
void nts_xsk_drop(struct nts_xsk *xsk, size_t i);
void nts_xsk_send(struct nts_xsk *xsk, size_t i, size_t size);
void nts_xsk_flush(struct nts_xsk *xsk);

#endif

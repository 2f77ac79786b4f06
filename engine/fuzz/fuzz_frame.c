/* SPDX-License-Identifier: MIT
 *
 * fuzz_frame.c - opens any octets as a frame. A libFuzzer target; driver.c runs it without libFuzzer.
 *
 * Input: an octet, which asks for right checksums if it is odd; one for the length of the reply; and the frame.
 *
 * Invariants: what a frame holds lies within it; the headers of a reply fit it, and say the same the other way round.
 */
#include <stdio.h>
#include <stdlib.h>

#include "frames.h"

int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size);

static void require(int holds, char const *what)
{
    if (!holds) {
        fprintf(stderr, "fuzz_frame: broken: %s\n", what);
        abort();
    }
}

int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size)
{
    struct frame_datagram asked, answered;
    uint8_t *const frame = malloc(size); /* ends where the frame ends */
    uint8_t reply[NTS_FRAME_MAX];
    size_t length, reply_size;

    if (frame == NULL || size < 2 || size > 4096) {
        free(frame);
        return 0;
    }
    size -= 2;
    memcpy(frame, data + 2, size);
    if (data[0] % 2 == 1 && size >= ETHERNET)
        fix_checksums(frame, size);
    if (nts_frame_open(frame, size, &asked)) {
        require(asked.payload + asked.length <= size, "the payload lies within the frame");
        length = asked.length * data[1] / 255;
        memset(reply, data[1], sizeof reply);
        reply_size = nts_frame_reply(frame, reply, length, 1);
        require(reply_size == asked.payload + length, "the reply has its length");
        require(nts_frame_open(reply, reply_size, &answered), "the reply is sound");
        require(answered.payload == asked.payload && answered.length == length, "the reply is where it is to be");
        require(same_address(&answered.own, &asked.peer), "the reply comes back");
        require(same_address(&answered.peer, &asked.own), "the reply comes from who was asked");
    }
    free(frame);
    return 0;
}

/* SPDX-License-Identifier: MIT
 *
 * udp.h - real sockets for tests.
 */
#ifndef UDP_H_
#define UDP_H_

#include <sys/socket.h>
#include <unistd.h>

/* A bound, non-blocking socket with room for a burst; -1 if it cannot be bound. */
static inline int bound_socket(struct sockaddr const *address, socklen_t len)
{
    int const fd = socket(address->sa_family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    int const room = 1 << 20;

    if (fd >= 0 &&
        (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) != 0 || bind(fd, address, len) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

#endif

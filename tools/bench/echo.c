/* SPDX-License-Identifier: MIT
 *
 * echo.c - the floor: a UDP server that sends back what it gets, and does nothing else.
 *
 * usage: echo PORT
 *
 * It receives and sends in batches and asks for the kernel's timestamps, as a time server must. So what it needs is
 * what the kernel takes for that. (A little less is possible: see docs/performance.md, "What helped".) Says "ready"
 * once it listens.
 */
#define _GNU_SOURCE /* recvmmsg, sendmmsg */
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define BATCH 64
#define ROOM 2048

static struct {
    struct sockaddr_in peer;
    _Alignas(struct cmsghdr) uint8_t control[64];
    uint8_t packet[ROOM];
} slots[BATCH];
static struct iovec vectors[BATCH];
static struct mmsghdr messages[BATCH];

static int listening(uint16_t port)
{
    struct sockaddr_in const own = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int const fd = socket(AF_INET, SOCK_DGRAM, 0);
    int const on = 1, buffer = 1 << 20;

    if (fd < 0 || bind(fd, (struct sockaddr const *)&own, sizeof own) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) != 0) {
        perror("echo");
        exit(1);
    }
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    return fd;
}

static int receive(int fd)
{
    for (int i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){.iov_base = slots[i].packet, .iov_len = ROOM};
        messages[i].msg_hdr = (struct msghdr){.msg_name = &slots[i].peer, .msg_namelen = sizeof slots[i].peer,
                                              .msg_iov = &vectors[i], .msg_iovlen = 1,
                                              .msg_control = slots[i].control,
                                              .msg_controllen = sizeof slots[i].control};
    }
    return recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
}

static void send_back(int fd, int n)
{
    for (int i = 0; i < n; i++) {
        vectors[i].iov_len = messages[i].msg_len;
        messages[i].msg_hdr.msg_control = NULL;
        messages[i].msg_hdr.msg_controllen = 0;
    }
    for (int sent = 0; sent < n;) {
        int const done = sendmmsg(fd, messages + sent, (unsigned)(n - sent), 0);

        sent += done > 0 ? done : 1;
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: echo PORT\n");
        return 2;
    }
    int const fd = listening((uint16_t)atoi(argv[1]));

    puts("ready");
    fflush(stdout);
    for (;;)
        send_back(fd, receive(fd));
}

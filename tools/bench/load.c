/* SPDX-License-Identifier: MIT
 *
 * load.c - clients of a time server with an IPv4 address, whose requests have been made beforehand.
 *
 * usage: load closed HOST PORT REQUESTS SECONDS ANSWERS SOCKETS WINDOW
 *            Each of SOCKETS sockets keeps WINDOW requests in flight, until SECONDS are over or ANSWERS answers have
 *            come (0: whatever comes). What has not been answered for TIMEOUT counts as lost and is replaced.
 *        load flood HOST PORT REQUESTS SECONDS SOCKETS RATE
 *            Sends RATE requests per second (0: as many as it can), whatever is answered.
 *        load offset HOST PORT REQUESTS COUNT GAP STAMP
 *            COUNT queries one by one, GAP microseconds apart; what the server's timestamps are off. The client's
 *            transmit timestamp is its own reading of the clock before sending, or (STAMP is "kernel") the kernel's.
 *
 * REQUESTS is a file: length (16 bits, big-endian) and octets of each. The result is one line of JSON.
 */
#define _GNU_SOURCE /* recvmmsg, sendmmsg */
#include <arpa/inet.h>
#include <endian.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/errqueue.h> /* wants <time.h> before it */

#define BATCH 64
#define ROOM 2048
#define MAX_REQUESTS 4096
#define MAX_SOCKETS 1024
#define MAX_QUERIES 1000000
#define NS INT64_C(1000000000)
#define TIMEOUT (NS / 20)
#define LOOK (NS / 200) /* how often to look for what is lost */
#define UNIX_EPOCH UINT64_C(2208988800)

enum { HEADER = 48, AUTHENTICATOR = 0x0404, SERVER_MODE = 4, CONTROL = 256 };

struct request {
    size_t length;
    uint8_t octets[ROOM];
};

struct client {
    int fd;
    int in_flight;
    int64_t heard; /* when an answer came last, or the first request since then left */
};

static struct request *requests;
static size_t request_count, next_request;
static struct client clients[MAX_SOCKETS];
static struct mmsghdr out[BATCH], in[BATCH];
static struct iovec out_vector[BATCH], in_vector[BATCH];
static uint8_t replies[BATCH][ROOM];

static struct {
    long sent, lost, nts, plain, nak, other;
} count;

static _Noreturn void die(char const *what)
{
    perror(what);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS + t.tv_nsec;
}

static long answers(void)
{
    return count.nts + count.plain + count.nak + count.other;
}

/* ---- Requests and sockets ------------------------------------------------------------------------------ */

static void read_requests(char const *path)
{
    FILE *const f = fopen(path, "rb");
    uint8_t head[2];

    requests = calloc(MAX_REQUESTS, sizeof *requests);
    if (f == NULL || requests == NULL)
        die(path);
    while (request_count < MAX_REQUESTS && fread(head, sizeof head, 1, f) == 1) {
        struct request *const r = &requests[request_count++];

        r->length = (size_t)(head[0] << 8 | head[1]);
        if (r->length < HEADER || r->length > ROOM || fread(r->octets, r->length, 1, f) != 1)
            die(path);
    }
    fclose(f);
    if (request_count == 0)
        die(path);
}

static struct sockaddr_in server = {.sin_family = AF_INET};

static int connected(void)
{
    int const fd = socket(AF_INET, SOCK_DGRAM, 0);
    int const buffer = 1 << 22;

    if (fd < 0 || connect(fd, (struct sockaddr const *)&server, sizeof server) != 0)
        die("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    return fd;
}

static size_t open_clients(int n)
{
    if (n < 1 || n > MAX_SOCKETS) {
        fprintf(stderr, "load: 1 to %d sockets\n", MAX_SOCKETS);
        exit(2);
    }
    for (int i = 0; i < n; i++)
        clients[i] = (struct client){.fd = connected()};
    for (size_t i = 0; i < BATCH; i++) {
        in_vector[i] = (struct iovec){.iov_base = replies[i], .iov_len = ROOM};
        in[i].msg_hdr = (struct msghdr){.msg_iov = &in_vector[i], .msg_iovlen = 1};
        out[i].msg_hdr = (struct msghdr){.msg_iov = &out_vector[i], .msg_iovlen = 1};
    }
    return (size_t)n;
}

/* ---- Sending and receiving ----------------------------------------------------------------------------- */

/* Up to BATCH requests at once; how many have left. */
static int send_some(int fd, int n)
{
    size_t const first = next_request;

    n = n < BATCH ? n : BATCH;
    for (int i = 0; i < n; i++) {
        struct request *const r = &requests[(first + (size_t)i) % request_count];

        out_vector[i] = (struct iovec){.iov_base = r->octets, .iov_len = r->length};
    }
    int const sent = sendmmsg(fd, out, (unsigned)n, MSG_DONTWAIT);

    if (sent <= 0)
        return 0;
    next_request = (first + (size_t)sent) % request_count;
    count.sent += sent;
    return sent;
}

static int has_authenticator(uint8_t const *packet, size_t length)
{
    for (size_t offset = HEADER; offset + 4 <= length;) {
        size_t const len = (size_t)(packet[offset + 2] << 8 | packet[offset + 3]);

        if ((packet[offset] << 8 | packet[offset + 1]) == AUTHENTICATOR)
            return 1;
        if (len < 4)
            break;
        offset += len;
    }
    return 0;
}

static void count_reply(uint8_t const *packet, size_t length)
{
    if (length < HEADER || (packet[0] & 7) != SERVER_MODE)
        count.other++; /* the echo's */
    else if (packet[1] == 0)
        *(memcmp(packet + 12, "NTSN", 4) == 0 ? &count.nak : &count.other) += 1;
    else if (has_authenticator(packet, length))
        count.nts++;
    else
        count.plain++;
}

/* Up to BATCH replies; how many there were. */
static int receive_some(int fd)
{
    int const got = recvmmsg(fd, in, BATCH, MSG_DONTWAIT, NULL);

    for (int i = 0; i < got; i++)
        count_reply(replies[i], in[i].msg_len);
    return got > 0 ? got : 0;
}

static void print_counts(int64_t duration)
{
    printf("{\"seconds\": %.6f, \"sent\": %ld, \"lost\": %ld, \"nts\": %ld, \"plain\": %ld, \"nak\": %ld, "
           "\"other\": %ld}\n",
           (double)duration / NS, count.sent, count.lost, count.nts, count.plain, count.nak, count.other);
}

/* ---- closed -------------------------------------------------------------------------------------------- */

static void fill(struct client *c, int window, int64_t now)
{
    if (c->in_flight == 0)
        c->heard = now;
    while (c->in_flight < window) {
        int const sent = send_some(c->fd, window - c->in_flight);

        if (sent == 0)
            break;
        c->in_flight += sent;
    }
}

static void drain(struct client *c)
{
    int got;

    do {
        got = receive_some(c->fd);
        /* An answer to what counts as lost may still come. */
        c->in_flight = c->in_flight > got ? c->in_flight - got : 0;
    } while (got == BATCH);
}

static int in_flight(size_t n)
{
    int sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += clients[i].in_flight;
    return sum;
}

static void closed(size_t n, double seconds, long wanted, int window)
{
    int const poll = epoll_create1(0);
    int64_t const start = now_ns(), end = start + (int64_t)(seconds * (double)NS);
    int64_t now = start, looked = start;
    struct epoll_event events[BATCH];
    int going = 1;

    for (size_t i = 0; i < n; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[i]};

        if (epoll_ctl(poll, EPOLL_CTL_ADD, clients[i].fd, &event) != 0)
            die("epoll");
        fill(&clients[i], window, now);
    }
    while (going || in_flight(n) != 0) {
        int const ready = epoll_wait(poll, events, BATCH, 5);

        now = now_ns();
        going = going && now < end && (wanted == 0 || answers() < wanted);
        for (int i = 0; i < ready; i++) {
            struct client *const c = events[i].data.ptr;

            drain(c);
            c->heard = now;
            if (going)
                fill(c, window, now);
        }
        if (now - looked < LOOK)
            continue;
        looked = now;
        for (size_t i = 0; i < n; i++) {
            if (now - clients[i].heard > TIMEOUT) {
                count.lost += clients[i].in_flight;
                clients[i].in_flight = 0;
            }
            if (going)
                fill(&clients[i], window, now);
        }
    }
    print_counts(now_ns() - start);
}

/* ---- flood --------------------------------------------------------------------------------------------- */

static void flood(size_t n, double seconds, double rate)
{
    int64_t const start = now_ns(), end = start + (int64_t)(seconds * (double)NS);
    struct timespec const pause = {.tv_nsec = 100000};
    int64_t stopped = start;

    for (size_t i = 0; stopped < end; i = (i + 1) % n, stopped = now_ns()) {
        double const due = rate == 0 ? BATCH : (double)(stopped - start) * rate / (double)NS - (double)count.sent;

        if (due < 1)
            nanosleep(&pause, NULL);
        else
            send_some(clients[i].fd, due < BATCH ? (int)due : BATCH);
        while (receive_some(clients[i].fd) == BATCH)
            ;
    }
    while (now_ns() - stopped < TIMEOUT) /* what is still on its way */
        for (size_t i = 0; i < n; i++)
            receive_some(clients[i].fd);
    count.lost = count.sent - answers();
    print_counts(stopped - start);
}

/* ---- offset -------------------------------------------------------------------------------------------- */

static uint64_t ntp_time(struct timespec const *t)
{
    return ((uint64_t)t->tv_sec + UNIX_EPOCH) << 32 | ((uint64_t)t->tv_nsec << 32) / (uint64_t)NS;
}

static uint64_t timestamp(uint8_t const *packet, size_t offset)
{
    uint64_t big_endian;

    memcpy(&big_endian, packet + offset, sizeof big_endian);
    return be64toh(big_endian);
}

/* A kernel's timestamp among the control messages; 0 when there is none. */
static uint64_t stamp_of(struct msghdr *header)
{
    struct scm_timestamping stamps;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPING)
            continue;
        memcpy(&stamps, CMSG_DATA(c), sizeof stamps);
        return ntp_time(&stamps.ts[0]);
    }
    return 0;
}

/* When the request that was sent last left; 0 when that is not known. */
static uint64_t departure(int fd)
{
    _Alignas(struct cmsghdr) uint8_t control[CONTROL];
    struct msghdr header = {.msg_control = control, .msg_controllen = sizeof control};

    return recvmsg(fd, &header, MSG_ERRQUEUE | MSG_DONTWAIT) < 0 ? 0 : stamp_of(&header);
}

/* The kernel's receive timestamp of the reply to this request; 0 when none comes. */
static uint64_t wait_for_reply(int fd, uint8_t *reply, struct request const *request)
{
    _Alignas(struct cmsghdr) uint8_t control[CONTROL];
    struct iovec vector = {.iov_base = reply, .iov_len = ROOM};

    for (;;) {
        struct msghdr header = {
            .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};

        if (recvmsg(fd, &header, 0) < HEADER)
            return 0;
        if (timestamp(reply, 24) == timestamp(request->octets, 40))
            return stamp_of(&header);
        /* Else a late one: its origin is not our transmit timestamp. */
    }
}

static int by_size(void const *a, void const *b)
{
    double const x = *(double const *)a, y = *(double const *)b;

    return (x > y) - (x < y);
}

/* Server and client share a clock, so the offset that they measure (RFC 5905 section 8) is all error. */
static void offset(int fd, int queries, long gap_us, int by_kernel)
{
    static double errors[MAX_QUERIES]; /* microseconds */
    static uint8_t reply[ROOM];
    struct timeval const patience = {.tv_usec = 200000};
    struct timespec const gap = {.tv_nsec = gap_us * 1000};
    unsigned const stamps = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE |
                            (by_kernel ? SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY : 0);
    size_t n = 0;

    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof stamps) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0)
        die("socket options");
    for (int i = 0; i < queries && i < MAX_QUERIES; i++) {
        struct request const *const request = &requests[(size_t)i % request_count];
        struct timespec left;

        nanosleep(&gap, NULL);
        clock_gettime(CLOCK_REALTIME, &left);
        if (send(fd, request->octets, request->length, 0) < 0)
            continue;
        uint64_t const t1 = by_kernel ? departure(fd) : ntp_time(&left), t4 = wait_for_reply(fd, reply, request);

        if (t1 == 0 || t4 == 0)
            continue;
        int64_t const there = (int64_t)(timestamp(reply, 32) - t1), back = (int64_t)(timestamp(reply, 40) - t4);
        double const us = (double)(there + back) / 2 * 1e6 / 4294967296.0;

        errors[n++] = us < 0 ? -us : us;
    }
    if (n == 0) {
        fprintf(stderr, "load: of %d queries none was stamped and answered\n", queries);
        exit(1);
    }
    qsort(errors, n, sizeof *errors, by_size);
    printf("{\"sent\": %d, \"lost\": %zu, \"median\": %.3f, \"p99\": %.3f}\n", queries, (size_t)queries - n,
           errors[n / 2], errors[n * 99 / 100]);
}

/* ---- The program --------------------------------------------------------------------------------------- */

static int usage(void)
{
    fprintf(stderr, "usage: load closed HOST PORT REQUESTS SECONDS ANSWERS SOCKETS WINDOW\n"
                    "       load flood HOST PORT REQUESTS SECONDS SOCKETS RATE\n"
                    "       load offset HOST PORT REQUESTS COUNT GAP STAMP\n");
    return 2;
}

int main(int argc, char **argv)
{
    char const *const mode = argc > 4 ? argv[1] : "";

    if (argc > 4) {
        server.sin_port = htons((uint16_t)atoi(argv[3]));
        if (inet_pton(AF_INET, argv[2], &server.sin_addr) != 1)
            return usage();
        read_requests(argv[4]);
    }
    if (strcmp(mode, "closed") == 0 && argc == 9)
        closed(open_clients(atoi(argv[7])), atof(argv[5]), atol(argv[6]), atoi(argv[8]));
    else if (strcmp(mode, "flood") == 0 && argc == 8)
        flood(open_clients(atoi(argv[6])), atof(argv[5]), atof(argv[7]));
    else if (strcmp(mode, "offset") == 0 && argc == 8)
        offset(connected(), atoi(argv[5]), atol(argv[6]), strcmp(argv[7], "kernel") == 0);
    else
        return usage();
    return 0;
}

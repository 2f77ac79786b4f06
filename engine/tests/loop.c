/* SPDX-License-Identifier: MIT
 *
 * loop.c - the loop when the system does something rare: the key folder changes or vanishes, datagrams come without a
 * timestamp, replies are refused; and how many replies leave in one step, and in which way.
 *
 * Linked with --wrap, so that tests control clock, folder and network. The sockets are real ones on loopback.
 */
#define _GNU_SOURCE /* recvmmsg, sendmmsg */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <time.h>

#include "check.h"
#include "requests.h"
#include "udp.h"

#define NS_PER_S 1000000000
#define NOW_S 1700000000
#define MAX_STEPS 512

int __real_recvmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags, struct timespec *timeout);
void __real_nts_finish(nts_engine *engine, struct request *const *requests, uint64_t const *transmit, size_t n);
int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags, struct timespec *timeout);
ssize_t __real_sendto(int fd, void const *reply, size_t len, int flags, struct sockaddr const *to, socklen_t to_len);
ssize_t __wrap_sendto(int fd, void const *reply, size_t len, int flags, struct sockaddr const *to, socklen_t to_len);
ssize_t __real_sendmsg(int fd, struct msghdr const *message, int flags);
ssize_t __wrap_sendmsg(int fd, struct msghdr const *message, int flags);
int __real_sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags);
void __wrap_nts_finish(nts_engine *engine, struct request *const *requests, uint64_t const *transmit, size_t n);
int __wrap_clock_gettime(clockid_t id, struct timespec *now);
int __wrap_stat(char const *path, struct stat *status);

/* ---- The world ----------------------------------------------------------------------------------------- */

static int64_t clock_ns; /* since NOW_S */
static int folder_gone;
static struct stat folder;
static int without_control;                 /* datagrams come without control messages */
static int64_t call_ns, header_ns;          /* what a system call that sends takes; what a message of sendmmsg() adds */
static int refused = -1;                    /* index of the reply that cannot be sent */
static unsigned most_together = NTS_BATCH;  /* messages that leave by one sendmmsg() */
static int reply_count, together_count;     /* replies that were to leave; of those, by sendmmsg() */
static size_t steps[MAX_STEPS], step_count; /* how many replies were stamped and sealed together */
static uint8_t sealed[NTS_BATCH][NTS_MAX_REQUEST]; /* the replies of a batch */
static size_t sealed_len[NTS_BATCH], sealed_count;
static struct in_pktinfo last_source;
static size_t longest; /* octets of a reply */

static struct timespec time_at(int64_t ns)
{
    return (struct timespec){.tv_sec = NOW_S + ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
}

int __wrap_clock_gettime(clockid_t id, struct timespec *now)
{
    (void)id;
    *now = time_at(clock_ns);
    return 0;
}

int __wrap_stat(char const *path, struct stat *status)
{
    CHECK(strcmp(path, "the folder") == 0);
    *status = folder;
    return folder_gone ? -1 : 0;
}

int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags, struct timespec *timeout)
{
    int const got = __real_recvmmsg(fd, messages, n, flags, timeout);

    for (int i = 0; without_control && i < got; i++)
        messages[i].msg_hdr.msg_controllen = 0;
    return got;
}

static int fragmenting(int fd)
{
    int how = -1;
    socklen_t len = sizeof how;

    CHECK(getsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &how, &len) == 0);
    return how;
}

/* Looks at a reply that is about to leave. Returns whether it can be sent. */
static int may_leave(int fd, size_t len)
{
    CHECK(len <= 548 || fragmenting(fd) == IP_PMTUDISC_OMIT);
    longest = len > longest ? len : longest;
    return reply_count++ != refused;
}

ssize_t __wrap_sendto(int fd, void const *reply, size_t len, int flags, struct sockaddr const *to, socklen_t to_len)
{
    clock_ns += call_ns;
    return may_leave(fd, len) ? __real_sendto(fd, reply, len, flags, to, to_len) : -1;
}

/* As the kernel does it: what cannot be sent ends the call, and is an error of the next one. */
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags)
{
    unsigned count = 0;

    clock_ns += call_ns + (int64_t)n * header_ns;
    n = n < most_together ? n : most_together;
    while (count < n && (count == 0 || reply_count != refused)) {
        if (!may_leave(fd, messages[count].msg_hdr.msg_iov->iov_len))
            return -1;
        count++;
    }
    together_count += (int)count;
    return __real_sendmmsg(fd, messages, count, flags);
}

ssize_t __wrap_sendmsg(int fd, struct msghdr const *message, int flags)
{
    struct cmsghdr const *const source = CMSG_FIRSTHDR(message);

    CHECK(message->msg_iovlen == 1);
    clock_ns += call_ns;
    if (source != NULL) {
        CHECK(source->cmsg_level == IPPROTO_IP && source->cmsg_type == IP_PKTINFO);
        memcpy(&last_source, CMSG_DATA(source), sizeof last_source);
    }
    return may_leave(fd, message->msg_iov->iov_len) ? __real_sendmsg(fd, message, flags) : -1;
}

void __wrap_nts_finish(nts_engine *engine, struct request *const *requests, uint64_t const *transmit, size_t n)
{
    CHECK(step_count < MAX_STEPS);
    steps[step_count++ % MAX_STEPS] = n;
    __real_nts_finish(engine, requests, transmit, n);
    for (size_t i = 0; i < n; i++, sealed_count++) {
        size_t const at = sealed_count % NTS_BATCH;

        sealed_len[at] = requests[i]->reply_len;
        memcpy(sealed[at], requests[i]->reply, requests[i]->reply_len);
    }
}

/* ---- An engine with two sockets, and a client ---------------------------------------------------------- */

struct bench {
    nts_engine *engine;
    int servers[2], client;
    uint64_t cells[NTS_CELLS];
};

static int socket_at(in_addr_t address)
{
    struct sockaddr_in const own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    int const fd = bound_socket((struct sockaddr const *)&own, sizeof own);

    CHECK(fd >= 0);
    return fd;
}

static void open_bench(struct bench *b, in_addr_t address)
{
    memset(b, 0, sizeof *b);
    b->engine = new_engine();
    if (!CHECK(b->engine != NULL))
        exit(EXIT_FAILURE);
    b->client = socket_at(INADDR_LOOPBACK);
    for (int i = 0; i < 2; i++)
        b->servers[i] = socket_at(address);
    CHECK(nts_engine_attach(b->engine, b->servers, 2, NULL, 0) == 1);
    nts_engine_count_into(b->engine, b->cells);
    step_count = 0;
    reply_count = together_count = 0;
}

static void close_bench(struct bench *b)
{
    nts_engine_free(b->engine);
    close(b->servers[0]);
    close(b->servers[1]);
    close(b->client);
}

static void send_to(struct bench const *b, in_addr_t address, int server, uint8_t const *packet, size_t len)
{
    struct sockaddr_in to;
    socklen_t to_len = sizeof to;

    CHECK(getsockname(b->servers[server], (struct sockaddr *)&to, &to_len) == 0);
    to.sin_addr.s_addr = htonl(address);
    CHECK(__real_sendto(b->client, packet, len, 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)len);
}

/* Sends that many plain requests. */
static void ask(struct bench const *b, int server, int count)
{
    static uint8_t const packet[HEADER_LEN] = {0x23};

    for (; count != 0; count--)
        send_to(b, INADDR_LOOPBACK, server, packet, sizeof packet);
}

/* Answers what has come. Returns whether the replies left in the expected steps, a list that ends with 0. */
static int leave_in(struct bench *b, unsigned const *expected)
{
    unsigned count = 0;

    step_count = 0;
    CHECK(nts_wait(b->engine, 1000) == 1);
    nts_serve(b->engine);
    while (expected[count] != 0 && count < step_count && expected[count] == steps[count])
        count++;
    return expected[count] == 0 && count == step_count;
}

static int all_alone(struct bench *b, unsigned count)
{
    unsigned expected[MAX_STEPS] = {0};

    for (unsigned i = 0; i < count; i++)
        expected[i] = 1;
    return leave_in(b, expected);
}

/* ---- The folder of the master keys --------------------------------------------------------------------- */

/* Whether the engine returns for a look at the keys before it answers a datagram, although the caller has seen this
 * folder. The next call answers it. */
static int looks(struct bench *b, int64_t seen_ns, ino_t seen_inode)
{
    uint64_t const before = b->cells[NTS_ANSWERED_PLAIN];
    int looked;

    ask(b, 0, 1);
    CHECK(nts_engine_run(b->engine, "the folder", seen_ns, seen_inode, 1) == 0);
    looked = b->cells[NTS_ANSWERED_PLAIN] == before;
    if (looked)
        CHECK(nts_engine_run(b->engine, "the folder", seen_ns, seen_inode, 1) == 0);
    CHECK(b->cells[NTS_ANSWERED_PLAIN] == before + 1);
    return looked;
}

static void check_folder(void)
{
    int64_t const ctime_ns = NOW_S * (int64_t)NS_PER_S + 5;
    struct bench b;

    open_bench(&b, INADDR_LOOPBACK);
    folder.st_ino = 7;
    folder.st_ctim = time_at(5);
    CHECK(!looks(&b, ctime_ns, 7) && !looks(&b, ctime_ns, 7));
    CHECK(looks(&b, ctime_ns - 1, 7) && looks(&b, ctime_ns + 1, 7)); /* older or newer */
    CHECK(looks(&b, ctime_ns, 8));                                  /* another folder with the same time */
    CHECK(looks(&b, 0, 0) && looks(&b, 0, 0));                      /* the caller does not trust what it has seen */
    folder_gone = 1;
    CHECK(looks(&b, ctime_ns, 7) && !looks(&b, 0, 0));
    folder_gone = 0;
    CHECK(looks(&b, 0, 0) && !looks(&b, ctime_ns, 7));
    close_bench(&b);
}

/* ---- Timestamps and addresses -------------------------------------------------------------------------- */

static void check_missing_timestamp(void)
{
    uint8_t reply[HEADER_LEN];
    struct bench b;

    open_bench(&b, INADDR_LOOPBACK);
    clock_ns = NS_PER_S / 2;
    without_control = 1;
    ask(&b, 0, 1);
    CHECK(all_alone(&b, 1));
    without_control = 0;
    CHECK(recv(b.client, reply, sizeof reply, 0) == sizeof reply);
    /* Receive timestamp: NTP's epoch is 2208988800 s before 1970, and the fraction 2^31 is half a second. */
    CHECK(load16(reply + 32) << 16 == ((NOW_S + 2208988800u) & 0xffff0000u));
    CHECK(load16(reply + 34) == ((NOW_S + 2208988800u) & 0xffff) && load16(reply + 36) == 0x8000);
    /* Transmit timestamp: less than half a microsecond earlier than the clock. */
    CHECK(load16(reply + 44) == 0x7fff && load16(reply + 46) > 0xffff - 2147);
    close_bench(&b);
}

static void check_source(void)
{
    static uint8_t const packet[HEADER_LEN] = {0x23};
    int const on = 1;
    struct bench b;

    open_bench(&b, INADDR_ANY);
    for (in_addr_t address = INADDR_LOOPBACK; address < INADDR_LOOPBACK + 3; address++) {
        memset(&last_source, 0xff, sizeof last_source);
        send_to(&b, address, 0, packet, sizeof packet);
        CHECK(all_alone(&b, 1));
        CHECK(last_source.ipi_spec_dst.s_addr == htonl(address));
        CHECK(last_source.ipi_ifindex == 0); /* the route chooses the interface */
    }
    CHECK(setsockopt(b.client, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) == 0);
    send_to(&b, 0x7fffffff, 0, packet, sizeof packet); /* 127.255.255.255 */
    CHECK(all_alone(&b, 0));
    CHECK(b.cells[NTS_DROP_DESTINATION] == 1 && b.cells[NTS_ANSWERED_PLAIN] == 3);
    close_bench(&b);
}

/* ---- Steps --------------------------------------------------------------------------------------------- */

static void check_steps(void)
{
    static unsigned const full[] = {1, 8, 8, 8, 8, 8, 8, 8, 7};
    unsigned expected[MAX_STEPS] = {0};
    struct bench b;

    open_bench(&b, INADDR_LOOPBACK);
    ask(&b, 0, NTS_BATCH - 1);
    CHECK(all_alone(&b, NTS_BATCH - 1));
    /* One batch that is full and one that is not. */
    memcpy(expected, full, sizeof full);
    for (unsigned i = 0; i < 5; i++)
        expected[sizeof full / sizeof *full + i] = 1;
    ask(&b, 0, NTS_BATCH + 5);
    CHECK(leave_in(&b, expected));
    /* Each socket has its own batches, and no socket may send more than four of them before the other one. */
    for (unsigned i = 0; i < 4; i++)
        memcpy(expected + i * (sizeof full / sizeof *full), full, sizeof full);
    expected[4 * (sizeof full / sizeof *full)] = 1;
    ask(&b, 0, 5 * NTS_BATCH);
    ask(&b, 1, 1);
    CHECK(leave_in(&b, expected));
    close_bench(&b);
}

/* Has so many batches answered at this address. Each reply is as it was sealed, and comes from there. Routers may fragment
 * the long ones; the others leave with "don't fragment". Returns how many have left together. */
static int answer_batches(struct bench *b, in_addr_t address, int batches)
{
    static uint8_t const plain[HEADER_LEN] = {0x23};
    uint8_t packet[NTS_MAX_REQUEST], reply[NTS_MAX_REQUEST];
    size_t const len = good_request(packet, 1, 15, 7);

    together_count = 0;
    longest = 0;
    for (int i = 0; i < batches; i++) {
        step_count = sealed_count = 0;
        for (int j = 0; j < NTS_BATCH; j++)
            send_to(b, address, 0, j % 16 == 0 ? packet : plain, j % 16 == 0 ? len : sizeof plain);
        CHECK(nts_wait(b->engine, 1000) == 1 && nts_serve(b->engine) == NTS_BATCH);
        CHECK(longest == len && fragmenting(b->servers[0]) == IP_PMTUDISC_PROBE);
        for (int j = 0; j < NTS_BATCH; j++) {
            struct sockaddr_in from;
            socklen_t from_len = sizeof from;
            ssize_t const got = recvfrom(b->client, reply, sizeof reply, 0, (struct sockaddr *)&from, &from_len);

            CHECK(got == (ssize_t)sealed_len[j] && memcmp(reply, sealed[j], sealed_len[j]) == 0);
            CHECK(from.sin_addr.s_addr == htonl(address));
        }
    }
    return together_count;
}

/* The way that costs less is taken, even when that changes, but for one long step in 64; each batch has eight of them. A
 * socket for all addresses has a control message with each reply. */
static void check_ways(in_addr_t address, in_addr_t asked)
{
    int const batches = 16, all = batches * (NTS_BATCH - 1), tried = 2 * 8;
    struct bench b;

    open_bench(&b, address);
    for (int round = 0; round < 4; round++) {
        int const dear = round % 2 == 0; /* system calls */
        int together;

        call_ns = dear ? 300 : 40;
        header_ns = dear ? 0 : 200;
        answer_batches(&b, asked, 200); /* learns it */
        together = answer_batches(&b, asked, batches);
        CHECK(dear ? together >= all - tried && together < all : together > 0 && together <= tried);
    }
    call_ns = header_ns = 0;
    close_bench(&b);
}

/* Where a system call takes so long, and sendmmsg() sends so many messages at most, one reply that cannot be sent. */
static void check_refused(int64_t takes_ns, unsigned most)
{
    uint8_t reply[HEADER_LEN];

    call_ns = takes_ns;
    most_together = most;
    for (refused = 0; refused < 2 * NTS_BATCH; refused++) {
        int got = 0;
        struct bench b;

        open_bench(&b, INADDR_LOOPBACK);
        ask(&b, 0, 2 * NTS_BATCH);
        CHECK(nts_wait(b.engine, 1000) == 1);
        CHECK(nts_serve(b.engine) == 2 * NTS_BATCH);
        while (recv(b.client, reply, sizeof reply, 0) > 0)
            got++;
        CHECK(got == 2 * NTS_BATCH - 1);
        CHECK(b.cells[NTS_OCTETS_SENT] == (uint64_t)got * HEADER_LEN); /* only what left */
        CHECK(together_count != 0 && (together_count > NTS_BATCH) == (takes_ns != 0));
        close_bench(&b);
    }
    refused = -1;
    call_ns = 0;
    most_together = NTS_BATCH;
}

/* ---- Counters ------------------------------------------------------------------------------------------ */

/* The ages of keys, all older ones than the seventh in the last cell. */
static void check_key_ages(void)
{
    enum { KEYS = 10 };
    uint16_t ids[KEYS] = {OLD_ID};
    uint8_t keys[KEYS][32] = {{0}}, packet[NTS_MAX_REQUEST];
    size_t const len = good_request(packet, 0, 15, 0);
    struct bench b;

    open_bench(&b, INADDR_LOOPBACK);
    memcpy(keys[0], master_keys(), 32);
    for (uint16_t count = 1; count <= KEYS; count++) {
        ids[count - 1] = count == 1 ? OLD_ID : count;
        CHECK(nts_engine_set_keys(b.engine, ids, keys[0], count) == 1);
        send_to(&b, INADDR_LOOPBACK, 0, packet, len);
        CHECK(all_alone(&b, 1));
    }
    for (size_t cell = NTS_KEY_AGE_0; cell <= NTS_KEY_AGE_7; cell++)
        CHECK(b.cells[cell] == (cell == NTS_KEY_AGE_7 ? KEYS - 7 : 1));
    CHECK(b.cells[NTS_OCTETS_RECEIVED] == KEYS * len && b.cells[NTS_OCTETS_SENT] == KEYS * len);
    close_bench(&b);
}

/* ---- The limit ----------------------------------------------------------------------------------------- */

/* With time under control: a burst, a kiss, silence, and a token for each second that passes. Handovers take tokens from
 * the same bucket, when the reference has judged them. */
static void check_limit(void)
{
    static nts_limit const limit = {.rate = 1, .burst = 2, .prefix4 = 32, .prefix6 = 64};
    uint8_t const odd[HEADER_LEN + 28] = {0x23, [HEADER_LEN] = 0xf1, 0x23, 0, 28};
    uint8_t reply[HEADER_LEN];
    struct bench b;

    open_bench(&b, INADDR_LOOPBACK);
    CHECK(nts_engine_set_limit(b.engine, &limit) == 1);
    ask(&b, 0, 5);
    CHECK(all_alone(&b, 3));
    CHECK(b.cells[NTS_ANSWERED_PLAIN] == 2 && b.cells[NTS_KISS_RATE] == 1 && b.cells[NTS_DROP_RATE] == 2);
    for (int i = 0; i < 3; i++)
        CHECK(recv(b.client, reply, sizeof reply, 0) == sizeof reply && (reply[1] == 0) == (i == 2));
    CHECK(memcmp(reply + 12, "RATE", 4) == 0 && reply[2] == 6);
    clock_ns += NS_PER_S;
    send_to(&b, INADDR_LOOPBACK, 0, odd, sizeof odd);
    CHECK(all_alone(&b, 0));
    CHECK(nts_engine_limit_handover(b.engine, NTS_DROP_FIELDS) == NTS_DROP_FIELDS);
    CHECK(nts_engine_limit_handover(b.engine, NTS_ANSWERED_NTS) == NTS_ANSWERED_NTS);
    CHECK(nts_engine_limit_handover(b.engine, NTS_ANSWERED_PLAIN) == NTS_ANSWERED_PLAIN);
    CHECK(nts_engine_limit_handover(b.engine, NTS_ANSWERED_PLAIN) == NTS_DROP_RATE);
    clock_ns += 7 * (int64_t)NS_PER_S;
    CHECK(nts_engine_limit_handover(b.engine, NTS_NAK_AUTH) == NTS_NAK_AUTH);
    CHECK(nts_engine_limit_handover(b.engine, NTS_NAK_AUTH) == NTS_NAK_AUTH);
    CHECK(nts_engine_limit_handover(b.engine, NTS_NAK_AUTH) == NTS_DROP_RATE);
    CHECK(nts_engine_limit_handover(b.engine, NTS_ANSWERED_PLAIN) == NTS_KISS_RATE);
    nts_engine_handover_done(b.engine, NULL, 0);
    CHECK(nts_engine_limit_handover(b.engine, NTS_NAK_AUTH) == NTS_NAK_AUTH); /* there is none */
    CHECK(nts_engine_set_limit(b.engine, &(nts_limit){.rate = 0}) == 1);
    ask(&b, 0, 5);
    CHECK(all_alone(&b, 5));
    close_bench(&b);
}

int main(void)
{
    check_folder();
    check_missing_timestamp();
    check_source();
    check_steps();
    check_ways(INADDR_LOOPBACK, INADDR_LOOPBACK);
    check_ways(INADDR_ANY, INADDR_LOOPBACK + 1);
    check_refused(0, NTS_BATCH);
    check_refused(300, NTS_BATCH);
    check_refused(300, 3);
    check_key_ages();
    check_limit();
    return check_report("loop", "sockets");
}

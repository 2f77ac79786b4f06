/* SPDX-License-Identifier: MIT
 *
 * ke.c - the loop of the NTS-KE server: listens, accepts, watches all connections and looks after their deadlines.
 * ke_session.c has what a connection does, ke_news.c what is left to the caller.
 */
#define _GNU_SOURCE /* accept4 */
#include <errno.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ke_internal.h"

#define SWEEP_NS 250000000 /* between checks of the deadlines */
#define EVENTS 64          /* in one turn */
#define NS_PER_S 1000000000
#define MASTER_KEY_LEN 32

int64_t nts_ke_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Looks once in a turn, as long as there is a need. */
int nts_ke_folder_differs(nts_ke *ke)
{
    struct stat now;

    if (ke->folder_is_known == 0) {
        if (stat(ke->folder, &now) != 0)
            memset(&now, 0, sizeof now);
        ke->folder_is_known = (int64_t)now.st_ctim.tv_sec * NS_PER_S + now.st_ctim.tv_nsec == ke->folder_ctime &&
                                      now.st_ino == ke->folder_inode
                                  ? 1
                                  : -1;
    }
    return ke->folder_is_known < 0;
}

/* Frees sessions that are closed, when nothing can point to them any more. */
static void bury(nts_ke *ke)
{
    while (ke->gone != NULL) {
        nts_ke_session *const s = ke->gone;

        ke->gone = s->newer;
        free(s);
    }
}

/* ---- Setting up ---------------------------------------------------------------------------------------- */

nts_ke *nts_ke_new(nts_ke_settings const *settings)
{
    nts_ke *const ke = calloc(1, sizeof *ke);
    uint64_t multipliers[5];

    if (ke == NULL)
        return NULL;
    ke->settings = *settings;
    ke->settings.label[sizeof ke->settings.label - 1] = 0;
    ke->counting.cells = ke->own_cells;
    ke->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (ke->epoll < 0 || aes_siv_backend() == NULL || !nts_random_open(&ke->generator)) {
        nts_ke_free(ke);
        return NULL;
    }
    nts_random(&ke->generator, (uint8_t *)multipliers, sizeof multipliers);
    if (!nts_ke_limits_open(&ke->limits, settings, multipliers)) {
        nts_ke_free(ke);
        return NULL;
    }
    return ke;
}

void nts_ke_free(nts_ke *ke)
{
    if (ke == NULL)
        return;
    while (ke->first != NULL)
        nts_ke_close(ke, ke->first);
    bury(ke);
    nts_ke_limits_close(&ke->limits);
    AES_SIV_KEY_free(ke->key.siv);
    nts_random_close(&ke->generator);
    SSL_CTX_free(ke->context);
    free(ke->reports);
    if (ke->epoll >= 0)
        close(ke->epoll);
    OPENSSL_cleanse(ke, sizeof *ke);
    free(ke);
}

void nts_ke_set_tls(nts_ke *ke, nts_ke_tls *tls)
{
    SSL_CTX_up_ref(ke_context(tls));
    SSL_CTX_free(ke->context); /* sessions keep the one that they began with */
    ke->context = ke_context(tls);
    nts_ke_plan_forget(ke);
}

int nts_ke_set_key(nts_ke *ke, uint32_t id, uint8_t const *key)
{
    AES_SIV_KEY *const siv = key == NULL ? NULL : AES_SIV_KEY_new(key, MASTER_KEY_LEN);

    nts_ke_plan_forget(ke);
    if (key != NULL && siv == NULL)
        return 0;
    AES_SIV_KEY_free(ke->key.siv);
    ke->key = (struct master_key){.id = id, .siv = siv};
    return 1;
}

void nts_ke_set_groups(nts_ke *ke, uint16_t const *ids, char const *const *names, uint8_t const *ours, size_t n)
{
    struct ke_groups *const groups = &ke->groups;

    groups->count = n < NTS_KE_MAX_GROUPS ? n : NTS_KE_MAX_GROUPS;
    memcpy(groups->ids, ids, groups->count * sizeof *ids);
    memcpy(groups->ours, ours, groups->count);
    for (size_t i = 0; i < groups->count; i++)
        snprintf(groups->names[i], sizeof groups->names[i], "%s", names[i]);
}

/* ---- epoll --------------------------------------------------------------------------------------------- */

static int watch(nts_ke *ke, struct ke_watched *watched, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watched};

    return epoll_ctl(ke->epoll, operation, watched->fd, &event) == 0;
}

void nts_ke_watch(nts_ke *ke, nts_ke_session *s)
{
    uint32_t const events = s->wants_write ? EPOLLOUT : EPOLLIN | EPOLLRDHUP;

    if (s->is_watched)
        (void)watch(ke, &s->watched, EPOLL_CTL_MOD, events | EPOLLET);
}

/* Waits for new connections or not. Of several workers that wait, the kernel wakes one. */
static void accept_more(nts_ke *ke, int wanted)
{
    if (wanted == ke->accepting)
        return;
    ke->accepting = wanted;
    for (size_t i = 0; i < ke->listener_count; i++)
        (void)watch(ke, &ke->listeners[i], wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, EPOLLIN | EPOLLEXCLUSIVE);
}

int nts_ke_attach(nts_ke *ke, int const *listeners, size_t n, int also)
{
    if (n > NTS_KE_MAX_SOCKETS)
        return 0;
    for (; ke->listener_count < n; ke->listener_count++)
        ke->listeners[ke->listener_count] = (struct ke_watched){KE_LISTENER, listeners[ke->listener_count]};
    accept_more(ke, 1);
    ke->also = (struct ke_watched){KE_ALSO, also};
    return watch(ke, &ke->also, EPOLL_CTL_ADD, EPOLLIN);
}

/* ---- Sessions ------------------------------------------------------------------------------------------ */

/* Frees what it has, and leaves the rest until no event of this turn can point to it. */
void nts_ke_close(nts_ke *ke, nts_ke_session *s)
{
    if (s->state == KE_ASKING)
        nts_ke_leave(&ke->questions, s);
    else if (s->state == KE_FOREIGN)
        nts_ke_leave(s->watched.fd >= 0 ? &ke->handovers : &ke->evicted, s);
    nts_ke_limits_remove(&ke->limits, &s->member);
    *(s->older == NULL ? &ke->first : &s->older->newer) = s->newer;
    *(s->newer == NULL ? &ke->last : &s->newer->older) = s->older;
    ke->count--;
    SSL_free(s->ssl);
    s->ssl = NULL;
    free(s->request);
    s->request = NULL;
    if (s->watched.fd >= 0)
        close(s->watched.fd);
    s->watched.fd = -1;
    s->is_watched = 0;
    s->state = KE_GONE;
    s->newer = ke->gone;
    ke->gone = s;
}

void nts_ke_release(nts_ke *ke, nts_ke_session *s)
{
    nts_ke_close(ke, s);
}

size_t nts_ke_count(nts_ke const *ke)
{
    return ke->count;
}

static nts_ke_session *session_of(struct ke_member *member)
{
    return (nts_ke_session *)((uint8_t *)member - offsetof(nts_ke_session, member));
}

/* There are no descriptors or no memory left: free some, or wait until somebody else has. */
static void make_room(nts_ke *ke)
{
    struct ke_member *const first = nts_ke_limits_first_to_go(&ke->limits);

    if (first == NULL)
        accept_more(ke, 0); /* until the next sweep */
    else
        nts_ke_session_evict(ke, session_of(first));
}

static nts_ke_session *open_session(nts_ke *ke, int fd, nts_ke_address const *peer)
{
    nts_ke_session *const s = calloc(1, sizeof *s);
    struct ke_member *surplus;

    if (s == NULL)
        return NULL;
    s->watched = (struct ke_watched){KE_SESSION, fd};
    s->accepted = nts_ke_now();
    s->deadline = s->accepted + (int64_t)ke->settings.session_ms * KE_NS_PER_MS;
    s->peer = *peer;
    if (!nts_ke_limits_add(&ke->limits, peer, &s->member, &surplus)) {
        free(s);
        return NULL;
    }
    s->older = ke->last;
    *(ke->last == NULL ? &ke->first : &ke->last->newer) = s;
    ke->last = s;
    ke->count++;
    if (surplus != NULL)
        nts_ke_session_evict(ke, session_of(surplus));
    return s;
}

/* Accepts a connection. Returns whether there was one, wanted or not. */
static int accept_one(nts_ke *ke, int listener)
{
    struct sockaddr_storage from = {0};
    socklen_t length = sizeof from;
    int const fd = accept4(listener, (struct sockaddr *)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    nts_ke_address peer;
    nts_ke_session *s;

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            make_room(ke);
        return 0; /* otherwise another worker was faster, or the client is gone */
    }
    nts_ke_address_of(&from, &peer);
    if (!nts_ke_limits_admit(&ke->limits, &peer, nts_ke_now() / NS_PER_S)) {
        (void)nts_ke_note(ke, &peer, NTS_KE_REFUSED);
        close(fd);
        return 1;
    }
    s = open_session(ke, fd, &peer);
    if (s == NULL) {
        close(fd);
        make_room(ke);
        return 1;
    }
    nts_ke_session_proceed(ke, s, 0);
    if (s->state == KE_GONE || s->state == KE_FOREIGN)
        return 1;
    s->is_watched = watch(ke, &s->watched, EPOLL_CTL_ADD, (s->wants_write ? EPOLLOUT : EPOLLIN | EPOLLRDHUP) | EPOLLET);
    if (!s->is_watched)
        nts_ke_session_evict(ke, s);
    return 1;
}

/* ---- Running ------------------------------------------------------------------------------------------- */

static void sweep(nts_ke *ke, int64_t now)
{
    nts_ke_session *next;

    ke->next_sweep = now + SWEEP_NS;
    accept_more(ke, 0); /* and yes again: the kernel may have woken a worker that hangs */
    accept_more(ke, 1);
    for (nts_ke_session *s = ke->first; s != NULL; s = next) {
        next = s->newer;
        if (now >= s->deadline)
            nts_ke_session_expire(ke, s);
    }
}

/* Whether there is something that only the caller can do, or enough of what it should know. */
static int has_news(nts_ke const *ke)
{
    return ke->questions.first != NULL || ke->handovers.first != NULL || ke->evicted.first != NULL ||
           ke->report_count >= EVENTS;
}

static void turn(nts_ke *ke, struct ke_watched *watched, uint32_t events)
{
    if (watched->kind == KE_LISTENER)
        (void)accept_one(ke, watched->fd);
    else if (watched->kind == KE_SESSION)
        nts_ke_session_proceed(ke, (nts_ke_session *)watched, events);
}

void nts_ke_run(nts_ke *ke, char const *folder, int64_t ctime_ns, uint64_t inode)
{
    struct epoll_event events[EVENTS];
    int called = 0;

    ke->folder = folder;
    ke->folder_ctime = ctime_ns;
    ke->folder_inode = inode;
    while (!called && !has_news(ke)) {
        int64_t const now = nts_ke_now();
        int n;

        bury(ke);
        if (now >= ke->next_sweep) {
            sweep(ke, now);
            break;
        }
        ke->folder_is_known = 0;
        n = epoll_wait(ke->epoll, events, EVENTS, (int)((ke->next_sweep - now) / KE_NS_PER_MS) + 1);
        for (int i = 0; i < n; i++) {
            struct ke_watched *const watched = events[i].data.ptr;

            called |= watched->kind == KE_ALSO;
            turn(ke, watched, events[i].events);
        }
    }
    bury(ke);
    ke->folder = NULL;
}

void nts_ke_drain(nts_ke *ke, int64_t until_ns)
{
    accept_more(ke, 0);
    for (; ke->listener_count != 0; ke->listener_count--)
        while (nts_ke_now() < until_ns && accept_one(ke, ke->listeners[ke->listener_count - 1].fd))
            ;
    bury(ke);
}

void nts_ke_expire(nts_ke *ke)
{
    nts_ke_session *next;

    for (nts_ke_session *s = ke->first; s != NULL; s = next) {
        next = s->newer;
        nts_ke_session_expire(ke, s);
    }
    bury(ke);
}

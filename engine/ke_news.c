/* SPDX-License-Identifier: MIT
 *
 * ke_news.c - what the loop has for its caller: counters, reports, questions, connections for the reference.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>

#include "ke_internal.h"

#define FIRST_REPORTS 64

/* ---- Addresses ----------------------------------------------------------------------------------------- */

void nts_ke_address_of(struct sockaddr_storage const *from, nts_ke_address *to)
{
    *to = (nts_ke_address){0};
    if (from->ss_family == AF_INET6) {
        struct sockaddr_in6 const *const v6 = (struct sockaddr_in6 const *)from;

        memcpy(to->octets, &v6->sin6_addr, to->length = 16);
        to->port = ntohs(v6->sin6_port);
        to->scope = v6->sin6_scope_id;
    } else if (from->ss_family == AF_INET) {
        struct sockaddr_in const *const v4 = (struct sockaddr_in const *)from;

        memcpy(to->octets, &v4->sin_addr, to->length = 4);
        to->port = ntohs(v4->sin_port);
    }
}

int nts_ke_local_address(int fd, nts_ke_address *local)
{
    struct sockaddr_storage own = {0};
    socklen_t length = sizeof own;

    if (getsockname(fd, (struct sockaddr *)&own, &length) != 0)
        own.ss_family = AF_UNSPEC;
    nts_ke_address_of(&own, local);
    return local->length != 0;
}

/* ---- Queues -------------------------------------------------------------------------------------------- */

void nts_ke_enqueue(struct ke_queue *queue, nts_ke_session *s)
{
    s->queued = NULL;
    *(queue->last == NULL ? &queue->first : &queue->last->queued) = s;
    queue->last = s;
}

static nts_ke_session *dequeue(struct ke_queue *queue)
{
    nts_ke_session *const s = queue->first;

    if (s != NULL)
        queue->first = s->queued;
    if (queue->first == NULL)
        queue->last = NULL;
    return s;
}

void nts_ke_leave(struct ke_queue *queue, nts_ke_session *s)
{
    nts_ke_session *before = NULL;

    for (nts_ke_session *q = queue->first; q != NULL; before = q, q = q->queued) {
        if (q != s)
            continue;
        *(before == NULL ? &queue->first : &before->queued) = s->queued;
        if (queue->last == s)
            queue->last = before;
        return;
    }
}

/* ---- Counters and reports ------------------------------------------------------------------------------- */

void nts_ke_count_into(nts_ke *ke, nts_ke_counting const *counting)
{
    ke->counting = *counting;
}

void nts_ke_count_handshake(nts_ke *ke, SSL *ssl, int64_t us)
{
    nts_ke_counting const *const c = &ke->counting;
    char name[NTS_KE_TEXT];
    uint32_t group = 0, bound = 0;

    if (c->group_count == 0)
        return;
    nts_ke_tls_group(ssl, name, sizeof name);
    while (group < c->group_count - 1 && strcasecmp(name, c->groups[group]) != 0)
        group++;
    while (bound < c->bound_count && us > c->bounds_us[bound])
        bound++;
    c->cells[c->group + group]++;
    c->cells[c->handshake + bound]++;
    c->cells[c->handshake + c->bound_count + 1] += (uint64_t)us;
}

nts_ke_report *nts_ke_note(nts_ke *ke, nts_ke_address const *peer, unsigned verdict)
{
    ke->counting.cells[verdict]++;
    if (!ke->settings.verbose && verdict != NTS_KE_TLS_FAILED)
        return NULL;
    if (ke->report_count == ke->report_room) {
        size_t const room = 2 * ke->report_room + FIRST_REPORTS;
        nts_ke_report *const reports = realloc(ke->reports, room * sizeof *reports);

        if (reports == NULL)
            return NULL;
        ke->reports = reports;
        ke->report_room = room;
    }
    ke->reports[ke->report_count] = (nts_ke_report){.verdict = verdict, .peer = *peer};
    return &ke->reports[ke->report_count++];
}

nts_ke_report const *nts_ke_reports(nts_ke *ke, size_t *n)
{
    *n = ke->report_count;
    ke->report_count = 0;
    return ke->reports;
}

/* ---- Questions and connections --------------------------------------------------------------------------- */

int nts_ke_question_next(nts_ke *ke, nts_ke_question *question)
{
    nts_ke_session const *const s = ke->questions.first;

    if (s == NULL)
        return 0;
    *question = (nts_ke_question){.kind = s->question, .request = s->request, .length = s->request_length};
    (void)nts_ke_local_address(s->watched.fd, &question->local);
    return 1;
}

void nts_ke_question_done(nts_ke *ke, nts_ke_plan const *plan)
{
    nts_ke_session *const s = dequeue(&ke->questions);
    nts_ke_address local;

    if (s == NULL)
        return;
    if (s->question == NTS_KE_ASK_REQUEST && nts_ke_local_address(s->watched.fd, &local))
        nts_ke_plan_keep(ke, &local, s->request, s->request_length, plan);
    nts_ke_session_answer(ke, s, plan);
    nts_ke_watch(ke, s); /* the client may have done something meanwhile */
}

int nts_ke_handover_next(nts_ke *ke, nts_ke_handover *handover)
{
    nts_ke_session *const s = dequeue(&ke->handovers);

    if (s == NULL)
        return 0;
    if (s->is_watched)
        (void)epoll_ctl(ke->epoll, EPOLL_CTL_DEL, s->watched.fd, NULL);
    s->is_watched = 0;
    *handover = (nts_ke_handover){
        .session = s, .descriptor = s->watched.fd, .accepted_ns = s->accepted, .peer = s->peer};
    s->watched.fd = -1;
    return 1;
}

nts_ke_session *nts_ke_evicted_next(nts_ke *ke)
{
    return dequeue(&ke->evicted);
}

/* SPDX-License-Identifier: MIT
 *
 * ke_testing.c - parts of the NTS-KE loop without sockets, for tests and fuzzers.
 */
#include "ke_testing.h"

#include <stdlib.h>

#include "ke_internal.h"

#define NUMBERS 4096

struct nts_ke_test_limits {
    struct ke_limits limits;
    struct ke_member members[NUMBERS];
};

int nts_ke_test_hello(nts_ke const *ke, uint8_t const *octets, size_t length)
{
    int choice;

    return (int)nts_ke_hello(octets, length, &ke->groups, &choice);
}

nts_ke_test_limits *nts_ke_test_limits_new(nts_ke_settings const *settings)
{
    static uint64_t const multipliers[5] = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 3, 5};
    nts_ke_test_limits *const made = calloc(1, sizeof *made);

    if (made != NULL && !nts_ke_limits_open(&made->limits, settings, multipliers)) {
        free(made);
        return NULL;
    }
    return made;
}

void nts_ke_test_limits_free(nts_ke_test_limits *limits)
{
    nts_ke_limits_close(&limits->limits);
    free(limits);
}

int nts_ke_test_limits_admit(nts_ke_test_limits *limits, nts_ke_address const *peer, int64_t second)
{
    return nts_ke_limits_admit(&limits->limits, peer, second);
}

static int number_of(nts_ke_test_limits const *limits, struct ke_member const *member)
{
    return member == NULL ? -1 : (int)(member - limits->members);
}

int nts_ke_test_limits_add(nts_ke_test_limits *limits, nts_ke_address const *peer, int number)
{
    struct ke_member *surplus;

    if (!nts_ke_limits_add(&limits->limits, peer, &limits->members[number], &surplus))
        abort();
    return number_of(limits, surplus);
}

void nts_ke_test_limits_remove(nts_ke_test_limits *limits, int number)
{
    nts_ke_limits_remove(&limits->limits, &limits->members[number]);
}

int nts_ke_test_limits_first_to_go(nts_ke_test_limits const *limits)
{
    return number_of(limits, nts_ke_limits_first_to_go(&limits->limits));
}

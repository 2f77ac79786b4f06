/* SPDX-License-Identifier: MIT
 *
 * ke_testing.h - what only tests and fuzzers call: parts of the loop without sockets.
 *
 * It is part of the module that the server loads, so that tests drive the same one; nobody else calls it.
 * nts/_engine_build.py reads the text between the two cffi markers.
 */
#ifndef NTS_KE_TESTING_H_
#define NTS_KE_TESTING_H_

#include "nts_ke.h"

/* cffi:begin */

/* nts_ke_hello of ke_internal.h, with the loop's groups: 0 partial, 1 usual, 2 unusual. */
int nts_ke_test_hello(nts_ke const *ke, uint8_t const *octets, size_t length);

/* The limits alone. */
typedef struct nts_ke_test_limits nts_ke_test_limits;
nts_ke_test_limits *nts_ke_test_limits_new(nts_ke_settings const *settings);
void nts_ke_test_limits_free(nts_ke_test_limits *limits);
int nts_ke_test_limits_admit(nts_ke_test_limits *limits, nts_ke_address const *peer, int64_t second);

/* Holds connection `number`, below 4096. Returns the number of one that must go, -1 for none. */
int nts_ke_test_limits_add(nts_ke_test_limits *limits, nts_ke_address const *peer, int number);
void nts_ke_test_limits_remove(nts_ke_test_limits *limits, int number);
int nts_ke_test_limits_first_to_go(nts_ke_test_limits const *limits);

/* cffi:end */

#endif

/* SPDX-License-Identifier: MIT
 *
 * backend_select.c - chooses the AES implementation that this process uses.
 *
 * Invariant: once siv_backend_chosen() has returned a backend, it returns the same one for the life of the process,
 * in every thread. So any context can be copied to any other.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "siv_internal.h"

/* Fastest first; the last one works everywhere. */
static struct siv_backend const *(*const backends[])(void) = {
    siv_backend_vaes,
    siv_backend_aesni,
    siv_backend_libcrypto,
};

/* wanted: a name, or NULL for the fastest backend. There is no fallback from a name: a test of one backend must not
 * pass on another. */
static struct siv_backend const *find(char const *wanted)
{
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++) {
        struct siv_backend const *backend = backends[i]();

        if (backend != NULL && (wanted == NULL || strcmp(backend->name, wanted) == 0))
            return backend;
    }
    return NULL;
}

struct siv_backend const *siv_backend_chosen(void)
{
    static struct siv_backend const *_Atomic chosen;
    struct siv_backend const *backend = atomic_load_explicit(&chosen, memory_order_acquire);
    struct siv_backend const *earlier = NULL;
    char const *wanted;

    if (backend != NULL)
        return backend;

    wanted = getenv("AES_SIV_BACKEND");
    if (wanted != NULL && wanted[0] == '\0')
        wanted = NULL;
    backend = find(wanted);

    /* Threads that get here together may differ if one of them changes the environment: the first to store wins. A
     * failure is not remembered. */
    if (backend != NULL && !atomic_compare_exchange_strong(&chosen, &earlier, backend))
        backend = earlier;
    return backend;
}

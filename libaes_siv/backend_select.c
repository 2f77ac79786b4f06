/* SPDX-License-Identifier: MIT
 *
 * backend_select.c - which AES implementation this process uses.
 *
 * Invariant: once siv_backend_chosen() has returned a backend, it returns that one for the life of the
 * process, in every thread. Contexts can therefore be copied to one another.
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

/* wanted: a name, or NULL for the best there is. A name is met exactly or not at all: falling back would make
 * a test of one backend pass on another. */
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

    /* Threads that get here together find the same, unless one of them changes the environment: the first one
     * to store wins. A failure is not remembered. */
    if (backend != NULL && !atomic_compare_exchange_strong(&chosen, &earlier, backend))
        backend = earlier;
    return backend;
}

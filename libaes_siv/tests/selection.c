/* SPDX-License-Identifier: MIT
 *
 * selection.c - AES_SIV_BACKEND: an impossible choice is refused as long as it is set; a possible one lasts for the
 * life of the process.
 */
#define _POSIX_C_SOURCE 200809L

#include <stdlib.h>

#include "../siv_internal.h"
#include "check.h"

int main(void)
{
    static char const *const impossible[] = {"bogus", "AESNI", "aesni ", "vae", "libcrypt", "libcrypto2"};
    /* Fastest first. */
    struct siv_backend const *const here[] = {siv_backend_vaes(), siv_backend_aesni(), siv_backend_libcrypto()};
    static char const *const names[] = {"vaes", "aesni", "libcrypto"};
    static uint8_t const key[32];
    size_t best = 0;
    AES_SIV_CTX *ctx;
    AES_SIV_KEY *scheduled;

    for (size_t i = 0; i < sizeof impossible / sizeof impossible[0]; i++) {
        CHECK(setenv("AES_SIV_BACKEND", impossible[i], 1) == 0);
        CHECK(aes_siv_backend() == NULL);
        CHECK(AES_SIV_CTX_new() == NULL);
        CHECK(AES_SIV_KEY_new(key, sizeof key) == NULL);
        CHECK(AES_SIV_SealBatch(NULL, 0) == 1);
    }
    for (size_t i = 0; i < sizeof here / sizeof here[0]; i++) {
        if (here[i] == NULL) {
            CHECK(setenv("AES_SIV_BACKEND", names[i], 1) == 0);
            CHECK(aes_siv_backend() == NULL && AES_SIV_CTX_new() == NULL);
        } else {
            CHECK(strcmp(here[i]->name, names[i]) == 0);
        }
    }
    while (here[best] == NULL)
        best++;

    /* Empty is the same as unset: the fastest backend. */
    CHECK(setenv("AES_SIV_BACKEND", "", 1) == 0);
    CHECK(aes_siv_backend() != NULL);
    CHECK(strcmp(aes_siv_backend(), names[best]) == 0);

    CHECK(setenv("AES_SIV_BACKEND", "bogus", 1) == 0);
    CHECK(aes_siv_backend() != NULL);
    ctx = AES_SIV_CTX_new();
    CHECK(ctx != NULL);
    AES_SIV_CTX_free(ctx);
    scheduled = AES_SIV_KEY_new(key, sizeof key);
    CHECK(scheduled != NULL);
    AES_SIV_KEY_free(scheduled);
    return check_report("selection", aes_siv_backend());
}

/* SPDX-License-Identifier: MIT
 *
 * selection.c - what AES_SIV_BACKEND does: an impossible choice is refused for as long as it stands, a
 * possible one holds for the life of the process.
 */
#define _POSIX_C_SOURCE 200809L

#include <stdlib.h>

#include "../siv_internal.h"
#include "check.h"

int main(void)
{
    static char const *const impossible[] = {"bogus", "AESNI", "aesni ", "libcrypt", "libcrypto2"};
    AES_SIV_CTX *ctx;

    for (size_t i = 0; i < sizeof impossible / sizeof impossible[0]; i++) {
        CHECK(setenv("AES_SIV_BACKEND", impossible[i], 1) == 0);
        CHECK(aes_siv_backend() == NULL);
        CHECK(AES_SIV_CTX_new() == NULL);
    }
    if (siv_backend_aesni() == NULL) {
        CHECK(setenv("AES_SIV_BACKEND", "aesni", 1) == 0);
        CHECK(aes_siv_backend() == NULL && AES_SIV_CTX_new() == NULL);
    }

    /* Empty is the same as unset: the best there is. */
    CHECK(setenv("AES_SIV_BACKEND", "", 1) == 0);
    CHECK(aes_siv_backend() != NULL);
    CHECK(strcmp(aes_siv_backend(), siv_backend_aesni() == NULL ? "libcrypto" : "aesni") == 0);

    CHECK(setenv("AES_SIV_BACKEND", "bogus", 1) == 0);
    CHECK(aes_siv_backend() != NULL);
    ctx = AES_SIV_CTX_new();
    CHECK(ctx != NULL);
    AES_SIV_CTX_free(ctx);
    return check_report("selection", aes_siv_backend());
}

/* SPDX-License-Identifier: MIT
 *
 * compat.c - a program as users of this API write it. It knows only aes_siv.h and the shared library.
 *
 * It makes the calls of NTS servers: a context that lives as long as the process, sealing with a nonce and without
 * associated data, opening in place, and a key that is set up once and copied for each message.
 */
#include "aes_siv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if LIBAES_SIV_VERSION < 0x010000
#error "libaes_siv is too old"
#endif

static int fail(char const *what)
{
    fprintf(stderr, "compat: %s\n", what);
    return EXIT_FAILURE;
}

int main(void)
{
    static unsigned char const key[32] = {1}, nonce[16] = {2};
    static unsigned char const cookie[] = "the plaintext of a cookie, in which the keys of a session are";
    unsigned char sealed[sizeof cookie + 16], again[sizeof cookie + 16];
    size_t sealed_len = sizeof sealed, len;
    AES_SIV_CTX *ctx, *template, *copy;
    char version[16];

    if (aes_siv_backend() == NULL) {
        printf("this machine does not have that backend\n");
        return 77;
    }
    snprintf(version, sizeof version, "%d.%d.%d", LIBAES_SIV_VERSION_MAJOR, LIBAES_SIV_VERSION_MINOR,
             LIBAES_SIV_VERSION_PATCH);
    if (strcmp(version, aes_siv_version()) != 0)
        return fail("header and library differ");

    ctx = AES_SIV_CTX_new();
    template = AES_SIV_CTX_new();
    copy = AES_SIV_CTX_new();
    if (ctx == NULL || template == NULL || copy == NULL)
        return fail("no context");

    if (AES_SIV_Encrypt(ctx, sealed, &sealed_len, key, sizeof key, nonce, sizeof nonce, cookie, sizeof cookie,
                        NULL, 0) != 1 ||
        sealed_len != sizeof sealed)
        return fail("AES_SIV_Encrypt");

    if (AES_SIV_Init(template, key, sizeof key) != 1)
        return fail("AES_SIV_Init");
    if (AES_SIV_CTX_copy(copy, template) != 1 || AES_SIV_AssociateData(copy, NULL, 0) != 1 ||
        AES_SIV_AssociateData(copy, nonce, sizeof nonce) != 1 ||
        AES_SIV_EncryptFinal(copy, again, again + 16, cookie, sizeof cookie) != 1)
        return fail("step by step");
    if (memcmp(sealed, again, sizeof sealed) != 0)
        return fail("the two ways differ");

    len = sizeof cookie;
    if (AES_SIV_Decrypt(ctx, sealed + 16, &len, key, sizeof key, nonce, sizeof nonce, sealed, sealed_len,
                        NULL, 0) != 1 ||
        len != sizeof cookie || memcmp(sealed + 16, cookie, len) != 0)
        return fail("AES_SIV_Decrypt in place");

    again[20] ^= 1;
    if (AES_SIV_CTX_copy(copy, template) != 1 || AES_SIV_AssociateData(copy, NULL, 0) != 1 ||
        AES_SIV_AssociateData(copy, nonce, sizeof nonce) != 1 ||
        AES_SIV_DecryptFinal(copy, again + 16, again, again + 16, sizeof cookie) != 0)
        return fail("a forgery was accepted");

    AES_SIV_CTX_cleanup(ctx);
    AES_SIV_CTX_free(ctx);
    AES_SIV_CTX_free(template);
    AES_SIV_CTX_free(copy);
    printf("compat on %s, version %s: all well\n", aes_siv_backend(), aes_siv_version());
    return EXIT_SUCCESS;
}

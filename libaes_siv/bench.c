/* SPDX-License-Identifier: MIT
 *
 * bench.c - nanoseconds per operation for the messages of Network Time Security, beside OpenSSL's AES-SIV.
 *
 * The two take turns, round by round, so that a change of clock frequency meets both; the median round
 * counts. OpenSSL's interface drops empty strings, so it does not compute the same function for some of the
 * shapes: there it does the same without the empty component (marked *), or nothing at all when the text is
 * empty. Where it computes the same, its result is compared before the clock starts.
 */
#define _POSIX_C_SOURCE 200809L

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>

#include "aes_siv.h"

#define ROUNDS 31
#define MAX 256

struct shape {
    char const *name;
    int open;    /* verify and decrypt, rather than seal */
    int new_key; /* the key arrives with the message, rather than being expanded beforehand */
    size_t ad_len;
    size_t len; /* of the plaintext */
};

/* Every message also has a nonce of 16 bytes. */
static struct shape const shapes[] = {
    {"cookie seal (66 B, scheduled key)", 0, 0, 0, 66},
    {"cookie open (82 B, scheduled key)", 1, 0, 0, 66},
    {"request verify (AD 188 B, empty, new key)", 1, 1, 188, 0},
    {"response seal (AD 84 B, 104 B, new key)", 0, 1, 84, 104},
};

static unsigned char key[32], nonce[16], ad[MAX], text[MAX], sealed[MAX + 16], out[MAX + 16];

/* ---- Ours ---------------------------------------------------------------------------------------------- */

static AES_SIV_CTX *ours, *our_template;

static int our_operation(struct shape const *s)
{
    if (s->new_key ? !AES_SIV_Init(ours, key, sizeof key) : !AES_SIV_CTX_copy(ours, our_template))
        return 0;
    if (!AES_SIV_AssociateData(ours, ad, s->ad_len) || !AES_SIV_AssociateData(ours, nonce, sizeof nonce))
        return 0;
    return s->open ? AES_SIV_DecryptFinal(ours, out, sealed, sealed + 16, s->len)
                   : AES_SIV_EncryptFinal(ours, out, out + 16, text, s->len);
}

/* ---- OpenSSL's ----------------------------------------------------------------------------------------- */

static EVP_CIPHER *cipher;
static EVP_CIPHER_CTX *evp, *evp_seal_template, *evp_open_template;

static int evp_operation(struct shape const *s)
{
    int n;

    if (s->new_key) {
        if (EVP_CipherInit_ex2(evp, cipher, key, NULL, !s->open, NULL) != 1)
            return 0;
    } else if (EVP_CIPHER_CTX_copy(evp, s->open ? evp_open_template : evp_seal_template) != 1) {
        return 0;
    }
    if (s->open && EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_SET_TAG, 16, sealed) != 1)
        return 0;
    if (s->ad_len != 0 && EVP_CipherUpdate(evp, NULL, &n, ad, (int)s->ad_len) != 1)
        return 0;
    if (EVP_CipherUpdate(evp, NULL, &n, nonce, sizeof nonce) != 1 ||
        EVP_CipherUpdate(evp, out + (s->open ? 0 : 16), &n, s->open ? sealed + 16 : text, (int)s->len) != 1 ||
        EVP_CipherFinal_ex(evp, out + MAX, &n) != 1)
        return 0;
    return s->open || EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_GET_TAG, 16, out) == 1;
}

static EVP_CIPHER_CTX *evp_template(int seal)
{
    EVP_CIPHER_CTX *const ctx = EVP_CIPHER_CTX_new();

    if (ctx == NULL || EVP_CipherInit_ex2(ctx, cipher, key, NULL, seal, NULL) != 1) {
        EVP_CIPHER_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

/* ---- Measuring ----------------------------------------------------------------------------------------- */

typedef int operation(struct shape const *);

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double measure(operation *run, struct shape const *s, long count)
{
    double const begin = now();

    for (long i = 0; i < count; i++) {
        if (!run(s)) {
            fprintf(stderr, "%s: an operation failed\n", s->name);
            exit(EXIT_FAILURE);
        }
    }
    return (now() - begin) / (double)count;
}

static int compare(void const *a, void const *b)
{
    double const x = *(double const *)a, y = *(double const *)b;

    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, compare);
    return values[ROUNDS / 2];
}

/* What sealed has to hold for an operation that opens it, made by the side that will open it. */
static int prepare(struct shape const *s, operation *run)
{
    struct shape seal = *s;

    seal.open = 0;
    seal.new_key = 1;
    if (!run(&seal))
        return 0;
    memcpy(sealed, out, s->len + 16);
    return 1;
}

/* Whether OpenSSL gives our result. */
static int same_result(struct shape const *s)
{
    unsigned char expected[MAX + 16];
    size_t const len = s->open ? s->len : s->len + 16;

    if (!our_operation(s))
        return 0;
    memcpy(expected, out, len);
    memset(out, 0, sizeof out);
    return evp_operation(s) && memcmp(out, expected, len) == 0;
}

static void bench(struct shape const *s, long count)
{
    double ours_ns[ROUNDS], theirs_ns[ROUNDS];
    int const theirs = cipher != NULL && s->len != 0;
    int const reduced = s->ad_len == 0;
    double a, b;

    if (!prepare(s, our_operation) || (theirs && !reduced && !same_result(s))) {
        fprintf(stderr, "%s: wrong result\n", s->name);
        exit(EXIT_FAILURE);
    }
    for (int i = 0; i < ROUNDS; i++) {
        if (!prepare(s, our_operation))
            exit(EXIT_FAILURE);
        ours_ns[i] = measure(our_operation, s, count);
        if (theirs && prepare(s, evp_operation))
            theirs_ns[i] = measure(evp_operation, s, count);
    }
    a = median(ours_ns);
    if (!theirs) {
        printf("%-44s %10.0f %12s %9s\n", s->name, a, "-", "-");
        return;
    }
    b = median(theirs_ns);
    printf("%-44s %10.0f %11.0f%c %8.2fx\n", s->name, a, b, reduced ? '*' : ' ', b / a);
}

int main(int argc, char **argv)
{
    long const count = argc > 1 ? strtol(argv[1], NULL, 10) : 10000;

    if (aes_siv_backend() == NULL || count <= 0) {
        fprintf(stderr, "usage: aes_siv_bench [operations per round]; AES_SIV_BACKEND=aesni or libcrypto\n");
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < MAX; i++)
        key[i % sizeof key] = nonce[i % sizeof nonce] = ad[i] = text[i] = (unsigned char)i;

    ours = AES_SIV_CTX_new();
    our_template = AES_SIV_CTX_new();
    evp = EVP_CIPHER_CTX_new();
    cipher = EVP_CIPHER_fetch(NULL, "AES-128-SIV", NULL);
    if (cipher != NULL) {
        evp_seal_template = evp_template(1);
        evp_open_template = evp_template(0);
    }
    if (ours == NULL || our_template == NULL || !AES_SIV_Init(our_template, key, sizeof key) || evp == NULL ||
        (cipher != NULL && (evp_seal_template == NULL || evp_open_template == NULL))) {
        fprintf(stderr, "set-up failed\n");
        return EXIT_FAILURE;
    }

    printf("libaes_siv %s, backend %s, AES-SIV-CMAC-256, median of %d rounds of %ld\n\n", aes_siv_version(),
           aes_siv_backend(), ROUNDS, count);
    printf("%-44s %10s %12s %9s\n", "ns per operation", "libaes_siv", "OpenSSL EVP", "ratio");
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        bench(&shapes[i], count);
    printf("\n* without the empty associated data, which OpenSSL's interface cannot express\n"
           "- an empty text, likewise\n");

    AES_SIV_CTX_free(ours);
    AES_SIV_CTX_free(our_template);
    EVP_CIPHER_CTX_free(evp);
    EVP_CIPHER_CTX_free(evp_seal_template);
    EVP_CIPHER_CTX_free(evp_open_template);
    EVP_CIPHER_free(cipher);
    return EXIT_SUCCESS;
}

/* SPDX-License-Identifier: MIT
 *
 * ke_tls.c - the TLS library: settings of a server, and what differs between OpenSSL and libraries with its API.
 *
 * nts/system/tls.py has the same settings. OpenSSL also takes those of the file that OPENSSL_CONF names; AWS-LC reads no
 * file, so what ours says is repeated here.
 */
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdio.h>

#include "ke_internal.h"

static int select_alpn(SSL *ssl, unsigned char const **out, unsigned char *out_length, unsigned char const *in,
                       unsigned int length, void *argument)
{
    static unsigned char const own[] = "\7ntske/1";

    (void)ssl;
    (void)argument;
    return SSL_select_next_proto((unsigned char **)out, out_length, own, sizeof own - 1, in, length) ==
                   OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* A daemon cannot ask a person. */
static int no_passphrase(char *out, int room, int writing, void *argument)
{
    (void)out;
    (void)room;
    (void)writing;
    (void)argument;
    return -1;
}

/* What openssl.cnf does for OpenSSL. */
static int set_defaults(SSL_CTX *context)
{
#if defined(OPENSSL_IS_AWSLC)
    return SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") &&
           SSL_CTX_set1_groups_list(context, "X25519MLKEM768:X25519:P-256:P-384:P-521") &&
           SSL_CTX_set_num_tickets(context, 0);
#else
    (void)context;
    return 1;
#endif
}

nts_ke_tls *nts_ke_tls_new(char const *chain, char const *key, char *problem, size_t room)
{
    SSL_CTX *const context = SSL_CTX_new(TLS_server_method());

    if (context == NULL || !set_defaults(context) || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION)) {
        nts_ke_tls_reason(problem, room);
        SSL_CTX_free(context);
        return NULL;
    }
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    /* The file has the chain: else OpenSSL would look for one in each handshake. */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    SSL_CTX_set_alpn_select_cb(context, select_alpn, NULL);
    if (SSL_CTX_use_certificate_chain_file(context, chain) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(context) != 1) {
        nts_ke_tls_reason(problem, room);
        SSL_CTX_free(context);
        return NULL;
    }
    return (nts_ke_tls *)context;
}

void nts_ke_tls_free(nts_ke_tls *tls)
{
    SSL_CTX_free(ke_context(tls));
}

char const *nts_ke_library(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}

SSL *nts_ke_tls_accept(SSL_CTX *context)
{
    SSL *const ssl = SSL_new(context);
    BIO *const in = BIO_new(BIO_s_mem()), *const out = BIO_new(BIO_s_mem());

    if (ssl == NULL || in == NULL || out == NULL) {
        BIO_free(in);
        BIO_free(out);
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    SSL_set_bio(ssl, in, out);
    SSL_set_accept_state(ssl);
    return ssl;
}

void nts_ke_tls_choose(SSL *ssl, uint16_t group, char const *name)
{
#if defined(OPENSSL_IS_AWSLC)
    int const ok = SSL_set1_group_ids(ssl, &group, 1) == 1;

    (void)name;
#else
    int const ok = SSL_set1_groups_list(ssl, name) == 1;

    (void)group;
#endif
    if (!ok)
        ERR_clear_error(); /* then it takes the one that it likes */
}

size_t nts_ke_tls_try(nts_ke_tls *tls, uint8_t const *hello, size_t length, uint8_t *out, size_t room)
{
    SSL *const ssl = nts_ke_tls_accept(ke_context(tls));
    int got = 0;

    if (ssl == NULL)
        return 0;
    if (BIO_write(SSL_get_rbio(ssl), hello, (int)length) == (int)length) {
        (void)SSL_do_handshake(ssl);
        got = BIO_read(SSL_get_wbio(ssl), out, (int)room);
    }
    ERR_clear_error();
    SSL_free(ssl);
    return got > 0 ? (size_t)got : 0;
}

void nts_ke_tls_group(SSL *ssl, char *name, size_t room)
{
#if defined(OPENSSL_IS_AWSLC)
    static char const *const curves[] = {"secp256r1", "secp384r1", "secp521r1"}; /* from 23 on, by OpenSSL's names */
    unsigned const id = SSL_get_group_id(ssl);
    char const *const found = id - 23 < 3 ? curves[id - 23] : SSL_get_group_name((uint16_t)id);
#elif OPENSSL_VERSION_NUMBER >= 0x30200000L
    char const *const found = SSL_get0_group_name(ssl);
#else
    char const *const found = SSL_group_to_name(ssl, (int)SSL_get_negotiated_group(ssl));
#endif

    snprintf(name, room, "%s", found == NULL ? "" : found);
}

void nts_ke_tls_reason(char *reason, size_t room)
{
    unsigned long error;

    reason[0] = 0;
    while ((error = (unsigned long)ERR_get_error()) != 0)
        if (reason[0] == 0 && ERR_reason_error_string((uint32_t)error) != NULL)
            snprintf(reason, room, "%s", ERR_reason_error_string((uint32_t)error));
}

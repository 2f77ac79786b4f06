/* SPDX-License-Identifier: MIT
 *
 * aes_siv.h - AES-SIV-CMAC authenticated encryption, RFC 5297.
 *
 * AES-SIV turns a key, any number of associated-data strings and a plaintext into a 16-byte tag V, the
 * "synthetic IV", and a ciphertext C as long as the plaintext. It stays safe when a nonce is repeated: an
 * observer only learns whether the very same message was sealed twice.
 *
 *   key         32, 48 or 64 bytes. The first half keys S2V (AES-CMAC), the second half keys AES-CTR
 *               (section 2.2), so these are AES-SIV-CMAC-256, -384 and -512 (section 6).
 *   components  Each associated-data string is one component of S2V (section 2.4). An empty string is a
 *               component too, and differs from no string. Order matters. AES_SIV_MAX_COMPONENTS at most.
 *   nonce       The last component before the plaintext (section 3).
 *   text        Any length that fits in memory, including 0.
 *
 * RETURN VALUES. Functions returning int give 1 for success and 0 for failure.
 *
 * POINTERS. A NULL pointer with length 0 is an empty string. A NULL pointer with another length is refused.
 *
 * OVERLAP. Encryption and decryption work in place: input and output text may be the same buffer. Any other
 * overlap of an output with an input gives wrong output.
 *
 * LIFE OF A CONTEXT
 *
 *   AES_SIV_CTX_new, AES_SIV_Init, AES_SIV_AssociateData any number of times, and to end the message
 *   AES_SIV_EncryptFinal or AES_SIV_DecryptFinal; then AES_SIV_Init for the next one, or AES_SIV_CTX_free.
 *
 * After a Final, and after any step that failed, a context refuses every step until AES_SIV_Init or a copy gives
 * it a key again. So a forgotten error check can never seal a message with components missing.
 *
 * To use a key for many messages, expand it once in a template. Copy the template for each message, and never
 * finalise the template itself:
 *
 *   AES_SIV_Init(tmpl, key, sizeof key);               once; then add components that all messages share
 *   AES_SIV_CTX_copy(tmp, tmpl);                       from here on for each message
 *   AES_SIV_AssociateData(tmp, nonce, nonce_len);
 *   AES_SIV_EncryptFinal(tmp, v, c, text, text_len);
 *
 * AES_SIV_SealBatch and AES_SIV_OpenBatch are the fastest way to handle many messages, and messages with few
 * components.
 *
 * THREADS. Any number of threads may use the library at the same time. Two threads must not use the same context
 * at the same time, not even as the source of a copy. The caller does the locking.
 */
#ifndef AES_SIV_H_
#define AES_SIV_H_

#include <stddef.h>

#define AES_SIV_VERSION_MAJOR 1
#define AES_SIV_VERSION_MINOR 3
#define AES_SIV_VERSION_PATCH 0

/* The same version, under the names that existing programs test. */
#define LIBAES_SIV_VERSION_MAJOR AES_SIV_VERSION_MAJOR
#define LIBAES_SIV_VERSION_MINOR AES_SIV_VERSION_MINOR
#define LIBAES_SIV_VERSION_PATCH AES_SIV_VERSION_PATCH
#define LIBAES_SIV_VERSION \
    ((AES_SIV_VERSION_MAJOR << 16) + (AES_SIV_VERSION_MINOR << 8) + AES_SIV_VERSION_PATCH)

/* How many bytes longer than its plaintext a sealed message is. */
#define AES_SIV_TAG_LEN 16

/* How many components a message may have besides its plaintext, including the nonce (section 7). */
#define AES_SIV_MAX_COMPONENTS 126

#if defined(__GNUC__)
#define AES_SIV_API __attribute__((visibility("default")))
#else
#define AES_SIV_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct AES_SIV_CTX_st AES_SIV_CTX;
typedef struct AES_SIV_KEY_st AES_SIV_KEY;
typedef struct AES_SIV_MSG_st AES_SIV_MSG;

/* ---- Contexts ------------------------------------------------------------------------------------------ */

/* Returns a new context without a key, from OPENSSL_malloc(). Returns NULL when memory is short, or when the
 * environment variable AES_SIV_BACKEND names a backend that is unknown or that this machine lacks. */
AES_SIV_API AES_SIV_CTX *AES_SIV_CTX_new(void);

/* Makes dst an independent duplicate of src: key, components so far, and whether a Final has used it up.
 *   dst  a context from AES_SIV_CTX_new; its old contents are wiped
 *   src  a context with a key; may be dst itself
 * Returns 0 and leaves dst without a key when src has no key or memory is short. */
AES_SIV_API int AES_SIV_CTX_copy(AES_SIV_CTX *dst, AES_SIV_CTX const *src);

/* Wipes the key and everything computed from it. The context can take a new key.
 *   ctx  a context, or NULL */
AES_SIV_API void AES_SIV_CTX_cleanup(AES_SIV_CTX *ctx);

/* Wipes and frees a context.
 *   ctx  a context, or NULL */
AES_SIV_API void AES_SIV_CTX_free(AES_SIV_CTX *ctx);

/* ---- Step by step: any number of components, or a key that serves many messages ------------------------ */

/* Sets the key and starts a message without components.
 *   ctx      any context; its old contents are wiped, also when this fails
 *   key      key_len bytes, not needed afterwards
 *   key_len  32, 48 or 64; anything else is refused */
AES_SIV_API int AES_SIV_Init(AES_SIV_CTX *ctx, unsigned char const *key, size_t key_len);

/* Adds one component, section 2.4.
 *   ctx   a context with a key, before its Final
 *   data  len bytes, not needed afterwards
 *   len   any length; 0 adds an empty component
 * Returns 0 when there are AES_SIV_MAX_COMPONENTS already; the message is then lost. */
AES_SIV_API int AES_SIV_AssociateData(AES_SIV_CTX *ctx, unsigned char const *data, size_t len);

/* Seals a message, section 2.6.
 *   ctx        a context with a key, before its Final
 *   v_out      receives the tag, 16 bytes; must not overlap the other two
 *   c_out      receives the ciphertext, len bytes
 *   plaintext  len bytes; may be c_out
 *   len        any length
 * After a failure the outputs hold nothing that was derived from the key. */
AES_SIV_API int AES_SIV_EncryptFinal(AES_SIV_CTX *ctx,
                                     unsigned char *v_out,
                                     unsigned char *c_out,
                                     unsigned char const *plaintext,
                                     size_t len);

/* Opens a message, section 2.7.
 *   ctx  a context with a key and the components of the sender, before its Final
 *   out  receives the plaintext, len bytes, or len zeros when this fails for any reason. While the function
 *        runs, it holds text that is not verified yet
 *   v    the tag, 16 bytes
 *   c    the ciphertext, len bytes; may be out
 *   len  any length
 * Returns 1 only when the message is authentic. */
AES_SIV_API int AES_SIV_DecryptFinal(AES_SIV_CTX *ctx,
                                     unsigned char *out,
                                     unsigned char const *v,
                                     unsigned char const *c,
                                     size_t len);

/* ---- One call: one associated-data string and a nonce, as in RFC 5116 ---------------------------------- */

/* Seals plaintext to V || C. The components are ad, which counts even when it is empty, and then nonce unless it
 * is NULL.
 *   ctx            any context; takes this key and is used up
 *   out            receives plaintext_len + 16 bytes; in place means plaintext == out + 16
 *   out_len        in: capacity of out; out: bytes written. Stays unchanged when the capacity is too small
 *   key, key_len   as for AES_SIV_Init
 *   nonce          nonce_len bytes; length 0 makes an empty component, NULL with length 0 none
 *   plaintext      plaintext_len bytes, 0 included
 *   ad             ad_len bytes, 0 included */
AES_SIV_API int AES_SIV_Encrypt(AES_SIV_CTX *ctx,
                                unsigned char *out,
                                size_t *out_len,
                                unsigned char const *key,
                                size_t key_len,
                                unsigned char const *nonce,
                                size_t nonce_len,
                                unsigned char const *plaintext,
                                size_t plaintext_len,
                                unsigned char const *ad,
                                size_t ad_len);

/* Opens V || C as sealed by AES_SIV_Encrypt with the same key, nonce and ad.
 *   ctx            any context; takes this key and is used up
 *   out            receives ciphertext_len - 16 bytes; in place means out == ciphertext + 16
 *   out_len        in: capacity of out; out: bytes written. Stays unchanged when the capacity is too small
 *   ciphertext     ciphertext_len bytes; fewer than 16 are refused
 *   the others     as for AES_SIV_Encrypt
 * Returns 1 only when the message is authentic. Otherwise out, if it is large enough, is all zeros. */
AES_SIV_API int AES_SIV_Decrypt(AES_SIV_CTX *ctx,
                                unsigned char *out,
                                size_t *out_len,
                                unsigned char const *key,
                                size_t key_len,
                                unsigned char const *nonce,
                                size_t nonce_len,
                                unsigned char const *ciphertext,
                                size_t ciphertext_len,
                                unsigned char const *ad,
                                size_t ad_len);

/* ---- Many messages at once ----------------------------------------------------------------------------- */

/* These functions seal or open independent messages, each with its own key, nonce and texts. They interleave the
 * work on messages of the same shape (equal lengths, and the same kind of key) among every 64 messages in a row,
 * which takes a fraction of the time of one message after the other. A single message is fast too. The order of
 * the work is not defined. */

/* Expands a key that serves many messages. It never changes, so threads may share it without locking.
 *   key, key_len  as for AES_SIV_Init; not needed afterwards
 * Returns NULL for a bad length or a NULL key, and whenever AES_SIV_CTX_new would. */
AES_SIV_API AES_SIV_KEY *AES_SIV_KEY_new(unsigned char const *key, size_t key_len);

/* Wipes and frees a key.
 *   key  a key, or NULL */
AES_SIV_API void AES_SIV_KEY_free(AES_SIV_KEY *key);

/* One message. The components are those of AES_SIV_Encrypt and AES_SIV_Decrypt: ad, which counts even when it is
 * empty, and then nonce unless it is NULL.
 *   key                   an expanded key; or NULL to use raw_key
 *   raw_key, raw_key_len  32, 48 or 64 bytes, for this message alone; ignored when there is a key
 *   nonce, nonce_len      length 0 makes an empty component, NULL with length 0 none
 *   ad, ad_len            0 included
 *   in, in_len            to seal: the plaintext, 0 included. To open: V || C; fewer than 16 bytes are refused
 *   out                   to seal: receives V || C, in_len + 16 bytes; in place means in == out + 16.
 *                         To open: receives the plaintext, in_len - 16 bytes, or as many zeros; in place means
 *                         out == in + 16
 *   ok                    set to 1, or to 0 when the message is refused or not authentic
 * No output may overlap the output or any input of another message in the same call. */
struct AES_SIV_MSG_st {
    AES_SIV_KEY const *key;
    unsigned char const *raw_key;
    size_t raw_key_len;
    unsigned char const *nonce;
    size_t nonce_len;
    unsigned char const *ad;
    size_t ad_len;
    unsigned char const *in;
    size_t in_len;
    unsigned char *out;
    int ok;
};

/* Seals n messages.
 *   msgs  n messages; any n, 0 included
 * Returns 1 when all are sealed. Where ok is 0, out holds nothing that was derived from a key. */
AES_SIV_API int AES_SIV_SealBatch(AES_SIV_MSG *msgs, size_t n);

/* Opens n messages.
 *   msgs  n messages; any n, 0 included
 * Returns 1 when all are authentic. Where ok is 0, out is zeroed; the other messages are not affected. While the
 * function runs, the outputs hold text that is not verified yet. */
AES_SIV_API int AES_SIV_OpenBatch(AES_SIV_MSG *msgs, size_t n);

/* Seals one plaintext n times, each time under another nonce. The components are an empty ad and the nonce. It does
 * what AES_SIV_SealBatch does, for callers that have no struct.
 *   out                  receives n times V || C, plaintext_len + 16 bytes each, one after the other
 *   key, key_len         as for AES_SIV_Init
 *   nonces               n nonces, one after the other
 *   nonce_len            of each; 0 is refused, since all copies would be the same
 *   n                    any number, 0 included
 *   plaintext            plaintext_len bytes, 0 included; must not overlap out
 * Returns 1 when all are sealed. After a failure, out may hold some of the copies, and nothing
 * else that was derived from the key. */
AES_SIV_API int AES_SIV_SealCopies(unsigned char *out,
                                   unsigned char const *key,
                                   size_t key_len,
                                   unsigned char const *nonces,
                                   size_t nonce_len,
                                   size_t n,
                                   unsigned char const *plaintext,
                                   size_t plaintext_len);

/* ---- About the library --------------------------------------------------------------------------------- */

/* The version of the running library, "1.3.0". The macros above give the version of the header. */
AES_SIV_API char const *aes_siv_version(void);

/* The AES implementation in use, "vaes", "aesni" or "libcrypto". The first call of this function, AES_SIV_CTX_new,
 * AES_SIV_KEY_new or a batch function chooses it for the process: the one that the environment variable
 * AES_SIV_BACKEND names, or else the fastest that the CPU supports. Returns NULL when AES_SIV_BACKEND names one
 * that is unknown or that this machine lacks. */
AES_SIV_API char const *aes_siv_backend(void);

#ifdef __cplusplus
}
#endif

#endif

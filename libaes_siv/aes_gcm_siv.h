/* SPDX-License-Identifier: MIT
 *
 * aes_gcm_siv.h - AES-128-GCM-SIV authenticated encryption, RFC 8452.
 *
 * A key of 16 bytes, a nonce of 12, associated data and a plaintext become a ciphertext C as long as the plaintext, and
 * a tag of 16 bytes, which follows it. Like AES-SIV it stays safe when a nonce is repeated. Text and associated data
 * have fewer than 2^36 bytes each (section 6).
 *
 * RETURN VALUES, POINTERS, OVERLAP and THREADS are as in aes_siv.h. In place means in == out.
 */
#ifndef AES_GCM_SIV_H_
#define AES_GCM_SIV_H_

#include "aes_siv.h"

#define AES_GCM_SIV_KEY_LEN 16
#define AES_GCM_SIV_NONCE_LEN 12
#define AES_GCM_SIV_TAG_LEN 16

#ifdef __cplusplus
extern "C" {
#endif

/* ---- One message --------------------------------------------------------------------------------------- */

/* Seals plaintext to C || tag.
 *   out        receives plaintext_len + 16 bytes
 *   key        16 bytes
 *   nonce      12 bytes
 *   plaintext  plaintext_len bytes, 0 included
 *   ad         ad_len bytes, 0 included
 * After a failure out holds nothing that was derived from the key. */
AES_SIV_API int AES_GCM_SIV_Seal(unsigned char *out,
                                 unsigned char const *key,
                                 unsigned char const *nonce,
                                 unsigned char const *plaintext,
                                 size_t plaintext_len,
                                 unsigned char const *ad,
                                 size_t ad_len);

/* Opens C || tag.
 *   out         receives sealed_len - 16 bytes, or as many zeros when this fails for any reason
 *   sealed      sealed_len bytes; fewer than 16 are refused
 *   the others  as for AES_GCM_SIV_Seal
 * Returns 1 only when the message is authentic. */
AES_SIV_API int AES_GCM_SIV_Open(unsigned char *out,
                                 unsigned char const *key,
                                 unsigned char const *nonce,
                                 unsigned char const *sealed,
                                 size_t sealed_len,
                                 unsigned char const *ad,
                                 size_t ad_len);

/* ---- Many messages at once ----------------------------------------------------------------------------- */

/* AES_SIV_SealBatch and AES_SIV_OpenBatch for this algorithm. Of AES_SIV_MSG, these differ:
 *   key        NULL
 *   raw_key    raw_key_len is 16
 *   nonce      nonce_len is 12
 *   in, out    the sealed form is C || tag
 * Everything else is refused. */
AES_SIV_API int AES_GCM_SIV_SealBatch(AES_SIV_MSG *msgs, size_t n);
AES_SIV_API int AES_GCM_SIV_OpenBatch(AES_SIV_MSG *msgs, size_t n);

#ifdef __cplusplus
}
#endif

#endif

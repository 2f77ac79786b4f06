/* SPDX-License-Identifier: MIT
 *
 * backend_x86.h - what the backends for x86-64 CPUs share. Contexts work the same in all of them, since a single
 * message cannot use the wider registers.
 */
#ifndef BACKEND_X86_H_
#define BACKEND_X86_H_

#include "siv_internal.h"

int siv_aesni_open(struct siv_aes *aes);
int siv_aesni_set_key(struct siv_aes *aes, uint8_t const *key, size_t len);
int siv_aesni_copy(struct siv_aes *dst, struct siv_aes const *src);
void siv_aesni_clear(struct siv_aes *aes);
int siv_aesni_mac(struct siv_aes const *aes, uint8_t state[SIV_BLOCK], uint8_t const *data, size_t blocks);
int siv_aesni_ctr(struct siv_aes const *aes, uint8_t const counter[SIV_BLOCK], uint8_t *out, uint8_t const *in,
                  size_t len);

/* For the table of a backend. */
#define SIV_AESNI_FUNCTIONS                                                                  \
    .open = siv_aesni_open, .set_key = siv_aesni_set_key, .copy = siv_aesni_copy,            \
    .clear = siv_aesni_clear, .close = siv_aesni_clear, .mac = siv_aesni_mac, .ctr = siv_aesni_ctr

/* The 13 round keys of a 24-byte key. Writes 8 bytes more. */
void siv_aesni_expand_192(uint8_t *round_key, uint8_t const *key);

#endif

# SPDX-License-Identifier: MIT
"""Writes nts/codec/_aes_siv_abi.py, which spares every start cffi's parser: `python -m tools.aes_siv_abi`.

A test holds it up to date. The module fits every Python and every cffi from 1.12 on, so it is in the tree.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from cffi import FFI

NAME = "nts.codec._aes_siv_abi"
PATH = Path(__file__).resolve().parent.parent / (NAME.replace(".", "/") + ".py")
HEAD = '''\
# SPDX-License-Identifier: MIT
"""libaes_siv's functions as cffi wants them. Made by `python -m tools.aes_siv_abi`."""

'''
DECLARATIONS = """
typedef struct AES_SIV_CTX_st AES_SIV_CTX;
AES_SIV_CTX *AES_SIV_CTX_new(void);
void AES_SIV_CTX_free(AES_SIV_CTX *ctx);
int AES_SIV_Encrypt(AES_SIV_CTX *ctx, unsigned char *out, size_t *out_len,
                    unsigned char const *key, size_t key_len, unsigned char const *nonce, size_t nonce_len,
                    unsigned char const *plaintext, size_t plaintext_len,
                    unsigned char const *ad, size_t ad_len);
int AES_SIV_Decrypt(AES_SIV_CTX *ctx, unsigned char *out, size_t *out_len,
                    unsigned char const *key, size_t key_len, unsigned char const *nonce, size_t nonce_len,
                    unsigned char const *ciphertext, size_t ciphertext_len,
                    unsigned char const *ad, size_t ad_len);
int AES_SIV_SealCopies(unsigned char *out, unsigned char const *key, size_t key_len,
                       unsigned char const *nonces, size_t nonce_len, size_t n,
                       unsigned char const *plaintext, size_t plaintext_len);
int AES_GCM_SIV_Seal(unsigned char *out, unsigned char const *key, unsigned char const *nonce,
                     unsigned char const *plaintext, size_t plaintext_len,
                     unsigned char const *ad, size_t ad_len);
int AES_GCM_SIV_Open(unsigned char *out, unsigned char const *key, unsigned char const *nonce,
                     unsigned char const *sealed, size_t sealed_len,
                     unsigned char const *ad, size_t ad_len);
char const *aes_siv_version(void);
char const *aes_siv_backend(void);
"""


def text() -> str:
    """The whole module."""
    ffi = FFI()
    ffi.set_source(NAME, None)
    ffi.cdef(DECLARATIONS)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.py"
        ffi.emit_python_code(str(made))
        return HEAD + made.read_text(encoding="utf-8").partition("\n")[2]


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")

# SPDX-License-Identifier: MIT
"""Wire formats and cryptography: octets to values and back. Pure, except that `aes_siv` opens a C library."""

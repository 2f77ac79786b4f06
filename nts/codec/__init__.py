# SPDX-License-Identifier: MIT
"""Wire formats and cryptography: octets to values and back. Pure, but for the C library that `aead` opens."""

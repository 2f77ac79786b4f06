# SPDX-License-Identifier: MIT
"""Keys and cookies of other servers: what a chronyd 4.3, NTPsec's ntpd 1.2.2 and an ntpd-rs 1.4.0 wrote and gave to
our client.

Nothing is protected with these keys. The functions make cookies as those servers do, with cryptography's ciphers.
"""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV, AESSIV

from nts.codec.aead import SessionKeys
from nts.codec.keyring import MasterKey

NONCE = bytes(range(64, 84))


def chrony_cookie(key_id: int, key: bytes, keys: SessionKeys) -> bytes:
    """Of a chronyd with AES-SIV-CMAC-256 or, if the key has 16 octets, with AES-128-GCM-SIV."""
    head = struct.pack(">I", key_id)
    if len(key) == 16:
        return head + NONCE[:12] + AESGCMSIV(key).encrypt(NONCE[:12], keys.c2s + keys.s2c, None)
    return head + NONCE[:16] + AESSIV(key).encrypt(keys.c2s + keys.s2c, [b"", NONCE[:16]])


def ntpsec_cookie(key_id: int, key: bytes, keys: SessionKeys, order: str = "<") -> bytes:
    """Of an NTPsec on a host of that order of octets."""
    head = struct.pack(order + "I", key_id) + NONCE[:16]
    plaintext = struct.pack(order + "I", keys.aead) + keys.c2s + keys.s2c
    return head + AESSIV(key).encrypt(plaintext, [head, head[4:]])


def ntpd_rs_cookie(key_id: int, key: bytes, keys: SessionKeys) -> bytes:
    """Of an ntpd-rs."""
    plaintext = struct.pack(">H", keys.aead) + keys.s2c + keys.c2s
    sealed = AESSIV(key).encrypt(plaintext, [b"", NONCE[:16]])
    return struct.pack(">IH", key_id, len(sealed)) + NONCE[:16] + sealed


def ntpd_rs_key_file(first: int, *keys: bytes) -> bytes:
    """What ntpd-rs keeps, with the last key as the current one."""
    return struct.pack(">QIII", 1795528346, first, max(len(keys) - 1, 0), len(keys)) + b"".join(keys)


def stretched_cookie(master: MasterKey, keys: SessionKeys, nonce_length: int) -> bytes:
    """One of our own whose nonce is not of the usual length."""
    nonce = NONCE[:nonce_length]
    plaintext = struct.pack(">H", keys.aead) + keys.s2c + keys.c2s
    return struct.pack(">H", master.id) + nonce + AESSIV(master.key).encrypt(plaintext, [b"", nonce])


CHRONY_KEYS = """NKS0
15 0.0
BE8B9FF9 B7B62230E54F70139232F78169573142E72B7A6B52B28F763321A9FA7A16437D
30CBFC9B 1799997FB6ABA2DE851503DC1A9DDE89255A05DEBB769F6887FF2D594F7D6957
"""
CHRONY_COOKIE = (
    "30cbfc9bfa3953d9c00451b27b41c596015f17e34e94249f28fe29ae5f927ad9875601966c0a191804620944ce4d62c2b0574806c4796710d2"
    "283a85a355aab8eed4831abe18e9d63a8a317108ea943524a7d4a48946b89ce7dbbdbfec596db616af981d"
)
CHRONY_C2S = "64e1bf5841f7fc78d07ae94b08ce363a9ec9f4ada3c7517bbcd6f1fc122380de"
CHRONY_S2C = "21f798741668e7cc18ef0731940425cb95dfc6a3a1fac04fd87e85b4e5b26c9c"
NTPSEC_KEYS = """T: 1795528346
L: 32
I: 3429087841
K: ce9fe31b9138da9ad2f87da81c1296e6f071ba881402e20042fe6cdd40a3b251
"""
NTPSEC_COOKIE = (
    "61ba63cc83e9a7826a8aa63986aa3e8ca92c31438487acd9ff48d740a413f9130af2a7fd09c7d9246666d66596a1cde3810b4aa7ae96b28063"
    "7dd96408801b39fa9198b737531d0a668168c36d921f72687e15fb2e789b31596b647d4eea4f800ae887fe26b39638"
)
NTPSEC_C2S = "5e799d43c19053078a975928ea2b2970741fcea36b0710fc8dbaf9d2ed5ce37f"
NTPSEC_S2C = "370951790d77c5b4d7a00e1fb91a5888b67891ad414b0231f8d1ff482aab9ded"
NTPD_RS_KEYS = bytes.fromhex(
    "000000006b080423000000000000000000000001bd5f5654f72e5b55e0f3a324ce6bbfc3e8c9de2186cb57b0c9b174ffc6095043c50d9e05"
    "408c610e3161ee014cb396e1b629878354073ec8317f5cc34bb6fbeb"
)
NTPD_RS_COOKIE = (
    "0000000000523b7e7935c8551e1cf0d91acf18879ebbee8461fcbd7a6af9e10b3c71814567fad9a2564206f68c90913726b11cdf61a43b66"
    "4acfe86b6205d6cf4d3260708c4d2df1b2821ae71ff475061de558722c992abfe107c0350f6be92e18fee47490177d11"
)
NTPD_RS_C2S = "02b35c6de3ae5bb17d01c9c1be1febe7a1b99f49164a5c86aeecda351ee32457"
NTPD_RS_S2C = "1010099d3317b630aa7411a232edff85adfe19f92835a009eb74bb4e582d98f0"

# SPDX-License-Identifier: MIT
"""AES-128-GCM-SIV (RFC 8452) as an AEAD, over our C library libaes_siv; a substitute for clients without it.

The nonce has 12 octets, and a tag of 16 octets follows the ciphertext.
"""

from __future__ import annotations

from functools import cache

from nts.base.errors import AuthError, LibraryError
from nts.codec import aes_siv
from nts.codec._aes_siv_abi import ffi as _ffi
from nts.codec.aes_siv import TAG_LENGTH

KEY_LENGTH, NONCE_LENGTH = 16, 12  # octets


def _check_length(key: bytes) -> None:
    if len(key) != KEY_LENGTH:
        raise ValueError(f"an AES-128-GCM-SIV key of {len(key)} octets")


class AesGcmSiv:
    """AES-128-GCM-SIV with a key of 16 octets. ValueError when a nonce to seal with does not have 12."""

    def __init__(self, key: bytes) -> None:
        _check_length(key)
        aes_siv.backend()
        self._key, self._lib = key, aes_siv.library()

    def seal(self, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
        """Return the ciphertext and its tag, 16 octets more than the plaintext, which may be empty."""
        if len(nonce) != NONCE_LENGTH:
            raise ValueError(f"an AES-GCM-SIV nonce of {len(nonce)} octets")
        out = _ffi.new("unsigned char[]", len(plaintext) + TAG_LENGTH)
        if not self._lib.AES_GCM_SIV_Seal(
            out, self._key, nonce, plaintext, len(plaintext), associated, len(associated)
        ):
            raise LibraryError("libaes_siv failed to encrypt")
        return bytes(_ffi.buffer(out))

    def open(self, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
        """Return the plaintext. AuthError when the ciphertext is not authentic, whatever the lengths are."""
        size = len(ciphertext) - TAG_LENGTH
        if size < 0 or len(nonce) != NONCE_LENGTH:
            raise AuthError("a ciphertext shorter than its tag, or a nonce that does not have 12 octets")
        out = _ffi.new("unsigned char[]", max(size, 1))
        if not self._lib.AES_GCM_SIV_Open(
            out, self._key, nonce, ciphertext, len(ciphertext), associated, len(associated)
        ):
            raise AuthError("the AEAD tag does not match")
        return bytes(_ffi.buffer(out, size))


class SubstituteAesGcmSiv:
    """The same by the package cryptography, which is loaded here and not before: it is slow to load."""

    def __init__(self, key: bytes) -> None:
        _check_length(key)
        check_substitute()
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

        self._cipher, self._invalid = AESGCMSIV(key), InvalidTag

    def seal(self, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
        """As `AesGcmSiv.seal`."""
        return self._cipher.encrypt(nonce, plaintext, associated)

    def open(self, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
        """As `AesGcmSiv.open`."""
        try:
            return self._cipher.decrypt(nonce, ciphertext, associated)
        except (self._invalid, ValueError):  # ValueError: the nonce does not have 12 octets
            raise AuthError("the AEAD tag does not match") from None


@cache
def check_substitute() -> None:
    """Raise LibraryError unless OpenSSL has AES-GCM-SIV and rejects forged tags on an empty plaintext.

    NTS requests have an empty plaintext, for which some releases of OpenSSL accept any tag (CVE-2026-45446).
    """
    try:
        from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
    except ModuleNotFoundError:
        raise  # the package is missing, which scripts explain
    except ImportError:
        raise LibraryError("this package cryptography is too old for AES-GCM-SIV", hint="update it") from None
    try:
        cipher = AESGCMSIV(b"\x01".ljust(16, b"\0"))
    except UnsupportedAlgorithm:
        raise LibraryError("there is no libaes_siv, and this OpenSSL has no AES-GCM-SIV") from None
    nonce, tag = b"\x03".ljust(12, b"\0"), bytes.fromhex("dc20e2d83f25705bb49e439eca56de25")  # RFC 8452 appendix C.1
    sound = cipher.encrypt(nonce, b"", b"") == tag
    for forged in (bytes(16), bytes([tag[0] ^ 1]) + tag[1:]):
        try:
            cipher.decrypt(nonce, forged, b"")
            sound = False
        except InvalidTag:
            pass
    if not sound:
        raise LibraryError("there is no libaes_siv, and this OpenSSL's AES-GCM-SIV accepts forged tags")

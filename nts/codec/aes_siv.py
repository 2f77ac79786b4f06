# SPDX-License-Identifier: MIT
"""AES-SIV-CMAC (RFC 5297) as an AEAD, over our C library libaes_siv; `SubstituteAesSiv` is for clients without it.

The library is in the checkout (`libaes_siv/libaes_siv.so`) or, as pip installs it, in the package. It is bound in
cffi's ABI mode: only pointers and lengths cross, never a struct. The input of S2V is the associated data (one
component, even when it is empty), then the nonce, then the plaintext.
"""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import Any

from nts import ROOT
from nts.base.errors import AuthError, LibraryError
from nts.codec._aes_siv_abi import ffi as _ffi

_PLACES = (ROOT / "libaes_siv" / "libaes_siv.so", ROOT / "nts" / "libaes_siv.so")  # the latter in a wheel
LIBRARY = next((path for path in _PLACES if path.exists()), _PLACES[0])
KEY_LENGTHS = (32, 48, 64)  # octets
TAG_LENGTH = 16  # octets of the synthetic IV, which precedes the ciphertext (section 2.6)
_VERSION = (1, 3)  # the major version must be this one, the minor version at least


def is_built() -> bool:
    """Whether libaes_siv is there."""
    return LIBRARY.exists()


@lru_cache(maxsize=1)
def library() -> Any:  # a cffi library object has no static type
    """The functions of libaes_siv. LibraryError when it is missing or too old."""
    if not is_built():
        raise LibraryError(f"{LIBRARY} has not been built")
    try:
        loaded: Any = _ffi.dlopen(str(LIBRARY))
        version = _text(loaded.aes_siv_version())
    except (OSError, AttributeError, _ffi.error) as e:
        raise LibraryError(f"{LIBRARY} cannot be used: {e}") from None
    major, minor = (int(part) for part in version.split(".")[:2])
    if major != _VERSION[0] or minor < _VERSION[1]:
        raise LibraryError(f"{LIBRARY} has version {version}, but version {_VERSION[0]}.{_VERSION[1]} is needed")
    return loaded


def backend() -> str:
    """The AES implementation that libaes_siv uses on this machine."""
    name = library().aes_siv_backend()
    if name == _ffi.NULL:
        raise LibraryError("AES_SIV_BACKEND names a backend that this machine does not support", hint="unset it")
    return _text(name)


def _text(pointer: Any) -> str:
    octets = _ffi.string(pointer)
    assert isinstance(octets, bytes)
    return octets.decode()


def _check_length(key: bytes) -> None:
    if len(key) not in KEY_LENGTHS:
        raise ValueError(f"an AES-SIV key of {len(key)} octets")


class AesSiv:
    """AES-SIV-CMAC with a key of 32, 48 or 64 octets. Not thread-safe."""

    def __init__(self, key: bytes) -> None:
        _check_length(key)
        backend()
        self._key = key
        self._lib = library()
        context = self._lib.AES_SIV_CTX_new()
        if context == _ffi.NULL:
            raise LibraryError("libaes_siv cannot allocate a context")
        self._context = _ffi.gc(context, self._lib.AES_SIV_CTX_free)

    def seal(self, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
        """Return the synthetic IV and the ciphertext, 16 octets more than the plaintext, which may be empty."""
        out = self._run(self._lib.AES_SIV_Encrypt, len(plaintext) + TAG_LENGTH, nonce, plaintext, associated)
        if out is None:
            raise LibraryError("libaes_siv failed to encrypt")
        return out

    def seal_copies(self, nonces: bytes, nonce_length: int, plaintext: bytes) -> list[bytes]:
        """Return what `seal` does, without associated data, for each of the nonces, which follow one another."""
        count, size = len(nonces) // nonce_length, len(plaintext) + TAG_LENGTH
        out = _ffi.new("unsigned char[]", count * size)
        if not self._lib.AES_SIV_SealCopies(
            out, self._key, len(self._key), nonces, nonce_length, count, plaintext, len(plaintext)
        ):
            raise LibraryError("libaes_siv failed to encrypt")
        sealed = _ffi.buffer(out)
        return [sealed[i * size : (i + 1) * size] for i in range(count)]

    def open(self, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
        """Return the plaintext. AuthError when the ciphertext is not authentic, whatever its length."""
        if len(ciphertext) < TAG_LENGTH:
            raise AuthError("a ciphertext shorter than its tag")
        out = self._run(self._lib.AES_SIV_Decrypt, len(ciphertext) - TAG_LENGTH, nonce, ciphertext, associated)
        if out is None:
            raise AuthError("the AEAD tag does not match")
        return out

    def _run(self, function: Any, size: int, nonce: bytes, text: bytes, associated: bytes) -> bytes | None:
        out, out_length = _ffi.new("unsigned char[]", max(size, 1)), _ffi.new("size_t *", size)
        ok = function(
            self._context, out, out_length, self._key, len(self._key), nonce, len(nonce),
            text, len(text), associated, len(associated),
        )  # fmt: skip
        return bytes(_ffi.buffer(out, out_length[0])) if ok else None


class SubstituteAesSiv:
    """The same by the package cryptography, which is slower to start and to run."""

    def __init__(self, key: bytes) -> None:
        from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm  # here: only who needs it loads it
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        _check_length(key)
        try:
            self._cipher = AESSIV(key)
        except UnsupportedAlgorithm:
            raise LibraryError("there is no libaes_siv, and this OpenSSL has no AES-SIV") from None
        self._invalid = InvalidTag
        with contextlib.suppress(AuthError):  # on an empty plaintext, some releases of OpenSSL accept any tag
            self.open(bytes(16), bytes(TAG_LENGTH), b"\0")
            raise LibraryError("there is no libaes_siv, and this OpenSSL's AES-SIV accepts forged tags")

    def seal(self, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
        """As `AesSiv.seal`."""
        return self._cipher.encrypt(plaintext, [associated, nonce])

    def open(self, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
        """As `AesSiv.open`."""
        if len(ciphertext) < TAG_LENGTH:
            raise AuthError("a ciphertext shorter than its tag")
        try:
            return self._cipher.decrypt(ciphertext, [associated, nonce])
        except self._invalid:
            raise AuthError("the AEAD tag does not match") from None

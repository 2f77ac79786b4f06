# SPDX-License-Identifier: MIT
"""The AEAD algorithms of NTS (RFC 8915 section 5.1): everything that depends on the algorithm.

To add one, give it a number in `registry.AeadId`, a class that implements `Cipher`, and a line in `Aead`. Its cookies
must not be as long as those of AEAD 15: see `cookies`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Protocol

from nts.base.registry import AeadId, Direction
from nts.base.registry import Protocol as NextProtocol
from nts.base.wire import u16
from nts.codec import aes_siv
from nts.codec.aes_gcm_siv import AesGcmSiv, SubstituteAesGcmSiv
from nts.codec.aes_siv import AesSiv, SubstituteAesSiv


class Cipher(Protocol):
    """An algorithm with its key. Not thread-safe."""

    def seal(self, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
        """Return the ciphertext with its tag. The plaintext may be empty."""

    def open(self, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
        """Return the plaintext. AuthError when it is not authentic, or nonce or ciphertext has a bad length."""


def _aes_siv(key: bytes) -> Cipher:
    return AesSiv(key) if aes_siv.is_built() else SubstituteAesSiv(key)


def _aes_gcm_siv(key: bytes) -> Cipher:
    return AesGcmSiv(key) if aes_siv.is_built() else SubstituteAesGcmSiv(key)


class Aead(IntEnum):
    """The algorithms that this suite supports."""

    AES_SIV_CMAC_256 = AeadId.AES_SIV_CMAC_256, 32, 16, _aes_siv
    AES_SIV_CMAC_384 = AeadId.AES_SIV_CMAC_384, 48, 16, _aes_siv
    AES_SIV_CMAC_512 = AeadId.AES_SIV_CMAC_512, 64, 16, _aes_siv
    AES_128_GCM_SIV = AeadId.AES_128_GCM_SIV, 16, 12, _aes_gcm_siv

    key_length: int
    """octets of the C2S key and of the S2C key"""
    nonce_length: int
    """octets of our nonces, and N_REQ of section 5.6: 16, or N_MAX if that is less"""
    cipher: Callable[[bytes], Cipher]
    """makes the cipher for a key. LibraryError when its library is missing or broken"""

    def __new__(
        cls, number: int, key_length: int = 0, nonce_length: int = 0, cipher: Callable[[bytes], Cipher] = _aes_siv
    ) -> Aead:  # fmt: skip
        # The defaults satisfy type checkers, which mistake the look-up Aead(15) for a call of this.
        self = int.__new__(cls, number)
        self._value_ = number
        self.key_length, self.nonce_length, self.cipher = key_length, nonce_length, cipher
        return self

    @classmethod
    def parse_list(cls, text: str) -> tuple[Aead, ...]:
        """Parse algorithm numbers separated by commas or spaces. ValueError says what is accepted."""
        known = {str(int(a)): a for a in cls}
        items = text.replace(",", " ").split()
        if not items or not set(items) <= set(known) or len(set(items)) < len(items):
            raise ValueError(f"must be one or more of {', '.join(known)}, each once")
        return tuple(known[i] for i in items)


def check(aeads: Iterable[Aead]) -> None:
    """Raise LibraryError when one of these algorithms does not work here, or there is no libaes_siv.

    Servers call it as they start: whatever the algorithm, libaes_siv seals their cookies.
    """
    aes_siv.backend()
    check_usable(aeads)


def check_usable(aeads: Iterable[Aead]) -> None:
    """Raise LibraryError when one of these algorithms does not work here. Clients call it before they need it."""
    for aead in aeads:
        aead.cipher(bytes(aead.key_length))


def substitute() -> str:
    """What stands in for libaes_siv, for a person; empty when nothing has to."""
    return "" if aes_siv.is_built() else "libaes_siv has not been built: the package cryptography does its work"


@dataclass(frozen=True)
class SessionKeys:
    """What a key exchange agrees on: an algorithm, and a key for each direction."""

    aead: Aead
    c2s: bytes = field(repr=False)
    s2c: bytes = field(repr=False)

    @cached_property
    def c2s_cipher(self) -> Cipher:
        """Seals and opens requests."""
        return self.aead.cipher(self.c2s)

    @cached_property
    def s2c_cipher(self) -> Cipher:
        """Seals and opens responses."""
        return self.aead.cipher(self.s2c)


Exporter = Callable[[bytes, int], bytes]
"""The TLS exporter with the label of RFC 8915 section 4.3: takes the context and a length in octets, returns the key"""


def exporter_context(number: int, direction: Direction) -> bytes:
    """The exporter's context (section 5.1), five octets: next protocol, AEAD algorithm, direction."""
    return u16(NextProtocol.NTPV4) + u16(number) + bytes([direction])


def export_keys(export: Exporter, aead: Aead, context: int | None = None) -> SessionKeys:
    """The keys of a TLS session. `context` overrides the algorithm's number in the exporter's context."""
    number = aead if context is None else context
    c2s, s2c = (export(exporter_context(number, d), aead.key_length) for d in (Direction.C2S, Direction.S2C))
    return SessionKeys(aead, c2s, s2c)


def possible_contexts(aead: Aead, *, confirmed: bool) -> tuple[int, ...]:
    """The AEAD numbers that the peer may put into the exporter's context, the registered one first.

    For AES_128_GCM_SIV, chrony 4.4 to 4.6.0 put the number of AES_SIV_CMAC_256 there. Newer clients ask for the
    registered number with record 1024, and a server confirms it with the same record (`confirmed`).
    """
    ambiguous = aead is Aead.AES_128_GCM_SIV and not confirmed
    return (aead, Aead.AES_SIV_CMAC_256) if ambiguous else (aead,)

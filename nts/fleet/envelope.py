# SPDX-License-Identifier: MIT
"""What stands in the store: a line of JSON for anybody to read, and a line with its tag and with what is secret.

AES-SIV-CMAC-256 under a wrapping key that the members share. The fleet's prefix, the name in the store and the whole
first line are its associated data. So nothing in the store gives away a master key, and whoever can only write there
can neither alter a value, nor move one to another name or fleet. An old value in the place of a new one is for
`steps.accept` to find.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from nts.base.errors import AuthError, ConfigError, FormatError, NTSError
from nts.codec.aead import Aead

AEAD = Aead.AES_SIV_CMAC_256
Random = Callable[[int], bytes]


class NotOurs(NTSError):
    """A value in the store that no wrapping key opens: no member wrote it, or one with a key that is not here."""

    hint = "compare the wrapping key with that of the other members"


@dataclass(frozen=True)
class WrappingKey:
    """A secret of 32 octets that all members share."""

    key: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Names the key and does not give it away."""
        return hashlib.sha256(b"NTS fleet wrapping key" + self.key).hexdigest()[:8]


@dataclass(frozen=True)
class Wrapping:
    """The wrapping keys of a member, the newest last."""

    prefix: str
    keys: tuple[WrappingKey, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(k.id for k in self.keys)

    def seal(self, name: str, public: str, secret: bytes, random: Random, wrap: str) -> bytes:
        """The value for this name in the store. `public` has no line break; `wrap` is the identifier of the key.

        NotOurs when that key is not here.
        """
        nonce, key = random(AEAD.nonce_length), self._key(name, wrap)
        sealed = AEAD.cipher(key.key).seal(nonce, secret, self._associated(name, public))
        return f"{public}\n{key.id} {nonce.hex()} {sealed.hex()}\n".encode()

    def open(self, name: str, value: bytes) -> tuple[str, bytes]:
        """What is public and what is secret. NotOurs when it was not sealed for this name, fleet and wrapping key."""
        try:
            public, second, end = value.decode().split("\n")
            wrap, nonce, sealed = second.split(" ")
            key = self._key(name, wrap)
            opened = AEAD.cipher(key.key).open(
                bytes.fromhex(nonce), bytes.fromhex(sealed), self._associated(name, public)
            )
        except (AuthError, FormatError, ValueError):
            raise NotOurs(f"{self.prefix}{name} is not what a member of this fleet wrote") from None
        if end:
            raise NotOurs(f"{self.prefix}{name} is not what a member of this fleet wrote")
        return public, opened

    def _key(self, name: str, wrap: str) -> WrappingKey:
        for key in self.keys:
            if key.id == wrap:
                return key
        raise NotOurs(f"{self.prefix}{name} is sealed with wrapping key {wrap[:16]!r}, which is not here")

    def _associated(self, name: str, public: str) -> bytes:
        return b"\0".join(part.encode() for part in ("NTS fleet 1", self.prefix, name, public))


def wrap_of(value: bytes) -> str:
    """The identifier of the key that a value says it is sealed with."""
    return value.partition(b"\n")[2][:8].decode("ascii", "replace")


def parse(text: str, prefix: str, where: object) -> Wrapping:
    """The wrapping keys of a file: a line of 64 hexadecimal digits each, the newest last. ConfigError otherwise."""
    lines = text.split()
    if not lines or not all(re.fullmatch(r"[0-9a-fA-F]{64}", line) for line in lines):
        raise ConfigError(
            f"{where} does not hold lines of 64 hexadecimal digits", hint="fleet_helper.py init makes one"
        )
    return Wrapping(prefix, tuple(WrappingKey(bytes.fromhex(line)) for line in lines))

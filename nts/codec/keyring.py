# SPDX-License-Identifier: MIT
"""The master keys that seal cookies, in memory. `keystore` reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from nts.codec.aead import Aead, Cipher

COOKIE_AEAD = Aead.AES_SIV_CMAC_256  # seals cookies, whatever the algorithm of the session in them
MASTER_KEY_LENGTH = COOKIE_AEAD.key_length


@dataclass(frozen=True)
class MasterKey:
    """A secret of 32 octets and its identifier, which stands in clear in every cookie sealed with it."""

    id: int
    """16 bits"""
    key: bytes = field(repr=False)

    @cached_property
    def cipher(self) -> Cipher:
        """What seals and opens cookies."""
        return COOKIE_AEAD.cipher(self.key)


class KeyRing:
    """An immutable set of master keys, of which the newest seals new cookies and all open old ones."""

    def __init__(self, oldest_first: tuple[MasterKey, ...] = ()) -> None:
        self.keys = oldest_first
        self._by_id = {k.id: k for k in oldest_first}

    @property
    def current(self) -> MasterKey | None:
        """The key for new cookies; None while there is no key at all."""
        return self.keys[-1] if self.keys else None

    def get(self, key_id: int) -> MasterKey | None:
        """The key with this identifier; None when it is not in the ring."""
        return self._by_id.get(key_id)

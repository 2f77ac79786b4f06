# SPDX-License-Identifier: MIT
"""The master keys that seal cookies, in memory. `server.keystore` reads and writes the files."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from nts.codec.aead import Aead
from nts.codec.aes_siv import AesSiv

COOKIE_AEAD = Aead.AES_SIV_CMAC_256  # for all cookies, whatever AEAD the session uses
MASTER_KEY_LENGTH = COOKIE_AEAD.key_length


@dataclass(frozen=True)
class MasterKey:
    """A secret of 32 octets and its identifier, which every cookie sealed with it carries in clear."""

    id: int
    """16 bits"""
    key: bytes = field(repr=False)

    @cached_property
    def cipher(self) -> AesSiv:
        """Seals and opens cookies: COOKIE_AEAD."""
        return AesSiv(self.key)


class KeyRing:
    """An immutable set of master keys. The newest seals cookies. All of them open cookies, and so do the staged ones.

    A staged key becomes current later: until then it is only there to open the cookies of servers that are ahead.
    """

    def __init__(self, oldest_first: tuple[MasterKey, ...] = (), staged: tuple[MasterKey, ...] = ()) -> None:
        self.keys = oldest_first
        self.openers = (*staged, *oldest_first) if oldest_first else ()
        """every key that opens cookies, the current one last; none without a current one, which replies need"""
        self._by_id = {k.id: k for k in self.openers}

    @property
    def current(self) -> MasterKey | None:
        """The key for new cookies; None when there is none."""
        return self.keys[-1] if self.keys else None

    def get(self, key_id: int) -> MasterKey | None:
        """The key with this identifier; None when it is not in the ring."""
        return self._by_id.get(key_id)

    def age(self, key_id: int) -> int:
        """How many keys are newer than the one with this identifier, which must be in the ring.

        A staged one counts as the oldest.
        """
        return next(i for i, k in enumerate(reversed(self.openers)) if k.id == key_id)

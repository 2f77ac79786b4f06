# SPDX-License-Identifier: MIT
"""The master keys that seal cookies, in memory. `server.keystore` reads and writes the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property

from nts.codec.aead import Aead, Cipher
from nts.codec.aes_siv import AesSiv

COOKIE_AEAD = Aead.AES_SIV_CMAC_256  # for all cookies, whatever AEAD the session uses
MASTER_KEY_LENGTH = COOKIE_AEAD.key_length


class CookieFormat(Enum):
    """Whose cookies these are: `cookies` has the layout of our own, `foreign_keys` that of the others."""

    OWN = "own"
    CHRONY = "chrony"
    NTPSEC = "ntpsec"


FOREIGN_FORMATS = (CookieFormat.CHRONY, CookieFormat.NTPSEC)


@dataclass(frozen=True)
class ForeignKey:
    """A key that makes cookies of another server's format."""

    format: CookieFormat
    id: int
    """32 bits"""
    key: bytes = field(repr=False)
    aead: Aead = COOKIE_AEAD

    @cached_property
    def cipher(self) -> Cipher:
        """Seals and opens cookies."""
        return self.aead.cipher(self.key)

    @property
    def wire_id(self) -> bytes:
        """How its cookies begin. NTPsec writes numbers in its host's order, which is this one on most."""
        return self.id.to_bytes(4, "little" if self.format is CookieFormat.NTPSEC else "big")

    @property
    def in_each_order(self) -> tuple[ForeignKey, ...]:
        """This key as hosts of either order of octets have it; only NTPsec's formats differ."""
        other = int.from_bytes(self.id.to_bytes(4, "big"), "little")
        return (self, replace(self, id=other)) if self.format is CookieFormat.NTPSEC else (self,)


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

    def foreign(self, cookie_format: CookieFormat) -> ForeignKey:
        """This key for cookies of another server's format."""
        return ForeignKey(cookie_format, self.id, self.key)


class KeyRing:
    """An immutable set of master keys. The newest seals cookies. All of them open cookies, and so do the staged ones.

    A staged key becomes current later: until then it is only there to open the cookies of servers that are ahead.
    Imported keys are those of another server: they too only open cookies.

    New cookies have the given format. Those of our keys are opened whatever their format, so that servers that share
    the keys may change it one after another.
    """

    def __init__(
        self,
        oldest_first: tuple[MasterKey, ...] = (),
        staged: tuple[MasterKey, ...] = (),
        imported: tuple[ForeignKey, ...] = (),
        cookie_format: CookieFormat = CookieFormat.OWN,
    ) -> None:
        self.keys, self.staged, self.format = oldest_first, staged, cookie_format
        self.openers = (*staged, *oldest_first) if oldest_first else ()
        """our keys that open cookies, the current one last; none without a current one, which replies need"""
        self.imported = tuple(k for i in imported for k in i.in_each_order) if oldest_first else ()
        self._by_id = {k.id: k for k in self.openers}
        theirs = [(k, len(self.openers)) for k in self.imported]
        ours = [(k.foreign(f), self.age(k.id)) for k in self.openers for f in FOREIGN_FORMATS]
        self._foreign = {(k.format, k.wire_id): (k, age) for k, age in (*theirs, *ours)}

    @property
    def current(self) -> MasterKey | None:
        """The key for new cookies; None when there is none."""
        return self.keys[-1] if self.keys else None

    def get(self, key_id: int) -> MasterKey | None:
        """The key with this identifier; None when it is not in the ring."""
        return self._by_id.get(key_id)

    def age(self, key_id: int) -> int:
        """How many keys are newer than ours with this identifier, which must be in the ring.

        A staged one counts as the oldest of ours, and an imported one as older.
        """
        return next(i for i, k in enumerate(reversed(self.openers)) if k.id == key_id)

    def foreign(self, cookie: bytes) -> Iterator[tuple[ForeignKey, int]]:
        """The keys that may have sealed this cookie in another server's format, each with its age."""
        found = (self._foreign.get((f, cookie[:4])) for f in FOREIGN_FORMATS)
        return (pair for pair in found if pair is not None)

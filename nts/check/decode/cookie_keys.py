# SPDX-License-Identifier: MIT
"""Opens cookies with the master keys of a server: this suite's, chrony's or NTPsec's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from nts.base.errors import AuthError
from nts.codec import cookies, foreign_keys
from nts.codec.aead import SessionKeys
from nts.codec.cookies import Contents
from nts.codec.keyring import ForeignKey, KeyRing


@dataclass(frozen=True)
class Opened:
    """What a cookie holds."""

    source: str
    """whose keys opened it"""
    key_id: str
    contents: Contents

    @property
    def keys(self) -> SessionKeys:
        """The pair of keys; if there are two, the one with the registered exporter context."""
        return self.contents[0]


class Opener(Protocol):
    """The master keys of one server."""

    def open(self, cookie: bytes) -> Opened | None:
        """What a cookie holds; None when it was not made with these keys."""
        ...


@dataclass(frozen=True)
class OurOpener:
    """A folder of master keys of this suite, or of its ancestor."""

    ring: KeyRing

    def open(self, cookie: bytes) -> Opened | None:
        try:
            contents, key, _ = cookies.opened(self.ring, cookie)
        except AuthError:
            return None
        return Opened("master keys", f"{key.id:04x}", contents)


@dataclass(frozen=True)
class ForeignOpener:
    """The keys of another server."""

    source: str
    keys: tuple[ForeignKey, ...] = field(repr=False)
    id_format: str
    """how that server writes a key identifier"""

    def open(self, cookie: bytes) -> Opened | None:
        for key in self.keys:
            for candidate in key.in_each_order:
                found = foreign_keys.open_cookie(candidate, cookie)
                if found is not None:
                    return Opened(self.source, format(key.id, self.id_format), (found,))
        return None


def chrony_opener(text: str) -> Opener:
    """An opener with the keys in chronyd's file `ntskeys`. FormatError when it is not one."""
    return ForeignOpener("chrony's keys", foreign_keys.read_chrony(text), "08X")


def ntpsec_opener(text: str) -> Opener:
    """An opener with the keys in an NTPsec server's file `nts-keys`. FormatError when it is not one."""
    return ForeignOpener("NTPsec's keys", foreign_keys.read_ntpsec(text), "d")


OPENERS: dict[str, Callable[[str], Opener]] = {"chrony": chrony_opener, "ntpsec": ntpsec_opener}

# SPDX-License-Identifier: MIT
"""Which keys belong to which packet: associations, the cookies given to them, and what opens those."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from nts.base.registry import FieldType
from nts.check.decode import tls_keys
from nts.check.decode.cookie_keys import Opened, Opener
from nts.check.decode.ntp_packet import Packet
from nts.check.decode.tls_keys import KeyLog
from nts.codec import extensions
from nts.codec.aead import SessionKeys

MAX_TRIALS = 200_000  # trial decryptions, for packets whose cookie tells nothing
MAX_LOG_KEYS = 4096  # pairs of keys made from a key log without knowing their use


@dataclass
class Association:
    """The keys of one client with one server."""

    number: int
    origin: str
    """where the keys come from, in words"""
    candidates: list[SessionKeys]
    """once a packet has been decrypted, only the right pair is left"""
    requests: int = 0
    replies: int = 0
    cookies: int = 0
    """how many were given to it in the capture"""

    @property
    def keys(self) -> SessionKeys:
        """The keys; before a packet has been decrypted, the first candidate."""
        return self.candidates[0]

    def unlock(self, packet: Packet) -> bool:
        """Decrypt a packet, and keep the keys that fit; whether any did."""
        for keys in self.candidates:
            if packet.unlock(keys):
                self.candidates = [keys]
                return True
        return False


@dataclass
class Associations:
    """All associations of a capture."""

    log: KeyLog
    openers: tuple[Opener, ...]
    known: list[Association] = field(default_factory=list)
    useful: list[Opener] = field(default_factory=list)
    """those that have opened a cookie"""
    randoms: set[bytes] = field(default_factory=set)
    """of the key log's sessions that were found by trial"""
    _by_cookie: dict[bytes, Association] = field(default_factory=dict)
    _by_keys: dict[SessionKeys, Association] = field(default_factory=dict)
    _log_keys: list[tuple[bytes, SessionKeys]] | None = None
    _trials: int = MAX_TRIALS

    def make(self, origin: str, candidates: list[SessionKeys]) -> Association:
        """The association with one of these keys; a new one if there is none."""
        for keys in candidates:
            if keys in self._by_keys:
                return self._by_keys[keys]
        made = Association(len(self.known) + 1, origin, candidates)
        self.known.append(made)
        self._by_keys.update(dict.fromkeys(candidates, made))
        return made

    def give(self, association: Association, cookies: Iterable[bytes]) -> None:
        """Note that the association got these cookies."""
        for cookie in cookies:
            self._by_cookie[digest(as_field(cookie))] = association
            association.cookies += 1

    def has_given(self, cookie: bytes) -> bool:
        """Whether anybody got this cookie before."""
        return digest(as_field(cookie)) in self._by_cookie

    def open(self, cookie: bytes) -> Opened | None:
        """What a cookie holds, if one of the master keys opens it."""
        for opener in self.openers:
            opened = opener.open(cookie)
            if opened is not None:
                if not any(opener is o for o in self.useful):
                    self.useful.append(opener)
                return opened
        return None

    def of_request(self, packet: Packet, opened: Opened | None) -> Association | None:
        """Find whose request it is, by its cookie or by the keys that decrypt it, and decrypt it if possible."""
        found = self._by_cookie.get(digest(as_field(packet.cookie))) if packet.cookie is not None else None
        if found is None and opened is not None:
            found = self.make(f"a cookie under key {opened.key_id} of {opened.source}", list(opened.contents))
        if found is None:
            return self.by_trial(packet)
        found.unlock(packet)
        return found

    def by_trial(self, packet: Packet) -> Association | None:
        """Find the association whose keys decrypt a packet, by trying them."""
        if packet.authenticator is None:
            return None
        for association in reversed(self.known):
            if self._spend() and association.unlock(packet):
                return association
        for random, keys in self._keys_of_log():
            if self._spend() and packet.unlock(keys):
                self.randoms.add(random)
                return self.make("the key log", [keys])
        return None

    def _spend(self) -> bool:
        self._trials -= 1
        return self._trials >= 0

    def _keys_of_log(self) -> list[tuple[bytes, SessionKeys]]:
        if self._log_keys is None:
            self._log_keys = list(islice(tls_keys.all_keys(self.log), MAX_LOG_KEYS))
        return self._log_keys

    def notes(self) -> Iterator[str]:
        """What was left out."""
        if self._trials < 0:
            yield "not every packet was tried with every key: there are too many"


def as_field(cookie: bytes) -> bytes:
    """A cookie padded as in a packet."""
    return extensions.encode(FieldType.COOKIE, cookie)[extensions.FIELD_HEADER :] if len(cookie) < 65500 else cookie


def digest(octets: bytes) -> bytes:
    """What to remember of octets that may come again."""
    return hashlib.blake2b(octets, digest_size=16).digest()

# SPDX-License-Identifier: MIT
"""An NTP server that is sound by default, and remembers what came.

A fault is a small function, `NtpBehaviour.answer`, that returns the datagrams to send for one request:

    def without_authenticator(talk: NtpTalk) -> Iterable[bytes | float]:
        return [talk.header() + talk.uid()]

One thread serves one client at a time. `NtpPeer` and whatever it is doing end with its `with` block.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

from nts.base.errors import AuthError, FormatError
from nts.base.registry import KISS_NTSN, FieldType, Leap, Mode, Stratum
from nts.check.peer import craft
from nts.check.peer.ke import PATIENCE, copied, fresh_ring
from nts.codec import cookies, extensions, ntp
from nts.codec.aead import SessionKeys
from nts.codec.cookies import Contents
from nts.codec.extensions import FIELD_HEADER, Field
from nts.codec.keyring import KeyRing
from nts.codec.ntp import Header
from nts.protocol import ts_server
from nts.protocol.ts_server import SystemVariables
from nts.server import listen
from nts.system import addresses

_TICK = 0.05  # seconds between two looks at whether to stop
_ROOM = 65535
_MAX_KEPT = 10_000  # replies to remember: a flood has no end


def sound(talk: NtpTalk) -> Iterable[bytes | float]:
    """The correct answer, if there is one."""
    reply = talk.sound()
    return [] if reply is None else [reply]


def now() -> int:
    """The time as an NTP timestamp."""
    return ntp.timestamp(time.time_ns())


@dataclass(frozen=True)
class NtpBehaviour:
    """What a server does. The default keeps to RFC 8915."""

    answer: Callable[[NtpTalk], Iterable[bytes | float]] = sound
    """returns the datagrams to send for a request, perhaps without end; a number is a pause in seconds"""
    host: str = "127.0.0.1"
    """to listen on"""
    port: int = 0
    """to listen on; 0: any that is free"""
    system: SystemVariables = field(default_factory=SystemVariables)
    keys: SessionKeys | None = None
    """the keys of every client, whatever its cookie; None: those in its cookie"""


SOUND_NTP = NtpBehaviour()


@dataclass(frozen=True)
class NtpTalk:
    """What an answer works with: a datagram that came, and the parts of a reply to it.

    A part that needs a well-formed NTS request raises FormatError without one. Then nothing is sent.
    """

    datagram: bytes = field(repr=False)
    client: addresses.Address
    peer: NtpPeer = field(repr=False)
    received: int = field(default_factory=now)
    """an NTP timestamp"""
    at: float = field(default_factory=time.monotonic)
    """on the monotonic clock"""

    @property
    def requests(self) -> list[NtpTalk]:
        """All requests so far, this one last."""
        return self.peer.requests

    @property
    def port(self) -> int:
        """The client's port."""
        return self.client[1]

    # --- the request -------------------------------------------------------------------------------------------------

    @cached_property
    def fields(self) -> list[Field]:
        """Its extension fields; none if they are malformed."""
        try:
            return extensions.walk(self.datagram)[0]
        except FormatError:
            return []

    def bodies(self, kind: int) -> list[bytes]:
        """The bodies of its fields of this type, in order."""
        return [f.body for f in self.fields if f.type == kind]

    def body(self, kind: int) -> bytes:
        """The body of its only field of this type. FormatError."""
        found = self.bodies(kind)
        if len(found) != 1:
            raise FormatError(f"{len(found)} fields of type {kind:#06x}")
        return found[0]

    @property
    def is_nts(self) -> bool:
        """Whether it has the fields of an NTS request."""
        kinds = {f.type for f in self.fields}
        return {FieldType.UNIQUE_IDENTIFIER, FieldType.COOKIE, FieldType.AUTHENTICATOR} <= kinds

    @property
    def transmit(self) -> int:
        """Its transmit timestamp, which a genuine reply returns as its origin."""
        return Header.decode(self.datagram).transmit

    @property
    def placeholders(self) -> list[bytes]:
        return self.bodies(FieldType.COOKIE_PLACEHOLDER)

    @cached_property
    def contents(self) -> Contents:
        """What the client's cookie holds; empty if the cookie is not ours."""
        if self.peer.behaviour.keys is not None:
            return (self.peer.behaviour.keys,)
        try:
            cookie = self.body(FieldType.COOKIE)
            return self.peer.issued.get(cookie) or cookies.open_cookie(self.peer.ring, cookie)
        except (AuthError, FormatError):
            return ()

    def session_keys(self) -> SessionKeys:
        """The client's keys. FormatError when its cookie is not ours."""
        if not self.contents:
            raise FormatError("a cookie that does not open")
        return next(filter(self.is_sealed_with, self.contents), self.contents[0])

    @property
    def is_authentic(self) -> bool:
        """Whether its last field is an authenticator under the C2S key."""
        return any(map(self.is_sealed_with, self.contents))

    def is_sealed_with(self, keys: SessionKeys) -> bool:
        """Whether its last field is an authenticator under the C2S key of `keys`."""
        try:
            parts, end = extensions.decode_authenticator(self.body(FieldType.AUTHENTICATOR)), self.fields[-1]
            keys.c2s_cipher.open(parts.nonce, parts.ciphertext, self.datagram[: end.offset])
        except (AuthError, FormatError):
            return False
        return end.type == FieldType.AUTHENTICATOR

    # --- replies -----------------------------------------------------------------------------------------------------

    def sound(self, datagram: bytes | None = None, *, ring: KeyRing | None = None) -> bytes | None:
        """What a server that conforms to RFC 8915 answers to this request, or to `datagram` in its place."""
        return ts_server.respond(
            self.datagram if datagram is None else datagram,
            keys=self.peer.ring if ring is None else ring,
            system=self.peer.behaviour.system,
            received=self.received,
            now=now,
            random=os.urandom,
        ).reply

    def header(
        self, *, leap: int = Leap.NONE, version: int = ntp.VERSION, mode: int = Mode.SERVER, stratum: int = 2,
        delay: int = 0, dispersion: int = 0, reference: bytes = b"\x7f\x7f\x01\x01", origin: int | None = None,
        receive: int | None = None, transmit: int | None = None, poll: int = 0,
    ) -> bytes:  # fmt: skip
        """The header of a genuine reply, with these changes."""
        return Header(
            leap=leap, version=version, mode=mode, stratum=stratum, poll=poll, precision=-20, root_delay=delay,
            root_dispersion=dispersion, reference_id=reference, reference_time=self.received,
            origin=self.transmit if origin is None else origin,
            receive=self.received if receive is None else receive,
            transmit=now() if transmit is None else transmit,
        ).encode()  # fmt: skip

    def uid(self) -> bytes:
        """The request's Unique Identifier field."""
        return craft.field(FieldType.UNIQUE_IDENTIFIER, self.body(FieldType.UNIQUE_IDENTIFIER))

    def kiss(self, code: bytes = KISS_NTSN, *, uid: bytes | None = None) -> bytes:
        """An unprotected kiss-o'-death, by default an NTS NAK."""
        header = self.header(leap=Leap.UNSYNCHRONISED, stratum=Stratum.KISS, reference=code)
        return header + (self.uid() if uid is None else uid)

    def fresh_cookies(self, count: int | None = None) -> list[bytes]:
        """Cookies for this client, by default as many as it asked for, and as long as the one it spent.

        They open here if that one did; otherwise they are random.
        """
        count = 1 + len(self.placeholders) if count is None else count
        master = self.peer.ring.current
        if self.peer.behaviour.keys is not None or not self.contents or master is None:
            return craft.random_cookies(count, len(self.body(FieldType.COOKIE)))
        return [cookies.seal(master, self.contents, os.urandom(cookies.NONCE_LENGTH)) for _ in range(count)]

    def odd_cookies(self, *lengths: int) -> list[bytes]:
        """Random octets of any lengths as cookies. This server recognises them when they come back."""
        made = [os.urandom(n) for n in lengths]
        for cookie in made:
            self.peer.issued[extensions.encode(FieldType.COOKIE, cookie)[FIELD_HEADER:]] = (self.session_keys(),)
        return made

    def time(
        self, key: bytes | None = None, *, cookies: list[bytes] | None = None, uid: bytes | None = None,
        header: bytes | None = None, clear: bytes = b"", inside: bytes = b"", after: bytes = b"",
        nonce: bytes | None = None,
    ) -> bytes:  # fmt: skip
        """A genuine reply, with these changes.

        `key` seals it instead of the S2C key. `clear` goes before the authenticator, `inside` after the encrypted
        cookies, `after` behind the authenticator.
        """
        fresh = self.fresh_cookies() if cookies is None else cookies
        head = (self.header() if header is None else header) + (self.uid() if uid is None else uid) + clear
        plaintext = b"".join(craft.field(FieldType.COOKIE, c) for c in fresh) + inside
        return head + self.authenticator(head, plaintext, key, nonce) + after

    def authenticator(
        self, head: bytes, plaintext: bytes = b"", key: bytes | None = None, nonce: bytes | None = None
    ) -> bytes:
        """An authenticator field for a reply that begins with `head`."""
        keys = self.session_keys()
        nonce = os.urandom(keys.aead.nonce_length) if nonce is None else nonce
        sealed = keys.aead.cipher(keys.s2c if key is None else key).seal(nonce, plaintext, head)
        return craft.field(FieldType.AUTHENTICATOR, extensions.encode_authenticator(nonce, sealed))


class NtpPeer:
    """The server. `port` is where it listens; `requests` and `sent` hold the datagrams in order."""

    def __init__(self, behaviour: NtpBehaviour = SOUND_NTP, ring: KeyRing | None = None) -> None:
        self.behaviour, self.ring = behaviour, copied(ring or fresh_ring())
        self.requests: list[NtpTalk] = []
        self.sent: list[bytes] = []
        self.issued: dict[bytes, Contents] = {}
        """the keys of cookies that are only random octets, by the cookie as it comes back"""
        self._failures: list[Exception] = []
        self._idle = threading.Event()
        self._stopping = threading.Event()
        (self._sock,) = listen.listening(socket.SOCK_DGRAM, (behaviour.host,), behaviour.port)
        self.port = int(self._sock.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> NtpPeer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)
        self._sock.close()
        assert not self._thread.is_alive(), "the NTP peer does not stop"
        if self._failures:
            raise self._failures[0]

    def behave(self, **changes: object) -> None:
        """Change the behaviour from now on. What came before is still remembered."""
        self.behaviour = replace(self.behaviour, **changes)  # type: ignore[arg-type]

    @property
    def is_idle(self) -> bool:
        """Whether everything that has arrived has been answered."""
        return not select.select([self._sock], [], [], 0)[0] and self._idle.is_set()

    def spent(self) -> list[bytes]:
        """The cookies that came, in order."""
        return [r.body(FieldType.COOKIE) for r in self.requests]

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self._idle.set()
            if not select.select([self._sock], [], [], _TICK)[0]:
                continue
            self._idle.clear()  # before taking anything out of the socket
            try:
                datagram, client = self._sock.recvfrom(_ROOM)
            except OSError:
                continue  # the network reports that a client has gone
            talk = NtpTalk(datagram, client, self)
            self.requests.append(talk)
            try:
                self._answer(talk)
            except FormatError:
                pass  # this answer does not fit the request
            except Exception as e:  # a bug in an answer: raised at the end of the `with` block
                self._failures.append(e)

    def _answer(self, talk: NtpTalk) -> None:
        for reply in self.behaviour.answer(talk):
            if self._stopping.is_set():
                return
            if not isinstance(reply, bytes):
                self._stopping.wait(reply)
                continue
            if len(self.sent) < _MAX_KEPT:
                self.sent.append(reply)
            with contextlib.suppress(OSError):
                self._sock.sendto(reply, talk.client)

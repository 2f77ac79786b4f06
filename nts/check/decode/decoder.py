# SPDX-License-Identifier: MIT
"""Decodes a capture or single messages: which key exchange led to which packets, with which keys, and what is wrong."""

from __future__ import annotations

import heapq
import pickle
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from nts.base.registry import KE_PORT, NTP_PORT, FieldType, Protocol, RecordType
from nts.check.decode import ntp_packet, rules_ke, rules_ntp, tls_keys, tls_session
from nts.check.decode.associations import Association, Associations, as_field, digest
from nts.check.decode.capture import Datagram, Endpoint, Segment
from nts.check.decode.cookie_keys import Opened, Opener
from nts.check.decode.ntp_packet import Packet
from nts.check.decode.problems import Problem, info, must, should
from nts.check.decode.rules_ke import Parsed
from nts.check.decode.streams import Conversation, Conversations
from nts.check.decode.tls_keys import KeyLog
from nts.check.decode.tls_session import Side, TlsSession
from nts.codec.aead import Aead

HELD = 4096  # NTP packets within which a reply comes, if one comes
_MAX_FLOWS = 1 << 16  # pairs of ends that use NTS on an unknown port
_IN_MEMORY = 1 << 24  # octets of packets that wait in memory; more of them wait in a temporary file
_RECENT = 16  # requests of one client that a reply may answer


@dataclass(frozen=True)
class Settings:
    """What to decode with."""

    log: KeyLog = field(default_factory=dict, repr=False)
    openers: tuple[Opener, ...] = ()
    ke_ports: frozenset[int] = frozenset({KE_PORT})
    ntp_ports: frozenset[int] = frozenset({NTP_PORT})
    sources: tuple[tuple[str, frozenset[bytes] | Opener], ...] = field(default=(), repr=False)
    """the files with keys: the client randoms in a key log, or what opens cookies"""


@dataclass
class Item:
    """What was decoded, and where it came from."""

    frame: int
    """0: not from a capture"""
    time_ns: int | None = None
    source: Endpoint | None = None
    target: Endpoint | None = None
    association: Association | None = None
    problems: list[Problem] = field(default_factory=list)


@dataclass
class KeItem(Item):
    """A key exchange, or one of its messages."""

    session: TlsSession | None = None
    request: Parsed | None = None
    response: Parsed | None = None
    opened: list[Opened] = field(default_factory=list)
    """what its cookies hold, if they could be opened"""


@dataclass
class NtpItem(Item):
    """An NTP packet."""

    packet: Packet = field(default_factory=lambda: Packet(b""))
    missing: int = 0
    """octets at its end that are not in the capture"""
    copy: bool = False
    """whether the same octets came before"""
    opened: Opened | None = None
    """what its cookie holds"""
    inside: list[Opened] = field(default_factory=list)
    """what its encrypted cookies hold"""
    request: NtpItem | None = None
    """the request that it answers"""
    replies: int = 0


@dataclass
class Decoded:
    """The whole result. All but the items is complete once the last of them has been taken."""

    items: Iterator[KeItem | NtpItem]
    """each once, by frame: there may be more of them than fit in memory"""
    associations: list[Association]
    notes: list[str] = field(default_factory=list)
    exchanges: int = 0
    packets: int = 0
    sealed: int = 0
    """packets with an authenticator"""
    opened: int = 0
    """those of them that were decrypted"""
    wrong: int = 0
    """how many rules are broken"""

    def count(self, item: KeItem | NtpItem) -> KeItem | NtpItem:
        """Count an item, which is returned."""
        if isinstance(item, NtpItem):
            self.packets += 1
            self.sealed += item.packet.authenticator is not None
            self.opened += item.packet.plaintext is not None
        else:
            self.exchanges += 1
        self.wrong += sum(p.wrong for p in item.problems)
        return item


class Decoder:
    """Collects packets or messages, then decodes them one after the other, once all keys are known."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._associations = Associations(settings.log, settings.openers)
        self._conversations = Conversations(settings.ke_ports)
        self._spool = tempfile.SpooledTemporaryFile[bytes](_IN_MEMORY)
        weakref.finalize(self, self._spool.close)
        self._flows: set[tuple[Endpoint, Endpoint]] = set()
        self._messages: list[KeItem | NtpItem] = []
        self._recent: dict[tuple[Endpoint | None, Endpoint | None], list[NtpItem]] = {}
        self._asked: deque[NtpItem] = deque()
        self._spent: dict[bytes, int] = {}
        self._identifiers: dict[bytes, int] = {}
        self._first: dict[bytes, int] = {}
        self._last_request: Parsed | None = None

    # --- input -------------------------------------------------------------------------------------------------------

    def add(self, packet: Datagram | Segment) -> None:
        """Add the next packet of a capture."""
        if isinstance(packet, Segment):
            self._conversations.add(packet)
        elif (certain := self._is_ntp(packet)) or ntp_packet.may_be_ntp(packet.payload):
            pickle.dump((certain, packet), self._spool)

    def _is_ntp(self, packet: Datagram) -> bool:
        ports = {packet.source.port, packet.target.port}
        if ports & self._settings.ntp_ports or (packet.target, packet.source) in self._flows:
            return True
        if not ntp_packet.looks_like_nts(packet.payload):
            return False
        if len(self._flows) < _MAX_FLOWS:
            self._flows.add((packet.source, packet.target))
        return True

    def message(self, octets: bytes, *, ntp: bool) -> None:
        """Add a single message. A reply is assumed to answer the request before it."""
        if ntp:
            self._messages.append(self._ntp(NtpItem(0, packet=Packet(octets))))
            return
        parsed = rules_ke.parse(octets)
        item = KeItem(0)
        if parsed.is_response or self._last_request is not None:
            item.response = parsed
            item.problems = rules_ke.message_problems(parsed, response=True, request=self._last_request)
            self._open_cookies(item)
            self._last_request = None
        else:
            self._last_request = item.request = parsed
            item.problems = rules_ke.message_problems(parsed, response=False)
        self._messages.append(item)

    # --- decoding ----------------------------------------------------------------------------------------------------

    def finish(self) -> Decoded:
        """Decode everything."""
        exchanges = [self._ke(conversation) for conversation in self._conversations.finish()]
        found = heapq.merge(
            self._messages, sorted(exchanges, key=lambda i: i.frame), self._packets(_ports_of(exchanges)),
            key=lambda i: i.frame,
        )  # fmt: skip
        decoded = Decoded(iter(()), self._associations.known)

        def items() -> Iterator[KeItem | NtpItem]:
            yield from map(decoded.count, found)
            decoded.notes += [*self._conversations.notes(), *self._associations.notes(), *self._useless(exchanges)]
            if not decoded.exchanges + decoded.packets:
                decoded.notes.append("found neither NTS-KE nor NTP; use --ke-port and --ntp-port for other ports")

        decoded.items = items()
        return decoded

    def _packets(self, learnt: set[int]) -> Iterator[NtpItem]:
        """The NTP packets. A request waits here for its reply, so that it can be said that none came."""
        held: deque[NtpItem] = deque()
        for d in self._spooled(learnt):
            item = NtpItem(d.frame, d.time_ns, d.source, d.target, packet=Packet(d.payload), missing=d.missing)
            held.append(self._ntp(item))
            while held and (not _is_waiting(held[0]) or len(held) > HELD):
                yield _told(held.popleft(), f"no reply among the next {HELD} NTP packets")
        for item in held:
            yield _told(item, "no reply in the capture")

    def _spooled(self, learnt: set[int]) -> Iterator[Datagram]:
        self._spool.seek(0)
        while True:
            try:
                certain, packet = pickle.load(self._spool)  # what `add` put there, in a file that nobody else can open
            except EOFError:
                return
            if certain or {packet.source.port, packet.target.port} & learnt:
                yield packet

    def _useless(self, exchanges: list[KeItem]) -> Iterator[str]:
        """The files with keys that opened nothing."""
        randoms = {e.session.client.hello.random for e in exchanges if e.session and e.session.client.hello}
        randoms |= self._associations.randoms
        for name, source in self._settings.sources:
            if isinstance(source, frozenset):
                if not source & randoms:
                    yield f"{name} opens nothing here: it has no secret of these connections and packets"
            elif not any(source is useful for useful in self._associations.useful):
                yield f"{name} opens nothing here: no cookie was made with a key of it"

    def _ke(self, conversation: Conversation) -> KeItem:
        client, server = conversation.stream(conversation.client), conversation.stream(conversation.server)
        session = tls_session.decrypt(client, server, self._settings.log)
        item = KeItem(conversation.frame, conversation.time_ns, conversation.client, conversation.server)
        item.session, item.problems = session, list(session.problems)
        if session.client.data:
            item.request = rules_ke.parse(session.client.data)
            cut_off = bool(session.client.missing) or (not session.client.ended and not session.server.data)
            item.problems += rules_ke.message_problems(item.request, response=False, cut_off=cut_off)
        if session.server.data:
            item.response = rules_ke.parse(session.server.data)
            whole = None if session.client.missing else item.request
            item.problems += rules_ke.message_problems(
                item.response, response=True, request=whole, cut_off=not session.server.ended
            )
        item.problems += [p for name in ("client", "server") for p in _closing(name, getattr(session, name))]
        self._associate(item, session)
        self._open_cookies(item)
        return item

    def _associate(self, item: KeItem, session: TlsSession) -> None:
        """The association that a key exchange makes (section 5.1)."""
        response = item.response
        if response is None or session.exporter_secret is None or session.suite is None:
            return
        chosen = response.numbers(RecordType.AEAD_ALGORITHM)
        if Protocol.NTPV4 not in response.numbers(RecordType.NEXT_PROTOCOL) or len(chosen) != 1:
            return
        if chosen[0] not in set(Aead):
            item.problems.append(info(f"AEAD algorithm {chosen[0]} is unknown here: its keys cannot be derived"))
            return
        confirmed = bool(response.of(RecordType.COMPLIANT_CONTEXT))
        keys = tls_keys.session_keys(session.suite.hash, session.exporter_secret, Aead(chosen[0]), confirmed=confirmed)
        item.association = self._associations.make(f"NTS-KE in frame {item.frame}", keys)

    def _open_cookies(self, item: KeItem) -> None:
        """Open the cookies of a response, and note who gets them."""
        if item.response is None:
            return
        bodies = [r.body for r in item.response.of(RecordType.NEW_COOKIE)]
        item.opened = [opened for body in bodies if (opened := self._associations.open(body)) is not None]
        for opened in item.opened:
            if item.association is None:
                origin = f"NTS-KE in frame {item.frame}" if item.frame else "a cookie"
                item.association = self._associations.make(origin, list(opened.contents))
            elif not set(opened.contents) & set(item.association.candidates):
                item.problems.append(must("a cookie holds other keys than those of the TLS session", "4.1.6"))
        if item.association is not None:
            self._associations.give(item.association, bodies)

    def _ntp(self, item: NtpItem) -> NtpItem:
        packet = item.packet
        key, first = digest(packet.octets), None
        if packet.has_nts:  # the requests of two plain clients may be the same
            first = self._first.get(key)
            self._first.setdefault(key, item.frame)
        item.copy = first is not None
        if packet.is_reply:
            self._reply(item)
        else:
            if packet.cookie is not None:
                item.opened = self._associations.open(packet.cookie)
            item.association = self._associations.of_request(packet, item.opened)
        if item.copy:  # sent again, or captured twice: what it breaks, the first one breaks already
            item.problems = [info(f"a copy of frame {first}" if first else "a copy of an earlier message")]
            return item
        if item.missing:  # what is not there cannot be judged
            item.problems.append(info(f"{item.missing} octets of it are not in the capture"))
        else:
            keys = item.association.keys if item.association else None
            item.problems += rules_ntp.packet_problems(packet, keys)
            if item.request is not None and not item.request.missing:
                item.problems += rules_ntp.reply_problems(item.request.packet, packet)
        if packet.is_reply and packet.plaintext is not None:
            self._fresh_cookies(item)
        elif packet.is_request:
            self._request(item)
        return item

    def _request(self, item: NtpItem) -> None:
        """Cookies and identifiers must not come again (sections 5.3, 5.7), except in a copy of the same packet."""
        packet = item.packet
        if item.association is not None:
            item.association.requests += 1
        for octets, seen, problem in (
            (packet.cookie, self._spent, should("a cookie that was used before", "5.7")),
            (packet.unique_id, self._identifiers, must("a Unique Identifier that was used before", "5.3")),
        ):
            if octets is None or item.missing:
                continue
            key = digest(as_field(octets))
            if key in seen:
                where = f", in frame {seen[key]}" if seen[key] else ""
                item.problems.append(Problem(problem.severity, problem.text + where, problem.section))
            seen.setdefault(key, item.frame)
        recent = self._recent.setdefault((item.source, item.target), [])
        recent.append(item)
        del recent[:-_RECENT]
        self._asked.append(item)
        if len(self._asked) > HELD:
            self._forget(self._asked.popleft())

    def _forget(self, request: NtpItem) -> None:
        flow = request.source, request.target
        self._recent[flow] = [r for r in self._recent.get(flow, ()) if r is not request]
        if not self._recent[flow]:
            del self._recent[flow]

    def _reply(self, item: NtpItem) -> None:
        """Find the request, and decrypt the reply with the same keys."""
        packet, header = item.packet, item.packet.header
        assert header is not None
        recent = self._recent.get((item.target, item.source), [])[::-1]
        by_origin = [r for r in recent if r.packet.header and r.packet.header.transmit == header.origin]
        by_identifier = [r for r in recent if packet.unique_id and r.packet.unique_id == packet.unique_id]
        item.request = next(iter([*by_identifier, *by_origin, *recent]), None)
        if item.request is None:
            item.association = self._associations.by_trial(packet)
            if packet.has_nts:
                item.problems.append(info("its request is not in the capture, or long before it"))
        else:
            item.request.replies += not item.copy
            if item.request.replies > 1:
                item.problems.append(info(f"reply {item.request.replies} to the same request"))
            item.association = item.request.association
            if item.association is None:
                item.association = self._associations.by_trial(packet)
            else:
                item.association.unlock(packet)
        if item.association is not None:
            item.association.replies += not item.copy

    def _fresh_cookies(self, item: NtpItem) -> None:
        """Judge the cookies that an authentic reply brings (section 5.7)."""
        assert item.association is not None
        bodies = [f.body for f in item.packet.inner_of(FieldType.COOKIE)]
        if any(self._associations.has_given(body) for body in bodies):
            item.problems.append(must("a cookie that was given before: it is not fresh", "5.7"))
        item.inside = [opened for body in bodies if (opened := self._associations.open(body)) is not None]
        if any(opened.keys != item.association.keys for opened in item.inside):
            item.problems.append(must("a fresh cookie holds other keys than those of its association", "5.7"))
        self._associations.give(item.association, bodies)


def _is_waiting(item: NtpItem) -> bool:
    """Whether it is a request without a reply so far."""
    return item.packet.is_request and not item.replies and not item.copy


def _told(item: NtpItem, text: str) -> NtpItem:
    if _is_waiting(item):
        item.problems.append(info(text))
    return item


def _ports_of(exchanges: list[KeItem]) -> set[int]:
    """The ports of time servers that responses name."""
    return {port for e in exchanges if e.response for port in e.response.numbers(RecordType.PORT)}


def _closing(name: str, side: Side) -> list[Problem]:
    """Both ends must send close_notify (section 4). Judged only where everything they sent could be read."""
    if side.data and side.ended and not side.closed:
        return [must(f"the {name} closes without close_notify", "4")]
    return []

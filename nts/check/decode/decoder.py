# SPDX-License-Identifier: MIT
"""Decodes a capture or single messages: which key exchange led to which packets, with which keys, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from nts.base.registry import KE_PORT, NTP_PORT, FieldType, Protocol, RecordType
from nts.check.decode import ntp_packet, rules_ke, rules_ntp, tls_keys, tls_session
from nts.check.decode.associations import Association, Associations, as_field
from nts.check.decode.capture import Datagram, Endpoint, Segment
from nts.check.decode.cookie_keys import Opened, Opener
from nts.check.decode.ntp_packet import Packet
from nts.check.decode.problems import Problem, info, must, should
from nts.check.decode.rules_ke import Parsed
from nts.check.decode.streams import Conversation, Conversations
from nts.check.decode.tls_keys import KeyLog
from nts.check.decode.tls_session import Side, TlsSession
from nts.codec.aead import Aead

MAX_PACKETS = 50_000  # NTP packets of a capture
MAX_OCTETS = 1 << 27  # in all of them
_MAX_WAITING = 10_000  # packets that may be NTP, kept until all ports are known
_RECENT = 16  # requests of one client that a reply may answer


@dataclass(frozen=True)
class Settings:
    """What to decode with."""

    log: KeyLog = field(default_factory=dict, repr=False)
    openers: tuple[Opener, ...] = ()
    ke_ports: frozenset[int] = frozenset({KE_PORT})
    ntp_ports: frozenset[int] = frozenset({NTP_PORT})


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
    opened: Opened | None = None
    """what its cookie holds"""
    inside: list[Opened] = field(default_factory=list)
    """what its encrypted cookies hold"""
    request: NtpItem | None = None
    """the request that it answers"""
    replies: int = 0


@dataclass
class Decoded:
    """The whole result."""

    items: list[KeItem | NtpItem]
    associations: list[Association]
    notes: list[str]

    @property
    def wrong(self) -> int:
        """How many rules are broken."""
        return sum(p.wrong for item in self.items for p in item.problems)


class Decoder:
    """Collects packets or messages, then decodes them all."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._associations = Associations(settings.log, settings.openers)
        self._conversations = Conversations(settings.ke_ports)
        self._datagrams: list[Datagram] = []
        self._waiting: list[Datagram] = []
        self._flows: set[tuple[Endpoint, Endpoint]] = set()
        self._octets = self._left_out = 0
        self._items: list[KeItem | NtpItem] = []
        self._recent: dict[tuple[Endpoint | None, Endpoint | None], list[NtpItem]] = {}
        self._spent: dict[bytes, NtpItem] = {}
        self._identifiers: dict[bytes, NtpItem] = {}
        self._last_request: Parsed | None = None

    # --- input -------------------------------------------------------------------------------------------------------

    def add(self, packet: Datagram | Segment) -> None:
        """Add the next packet of a capture."""
        if isinstance(packet, Segment):
            self._conversations.add(packet)
        elif self._is_ntp(packet):
            self._keep(packet)
        elif len(self._waiting) < _MAX_WAITING and ntp_packet.may_be_ntp(packet.payload):
            self._waiting.append(packet)

    def _is_ntp(self, packet: Datagram) -> bool:
        ports = {packet.source.port, packet.target.port}
        if ports & self._settings.ntp_ports or (packet.target, packet.source) in self._flows:
            return True
        if not ntp_packet.looks_like_nts(packet.payload):
            return False
        if len(self._flows) < MAX_PACKETS:
            self._flows.add((packet.source, packet.target))
        return True

    def _keep(self, packet: Datagram) -> None:
        self._octets += len(packet.payload)
        if len(self._datagrams) < MAX_PACKETS and self._octets <= MAX_OCTETS:
            self._datagrams.append(packet)
        else:
            self._left_out += 1

    def message(self, octets: bytes, *, ntp: bool) -> None:
        """Add a single message. A reply is assumed to answer the request before it."""
        if ntp:
            self._ntp(NtpItem(0, packet=Packet(octets)))
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
        self._items.append(item)

    # --- decoding ----------------------------------------------------------------------------------------------------

    def finish(self) -> Decoded:
        """Decode everything."""
        learnt: set[int] = set()
        for conversation in self._conversations.finish():
            exchange = self._ke(conversation)
            if exchange.response:
                learnt |= set(exchange.response.numbers(RecordType.PORT))
            self._items.append(exchange)
        for packet in self._waiting:
            if {packet.source.port, packet.target.port} & learnt:
                self._keep(packet)
        for d in sorted(self._datagrams, key=lambda d: d.frame):
            item = NtpItem(d.frame, d.time_ns, d.source, d.target, packet=Packet(d.payload))
            if d.missing:
                item.problems.append(info(f"{d.missing} octets of it are not in the capture"))
            self._ntp(item)
        for it in self._items:
            if isinstance(it, NtpItem) and it.packet.is_request and not it.replies and it.frame:
                it.problems.append(info("no reply in the capture"))
        notes = [*self._conversations.notes(), *self._associations.notes()]
        if self._left_out:
            notes.append(f"{self._left_out} NTP packets left out: the capture holds too many")
        return Decoded(sorted(self._items, key=lambda i: i.frame), self._associations.known, notes)

    def _ke(self, conversation: Conversation) -> KeItem:
        client, server = conversation.stream(conversation.client), conversation.stream(conversation.server)
        session = tls_session.decrypt(client, server, self._settings.log)
        item = KeItem(conversation.frame, conversation.time_ns, conversation.client, conversation.server)
        item.session, item.problems = session, list(session.problems)
        if session.client.data:
            item.request = rules_ke.parse(session.client.data)
            cut_off = not session.client.ended and not session.server.data
            item.problems += rules_ke.message_problems(item.request, response=False, cut_off=cut_off)
        if session.server.data:
            item.response = rules_ke.parse(session.server.data)
            item.problems += rules_ke.message_problems(
                item.response, response=True, request=item.request, cut_off=not session.server.ended
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

    def _ntp(self, item: NtpItem) -> None:
        packet = item.packet
        if packet.is_reply:
            self._reply(item)
        else:
            if packet.cookie is not None:
                item.opened = self._associations.open(packet.cookie)
            item.association = self._associations.of_request(packet, item.opened)
        keys = item.association.keys if item.association else None
        item.problems += rules_ntp.packet_problems(packet, keys)
        if item.request is not None:
            item.problems += rules_ntp.reply_problems(item.request.packet, packet)
        if packet.is_reply and packet.plaintext is not None:
            self._fresh_cookies(item)
        elif packet.is_request:
            self._request(item)
        self._items.append(item)

    def _request(self, item: NtpItem) -> None:
        """Cookies and identifiers must not come again (sections 5.3, 5.7), except in a copy of the same packet."""
        packet = item.packet
        if item.association is not None:
            item.association.requests += 1
        for octets, seen, problem in (
            (packet.cookie, self._spent, should("a cookie that was used before", "5.7")),
            (packet.unique_id, self._identifiers, must("a Unique Identifier that was used before", "5.3")),
        ):
            if octets is None:
                continue
            first = seen.setdefault(as_field(octets), item)
            if first is not item and first.packet.octets != packet.octets:
                where = f", in frame {first.frame}" if first.frame else ""
                item.problems.append(Problem(problem.severity, problem.text + where, problem.section))
        recent = self._recent.setdefault((item.source, item.target), [])
        recent.append(item)
        del recent[:-_RECENT]

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
                item.problems.append(info("its request is not in the capture"))
        else:
            item.request.replies += 1
            if item.request.replies > 1:
                item.problems.append(info(f"reply {item.request.replies} to the same request"))
            item.association = item.request.association
            if item.association is None:
                item.association = self._associations.by_trial(packet)
            else:
                item.association.unlock(packet)
        if item.association is not None:
            item.association.replies += 1

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


def _closing(name: str, side: Side) -> list[Problem]:
    """Both ends must send close_notify (section 4). Judged only where everything they sent could be read."""
    if side.data and side.ended and not side.closed:
        return [must(f"the {name} closes without close_notify", "4")]
    return []

# SPDX-License-Identifier: MIT
"""Reassembles TCP: out of order, retransmitted, with gaps. There are limits to everything that is kept.

It keeps only conversations that may be NTS-KE: on one of its ports, or with a ClientHello that offers ntske/1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nts.base.text import octets
from nts.check.decode import tls_messages
from nts.check.decode.capture import Endpoint, Segment

MAX_STREAM = 1 << 18  # octets in one direction: twice the longest response that our client takes
MAX_TOTAL = 1 << 26  # octets in all conversations
MAX_CONVERSATIONS = 1 << 16
MAX_PIECES = 1 << 13  # segments in one direction
_MAX_HELLO_PIECES = 1 << 10  # while we do not know what they are


@dataclass(frozen=True)
class Stream:
    """What one side sent, up to the first gap in the capture."""

    data: bytes = field(repr=False)
    missing: str = ""
    """what is missing, in words; empty: nothing"""
    ended: bool = False
    """whether its end is in the capture"""


class Half:
    """One direction of a conversation."""

    def __init__(self) -> None:
        self._start: int | None = None  # sequence number of its first octet
        self._syn = self._fin = False
        self._end = 0  # how far it reaches, by what was seen
        self._pieces: dict[int, bytes] = {}  # by distance from the start
        self._refused = 0
        self.octets = 0

    @property
    def is_long(self) -> bool:
        """Whether it is too long for a ClientHello, or has too many pieces."""
        return self.octets > tls_messages.MAX_HELLO or len(self._pieces) > _MAX_HELLO_PIECES

    def add(self, segment: Segment) -> int:
        """Take a segment; how many more octets we keep."""
        at = segment.sequence + segment.syn
        if self._start is None or (segment.syn and not self._syn):
            self._move(at)
        self._syn |= segment.syn
        assert self._start is not None
        distance = (at - self._start + 2**31) % 2**32 - 2**31
        if not -MAX_STREAM <= distance <= MAX_STREAM:
            self._refused += 1
            return 0
        self._fin |= segment.fin or segment.reset
        if segment.payload or segment.missing or segment.fin:  # an empty one may come after FIN, which counts
            self._end = max(self._end, distance + len(segment.payload) + segment.missing)
        known = self._pieces.get(distance, b"")
        more = len(segment.payload) - len(known)
        if more <= 0:
            return 0  # retransmitted
        if self.octets + more > 2 * MAX_STREAM or len(self._pieces) >= MAX_PIECES:
            self._refused += 1
            return 0
        self._pieces[distance] = segment.payload
        self.octets += more
        return more

    def _move(self, start: int) -> None:
        """Change the first octet to count from."""
        shift = 0 if self._start is None else (start - self._start + 2**31) % 2**32 - 2**31
        self._start, self._end = start, self._end - shift
        self._pieces = {at - shift: piece for at, piece in self._pieces.items()}

    def stream(self) -> Stream:
        """Everything up to the first gap or the limit."""
        data, hole = bytearray(), ""
        first = 0 if self._syn else min(self._pieces, default=0)
        for at in sorted(self._pieces):
            position, piece = at - first, self._pieces[at]
            if position > len(data):
                hole = octets(len(data), position - 1)
                break
            data += piece[len(data) - position :]
        if not hole and self._end - first > len(data):
            hole = octets(len(data), self._end - first - 1)
        if not hole and self._refused:
            hole = "segments that are far from the rest, or too long"
        return Stream(bytes(data[:MAX_STREAM]), hole, self._fin)


@dataclass
class Conversation:
    """A TCP connection."""

    frame: int
    """of its first segment"""
    time_ns: int | None
    client: Endpoint
    server: Endpoint
    halves: dict[Endpoint, Half] = field(default_factory=dict)
    wanted: bool | None = None
    """whether it is NTS-KE; None: not known yet"""
    opened: int | None = None
    """the sequence number of the client's SYN"""

    def swap(self) -> None:
        """Swap client and server."""
        self.client, self.server = self.server, self.client

    def stream(self, end: Endpoint) -> Stream:
        """What one side sent."""
        return self.halves[end].stream() if end in self.halves else Stream(b"", "all of it")


class Conversations:
    """Takes segments, and keeps those that may be NTS-KE."""

    def __init__(self, ke_ports: Iterable[int]) -> None:
        self._ports = frozenset(ke_ports)
        self._open: dict[frozenset[Endpoint], Conversation] = {}
        self._kept: list[Conversation] = []
        self._total = 0
        self._left_out = 0

    def add(self, segment: Segment) -> None:
        """Add the next segment of a capture."""
        key = frozenset((segment.source, segment.target))
        conversation = self._open.get(key)
        if conversation is None or _is_another(conversation, segment):
            conversation = self._begin(key, segment)
        if conversation is None or conversation.wanted is False:
            return
        if segment.syn:
            conversation.opened = conversation.opened if segment.ack else segment.sequence
            if (segment.target if segment.ack else segment.source) != conversation.client:
                conversation.swap()
        if self._total >= MAX_TOTAL:
            self._left_out += 1
            return
        half = conversation.halves.setdefault(segment.source, Half())
        self._total += half.add(segment)
        if conversation.wanted is None and segment.payload:
            self._decide(conversation)

    def _begin(self, key: frozenset[Endpoint], segment: Segment) -> Conversation | None:
        if len(self._open) >= MAX_CONVERSATIONS:
            self._left_out += 1
            return None
        client, server = segment.source, segment.target
        if client.port in self._ports and server.port not in self._ports:
            client, server = server, client
        conversation = Conversation(segment.frame, segment.time_ns, client, server)
        conversation.wanted = True if {client.port, server.port} & self._ports else None
        if len(self._kept) < MAX_CONVERSATIONS:
            self._kept.append(conversation)
        self._open[key] = conversation
        return conversation

    def _decide(self, conversation: Conversation) -> None:
        """Look for a ClientHello with ntske/1 at the beginning of both sides."""
        answers = {end: tls_messages.offers_ntske(half.stream().data) for end, half in conversation.halves.items()}
        yes = [end for end, answer in answers.items() if answer]
        if yes:
            conversation.wanted = True
            if yes[0] != conversation.client:
                conversation.swap()
        elif any(h.is_long for h in conversation.halves.values()) or list(answers.values()) == [False, False]:
            self._drop(conversation)

    def _drop(self, conversation: Conversation) -> None:
        conversation.wanted = False
        self._total -= sum(half.octets for half in conversation.halves.values())
        conversation.halves.clear()

    def finish(self) -> list[Conversation]:
        """The conversations that are NTS-KE, in the order they began."""
        return [c for c in self._kept if c.wanted and any(half.octets for half in c.halves.values())]

    def notes(self) -> list[str]:
        """What was left out."""
        many = f"{self._left_out} TCP segments left out: the capture is too big; filter it by the port of NTS-KE"
        return [many] if self._left_out else []


def _is_another(conversation: Conversation, segment: Segment) -> bool:
    """Whether a segment opens a new connection between the same ends."""
    if not segment.syn or segment.ack:
        return False
    return conversation.opened not in (None, segment.sequence)

# SPDX-License-Identifier: MIT
"""What is wrong with an NTS-KE message (RFC 8915 section 4), alone or as the response to a request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nts.base.errors import FormatError
from nts.base.registry import COOKIES_WANTED, ERROR_NAMES, RECORD_NAMES, Protocol, RecordType
from nts.check.decode.problems import Problem, info, must, should
from nts.codec import records
from nts.codec.records import Message, MessageReader, Record
from nts.protocol.ke_client import MAX_RESPONSE

_SECTIONS = {
    RecordType.NEXT_PROTOCOL: "4.1.2", RecordType.AEAD_ALGORITHM: "4.1.5", RecordType.ERROR: "4.1.3",
    RecordType.WARNING: "4.1.4", RecordType.SERVER: "4.1.7", RecordType.PORT: "4.1.8",
}  # fmt: skip
_ONCE = (RecordType.NEXT_PROTOCOL, RecordType.AEAD_ALGORITHM, RecordType.SERVER, RecordType.PORT)


@dataclass(frozen=True)
class Parsed:
    """A message, complete or not."""

    message: Message
    problem: str = ""
    """why it is not complete; empty: it is"""

    def of(self, kind: int) -> list[Record]:
        """The records of this type."""
        return [r for r in self.message.records if r.type == kind]

    def numbers(self, kind: int) -> list[int]:
        """All numbers in the well-formed records of this type."""
        return [n for r in self.of(kind) if len(r.body) % 2 == 0 for n in records.u16_list(r)]

    @property
    def is_response(self) -> bool:
        """Whether only a server can have sent it."""
        return bool(self.of(RecordType.NEW_COOKIE) or self.of(RecordType.ERROR) or self.of(RecordType.WARNING))


def parse(octets: bytes) -> Parsed:
    """Parse the records in `octets`, as far as possible."""
    reader = MessageReader(MAX_RESPONSE)
    try:
        message = reader.feed(octets)
    except FormatError as e:
        return Parsed(Message(reader.records), str(e))
    if message is not None:
        return Parsed(message)
    used = sum(records.HEADER_LENGTH + len(r.body) for r in reader.records)
    rest = len(octets) - used
    where = f", and its last record ends after {rest} octets" if rest else ""
    return Parsed(Message(reader.records), f"no End of Message record{where}")


def message_problems(
    parsed: Parsed, *, response: bool, request: Parsed | None = None, cut_off: bool = False
) -> list[Problem]:
    """Everything that is wrong with a message. `request` is what a response answers, if known.

    `cut_off` says that the capture may not hold all of the message.
    """
    found = list(_shape(parsed, cut_off))
    found += _response(parsed, request) if response else _request(parsed)
    return found


def _shape(parsed: Parsed, cut_off: bool) -> Iterator[Problem]:
    """The rules for both directions."""
    if parsed.problem and cut_off:
        yield info(f"{parsed.problem}, as far as it is in the capture", "4.1.1")
    elif parsed.problem:
        yield must(parsed.problem, "4.1.1")
    else:
        try:
            records.check_end_of_message(parsed.message)
        except FormatError as e:
            yield must(str(e), "4.1.1")
    for record in parsed.message.records:
        kind = record.type
        try:
            if kind in (RecordType.NEXT_PROTOCOL, RecordType.AEAD_ALGORITHM):
                records.u16_list(record)
            elif kind in (RecordType.ERROR, RecordType.WARNING, RecordType.PORT):
                records.single_u16(record)
            elif kind == RecordType.SERVER:
                records.server_name(record)
        except FormatError as e:
            yield must(f"{record.name}: {e}", _SECTIONS[RecordType(kind)])
        if kind in (RecordType.NEXT_PROTOCOL, RecordType.ERROR, RecordType.WARNING) and not record.critical:
            yield must(f"the {record.name} record is not critical", _SECTIONS[RecordType(kind)])
        if kind not in RECORD_NAMES:
            what = "critical, so a receiver must refuse it" if record.critical else "which a receiver ignores"
            yield info(f"an unknown record of type {kind}, {what}", "4")
    for single in _ONCE:
        if len(parsed.of(single)) > 1:
            yield must(f"{len(parsed.of(single))} {RECORD_NAMES[single]} records", _SECTIONS[single])


def _request(parsed: Parsed) -> Iterator[Problem]:
    for kind in (RecordType.NEXT_PROTOCOL, RecordType.AEAD_ALGORITHM):
        needed = kind == RecordType.NEXT_PROTOCOL or Protocol.NTPV4 in parsed.numbers(RecordType.NEXT_PROTOCOL)
        if needed and not parsed.of(kind) and not parsed.problem:
            yield must(f"no {RECORD_NAMES[kind]} record", _SECTIONS[kind])
        if any(not r.body for r in parsed.of(kind)):
            yield must(f"an empty {RECORD_NAMES[kind]} record: a request must offer one at least", _SECTIONS[kind])
    for kind, section in ((RecordType.ERROR, "4.1.3"), (RecordType.WARNING, "4.1.4"), (RecordType.NEW_COOKIE, "4.1.6")):
        if parsed.of(kind):
            yield must(f"a {RECORD_NAMES[kind]} record, which clients must not send", section)
    for kind in (RecordType.SERVER, RecordType.PORT):
        if any(r.critical for r in parsed.of(kind)):
            yield should(f"the {RECORD_NAMES[kind]} record of a request is critical", _SECTIONS[kind])


def _response(parsed: Parsed, request: Parsed | None) -> Iterator[Problem]:
    refused = parsed.of(RecordType.ERROR) or parsed.of(RecordType.WARNING)
    for record in parsed.of(RecordType.ERROR) + parsed.of(RecordType.WARNING):
        if len(record.body) == 2:
            code = records.single_u16(record)
            name = f" ({ERROR_NAMES.get(code, 'unknown')})" if record.type == RecordType.ERROR else ""
            yield info(f"the server refuses: {record.name} {code}{name}", _SECTIONS[RecordType(record.type)])
    if not refused and not parsed.problem:
        yield from _agreement(parsed)
    yield from _cookies(parsed, refused=bool(refused))
    port = parsed.numbers(RecordType.PORT)
    if port == [0]:
        yield must("UDP port 0", "4.1.8")
    if request is None:
        return
    for kind, what in ((RecordType.NEXT_PROTOCOL, "next protocol"), (RecordType.AEAD_ALGORITHM, "AEAD algorithm")):
        surplus = sorted(set(parsed.numbers(kind)) - set(request.numbers(kind)))
        if surplus:
            yield must(f"{what} {', '.join(map(str, surplus))}, which the request does not offer", _SECTIONS[kind])


def _agreement(parsed: Parsed) -> Iterator[Problem]:
    protocols = parsed.numbers(RecordType.NEXT_PROTOCOL)
    if not parsed.of(RecordType.NEXT_PROTOCOL):
        yield must("no NTS Next Protocol Negotiation record", "4.1.2")
    elif not protocols:
        yield info("the server speaks none of the offered protocols", "4.1.2")
    elif Protocol.NTPV4 in protocols:
        chosen = parsed.numbers(RecordType.AEAD_ALGORITHM)
        if not parsed.of(RecordType.AEAD_ALGORITHM):
            yield must("no AEAD Algorithm Negotiation record", "4.1.5")
        elif len(chosen) > 1:
            yield must(f"{len(chosen)} AEAD algorithms, where a response has at most one", "4.1.5")
        elif not chosen:
            yield info("the server speaks none of the offered AEAD algorithms", "4.1.5")


def _cookies(parsed: Parsed, *, refused: bool) -> Iterator[Problem]:
    bodies = [r.body for r in parsed.of(RecordType.NEW_COOKIE)]
    agreed = Protocol.NTPV4 in parsed.numbers(RecordType.NEXT_PROTOCOL) and parsed.numbers(RecordType.AEAD_ALGORITHM)
    if agreed and not refused and not parsed.problem:
        if not bodies:
            yield must("no cookies", "4.1.6")
        elif len(bodies) != COOKIES_WANTED:
            yield should(f"{len(bodies)} cookies instead of {COOKIES_WANTED}", "4.1.6")
    elif bodies and not parsed.problem:
        yield must(f"{len(bodies)} cookies without an agreement on NTPv4 and an algorithm", "4.1.6")
    if len(set(bodies)) < len(bodies):
        yield must("the same cookie more than once", "4.1.6")
    if any(r.critical for r in parsed.of(RecordType.NEW_COOKIE)):
        yield should("a New Cookie record that is critical", "4.1.6")
    if b"" in bodies:
        yield must("an empty cookie", "4.1.6")
    if len({len(b) for b in bodies}) > 1 or any(len(b) % 4 for b in bodies):
        yield info("cookies of several lengths, or not a multiple of four octets long: some clients refuse them", "6")

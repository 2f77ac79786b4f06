# SPDX-License-Identifier: MIT
"""Makes results safe: nothing that a peer sent reaches an output as a control code, and no secret is shown."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TypeVar, cast

from nts.base.errors import FormatError
from nts.base.registry import RecordType
from nts.base.wire import Reader
from nts.check.model import Exhibit, Protocol, Result, Span
from nts.cli import dump
from nts.codec.records import Message, Record

P = TypeVar("P")
T = TypeVar("T")
MAX_LINE = 1000  # characters; a peer may send more, but nobody would read it
MAX_LINES = 200  # of one exhibit
OFFSET = 5  # columns of a line for its offset


def printable(text: str) -> str:
    """`text` in one line, with control codes, line ends, direction marks and the like escaped."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return safe if len(safe) <= MAX_LINE else f"{safe[:MAX_LINE]}... ({len(safe) - MAX_LINE} more characters)"


def clean(result: Result[P]) -> Result[P]:
    """The same result with all its texts printable."""
    return replace(
        result,
        evidence=printable(result.evidence),
        findings=tuple(replace(f, text=printable(f.text)) for f in result.findings),
        exhibits=tuple(replace(e, text=printable(e.text)) for e in result.exhibits),
    )


def clean_facts(facts: T) -> T:
    """The same facts, or a part of them, with all texts printable."""
    if isinstance(facts, str):
        return cast(T, printable(facts))
    if isinstance(facts, tuple):
        return cast(T, tuple(map(clean_facts, facts)))
    if not is_dataclass(facts) or isinstance(facts, type):
        return facts
    return replace(facts, **{f.name: clean_facts(getattr(facts, f.name)) for f in fields(facts)})


def decoded(exhibit: Exhibit) -> list[str]:
    """An exhibit's octets field by field, with offsets, without keys and cookies. Empty if there are no octets."""
    if not exhibit.octets:
        return []
    if exhibit.protocol is Protocol.NTS_KE:
        lines = _ke_lines(exhibit.octets)
    elif exhibit.protocol is Protocol.NTP:
        lines = dump.packet_lines(exhibit.octets, secrets=False)
    else:
        lines = [f"       {len(exhibit.octets)} octets"]
    more = len(lines) - MAX_LINES
    shown = [printable(line) for line in lines[:MAX_LINES]]
    return [*shown, f"       ... {more} more lines"] if more > 0 else shown


def located(exhibit: Exhibit) -> list[tuple[Span, str]]:
    """The same with the octets that each line is about. A line without an offset belongs to the one before it."""
    lines = decoded(exhibit)
    starts = [int(line[:OFFSET]) if line[:OFFSET].strip().isdigit() else None for line in lines]
    ends = [*sorted({start for start in starts if start is not None}), len(exhibit.octets)]
    found, start = [], 0
    for line, own in zip(lines, starts, strict=True):
        start = start if own is None else own
        found.append(((start, next((end for end in ends if end > start), start)), line))
    return found


def _ke_lines(octets: bytes) -> list[str]:
    """All complete records, even after End of Message: a faulty peer may go on there."""
    reader, found, whole = Reader(octets), [], 0
    try:
        while reader.remaining:
            kind = reader.u16()
            body = reader.take(reader.u16())
            found.append(Record(kind & 0x7FFF, bool(kind & 0x8000), body))
            whole = reader.position
    except FormatError:
        pass
    lines = dump.record_lines(Message(tuple(found)), secrets=False)
    if whole < len(octets):
        rest = len(octets) - whole
        lines.append(f"{whole:5}            {rest} octets that are not a complete record")
    elif not any(r.type == RecordType.END_OF_MESSAGE for r in found):
        lines.append(f"{whole:5}            no End of Message record")
    return lines


def duration(seconds: float) -> str:
    """A duration for a person."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def section(text: str) -> str:
    """A check's section, with its document."""
    return text if not text[:1].isdigit() else f"RFC 8915 section {text}"

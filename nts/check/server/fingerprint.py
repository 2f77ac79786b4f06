# SPDX-License-Identifier: MIT
"""Which software a server seems to be, by what is known of the known ones from their sources.

Cookies are opaque to clients, but those of one key exchange begin with what they have in common, and their lengths add
up. A name needs every trait of one implementation and not every one of another. Where traits do not suffice, it also
needs an answer that only this implementation is known to give.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from nts.base.registry import ErrorCode, RecordType
from nts.check.facts import Implementation
from nts.check.findings import listed
from nts.check.ke.answer import KeAnswer
from nts.check.ke.forge import REQUEST, UNKNOWN_AEAD, Stimulus, request
from nts.check.server.probe import ServerProbe
from nts.codec.aead import Aead
from nts.codec.records import Record, encode_u16s

_SIV_256 = Aead.AES_SIV_CMAC_256
_START = (RecordType.NEXT_PROTOCOL, RecordType.AEAD_ALGORITHM)
_COOKIES, _END, _PORT, _SERVER = (
    RecordType.NEW_COOKIE, RecordType.END_OF_MESSAGE, RecordType.PORT, RecordType.SERVER,
)  # fmt: skip
CHRONY_READS = 128  # algorithms of a list: NKE_MAX_RECORD_BODY_LENGTH, in octets, is twice that


@dataclass(frozen=True)
class Seen:
    """What the facts have shown."""

    usual: KeAnswer
    """the answer to a usual request"""
    order: tuple[int, ...]
    aeads: tuple[int, ...]
    refusal: KeAnswer
    """the answer to an offer of nothing but algorithms that the server does not speak"""

    @property
    def prefix(self) -> bytes:
        """The octets that all cookies begin with."""
        columns = zip(*self.usual.cookies, strict=False)
        return bytes(column[0] for column in itertools.takewhile(lambda column: len(set(column)) == 1, columns))

    @property
    def refused(self) -> str:
        """What an offer of unknown algorithms gets: an empty list, an Error record, AEAD 15 all the same; or "" """
        chosen = [r.body for r in self.refusal.of(RecordType.AEAD_ALGORITHM)]
        if self.refusal.of(RecordType.ERROR):
            return "error"
        return "15" if chosen == [encode_u16s(_SIV_256)] else "empty" if chosen == [b""] else ""


@dataclass(frozen=True)
class Trait:
    """One difference between implementations."""

    text: str
    """what was seen, in words; `told` fills it in"""
    fits: Callable[[Seen], bool]

    def told(self, seen: Seen) -> str:
        """The evidence, with what this server has shown."""
        length, order = len(seen.usual.cookies[0]), "-".join(map(str, seen.order))
        return self.text.format(order=order, length=length, prefix=len(seen.prefix), aeads=listed(seen.aeads))


@dataclass(frozen=True)
class Known:
    """An implementation."""

    traits: tuple[Trait, ...]
    question: Stimulus | None = None
    """what to ask in the end"""
    answer: Trait | None = None
    """what it answers; `Seen.refusal` is the answer to the question"""


def _order(*orders: tuple[int, ...]) -> Trait:
    """The order of the records between the first two and the last, any of these."""
    return Trait("records in the order {order}", lambda s: s.order in [(*_START, *o, _END) for o in orders])


def _cookies(prefix: int, *lengths: int) -> Trait:
    """All of one length, and how many octets they begin with in common."""

    def fits(seen: Seen) -> bool:
        found = {len(c) for c in seen.usual.cookies}
        return len(seen.prefix) == prefix and len(found) == 1 and found <= set(lengths)

    return Trait("cookies of {length} octets, which begin with {prefix} octets in common", fits)


def _only(*aeads: int) -> Trait:
    return Trait("AEAD {aeads}", lambda s: set(s.aeads) <= set(aeads))


def _aead_record(seen: Seen) -> Record:
    return seen.usual.of(RecordType.AEAD_ALGORITHM)[0]


_EMPTY_LIST = Trait("an empty list for unknown AEADs", lambda s: s.refused == "empty")
_UNOFFERED = Trait("AEAD 15 for a client that did not offer it", lambda s: s.refused == "15")

KNOWN: dict[str, Known] = {
    "chrony": Known(
        (
            _order((_COOKIES,), (_PORT, _COOKIES), (_SERVER, _COOKIES), (_PORT, _SERVER, _COOKIES)),
            _cookies(4, 96, 100), _only(15, 30), _EMPTY_LIST,
        ),
        Stimulus(
            f"a request with {CHRONY_READS} unknown algorithms before AEAD 15",
            request(offer=[UNKNOWN_AEAD] * CHRONY_READS + [_SIV_256]),
        ),
        Trait(f"it reads {CHRONY_READS} algorithms of a longer list", lambda s: s.refused == "empty"),
    ),
    "NTPsec": Known(
        (
            _order((_COOKIES,), (_PORT, _COOKIES)), _cookies(4, 104), _only(15, 16, 17), _UNOFFERED,
            Trait("an AEAD record that is not critical", lambda s: not _aead_record(s).critical),
        ),
    ),
    "ntpd-rs": Known(
        (
            _order((_COOKIES,), (_COOKIES, _SERVER), (_COOKIES, _PORT), (_COOKIES, _SERVER, _PORT)),
            _cookies(6, 104), _only(15, 17),
            Trait(
                "octets 4 and 5 of a cookie are the length of its ciphertext",
                lambda s: {int.from_bytes(c[4:6], "big") + 22 - len(c) for c in s.usual.cookies} == {0},
            ),
        ),
    ),
    "cfnts": Known((_order((_COOKIES, _PORT)), _cookies(4, 100), _only(15), _UNOFFERED)),
    "facebook/time": Known(
        (
            _order((_COOKIES,), (_PORT, _COOKIES), (_SERVER, _COOKIES), (_SERVER, _PORT, _COOKIES)),
            _cookies(4, 100), _only(15, 17, 30),
            Trait("an Error record for unknown AEADs", lambda s: s.refused == "error"),
            Trait("cookie keys numbered from 1", lambda s: 0 < int.from_bytes(s.prefix, "big") < 1 << 16),
        ),
    ),
    "this suite": Known(
        (
            _order((_COOKIES,), (_PORT, _COOKIES), (_SERVER, _COOKIES), (_SERVER, _PORT, _COOKIES)),
            _cookies(2, 100), _only(15, 16, 17, 30), _EMPTY_LIST,
        ),
        Stimulus("the first 6 octets of a request and close_notify", REQUEST[:6], close=True),
        Trait(
            "Error 1 for a request that breaks off",
            lambda s: [r.body for r in s.refusal.of(RecordType.ERROR)] == [encode_u16s(ErrorCode.BAD_REQUEST)],
        ),
    ),
}  # fmt: skip


def likely(probe: ServerProbe, seen: Seen) -> Implementation:
    """The implementation that it seems to be, with the evidence. CheckEnded, NTSError when the server is gone."""
    fitting = [name for name, known in KNOWN.items() if all(trait.fits(seen) for trait in known.traits)]
    if len(fitting) != 1:
        return Implementation()
    (name,) = fitting
    known, evidence = KNOWN[name], [trait.told(seen) for trait in KNOWN[name].traits]
    if known.question and known.answer:
        told = Seen(seen.usual, seen.order, seen.aeads, probe.ke.ask(known.question))
        if not known.answer.fits(told):
            return Implementation()
        evidence.append(known.answer.told(told))
    return Implementation(name, tuple(evidence))

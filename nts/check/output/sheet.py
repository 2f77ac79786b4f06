# SPDX-License-Identifier: MIT
"""The fact sheet in words: a label and a text for each line, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator

from nts.check.facts import CertificateFacts, Facts, KeFacts, NtpFacts, NtsFacts
from nts.check.findings import listed
from nts.cli.results import seconds
from nts.codec.ntp import NS
from nts.system import addresses

UNKNOWN = "unknown"
_DECIDES = {"server": ", the server's first choice first", "client": ", the client's order decides", None: ""}


def lines(facts: Facts) -> list[tuple[str, str]]:
    """All lines."""
    return [*_ke(facts.ke), *_certificate(facts.certificate), *_nts(facts.nts), *_ntp(facts.ntp), *_software(facts)]


def _known(value: object) -> str:
    return UNKNOWN if value is None else str(value)


def _ke(ke: KeFacts) -> Iterator[tuple[str, str]]:
    where = addresses.format_address((ke.host, ke.port))
    yield "key exchange", where if ke.addresses in (None, (ke.host,)) else f"{where} ({listed(ke.addresses or ())})"
    strength = {True: " (post-quantum)", False: " (not post-quantum)", None: ""}[ke.post_quantum]
    yield "TLS", f"{_known(ke.tls_version)}, group {_known(ke.group)}{strength}, {_known(ke.cipher)}"


def _certificate(c: CertificateFacts) -> Iterator[tuple[str, str]]:
    if c.not_after is None or c.days_left is None:
        yield "certificate", UNKNOWN
        return
    yield "certificate", f"for {listed(c.names) if c.names else 'no name'}; subject {c.subject or 'empty'}"
    left = f"{c.days_left:g} days left" if c.days_left >= 0 else f"expired {-c.days_left:g} days ago"
    yield "valid", f"{_day(c.not_before)} to {_day(c.not_after)}, {left}"
    yield "issuer", _known(c.issuer)


def _day(moment: str | None) -> str:
    return (moment or UNKNOWN).partition("T")[0]


def _nts(nts: NtsFacts) -> Iterator[tuple[str, str]]:
    if nts.aeads is None:
        yield "AEAD", UNKNOWN
    else:
        yield "AEAD", f"{listed(nts.aeads)}{_DECIDES[nts.preference]}"
    size = f" of {nts.cookie_length} octets" if nts.cookie_length else ""
    yield "cookies", UNKNOWN if nts.cookies is None else f"{nts.cookies}{size}"
    yield "records", UNKNOWN if nts.record_order is None else f"in this order: {listed(nts.record_order)}"


def _ntp(ntp: NtpFacts) -> Iterator[tuple[str, str]]:
    served = {True: "answered", False: "not answered", None: UNKNOWN}
    where = UNKNOWN if ntp.address is None or ntp.port is None else addresses.format_address((ntp.address, ntp.port))
    yield "time server", f"{where}, UDP; without NTS: {', '.join(f'NTPv{v} {served[s]}' for v, s in ntp.plain.items())}"
    distance = UNKNOWN if ntp.root_distance_s is None else _seconds(ntp.root_distance_s)
    yield "clock", f"stratum {_known(ntp.stratum)}, reference id {_known(ntp.refid)}, root distance {distance}"
    if ntp.offset_s is None or ntp.offset_bound_s is None:
        yield "offset", UNKNOWN
    else:
        yield "offset", f"{_seconds(ntp.offset_s, sign=True)} from our clock, +/- {_seconds(ntp.offset_bound_s)}"
    yield "processing", UNKNOWN if ntp.processing_s is None else _seconds(ntp.processing_s)


def _seconds(value: float, *, sign: bool = False) -> str:
    return seconds(round(value * NS), sign=sign)


def _software(facts: Facts) -> Iterator[tuple[str, str]]:
    found = facts.implementation
    evidence = f": {'; '.join(found.evidence)}" if found.evidence else ""
    yield "software", f"{f'probably {found.name}' if found.name else UNKNOWN}{evidence}"

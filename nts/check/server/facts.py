# SPDX-License-Identifier: MIT
"""Gathers the fact sheet: from the first contact, a connection for each AEAD algorithm and one or two more, and a few
NTP packets. Whatever cannot be found out stays None; nothing here is judged.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from nts.base.errors import NTSError
from nts.base.registry import RecordType
from nts.check.facts import CertificateFacts, Facts, Implementation, KeFacts, NtpFacts, NtsFacts
from nts.check.findings import listed
from nts.check.ke.answer import KeAnswer
from nts.check.ke.forge import Stimulus, request
from nts.check.ke.probe import Fetched, fetched
from nts.check.model import CheckEnded
from nts.check.ntp import judge
from nts.check.ntp.answer import Kind
from nts.check.ntp.forge import Forge
from nts.check.server import fingerprint
from nts.check.server.fingerprint import Seen
from nts.check.server.ke_negotiation import MENU
from nts.check.server.probe import ServerProbe
from nts.cli.dump import reference_id
from nts.cli.results import utc
from nts.client import ts_session
from nts.codec import ntp, records
from nts.codec.aead import Aead
from nts.codec.ntp import NS
from nts.protocol import ts_client
from nts.system import addresses, certs, tls, tls_probe

TRIES = 3  # NTP requests, since packets get lost
DAY = 86400  # seconds
_SIV_256 = Aead.AES_SIV_CMAC_256
T = TypeVar("T")


def gather(probe: ServerProbe, first: KeAnswer) -> Facts:
    """The facts, given the answer to the first contact."""
    menu = _known(partial(read_menu, probe)) or Menu()
    ntp_facts = _known(partial(_ntp_facts, probe, first)) if first.cookies else None
    nts_facts = _nts_facts(first, menu)
    return Facts(
        _ke_facts(probe, first),
        _known(partial(_certificate_facts, first)) or CertificateFacts(),
        nts_facts,
        ntp_facts or NtpFacts(),
        _known(partial(_software, probe, first, menu, nts_facts)) or Implementation(),
    )


def _software(probe: ServerProbe, first: KeAnswer, menu: Menu, nts: NtsFacts) -> Implementation:
    if not first.cookies or menu.refusal is None:
        return Implementation()
    return fingerprint.likely(probe, Seen(first, nts.record_order or (), menu.aeads or (), menu.refusal))


def _known(find: Callable[[], T]) -> T | None:
    """What is found; None if the server or the network stands in the way."""
    try:
        return find()
    except (NTSError, CheckEnded, OSError, ValueError):
        return None


def _ke_facts(probe: ServerProbe, first: KeAnswer) -> KeFacts:
    host, port, family = probe.target.host, probe.target.port, probe.target.family
    found = _known(lambda: addresses.resolve(host, port, socket.SOCK_STREAM, family))
    names = tuple(dict.fromkeys(addresses.numeric_host(e.address) for e in found)) if found else None
    group = first.group or None
    return KeFacts(
        host, port, names, first.tls_version or None, group, tls.is_post_quantum(group) if group else None,
        first.cipher or None,
    )  # fmt: skip


def _certificate_facts(first: KeAnswer) -> CertificateFacts:
    """ValueError when a name in it is malformed."""
    certificate = first.certificate
    if certificate is None:
        return CertificateFacts()
    end = certificate.not_valid_after_utc
    return CertificateFacts(
        certificate.subject.rfc4514_string(),
        tuple(dict.fromkeys(certs.names(certificate))),
        tls_probe.issuer(certificate),
        _moment(certificate.not_valid_before_utc),
        _moment(end),
        round((end - certs.now()).total_seconds() / DAY, 1),
    )


def _moment(when: datetime) -> str:
    return utc(int(when.timestamp()) * NS)


def _nts_facts(first: KeAnswer, menu: Menu) -> NtsFacts:
    lengths = {len(c) for c in first.cookies}
    order = tuple(kind for kind, _ in itertools.groupby(r.type for r in first.message.records)) if first.message else ()
    return NtsFacts(
        menu.aeads, menu.preference, len(first.cookies) if first.message else None,
        lengths.pop() if len(lengths) == 1 else None, order or None,
    )  # fmt: skip


# --- which algorithms ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Menu:
    """The AEAD algorithms that a server speaks, and who decides between them."""

    aeads: tuple[int, ...] | None = None
    preference: str | None = None
    refusal: KeAnswer | None = None
    """the answer to an offer of none of them"""


def read_menu(probe: ServerProbe) -> Menu:
    """Offer all algorithms, highest number first, then all but the chosen one, and so on until none is chosen.

    A server that follows the client's order has taken them in that order; the reverse one tells. CheckEnded, NTSError.
    """
    left, found = sorted(MENU, reverse=True), list[int]()
    while True:
        answer = _offer(probe, left)
        chosen = _chosen(answer)
        if chosen not in left:
            break
        found.append(chosen)
        left.remove(chosen)
    if len(found) < 2:
        return Menu(tuple(found) or None, None, answer)
    follows = found == sorted(found, reverse=True) and _chosen(_offer(probe, sorted(found))) == min(found)
    return Menu(tuple(sorted(found) if follows else found), "client" if follows else "server", answer)


def _offer(probe: ServerProbe, aeads: list[int]) -> KeAnswer:
    return probe.ke.ask(Stimulus(f"a request with AEAD {listed(aeads)}", request(offer=aeads)))


def _chosen(answer: KeAnswer) -> int | None:
    """The algorithm that a response with cookies names. FormatError when that is malformed."""
    found = answer.of(RecordType.AEAD_ALGORITHM) if answer.cookies else []
    return records.single_u16(found[0]) if found else None


# --- the time server -------------------------------------------------------------------------------------------------


def _ntp_facts(probe: ServerProbe, first: KeAnswer) -> NtpFacts:
    """FormatError, ResolveError, Skipped when there is no place to send requests to."""
    ticket = fetched(first, _SIV_256)
    endpoint = probe.ntp.use(ticket)
    attempt = _measured(probe, ticket, endpoint)
    values: dict[str, Any] = {}
    judgement = next((j for _, j in attempt.datagrams if j.header and attempt.is_authentic), None)
    if judgement and judgement.header:
        header = judgement.header
        root = ntp.short_to_ns(header.root_delay) // 2 + ntp.short_to_ns(header.root_dispersion)
        values = {
            "stratum": header.stratum, "refid": reference_id(header), "root_distance_s": root / NS,
            "processing_s": judge.later(header.transmit, header.receive) / NS,
        }  # fmt: skip
    if attempt.answer:
        measurement = attempt.answer.measurement
        values |= {"offset_s": measurement.offset / NS, "offset_bound_s": measurement.error / NS}
    plain = {str(v): _known(partial(_serves_plain, probe, v)) for v in (ntp.VERSION - 1, ntp.VERSION)}
    return NtpFacts(addresses.numeric_host(endpoint.address), ticket.port, **values, plain=plain)


def _measured(probe: ServerProbe, ticket: Fetched, endpoint: addresses.Endpoint) -> ts_session.Attempt:
    """The time client's query, which measures as well as the kernel can. Repeated when nothing comes."""
    for left, cookie in zip(reversed(range(TRIES)), ticket.cookies, strict=False):
        attempt = ts_session.Attempt(endpoint, ts_client.build_query(ticket.keys, cookie, 0, os.urandom))
        probe.ntp.pace.wait(endpoint)
        ts_session.query(attempt, probe.ntp.patience(longer=not left))
        if attempt.datagrams:
            break
    return attempt


def _serves_plain(probe: ServerProbe, version: int) -> bool:
    """Whether a request without NTS gets the time. PathTrouble, Skipped when silence proves nothing."""
    answer = probe.ntp.ask(partial(Forge.plain, label=f"NTPv{version}", version=version))
    return answer.kind is Kind.PLAIN

# SPDX-License-Identifier: MIT
"""Checks of how a server refuses bad NTS-KE requests (RFC 8915 section 4.1.3)."""

from __future__ import annotations

from collections.abc import Iterator

from nts.base.registry import ErrorCode, Protocol, RecordType
from nts.check.findings import labelled, listed, together
from nts.check.ke import judge
from nts.check.ke.answer import End
from nts.check.ke.forge import AEAD_15, END, NTPV4, REQUEST, UNKNOWN_TYPE, Stimulus, aeads, protocols, record, request
from nts.check.model import Finding, Group, Severity
from nts.check.server.probe import ServerProbe
from nts.codec import records
from nts.codec.aead import Aead

group: Group[ServerProbe] = Group("NTS-KE errors")
_ERROR_1 = "Error 1 (Bad Request)."
CUTS = (2, 4, 6, 10, 12, 14)  # octets: within a header, a body, the end, and between them
_INCOMPLETE = "A server answers an incomplete or malformed request with Error 1."


def _each(probe: ServerProbe, stimuli: dict[str, bytes], *, patient: bool = False) -> Iterator[Finding]:
    """Each of these requests, by what is wrong with it, must get Error 1.

    `patient` if a server may wait for more, as long as for a silent client.
    """
    wait = probe.target.silence if patient else None

    def judged(label: str, octets: bytes) -> tuple[str, Finding]:
        answer = probe.ke.ask(Stimulus(f"a request with {label}", octets, wait=wait))
        return label, judge.error(answer, patient=patient)

    yield from together(judged(*stimulus) for stimulus in stimuli.items())


@group.check(
    14, "ke-crit-unknown", section="4.1.3", severity=Severity.MUST, ref="A13 A20",
    sends="A request with a critical record of the unknown type 0x3FFF.",
    expects="Error 0 (Unrecognized Critical Record).",
    rule="A server answers a critical record that it does not know with Error 0.",
)  # fmt: skip
def ke_crit_unknown(probe: ServerProbe) -> Iterator[Finding]:
    answer = probe.ke.ask(Stimulus("a request with an unknown critical record", request(record(UNKNOWN_TYPE))))
    yield judge.error(answer, ErrorCode.UNRECOGNIZED_CRITICAL_RECORD)


group.check(
    15, "ke-no-npn", section="4.1.2", severity=Severity.MUST, ref="A09 A21",
    sends="A request without a Next Protocol record.", expects=_ERROR_1,
    rule="A request holds exactly one Next Protocol record.",
)(lambda p: [judge.error(p.ke.ask(Stimulus("a request without a Next Protocol record", AEAD_15 + END)))])  # fmt: skip
group.check(
    16, "ke-no-aead", section="4.1.5", severity=Severity.MUST, ref="A21 A25",
    sends="A request for NTPv4 without an AEAD record.", expects=_ERROR_1,
    rule="A request for NTPv4 holds exactly one AEAD record.",
)(lambda p: [judge.error(p.ke.ask(Stimulus("a request without an AEAD record", NTPV4 + END)))])  # fmt: skip
group.check(
    17, "ke-dup-npn", section="4.1.2", severity=Severity.MUST, ref="A09 A21",
    sends="A request with two Next Protocol records.", expects=_ERROR_1,
    rule="A request holds exactly one Next Protocol record.",
)(lambda p: [judge.error(p.ke.ask(Stimulus("a request with two Next Protocol records", NTPV4 + REQUEST)))])  # fmt: skip
group.check(
    18, "ke-dup-aead", section="4.1.5", severity=Severity.MUST, ref="A21 A25",
    sends="A request with two AEAD records.", expects=_ERROR_1,
    rule="A request for NTPv4 holds exactly one AEAD record.",
)(lambda p: [judge.error(p.ke.ask(Stimulus("a request with two AEAD records", request(AEAD_15))))])  # fmt: skip


@group.check(
    19, "ke-npn-malformed", section="4.1.2", severity=Severity.MUST, ref="A15 A21",
    sends="Three requests, whose Next Protocol record has a body of three octets, is empty, is not critical.",
    expects="Error 1 (Bad Request) to each.",
    rule="The record is critical and lists one or more protocols of two octets each.",
)  # fmt: skip
def ke_npn_malformed(probe: ServerProbe) -> Iterator[Finding]:
    odd = record(RecordType.NEXT_PROTOCOL, records.encode_u16s(Protocol.NTPV4) + b"\0")
    first = {
        "a Next Protocol record of odd length": odd,
        "an empty Next Protocol record": protocols(),
        "a Next Protocol record that is not critical": protocols(Protocol.NTPV4, critical=False),
    }
    yield from _each(probe, {label: octets + AEAD_15 + END for label, octets in first.items()})


@group.check(
    20, "ke-aead-malformed", section="4.1.5", severity=Severity.MUST, ref="A21 A25",
    sends="Two requests, whose AEAD record has a body of three octets, is empty.",
    expects="Error 1 (Bad Request) to each.",
    rule="The record lists one or more algorithms of two octets each.",
)  # fmt: skip
def ke_aead_malformed(probe: ServerProbe) -> Iterator[Finding]:
    odd = record(RecordType.AEAD_ALGORITHM, records.encode_u16s(Aead.AES_SIV_CMAC_256) + b"\0")
    second = {"an AEAD record of odd length": odd, "an empty AEAD record": aeads()}
    yield from _each(probe, {label: NTPV4 + octets + END for label, octets in second.items()})


@group.check(
    21, "ke-eom-malformed", section="4.1.1", severity=Severity.MUST, ref="A14 A21",
    sends="Three requests, whose End of Message is not critical, has a body, is followed by another record; a good one,"
    " and after it a record in a TLS record of its own.",
    expects="Error 1 (Bad Request) to each of the three. The last may be answered either way: the RFC leaves it open.",
    rule="End of Message is critical, empty and the last record.",
)  # fmt: skip
def ke_eom_malformed(probe: ServerProbe) -> Iterator[Finding]:
    ends = {
        "an End of Message that is not critical": record(RecordType.END_OF_MESSAGE, critical=False),
        "an End of Message with a body": record(RecordType.END_OF_MESSAGE, b"body"),
        "a record after the End of Message": END + record(UNKNOWN_TYPE, critical=False),
    }
    # A server that does not see the end may wait for it.
    yield from _each(probe, {label: NTPV4 + AEAD_15 + octets for label, octets in ends.items()}, patient=True)
    more = record(UNKNOWN_TYPE, critical=False)
    late = Stimulus("a request, and a record in another TLS record", REQUEST + more, record_size=len(REQUEST))
    yield labelled("a record after it, in another TLS record", judge.after_the_end(probe.ke.ask(late)))


@group.check(
    22, "ke-truncated", section="4.1.3", severity=Severity.MUST, ref="A21",
    sends=f"Requests of {len(REQUEST)} octets that break off after {listed(CUTS)}, then close_notify.",
    expects="Error 1 (Bad Request) to each.",
    rule=_INCOMPLETE,
)  # fmt: skip
def ke_truncated(probe: ServerProbe) -> Iterator[Finding]:
    yield from together(_cut_short(probe))


def _cut_short(probe: ServerProbe) -> Iterator[tuple[str, Finding]]:
    wait = probe.target.silence
    for cut in CUTS:
        what = f"the first {cut} octets of a request and close_notify"
        answer = probe.ke.ask(Stimulus(what, REQUEST[:cut], close=True, wait=wait))
        yield f"{cut} octets", judge.error(answer, patient=True)
        if answer.end is End.OPEN:
            wait = probe.target.timeout  # cookies come at once or not at all


group.check(
    23, "ke-silence", section="4.1.3", severity=Severity.MUST, ref="A21",
    sends="Nothing, after the TLS handshake.",
    expects="Within 60 seconds, Error 1 (Bad Request), and then the server closes without waiting for us. A warning if"
    " it waits longer, since the RFC leaves the time open, or closes without Error 1.",
    rule="A server whose time-out expires before the request is complete answers with Error 1.",
)(lambda p: [judge.gave_up(p.ke.ask(Stimulus("nothing", b"", wait=p.target.silence, patient=True)))])  # fmt: skip


@group.check(
    24, "ke-client-forbidden", section="4.1.3", severity=Severity.MUST, ref="A18",
    sends="Three requests: with an Error, a Warning, a New Cookie record.",
    expects="Error 1 (Bad Request) to each.",
    rule="Clients must not send these records (sections 4.1.3, 4.1.4, 4.1.6). A request with one is malformed.",
)  # fmt: skip
def ke_client_forbidden(probe: ServerProbe) -> Iterator[Finding]:
    code = records.encode_u16s(ErrorCode.BAD_REQUEST)
    forbidden = {
        "an Error record": record(RecordType.ERROR, code),
        "a Warning record": record(RecordType.WARNING, code),
        "a New Cookie record": record(RecordType.NEW_COOKIE, bytes(100), critical=False),
    }
    yield from _each(probe, {label: request(octets) for label, octets in forbidden.items()})

# SPDX-License-Identifier: MIT
"""C14 to C18, C21 and C25: what a client must refuse, and what it need not (RFC 8915 sections 3 and 4)."""

from __future__ import annotations

from collections.abc import Iterator

from nts.check.client import judge
from nts.check.client.probe import ClientProbe
from nts.check.model import Finding, Group, Severity, failed, passed, skipped
from nts.check.peer.faults import find
from nts.check.peer.faults.exchange import DRIP_SECONDS

GROUP: Group[ClientProbe] = Group("Key exchange")

MAX_TAKEN = 1 << 25  # octets of an endless response, most of them in socket buffers
MAX_SECONDS = 30.0  # for a client to give up on an endless response

_ABORT = "The client aborts, sends no time request, and does not reconnect at once."

GROUP.check(
    "C14", "ke-error-warning", section="4.1.3", severity=Severity.MUST, ref="A19 A24",
    sends="Error 0, 1, 2 and an unknown one; Error 2 and Warning 0 inside a valid response.", expects=_ABORT,
    rule="Any Error and any unknown Warning ends the key exchange, and its keys must not be used.",
)(lambda p: judge.meet(
    p, "error-0", "error-1", "error-2", "error-unknown", "error-in-good-response", "warning",
))  # fmt: skip
GROUP.check(
    "C15", "ke-unknown-record", section="4", severity=Severity.MUST, ref="A13",
    sends="An unknown record that is critical, and one that is not.",
    expects="The first ends the key exchange; the client ignores the second.",
    rule="A client ignores unknown records, unless their Critical bit is set: then they are an error.",
)(lambda p: judge.meet(p, "unknown-critical", "unknown-noncritical"))  # fmt: skip
GROUP.check(
    "C16", "ke-malformed", section="4.1.1", severity=Severity.MUST, ref="A14",
    sends="No End of Message; one that is not critical; one with a body; data after it, in the same TLS record and in a"
    " second one; two Next Protocol records; none; two AEAD records.",
    expects=f"{_ABORT} Of a second TLS record it may take no notice: the RFC leaves that open.",
    rule="A response holds each negotiation record exactly once and ends with one End of Message, critical and empty.",
)(lambda p: judge.meet(
    p, "missing-eom", "noncritical-eom", "eom-with-body", "data-after-eom", "data-after-eom-later",
    "duplicate-record", "missing-next-protocol", "duplicate-aead",
))  # fmt: skip
GROUP.check(
    "C17", "ke-negotiation", section="4.1.5", severity=Severity.CRIT, ref="A17 A28",
    sends="No algorithm; one that was not offered; two; no protocol; one that was not offered.", expects=_ABORT,
    rule="Only a protocol that the client offered may be used, with exactly one of the algorithms it offered.",
)(lambda p: judge.meet(
    p, "no-aead", "unoffered-aead", "two-aeads", "no-protocol", "unoffered-protocol",
))  # fmt: skip


@GROUP.check(
    "C18", "ke-delivery", section="4", severity=Severity.SHOULD, ref="A08 A11",
    sends=f"A response of 65536 octets; one in TLS records of one octet; one that takes {DRIP_SECONDS:g} seconds; one"
    " without end.",
    expects="The first two succeed. The third succeeds or the client gives up. The client reads little of the fourth.",
    rule="How a message is cut up does not matter. Clients should accept 65536 octets and must limit what they read.",
)  # fmt: skip
def ke_delivery(probe: ClientProbe) -> Iterator[Finding]:
    yield from judge.meet(probe, "oversize-response", "one-octet-records")
    yield from _drip(probe)
    with probe.scene(find("endless-response")) as scene:
        seen = scene.meet(until=lambda s: s.settled, seconds=MAX_SECONDS)
    yield from judge.careful(seen)
    yield judge.aborted(seen)
    taken = max((s.sent for s in seen.sessions), default=0)
    text = f"{seen.what}: {taken} octets read or buffered"
    yield failed(text) if taken > MAX_TAKEN else passed(text)


def _drip(probe: ClientProbe) -> Iterator[Finding]:
    with probe.scene(find("slow-drip")) as scene:
        seen = scene.meet(until=lambda s: bool(s.accepted) or s.settled, seconds=DRIP_SECONDS + 15)
    yield from judge.careful(seen)
    if not seen.sessions:
        yield skipped(f"{seen.what}: the client never came")
        return
    first = seen.sessions[0]
    if first.finished is None:
        yield failed(f"{seen.what}: the client is still waiting after {seen.seconds:.0f} s")
    elif seen.accepted or (seen.accepted is None and seen.nts_requests):
        yield passed(f"{seen.what}: waits until the end and succeeds")
    elif seen.nts_requests:
        yield failed(f"{seen.what}: goes on without a complete response")
    else:
        yield passed(f"{seen.what}: gives up after {first.finished - first.started:.0f} s")


GROUP.check(
    "C21", "ke-handshake", section="3", severity=Severity.CRIT, ref="A01 A02 A03 A04",
    sends="Only TLS 1.2; no ALPN; certificates for another name, with the name only as common name, expired, not yet"
    " valid, self-signed.",
    expects="The client aborts before it has sent a single octet of NTS-KE. It may take the common name: RFC 6125,"
    " cited by the RFC, allows that as a last resort.",
    rule="Before any record comes TLS 1.3 or newer, ntske/1, and a certificate that is valid for the server's name.",
)(lambda p: judge.meet(
    p, "tls12-only", "no-alpn", "alpn-refused", "wrong-name-certificate", "common-name-certificate",
    "expired-certificate", "future-certificate", "self-signed",
))  # fmt: skip
GROUP.check(
    "C25", "ke-no-close-notify", section="4", severity=Severity.INFO, ref="A07",
    sends="A sound response, and then the end of the TCP connection without a close_notify alert.",
    expects="The client uses the response.",
    rule="A server sends close_notify. But End of Message, which TLS protects, says already that nothing is missing.",
)(lambda p: judge.meet(p, "no-close-notify"))  # fmt: skip

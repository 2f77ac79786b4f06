# SPDX-License-Identifier: MIT
"""Checks of TLS under NTS-KE: version, ALPN, certificate (RFC 8915 sections 3 and 4)."""

from __future__ import annotations

from collections.abc import Iterator

from nts.base.errors import CertificateError
from nts.base.registry import ALPN
from nts.check.ke import judge
from nts.check.ke.forge import H2, TLS_1_2, Stimulus
from nts.check.model import Finding, Group, Severity, Skipped, failed, passed
from nts.check.server.probe import ServerProbe

group: Group[ServerProbe] = Group("TLS")


@group.check(
    1, "tls13-only", section="3", severity=Severity.CRIT, ref="A01",
    sends="A ClientHello that offers TLS 1.2 and older, but not TLS 1.3.",
    expects="A TLS alert or the end of the connection, and no handshake.",
    rule="NTS-KE runs over TLS 1.3 or newer. Older versions must not be negotiated.",
)  # fmt: skip
def tls13_only(probe: ServerProbe) -> Iterator[Finding]:
    probe.ke.ask(Stimulus("a request, to see that TLS 1.3 works"))
    yield judge.old_tls_refused(probe.ke.ask(Stimulus(newest=TLS_1_2)))


group.check(
    2, "alpn-select", section="4", severity=Severity.MUST, ref="A03",
    sends="A TLS handshake that offers the protocols h2 and ntske/1, in this order.",
    expects="The server selects ntske/1.",
    rule="Client and server agree on the application protocol ntske/1 by ALPN.",
)(lambda p: [judge.alpn_selected(p.ke.ask(Stimulus(alpn=(H2, ALPN))))])  # fmt: skip
group.check(
    3, "alpn-absent", section="4", severity=Severity.MUST, ref="A03",
    sends="A usual request as control; then a TLS handshake without ALPN, and a valid request if it succeeds.",
    expects="No cookies: the server refuses the handshake or closes the connection. A warning if the connection is"
    " still open after 60 seconds, which the RFC does not forbid.",
    rule="ALPN is mandatory. Without ntske/1 the two sides do not speak NTS-KE.",
)(lambda p: [_without_ntske(p, ())])  # fmt: skip
group.check(
    4, "alpn-wrong", section="4", severity=Severity.MUST, ref="A03",
    sends="A usual request as control; then a TLS handshake that offers only h2, and a valid request if it succeeds.",
    expects="No cookies: alert no_application_protocol (RFC 7301), or the server closes the connection. A warning if"
    " the connection is still open after 60 seconds, which the RFC does not forbid.",
    rule="ALPN is mandatory. Without ntske/1 the two sides do not speak NTS-KE.",
)(lambda p: [_without_ntske(p, (H2,))])  # fmt: skip


def _without_ntske(probe: ServerProbe, alpn: tuple[bytes, ...]) -> Finding:
    """Judge such a handshake. Skipped if a usual request gets no cookies either, since then it proves nothing."""
    usual = probe.ke.ask(Stimulus("control: a usual request"))
    if not usual.cookies:
        raise Skipped(f"could not be judged: a usual request gets no cookies either ({usual})")
    return judge.nothing_given(probe.ke.ask(Stimulus(alpn=alpn, wait=probe.target.silence, patient=True)))


@group.check(
    5, "cert-chain", section="3", severity=Severity.CRIT, ref="A04",
    sends="A TLS handshake that verifies the certificate as a client does.",
    expects="A valid chain to a trusted CA, for the server's name or address, and valid today.",
    rule="Clients must verify the certificate's path and the server's identity in it, and refuse all others.",
)  # fmt: skip
def cert_chain(probe: ServerProbe) -> Iterator[Finding]:
    try:
        certificate = probe.ke.verify()
    except CertificateError as e:
        yield failed(str(e))
    else:
        yield passed(f"valid for {probe.ke.name}, until {certificate.not_valid_after_utc:%Y-%m-%d}")

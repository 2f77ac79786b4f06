# SPDX-License-Identifier: MIT
"""Checks of TLS under NTS-KE: version, ALPN, certificate (RFC 8915 sections 3 and 4)."""

from __future__ import annotations

import time
from collections.abc import Iterator

from nts.base.errors import CertificateError
from nts.base.registry import ALPN
from nts.check import judge_ke
from nts.check.ke_forge import REQUEST
from nts.check.ke_probe import H2, TLS_1_2
from nts.check.model import Direction, Finding, Group, Severity, Skipped, failed, passed
from nts.check.probe import ServerProbe
from nts.system import tls

group: Group[ServerProbe] = Group("TLS")


@group.check(
    1, "tls13-only", section="3", severity=Severity.CRIT, ref="A01",
    sends="A ClientHello that offers TLS 1.2 and older, and no TLS 1.3.",
    expects="A TLS alert, or the end of the connection; no handshake.",
    rule="NTS-KE runs over TLS 1.3 or newer; older versions must not be negotiated.",
)  # fmt: skip
def tls13_only(probe: ServerProbe) -> Iterator[Finding]:
    probe.ke.ask(REQUEST, what="a request, to see that TLS 1.3 works")
    yield judge_ke.old_tls_refused(probe.ke.ask(REQUEST, newest=TLS_1_2))


@group.check(
    2, "alpn-select", section="4", severity=Severity.MUST, ref="A03",
    sends="A TLS handshake that offers the protocols h2 and ntske/1, in this order.",
    expects="The server selects ntske/1.",
    rule="Client and server agree on the application protocol ntske/1 by ALPN.",
)  # fmt: skip
def alpn_select(probe: ServerProbe) -> Iterator[Finding]:
    yield judge_ke.alpn_selected(probe.ke.ask(REQUEST, alpn=(H2, ALPN)))


@group.check(
    3, "alpn-absent", section="4", severity=Severity.MUST, ref="A03",
    sends="A usual request, as control; then a TLS handshake without ALPN, and a good request if it succeeds.",
    expects="No cookies: the handshake is refused, or the connection is closed. A warning if it is still open after 60"
    " seconds, which the RFC does not forbid.",
    rule="ALPN is mandatory; without ntske/1 the two sides do not speak NTS-KE.",
)  # fmt: skip
def alpn_absent(probe: ServerProbe) -> Iterator[Finding]:
    yield _without_ntske(probe, ())


@group.check(
    4, "alpn-wrong", section="4", severity=Severity.MUST, ref="A03",
    sends="A usual request, as control; then a TLS handshake that offers h2 alone, and a good request if it succeeds.",
    expects="No cookies: alert no_application_protocol (RFC 7301), or the connection is closed. A warning if it is"
    " still open after 60 seconds, which the RFC does not forbid.",
    rule="ALPN is mandatory; without ntske/1 the two sides do not speak NTS-KE.",
)  # fmt: skip
def alpn_wrong(probe: ServerProbe) -> Iterator[Finding]:
    yield _without_ntske(probe, (H2,))


def _without_ntske(probe: ServerProbe, alpn: tuple[bytes, ...]) -> Finding:
    """What comes of such a handshake. Skipped when a usual request gets no cookies either: then that proves nothing."""
    usual = probe.ke.ask(REQUEST, what="control: a usual request")
    if not usual.cookies:
        raise Skipped(f"could not be judged: a usual request gets no cookies either ({judge_ke.seen(usual)})")
    return judge_ke.nothing_given(probe.ke.ask(REQUEST, alpn=alpn, wait=probe.target.silence, patient=True))


@group.check(
    5, "cert-chain", section="3", severity=Severity.CRIT, ref="A04",
    sends="A TLS handshake that verifies the certificate as a client does.",
    expects="A valid chain to a trusted CA, for the server's name or address, within its dates.",
    rule="Clients must check the certificate's path and the server's identity in it, and refuse all others.",
)  # fmt: skip
def cert_chain(probe: ServerProbe) -> Iterator[Finding]:
    target = probe.target
    channel = tls.ClientChannel(name=probe.ke.name, verify=True, ca=target.ca, keylog=None)
    probe.ke_pace.wait()
    deadline = time.monotonic() + target.timeout
    with probe.ke.connect(deadline) as sock:
        probe.record.add(Direction.SENT, "a TLS handshake that verifies the certificate")
        channel.open(sock, deadline)
        try:
            channel.handshake()
        except CertificateError as e:
            yield failed(str(e))
            return
        certificate = channel.connection.get_peer_certificate(as_cryptography=True)
        channel.finish(0)
    assert certificate is not None  # or it would not have been verified
    yield passed(f"valid for {probe.ke.name}, until {certificate.not_valid_after_utc:%Y-%m-%d}")

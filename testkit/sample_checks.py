# SPDX-License-Identifier: MIT
"""Made-up checks and their results, of every verdict, for the tests of how nts_check shows results."""

from __future__ import annotations

import json
from collections.abc import Iterator

from nts.base.registry import FieldType, RecordType
from nts.check.context import Target
from nts.check.facts import CertificateFacts, Facts, Implementation, KeFacts, NtpFacts, NtsFacts
from nts.check.model import (
    Check,
    Direction,
    Finding,
    Grade,
    Group,
    PathTrouble,
    Protocol,
    Result,
    Severity,
    Skipped,
    failed,
    passed,
    warned,
)
from nts.check.output.render import Options, Reporter
from nts.check.runner import run
from nts.check.server.probe import ServerProbe
from nts.codec import extensions, records
from nts.codec.ntp import Header
from nts.codec.records import encode_u16s
from testkit.processes import ROOT

SCHEMA = json.loads((ROOT / "docs/nts_check.schema.json").read_text())
COOKIE = bytes(range(64, 164))
HOSTILE = "\x1b[31m\x1b]0;owned\x07<script>alert('x')</script>\r\n\u202e]]>&amp;\ud800\x00 [bold]x[/bold] $name"

tls: Group[ServerProbe] = Group("TLS and ALPN")
ke: Group[ServerProbe] = Group("NTS-KE messages")
ntp: Group[ServerProbe] = Group("NTP packets")

RESPONSE = records.encode_message([
    records.Record(RecordType.NEXT_PROTOCOL, True, encode_u16s(0)),
    records.Record(RecordType.AEAD_ALGORITHM, True, encode_u16s(15)),
    *[records.Record(RecordType.NEW_COOKIE, False, COOKIE)] * 8,
])  # fmt: skip


def request(*aeads: int) -> bytes:
    """A key exchange request that offers these algorithms."""
    offer = records.Record(RecordType.AEAD_ALGORITHM, True, encode_u16s(*aeads))
    return records.encode_message([records.Record(RecordType.NEXT_PROTOCOL, True, encode_u16s(0)), offer])


def packet() -> bytes:
    """An NTP request with a cookie."""
    header = Header(version=4, mode=3, transmit=0x0123456789ABCDEF).encode()
    fields = [(FieldType.UNIQUE_IDENTIFIER, bytes(range(32))), (FieldType.COOKIE, COOKIE)]
    sealed = extensions.encode_authenticator(bytes(16), bytes(16))
    fields.append((FieldType.AUTHENTICATOR, sealed))
    return header + b"".join(extensions.encode(kind, body) for kind, body in fields)


@tls.check(1, "tls13-only", section="3", severity=Severity.CRIT, ref="A01", sends="a ClientHello of at most TLS 1.2",
           expects="the handshake is refused", rule="TLS 1.3 or later must be used; older ones are out.")  # fmt: skip
def tls13_only(probe: ServerProbe) -> Iterator[Finding]:
    probe.transcript.add(Direction.SENT, "a ClientHello with TLS 1.0 to 1.2")
    probe.transcript.add(Direction.NOTE, "alert protocol_version")
    yield passed("refused with the alert protocol_version")


@tls.check(3, "alpn-absent", section="4", severity=Severity.MUST, ref="A03", sends="a handshake without ALPN",
           expects="no cookies come", rule="ALPN is required, and the protocol is ntske/1.")  # fmt: skip
def alpn_absent(probe: ServerProbe) -> Iterator[Finding]:
    probe.transcript.add(Direction.SENT, "a good request, after a handshake without ALPN", Protocol.NTS_KE, request(15))
    probe.transcript.add(Direction.RECEIVED, "a response", Protocol.NTS_KE, RESPONSE)
    yield failed("served 8 cookies to a client that did not offer ALPN at all")


@ke.check(14, "ke-crit-unknown", section="4.1.3", severity=Severity.MUST, ref="A20",
          sends="a request with the unknown critical record 0x3FFF", expects="Error 0, and no cookies",
          rule="A critical record that is not understood is answered with Unrecognized Critical Record.")  # fmt: skip
def ke_crit_unknown(probe: ServerProbe) -> Iterator[Finding]:
    yield passed("Error 0 (Unrecognized Critical Record), then close_notify; no cookies")


@ke.check(22, "ke-truncated", section="4.1.3", severity=Severity.MUST, ref="A21",
          sends="half a record and close_notify", expects="Error 1, Bad Request",
          rule="What is not a complete, well-formed request is answered with Bad Request.")  # fmt: skip
def ke_truncated(probe: ServerProbe) -> Iterator[Finding]:
    probe.transcript.add(Direction.SENT, "half a record, then close_notify", Protocol.NTS_KE, request(15)[:9])
    yield warned("closed the connection without a word after 2.0 s; that is what most servers do")


@ke.check(28, "ke-aead-15-last", section="4.1.5", severity=Severity.SHOULD, ref="A27",
          sends="399 algorithms that do not exist, then 15", expects="15 is chosen",
          rule="A server picks one that it knows from the client's list, however long the list is.")  # fmt: skip
def ke_aead_15_last(probe: ServerProbe) -> Iterator[Finding]:
    probe.transcript.add(Direction.SENT, "400 AEAD identifiers", Protocol.NTS_KE, request(*[0xFFF0] * 399, 15))
    yield passed("it answers")
    yield failed("no algorithm in common, it says: AEAD list empty, 0 cookies; so it reads only a part of the list")


@ke.check(29, "ke-aead-menu", section="4.1.5", severity=Severity.INFO, ref="A96", sends="each algorithm alone",
          expects="anything: this only reports", rule="AEAD_AES_SIV_CMAC_256 must be supported.")  # fmt: skip
def ke_aead_menu(probe: ServerProbe) -> Iterator[Finding]:
    yield from ()
    raise Skipped("the server sent no cookies before, so there is nothing to compare")


@ntp.check(38, "ntp-placeholder-encrypted", section="5.5", severity=Severity.MUST, ref="A65",
           sends="a placeholder in the encrypted part", expects="two cookies",
           rule="Placeholders count wherever they are, in the open or encrypted.")  # fmt: skip
def ntp_placeholder_encrypted(probe: ServerProbe) -> Iterator[Finding]:
    probe.transcript.add(Direction.SENT, "a request with a placeholder inside", Protocol.NTP, packet())
    probe.transcript.add(Direction.NOTE, "no reply in 2.0 s")
    yield from ()
    raise PathTrouble("no reply, and none to the control request after it either: packets over 228 octets vanish")


@ntp.check(47, "ntp-ef-placement", section="5.6, RFC 7822 7.5", severity=Severity.MUST, ref="A66",
           sends="an unknown field before, inside and behind", expects="the time, each time",
           rule="Unknown fields are skipped.")  # fmt: skip
def ntp_ef_placement(probe: ServerProbe) -> Iterator[Finding]:
    probe.transcript.add(Direction.RECEIVED, HOSTILE, Protocol.NTP, packet()[:60])
    yield warned(HOSTILE)


CHECKS: list[Check[ServerProbe]] = [*tls.checks, *ke.checks, *ntp.checks]


FACTS = Facts(
    KeFacts("time.example.net", 4460, ("192.0.2.1", "2001:db8::1"), "TLSv1.3", "X25519MLKEM768", True, "TLS_AES_128_X"),
    CertificateFacts(
        f"CN={HOSTILE}", ("time.example.net",), "CN=A CA", "2026-10-01T00:00:00.000000Z", "2026-12-30T00:00:00.000000Z",
        34.5,
    ),
    NtsFacts((30, 15), "client", 8, 100, (1, 4, 5, 0)),
    NtpFacts("192.0.2.1", 123, 2, "192.0.2.9", 0.0123, -0.0005, 0.0151, 0.00004, {"3": False, "4": True}),
    Implementation("chrony", ("the first sign", "the second sign")),
)  # fmt: skip
"""made-up facts"""


def probe() -> ServerProbe:
    """A probe that reaches nobody."""
    return ServerProbe(Target("time.example.net", 4460), pace=0, seed=42)


def results(*names: str) -> list[Result[ServerProbe]]:
    """What the made-up checks find: all of them, or those named."""
    return list(run([c for c in CHECKS if not names or c.name in names], probe()))


def verdicts() -> dict[str, Grade]:
    """What they are meant to find."""
    return {
        "tls13-only": Grade.PASS, "alpn-absent": Grade.FAIL, "ke-crit-unknown": Grade.PASS,
        "ke-truncated": Grade.WARN, "ke-aead-15-last": Grade.FAIL, "ke-aead-menu": Grade.SKIP,
        "ntp-placeholder-encrypted": Grade.PATH, "ntp-ef-placement": Grade.WARN,
    }  # fmt: skip


def show(options: Options, *names: str, interrupt_at: str = "") -> int:
    """Run the made-up checks as a subcommand does."""
    asker = probe()
    checks = [c for c in CHECKS if not names or c.name in names]
    session = Reporter("server", asker.target.host, checks, options, intro="a run", seed=42, pace=0.5)
    with session:
        session.tell(FACTS)
        for result in run(session.checks, asker, session.start):
            if result.check.name == interrupt_at:
                raise KeyboardInterrupt
            session.add(result)
    return session.finish()

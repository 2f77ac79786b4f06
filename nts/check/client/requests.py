# SPDX-License-Identifier: MIT
"""C22 and C23: what a client keeps, and what its requests look like (RFC 8915 section 5.7)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from nts.base.errors import FormatError
from nts.base.registry import MIN_UNIQUE_ID, NTP_PORT, NTS_FIELDS, FieldType
from nts.base.text import octets
from nts.check.client import judge
from nts.check.client.probe import ClientProbe, Seen, until_accepted, until_asked
from nts.check.model import Finding, Grade, Group, Severity, failed, passed, skipped, warned
from nts.check.peer import NtpTalk
from nts.codec import extensions
from nts.codec.aead import Aead
from nts.codec.ntp import HEADER_LENGTH

GROUP: Group[ClientProbe] = Group("Requests and memory")

CAPTURED = 200  # requests
ENOUGH = 20  # requests for a judgement
_MIN_LAST = 28  # octets: RFC 7822 section 7.5.1.4
_TRANSMIT = 40  # where the transmit timestamp begins, the last field of the header


@GROUP.check(
    "C22", "client-restarted", section="5.7", severity=Severity.SHOULD, ref="A79 A80",
    sends="Only sound replies, but the NTS-KE server is gone when the client starts for the second time.",
    expects="The client goes on with a cookie that it kept, and never uses plain NTP.",
    rule="A client should keep its keys and at least one unused cookie across restarts.",
)  # fmt: skip
def client_restarted(probe: ClientProbe) -> Iterator[Finding]:
    if not probe.client.keeps:
        yield skipped("each run of this client begins with a key exchange")
        return
    with probe.scene(what="a restart without NTS-KE") as scene:
        yield judge.used(scene.meet(until=until_accepted))
        scene.ke.close()
        seen = scene.meet(until=until_accepted)
    yield from judge.careful(seen)
    yield judge.used(seen)


@GROUP.check(
    "C23", "client-requests", section="5.7", severity=Severity.MUST, ref="A50 A53 A60 A62 A63 A64 A81 B02 B14",
    sends=f"Genuine replies to {CAPTURED} requests.",
    expects="Identifiers of 32 octets or more, nonces, cookies and transmit timestamps are fresh each time. The"
    " authenticator is last and long enough, placeholders are zero, the rest of the header is constant, ports vary.",
    rule="Nothing in a request may link it to another. Its fields have the required number, order and size.",
)  # fmt: skip
def client_requests(probe: ClientProbe) -> Iterator[Finding]:
    with probe.scene(what="sound servers") as scene:
        seen = scene.meet(count=CAPTURED, until=until_asked(CAPTURED), seconds=70)
    yield from judge.careful(seen)
    count = len(seen.nts_requests)
    if count < ENOUGH:
        yield skipped(f"only {count} requests came")
    if not count:
        return
    findings = [judge.spent_once(seen), *_shape(seen), *_freshness(seen)]
    wrong = [f for f in findings if f.grade is not Grade.PASS]
    yield from wrong
    if not wrong:
        yield passed(f"{count} requests, well-formed, and with nothing in common")


def _shape(seen: Seen) -> Iterator[Finding]:
    """What each request alone must look like."""
    for text, severity, holds in _RULES:
        bad = [i for i, r in enumerate(seen.nts_requests) if not holds(r)]
        if bad:
            yield failed(f"{text}: not true of {len(bad)} of {len(seen.nts_requests)} requests", severity)
        else:
            yield passed(text)


def _nonce_rule(talk: NtpTalk) -> bool:
    aead = talk.session_keys().aead if talk.contents else Aead.AES_SIV_CMAC_256
    try:
        authenticator = extensions.decode_authenticator(talk.body(FieldType.AUTHENTICATOR))
    except FormatError:
        return False
    return authenticator.nonce_room >= aead.nonce_length


def _nonces(talk: NtpTalk) -> Iterator[bytes]:
    with contextlib.suppress(FormatError):
        for body in talk.bodies(FieldType.AUTHENTICATOR):
            yield extensions.decode_authenticator(body).nonce


def _once(talk: NtpTalk) -> bool:
    kinds = [f.type for f in talk.fields]
    single = (FieldType.UNIQUE_IDENTIFIER, FieldType.COOKIE, FieldType.AUTHENTICATOR)
    return all(kinds.count(kind) == 1 for kind in single)


def _authenticator_last(talk: NtpTalk) -> bool:
    nts = [f for f in talk.fields if f.type in NTS_FIELDS]
    return nts[-1].type == FieldType.AUTHENTICATOR


def _placeholders_fit(talk: NtpTalk) -> bool:
    lengths = {len(c) for c in talk.bodies(FieldType.COOKIE)}
    return all(len(p) in lengths for p in talk.placeholders)


_RULES: tuple[tuple[str, Severity, Callable[[NtpTalk], bool]], ...] = (
    ("authentic under the C2S key", Severity.MUST, lambda t: not t.contents or t.is_authentic),
    ("one identifier, one cookie, one authenticator", Severity.MUST, _once),
    ("nothing of NTS after the authenticator", Severity.MUST, _authenticator_last),
    (
        "an identifier of 32 octets or more", Severity.MUST,
        lambda t: all(len(u) >= MIN_UNIQUE_ID for u in t.bodies(FieldType.UNIQUE_IDENTIFIER)),
    ),
    ("a nonce of 16 octets, or Additional Padding", Severity.MUST, _nonce_rule),
    ("placeholders as long as the cookie", Severity.MUST, _placeholders_fit),
    ("placeholders of zeros", Severity.SHOULD, lambda t: not any(any(p) for p in t.placeholders)),
    ("a last field of 28 octets or more", Severity.MUST, lambda t: len(t.datagram) - t.fields[-1].offset >= _MIN_LAST),
    ("not from port 123", Severity.SHOULD, lambda t: t.port != NTP_PORT),
)  # fmt: skip


def _freshness(seen: Seen) -> Iterator[Finding]:
    """What must differ from one request to the next, and what must not."""
    requests = seen.nts_requests
    uids = [u for r in requests for u in r.bodies(FieldType.UNIQUE_IDENTIFIER)]
    nonces = [nonce for r in requests for nonce in _nonces(r)]
    for what, values, severity in (
        ("identifiers", uids, Severity.MUST),
        ("nonces", nonces, Severity.MUST),
        ("transmit timestamps", [r.transmit for r in requests], Severity.SHOULD),
    ):
        fresh = len(set(values)) == len(values)
        yield passed(f"{what} are fresh") if fresh else failed(f"{what} come more than once", severity)
    bits = "".join(f"{octet:08b}" for u in uids for octet in u)
    if abs(bits.count("1") - len(bits) / 2) > 3 * len(bits) ** 0.5:  # six standard deviations
        yield failed(f"identifiers are not random: {bits.count('1')} ones in {len(bits)} bits")
    headers = {r.datagram[:_TRANSMIT] for r in requests}
    varying = [i for i in range(min(_TRANSMIT, HEADER_LENGTH)) if len({h[i] for h in headers}) > 1]
    if varying:
        yield warned(f"the header varies in {octets(varying[0], varying[-1])}, which should reveal nothing")
    else:
        yield passed("the header is constant except for the transmit timestamp")
    ports = {r.port for r in requests}
    if len(requests) > 1 and len(ports) == 1:
        yield warned("all requests come from one port")
    else:
        yield passed(f"{len(ports)} source ports")

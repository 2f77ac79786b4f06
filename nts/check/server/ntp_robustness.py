# SPDX-License-Identifier: MIT
"""Server checks with packets that are not NTS requests: other modes and versions, malformed, plain NTP; sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from nts.base.registry import MAX_PLACEHOLDERS, MIN_UNIQUE_ID, FieldType, Mode
from nts.check.findings import true_of
from nts.check.model import Finding, Grade, Group, PathTrouble, Severity, failed, passed, warned
from nts.check.ntp import judge
from nts.check.ntp.answer import Kind, NtpAnswer
from nts.check.ntp.forge import Forge, Request, raw_field
from nts.check.ntp.probe import Make
from nts.check.server.probe import ServerProbe
from nts.codec.ntp import HEADER_LENGTH, VERSION

MODES = (1, 2, 4, 5, 6, 7)
LOOPING = (2, 4, 5)  # modes of replies: two servers that answer these could go on forever
CRITICAL = (4, 5)
QUERIES = (6, 7)  # control messages, which have their own formats
VERSIONS = (1, 2, 3, 5)
OVERRUN = 0xFFFC  # octets: longer than any packet
LADDER = (500, 1200)  # octets: the second and the last size. The first is a usual request, the third has 7 placeholders
FILTERED = "something on the path seems to drop long NTP packets"
SWEEP_STEP = 4  # octets between two cuts, unless there is no pace to keep

group: Group[ServerProbe] = Group("NTP: robustness")

group.check(
    50, "ntp-modes-versions", section="5.3-5.6", severity=Severity.MUST, ref="A52 B07 B09",
    sends="NTS requests that are valid except for their mode (1, 2, 4, 5, 6, 7) or version (1, 2, 3, 5), and"
    " plain ones of modes 2, 4, 5, 6, 7.",
    expects="No reply with an NTS field. No reply at all to modes 2, 4 and 5; a reply to 4 or 5 is critical. To modes"
    " 6 and 7, no time, and no reply that is longer than the request.",
    rule="NTS protects modes 3 and 4 of NTPv4. Two servers that answer replies can be set into an endless loop.",
)(lambda p: judge.findings(p.ntp.burst(oddities()), _judge_oddity))  # fmt: skip


def oddities() -> list[Make]:
    """Requests that are valid except for mode or version."""
    return [
        *(partial(_with_mode, mode=m) for m in MODES), *(partial(_with_version, version=v) for v in VERSIONS),
        *(partial(_plain_with_mode, mode=m) for m in (*LOOPING, *QUERIES)),
    ]  # fmt: skip


def _with_mode(forge: Forge, mode: int) -> Request:
    return forge.usual(f"mode {mode}", header=forge.header(mode=mode))


def _plain_with_mode(forge: Forge, mode: int) -> Request:
    return replace(forge.request(f"mode {mode} without NTS", header=forge.header(mode=mode)), keys=None)


def _with_version(forge: Forge, version: int) -> Request:
    return forge.usual(f"version {version}", header=forge.header(version=version))


def _judge_oddity(answer: NtpAnswer) -> Finding:
    text, mode = str(answer), answer.request.packet[0] & 7
    if answer.kind is Kind.SILENCE:
        return passed(text)
    if mode in LOOPING:
        return failed(text, Severity.CRIT if mode in CRITICAL else None)
    if mode in QUERIES:
        wrong = answer.excess > 0 or answer.kind in (Kind.TIME, Kind.PLAIN)
        return failed(text) if wrong else passed(text)
    # Mode 1 may be answered in mode 2, like in symmetric associations. Only mode 3 may be answered in mode 4.
    wrong = answer.has_nts or (mode == 1 and answer.header is not None and answer.header.mode == Mode.SERVER)
    return failed(text) if wrong else passed(text)


def lies() -> list[Make]:
    """Requests with a false length in them, sealed as they are."""
    return [
        *(partial(_lying_identifier, length=n) for n in (0, 2, 3, 35, OVERRUN)),
        *(partial(_lying_cookie, length=n) for n in (0, 3, OVERRUN)),
        *(partial(_lying_seal, what="an authenticator field", length=n) for n in (0, 3, OVERRUN)),
        *(partial(_lying_seal, what="a nonce", nonce_length=n) for n in (0, 40, 0xFFFF)),
        *(partial(_lying_seal, what="a ciphertext", ciphertext_length=n) for n in (0, 15, 20, 0xFFFF)),
        lambda f: f.plain("a header").cut(HEADER_LENGTH - 1),
        lambda f: f.plain("a header and 3 octets", bytes(3)),
    ]


def _lying_identifier(forge: Forge, length: int) -> Request:
    field = raw_field(FieldType.UNIQUE_IDENTIFIER, forge.draw(MIN_UNIQUE_ID), length)
    return forge.request(f"an identifier field of length {length}", field, forge.cookie(), forge.seal())


def _lying_cookie(forge: Forge, length: int) -> Request:
    field = raw_field(FieldType.COOKIE, forge.ticket.cookie, length)
    return forge.request(f"a cookie field of length {length}", forge.uid(), field, forge.seal())


def _lying_seal(
    forge: Forge, what: str, length: int | None = None, nonce_length: int | None = None,
    ciphertext_length: int | None = None,
) -> Request:  # fmt: skip
    claims = [n for n in (length, nonce_length, ciphertext_length) if n is not None]
    seal = replace(forge.seal(), length=length, nonce_length=nonce_length, ciphertext_length=ciphertext_length)
    return forge.usual(f"{what} of length {claims[0]}", seal=seal)


@group.check(
    51, "ntp-malformed-sweep", section="RFC 7822 7.5", severity=Severity.CRIT, ref="B01 B05",
    sends="20 packets with a false length (of fields, nonce, ciphertext; 47 and 51 octets in all), and a usual request"
    " cut short after every fourth octet, with --fast after every octet. Once each.",
    expects="No time, unless the packet is well-formed and has no authenticator: the RFC leaves that open. The server"
    " still answers usual requests.",
    rule="Extension fields lie within the packet, and their lengths are multiples of four. A server drops other"
    " packets.",
)  # fmt: skip
def ntp_malformed_sweep(probe: ServerProbe) -> Iterator[Finding]:
    whole = len(probe.ntp.forge.usual().packet)
    step = SWEEP_STEP if probe.ntp.pace.interval else 1
    cuts = [partial(_cut, length=n) for n in range(step, whole, step)]
    answers = probe.ntp.burst([*lies(), *cuts], tries=1)
    yield from judge.sweep(answers, _judge_malformed, "malformed packets")


def _cut(forge: Forge, length: int) -> Request:
    return forge.usual().cut(length)


def _judge_malformed(answer: NtpAnswer) -> Finding:
    if answer.request.is_well_formed and not answer.request.bodies(FieldType.AUTHENTICATOR):
        return judge.expect_nothing_authentic(answer)
    return judge.expect_no_time(answer)


def _ladder(forge: Forge) -> list[Request]:
    """NTS requests of growing size, as similar to those of clients as possible."""
    usual, full = forge.usual(), forge.with_placeholders(MAX_PLACEHOLDERS)
    step = len(forge.placeholder())
    count = min(MAX_PLACEHOLDERS, -(-(LADDER[0] - len(usual.packet)) // step))
    spare = max(0, LADDER[1] - len(full.packet)) & ~3
    longest = forge.usual(
        "padded", extra=[forge.placeholder()] * MAX_PLACEHOLDERS, seal=forge.seal(padding=spare)
    )  # fmt: skip
    return [usual, forge.with_placeholders(max(0, count)), full, longest]


@group.check(
    52, "ntp-plain", section="RFC 5905", severity=Severity.INFO, ref="B08",
    sends="Plain requests of NTPv4 and NTPv3, and NTS requests of about 228, 500, 956 and 1200 octets.",
    expects="48 octets in the same version and mode 4 with the right origin timestamp; authentic replies at all sizes."
    " If only long packets get none, something on the path may drop them.",
    rule="A server answers a client in the client's version. Some networks break NTS because they drop NTP packets"
    " over 48 octets, or over some other size.",
)  # fmt: skip
def ntp_plain(probe: ServerProbe) -> Iterator[Finding]:
    plain = [probe.ntp.ask(partial(Forge.plain, label=f"NTPv{v}", version=v)) for v in (VERSION, VERSION - 1)]
    yield from judge.findings(plain, _judge_plain)
    passing = HEADER_LENGTH if plain[0].kind is Kind.PLAIN else 0
    sizes = [len(request.packet) for request in _ladder(probe.ntp.forge)]
    for rung, size in enumerate(sizes):
        try:
            answer = probe.ntp.ask(partial(_rung, rung=rung))
        except PathTrouble:
            if not passing:
                raise
            yield Finding(Grade.PATH, f"{passing} octets are answered, NTS requests of {size} are not: {FILTERED}")
            return
        if answer.kind is not Kind.SILENCE:
            yield from judge.findings([answer], judge.expect_time)
            passing = max(passing, size) if answer.kind is Kind.TIME else passing
        elif rung < len(sizes) - 1:
            yield Finding(Grade.PATH, f"{passing} octets are answered, {size} are not: {FILTERED}")
        else:  # more than a client ever needs
            yield warned(f"{passing} octets are answered, {size} are not: a limit of the server or of the path")


def _rung(forge: Forge, rung: int) -> Request:
    request = _ladder(forge)[rung]
    return replace(request, label=f"NTS, {len(request.packet)} octets")


def _judge_plain(answer: NtpAnswer) -> Finding:
    header = answer.header
    if answer.kind is not Kind.PLAIN or header is None:
        return warned(str(answer))
    wrong = true_of({
        "the origin timestamp is not the one sent": not answer.origin_is_right,
        f"version {header.version}": header.version != answer.request.version,
        f"{len(answer.octets)} octets": len(answer.octets) != HEADER_LENGTH,
    })  # fmt: skip
    return failed(", ".join(wrong)) if wrong else passed(str(answer))

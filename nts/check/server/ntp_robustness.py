# SPDX-License-Identifier: MIT
"""Server checks with packets that are no NTS requests: other modes and versions, malformed ones, plain NTP; sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nts.check import judge_ntp
from nts.check.forge import Forge, Request, Seal, raw_field
from nts.check.judge_ntp import Answer, Kind
from nts.check.model import Finding, Group, PathTrouble, Severity, Verdict, failed, passed, warned
from nts.check.ntp_probe import Make
from nts.check.probe import ServerProbe
from nts.ntp import HEADER_LENGTH, VERSION
from nts.registry import MAX_PLACEHOLDERS, MIN_UNIQUE_ID, FieldType, Mode

MODES = (1, 2, 4, 5, 6, 7)
LOOPING = (2, 4, 5)  # modes of replies: two servers that answer these could go on for ever
QUERIES = (6, 7)  # control messages, which have formats of their own
VERSIONS = (1, 2, 3, 5)
OVERRUN = 0xFFFC  # octets: a length beyond the end of any packet
LADDER = (500, 1200)  # octets: the second and the last size; the first is a usual request, the third 7 placeholders
SWEEP_STEP = 4  # octets between two cuts, unless nobody has to be spared

group: Group[ServerProbe] = Group("NTP: robustness")


@group.check(
    50, "ntp-modes-versions", section="5.3-5.6", severity=Severity.MUST, ref="A52 B07 B09",
    sends="NTS requests in order but for their mode (1, 2, 4, 5, 6, 7) or their version (1, 2, 3, 5).",
    expects="No reply with a field of NTS. To modes 2, 4 and 5 no reply at all: 4 and 5 are critical. To 6 and 7"
    " none that is longer.",
    rule="NTS protects modes 3 and 4 of NTPv4. A server that answers replies can be set in an endless loop with"
    " another one.",
)  # fmt: skip
def ntp_modes_versions(probe: ServerProbe) -> Iterator[Finding]:
    makes: list[Make] = [
        lambda f, m=mode: f.usual(f"mode {m}", header=f.header(mode=m)) for mode in MODES
    ] + [
        lambda f, v=version: f.usual(f"version {v}", header=f.header(version=v)) for version in VERSIONS
    ]  # fmt: skip
    for answer in probe.ntp.volley(makes):
        yield _judge_oddity(answer)


def _judge_oddity(answer: Answer) -> Finding:
    text, mode = f"{answer.request.label}: {answer}", answer.request.packet[0] & 7
    if answer.kind is Kind.SILENCE:
        return passed(text)
    if mode in LOOPING:
        return failed(text, None if mode == 2 else Severity.CRIT)
    if mode in QUERIES:
        return failed(text) if answer.excess > 0 or answer.kind is Kind.TIME else passed(text)
    wrong = answer.has_nts or (mode == 1 and answer.header is not None and answer.header.mode == Mode.SERVER)
    return failed(text) if wrong else passed(text)


def _lies() -> list[Make]:
    """Requests that are sealed as they stand, with a length in them that is not true."""

    def identifier(length: int) -> Make:
        def make(f: Forge) -> Request:
            lying = raw_field(FieldType.UNIQUE_IDENTIFIER, f.draw(MIN_UNIQUE_ID), length)
            return f.request(f"an identifier field of length {length}", lying, f.cookie(), f.seal())

        return make

    def cookie(length: int) -> Make:
        def make(f: Forge) -> Request:
            lying = raw_field(FieldType.COOKIE, f.ticket.cookie, length)
            return f.request(f"a cookie field of length {length}", f.uid(), lying, f.seal())

        return make

    def seal(label: str, **lie: int) -> Make:
        return lambda f: f.usual(label, seal=_lying(f.seal(), lie))

    return [
        *map(identifier, (0, 2, 3, 35, OVERRUN)),
        *map(cookie, (0, 3, OVERRUN)),
        *(seal(f"an authenticator field of length {n}", length=n) for n in (0, 3, OVERRUN)),
        *(seal(f"a nonce of length {n}", nonce_length=n) for n in (0, 40, 0xFFFF)),
        *(seal(f"a ciphertext of length {n}", ciphertext_length=n) for n in (0, 15, 20, 0xFFFF)),
        lambda f: f.plain("").cut(HEADER_LENGTH - 1),
        lambda f: f.plain("51 octets", bytes(3)),
    ]


def _lying(seal: Seal, lie: dict[str, int]) -> Seal:
    return replace(seal, **lie)  # type: ignore[arg-type]


@group.check(
    51, "ntp-malformed-sweep", section="RFC 7822 7.5", severity=Severity.CRIT, ref="B01 B05",
    sends="18 packets with a length in them that is not true (fields, nonce, ciphertext; 47 and 51 octets), and a"
    " usual request cut short, at every fourth octet, with --fast at every octet. Once each.",
    expects="No time, but for what is a plain request as it stands; and the server still answers usual requests.",
    rule="Extension fields lie within the packet and have lengths that are multiples of four; a packet that breaks"
    " this is dropped.",
)  # fmt: skip
def ntp_malformed_sweep(probe: ServerProbe) -> Iterator[Finding]:
    probe.ntp.control()  # so that it is known what to think if none is answered later
    whole = len(probe.ntp.forge.usual().packet)
    step = SWEEP_STEP if probe.ntp.pace.interval else 1
    cuts: list[Make] = [lambda f, n=n: f.usual().cut(n) for n in range(step, whole, step)]
    try:
        answers = probe.ntp.volley([*_lies(), *cuts], tries=1)
    except PathTrouble:
        yield failed("it answered a usual request before these packets, and none after them")
        return
    findings = [_judge_malformed(a) for a in answers]
    yield from judge_ntp.summed_up(findings, lambda n: f"{n} malformed packets: {judge_ntp.tallied(answers)}")


def _judge_malformed(answer: Answer) -> Finding:
    packet, fields = answer.request.packet, answer.request.fields
    nothing_of_nts = all(f.type == FieldType.UNIQUE_IDENTIFIER for f in fields)
    if answer.request.is_well_formed and nothing_of_nts and len(packet) >= HEADER_LENGTH:
        return judge_ntp.expect_no_time(answer) if answer.kind is Kind.TIME else passed(f"{answer}")
    return judge_ntp.expect_no_time(answer)


def _ladder(forge: Forge) -> list[Request]:
    """NTS requests of growing size, as much as possible of a kind that clients send."""
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
    " If only long packets get none, something on the way may drop them.",
    rule="A server answers a client in its own version. Some networks drop NTP packets over 48 octets, or over some"
    " other size, and so break NTS.",
)  # fmt: skip
def ntp_plain(probe: ServerProbe) -> Iterator[Finding]:
    plain = [
        probe.ntp.ask(lambda f, v=v: f.plain(f"plain NTPv{v}", version=v)) for v in (VERSION, VERSION - 1)
    ]  # fmt: skip
    for answer in plain:
        yield _judge_plain(answer)
    passing = HEADER_LENGTH if plain[0].kind is Kind.PLAIN else 0
    sizes = [len(r.packet) for r in _ladder(probe.ntp.forge)]
    for i, size in enumerate(sizes):
        try:
            answer = probe.ntp.ask(lambda f, i=i: replace(_ladder(f)[i], label=f"NTS, {size} octets"))
        except PathTrouble as e:
            why = f"{passing} octets are answered, NTS requests of {size} are not: long packets are dropped on the way"
            raise PathTrouble(why if passing else str(e)) from None
        if answer.kind is not Kind.SILENCE:
            yield judge_ntp.expect_time(answer)
            passing = max(passing, size) if answer.kind is Kind.TIME else passing
        elif i < len(sizes) - 1:
            yield Finding(Verdict.PATH, f"{passing} octets are answered, {size} are not: a filter on the way, perhaps")
        else:  # more than a client ever needs
            yield warned(f"{passing} octets are answered, {size} are not: a limit of the server, or a filter")


def _judge_plain(answer: Answer) -> Finding:
    text = f"{answer.request.label}: {answer}"
    if answer.kind is not Kind.PLAIN:
        return warned(text)
    header = answer.header
    assert header is not None
    flaws = {
        "the origin timestamp is not the one sent": not answer.origin_is_right,
        f"version {header.version}": header.version != answer.request.version,
        f"{len(answer.octets)} octets": len(answer.octets) != HEADER_LENGTH,
    }
    wrong = [flaw for flaw, is_so in flaws.items() if is_so]
    return failed(f"{answer.request.label}: {', '.join(wrong)}") if wrong else passed(text)

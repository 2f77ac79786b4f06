# SPDX-License-Identifier: MIT
"""Time servers with one fault each, for the NTP checks of nts_check, and how to run those."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from nts.base.registry import FieldType
from nts.check import runner
from nts.check.context import Target
from nts.check.model import Grade, Result, Severity
from nts.check.ntp.forge import UNKNOWN_FIELD, raw_field
from nts.check.peer import Pair
from nts.check.peer.ntp import NtpTalk, now, sound
from nts.check.server import CHECKS, ntp_cookies, ntp_fields, ntp_keys, ntp_nak, ntp_reply, ntp_robustness
from nts.check.server.probe import ServerProbe
from testkit import packets

UNIQUE_IDENTIFIER, COOKIE = FieldType.UNIQUE_IDENTIFIER, FieldType.COOKIE
PLACEHOLDER, AUTHENTICATOR = FieldType.COOKIE_PLACEHOLDER, FieldType.AUTHENTICATOR
NTP_GROUPS = [module.group for module in (ntp_reply, ntp_keys, ntp_cookies, ntp_nak, ntp_fields, ntp_robustness)]
NTP_CHECKS = {c.name: c for c in CHECKS if any(c in group.checks for group in NTP_GROUPS)}
NAMES = list(NTP_CHECKS)
PATIENCE = 0.4  # seconds, on the loopback interface
SHORT = 0.2  # where a server is silent on purpose, again and again
Answer = Callable[[NtpTalk], Iterable["bytes | float"]]


def probe_for(ke_port: int, patience: float = PATIENCE) -> ServerProbe:
    return ServerProbe(Target("127.0.0.1", ke_port, patience=patience), pace=0, seed=1)


def results(probe: ServerProbe, names: Iterable[str] = NAMES) -> dict[str, Result[ServerProbe]]:
    return {r.check.name: r for r in runner.run([NTP_CHECKS[n] for n in names], probe)}


def explained(found: dict[str, Result[ServerProbe]], but: Grade = Grade.PASS) -> list[str]:
    """The results with any other verdict, in words."""
    return [f"{name}: {r.grade.value}: {r.evidence}" for name, r in found.items() if r.grade is not but]


def judged(
    servers: Pair, answer: Answer = sound, names: Iterable[str] = NAMES, patience: float = SHORT
) -> dict[str, Result[ServerProbe]]:
    """The results of checks while the time server answers in some way."""
    servers.ntp.behave(answer=answer)
    try:
        return results(probe_for(servers.ke.port, patience), names)
    finally:
        servers.ntp.behave(answer=sound)


def only(condition: Callable[[NtpTalk], bool], fault: Answer) -> Answer:
    """The fault where the condition is met, and sound answers everywhere else."""
    return lambda talk: fault(talk) if condition(talk) else sound(talk)


def unsound(talk: NtpTalk) -> bool:
    """Whether a sound server has nothing to say."""
    return talk.sound() is None


def refused(talk: NtpTalk) -> bool:
    """Whether a sound server gives no time."""
    reply = talk.sound()
    return reply is None or reply[1] == 0


def has(kind: int, count: int = 1) -> Callable[[NtpTalk], bool]:
    return lambda talk: len(talk.bodies(kind)) == count


def forged(talk: NtpTalk) -> bool:
    """Whether it is an NTS request that is not authentic."""
    return talk.is_nts and not talk.is_authentic


def authenticator_of(talk: NtpTalk) -> bytes:
    return (talk.bodies(AUTHENTICATOR) or [b""])[0]


def nonce_length(talk: NtpTalk) -> int:
    return int.from_bytes(authenticator_of(talk)[:2], "big")


def length_is(*lengths: int) -> Callable[[NtpTalk], bool]:
    return lambda talk: len(talk.datagram) in lengths


def time_(**changes: object) -> Answer:
    """An authentic reply to anything, with some part of it replaced."""
    return lambda talk: [talk.time(**{k: v(talk) if callable(v) else v for k, v in changes.items()})]  # type: ignore[arg-type]


def kiss(**changes: object) -> Answer:
    return lambda talk: [talk.kiss(**{k: v(talk) if callable(v) else v for k, v in changes.items()})]  # type: ignore[arg-type]


def plain(talk: NtpTalk) -> Iterable[bytes]:
    return [talk.header()]


def is_plain(talk: NtpTalk) -> bool:
    return len(talk.datagram) == 48


def cookie_field(talk: NtpTalk) -> bytes:
    return raw_field(COOKIE, talk.fresh_cookies(1)[0])


def stubborn(talk: NtpTalk) -> Iterable[bytes]:
    """Always the same cookies."""
    keys, peer = talk.session_keys(), talk.peer
    master = peer.ring.current
    assert master is not None
    cookie = packets.cookie_of(keys, master)
    return [talk.time(cookies=[cookie] * (1 + len(talk.placeholders)))]


def once_only() -> Answer:
    """Answers no packet twice."""
    seen: set[bytes] = set()

    def answer(talk: NtpTalk) -> Iterable[bytes | float]:
        known = talk.datagram in seen
        seen.add(talk.datagram)
        return [] if known else sound(talk)

    return answer


def fragile(deadly: Callable[[NtpTalk], bool], rest: float = math.inf) -> Answer:
    """Stops answering after such a packet, for the next `rest` packets or for good."""
    left = -1.0

    def answer(talk: NtpTalk) -> Iterable[bytes | float]:
        nonlocal left
        left = rest if deadly(talk) else left - 1
        return [] if left >= 0 else sound(talk)

    return answer


def whatever_key(talk: NtpTalk) -> Iterable[bytes | float]:
    """Takes requests that are sealed with either key."""
    reply = talk.sound()
    return [talk.time()] if reply is not None and reply[1] == 0 and talk.contents else sound(talk)


def mode_is(*modes: int) -> Callable[[NtpTalk], bool]:
    return lambda talk: bool(talk.datagram) and talk.datagram[0] & 7 in modes


def version_is(*versions: int) -> Callable[[NtpTalk], bool]:
    return lambda talk: bool(talk.datagram) and talk.datagram[0] >> 3 & 7 in versions


def counting_all(talk: NtpTalk) -> Iterable[bytes]:
    """A cookie for each placeholder in clear, whatever its length and contents."""
    return [talk.time()]


def one_for_nonzero(talk: NtpTalk) -> Iterable[bytes | float]:
    return one_cookie(talk) if any(map(any, talk.placeholders)) else sound(talk)


def identifier_of_64(talk: NtpTalk) -> bytes:
    return raw_field(UNIQUE_IDENTIFIER, talk.body(UNIQUE_IDENTIFIER)[:64])


def first_identifier(talk: NtpTalk) -> bytes:
    return raw_field(UNIQUE_IDENTIFIER, talk.bodies(UNIQUE_IDENTIFIER)[0])


def aead_is(number: int) -> Callable[[NtpTalk], bool]:
    return lambda talk: any(keys.aead == number for keys in talk.contents)


def transparent(key: bytes) -> list[bytes]:
    """A cookie with a key in it."""
    return [key.ljust(100, b"\0")]


def shifted(talk: NtpTalk, seconds: int) -> bytes:
    receive, transmit = ((stamp + (seconds << 32)) % 2**64 for stamp in (talk.received, now()))
    return talk.header(receive=receive, transmit=transmit)


def plain_in_mode(mode: int) -> Callable[[NtpTalk], bool]:
    return lambda talk: is_plain(talk) and mode_is(mode)(talk)


def longer_identifier(length: int) -> Callable[[NtpTalk], bool]:
    return lambda talk: any(len(body) > length for body in talk.bodies(UNIQUE_IDENTIFIER))


def long_plain(talk: NtpTalk) -> Iterable[bytes]:
    return [talk.header() + raw_field(UNKNOWN_FIELD, bytes(28))]


def one_cookie(talk: NtpTalk) -> Iterable[bytes]:
    return [talk.time(cookies=talk.fresh_cookies(1))]


def unknown_behind(talk: NtpTalk) -> bool:
    return bool(talk.fields) and talk.fields[-1].type == UNKNOWN_FIELD


CRIT, MUST, INFO = Severity.CRIT, Severity.MUST, Severity.INFO
NTS = has(AUTHENTICATOR)
FAULTS: list[tuple[str, str, Answer, Severity, str]] = [
    # check, what is wrong, the server, severity, what the evidence says
    ("ntp-basic", "no-authenticator", only(NTS, lambda t: [t.header() + t.uid()]), CRIT, "without protection"),
    ("ntp-basic", "c2s", only(NTS, time_(key=lambda t: t.session_keys().c2s)), CRIT, "does not fit the S2C key"),
    ("ntp-basic", "wrong-uid", only(NTS, time_(uid=raw_field(UNIQUE_IDENTIFIER, bytes(32)))), CRIT, "Identifier"),
    ("ntp-basic", "no-uid", only(NTS, time_(uid=b"")), CRIT, "Identifier"),
    ("ntp-basic", "origin", only(NTS, time_(header=lambda t: t.header(origin=1))), CRIT, "origin"),
    ("ntp-basic", "mode", only(NTS, time_(header=lambda t: t.header(mode=2))), CRIT, "mode 2"),
    ("ntp-basic", "version", only(NTS, time_(header=lambda t: t.header(version=3))), CRIT, "version 3"),
    ("ntp-basic", "clear-cookie", only(NTS, time_(clear=cookie_field)), CRIT, "in clear"),
    ("ntp-basic", "late-cookie", only(NTS, time_(after=cookie_field)), CRIT, "in clear"),
    ("ntp-basic", "no-cookie", only(NTS, time_(cookies=[])), MUST, "0 cookies"),
    ("ntp-basic", "two-cookies", only(NTS, time_(cookies=lambda t: t.fresh_cookies(2))), MUST, "2 cookies"),
    ("ntp-basic", "stale-cookie", only(NTS, time_(cookies=lambda t: [t.body(COOKIE)])), MUST, "spent"),
    ("ntp-basic", "nak-only", only(NTS, kiss()), CRIT, "NTSN"),
    ("ntp-answers", "dead", lambda t: [], MUST, "never answers, neither NTS nor plain requests"),
    ("ntp-no-amplify", "long", only(NTS, time_(after=raw_field(UNKNOWN_FIELD, bytes(40)))), CRIT, "in reply to"),
    ("ntp-no-amplify", "twice", lambda t: [*sound(t), *sound(t)], CRIT, "in reply to"),
    ("ntp-placeholders", "one-more", only(NTS, time_(cookies=lambda t: t.fresh_cookies(2 + len(t.placeholders)))), MUST,
     "3 cookies instead of 2"),
    ("ntp-placeholders", "none", only(has(PLACEHOLDER, 3), lambda t: []), MUST, "no reply instead of time"),
    ("ntp-placeholder-badlen", "counted", only(NTS, counting_all), MUST, "2 cookies"),
    ("ntp-placeholder-ff", "looked-at", one_for_nonzero, MUST, "although a usual placeholder brings more"),
    ("ntp-placeholder-ff", "dropped", lambda t: [] if any(map(any, t.placeholders)) else sound(t), MUST, "no reply"),
    ("ntp-placeholder-encrypted", "missed", only(NTS, counting_all), MUST, "although a usual placeholder brings more"),
    ("ntp-cookie-chain", "same", only(NTS, stubborn), MUST, "had come before"),
    ("ntp-cookie-chain", "bad", only(NTS, time_(cookies=[bytes(100), bytes(99) + b"1"])), MUST, "no reply instead"),
    ("ntp-cookie-chain", "huge", only(NTS, time_(cookies=[bytes(1400)])), MUST, "fits in no NTP packet"),
    ("ntp-cookie-chain", "none", only(NTS, time_(cookies=[])), MUST, "no cookie to use"),
    ("ntp-replay-address", "once", once_only(), MUST, "no reply instead of time"),
    ("nak-badtag", "time", only(NTS, time_()), CRIT, "authentic"),
    ("nak-badtag", "plain", only(refused, plain), CRIT, "without protection"),
    ("nak-badtag", "with-cookie", only(refused, lambda t: [t.kiss() + cookie_field(t)]), MUST, "it holds a cookie"),
    ("nak-badtag", "sealed", only(refused, lambda t: [t.kiss() + t.authenticator(t.kiss())]), MUST, "authenticator"),
    ("nak-badtag", "other-uid", only(refused, kiss(uid=raw_field(UNIQUE_IDENTIFIER, bytes(32)))), MUST, "Identifier"),
    ("nak-badtag", "origin", only(refused, lambda t: [t.kiss()[:24] + bytes(8) + t.kiss()[32:]]), MUST, "origin"),
    ("nak-badtag", "long", only(refused, lambda t: [t.kiss() + raw_field(UNKNOWN_FIELD, bytes(240))]), MUST, "longer"),
    ("nak-badcookie", "plain", only(refused, plain), CRIT, "without protection"),
    ("nak-badcookie", "no-uid", only(refused, kiss(uid=b"")), MUST, "Identifier"),
    ("ntp-bitflip-sweep", "unauthenticated", only(NTS, time_()), CRIT, "authentic"),
    ("ntp-key-swap", "either-key", whatever_key, CRIT, "authentic"),
    ("ntp-key-swap", "plain", only(refused, plain), CRIT, "without protection"),
    ("ntp-nonce-shapes", "16-only", lambda t: sound(t) if nonce_length(t) in (0, 16) else [], MUST, "of 15 octets"),
    ("ntp-nonce-shapes", "no-padding", lambda t: sound(t) if len(authenticator_of(t)) < 60 else [], MUST, "of padding"),
    ("ntp-nonce-short-nopad", "taken", only(lambda t: nonce_length(t) == 8, time_()), MUST, "authentic"),
    ("ntp-nonce-short-nopad", "plain", only(lambda t: nonce_length(t) == 8, plain), MUST, "without protection"),
    ("ntp-ef-placement", "after", only(unknown_behind, lambda t: []), MUST, "r: no reply"),
    ("ntp-ef-placement", "any", only(has(UNKNOWN_FIELD), lambda t: []), MUST, "before the others, an unk"),
    ("ntp-cardinality", "two-uids", only(has(UNIQUE_IDENTIFIER, 2), time_(uid=first_identifier)), MUST, "1 of 2 id"),
    ("ntp-cardinality", "no-uid", only(has(UNIQUE_IDENTIFIER, 0), time_(uid=b"")), MUST, "no identifier"),
    ("ntp-uid-lengths", "cut", only(NTS, time_(uid=identifier_of_64)), MUST, "128"),
    ("ntp-uid-lengths", "64-only", lambda t: [] if len(t.datagram) > 300 else sound(t), MUST, "128"),
    ("ntp-uid-lengths", "alone", only(length_is(84), plain), MUST, "without the identifier"),
    ("ntp-modes-versions", "mode-4", only(mode_is(4), plain), CRIT, "mode 4"),
    ("ntp-modes-versions", "mode-5", only(mode_is(5), kiss()), CRIT, "mode 5"),
    ("ntp-modes-versions", "mode-2", only(mode_is(2), plain), MUST, "mode 2"),
    ("ntp-modes-versions", "any-mode", only(mode_is(1, 2, 4, 5), plain), CRIT, "mode 1, mode 2"),
    ("ntp-modes-versions", "mode-1", only(mode_is(1), plain), MUST, "mode 1"),
    ("ntp-modes-versions", "mode-6", only(mode_is(6), lambda t: [bytes(400)]), MUST, "mode 6"),
    ("ntp-modes-versions", "version-3", only(version_is(3), time_()), MUST, "version 3"),
    ("ntp-modes-versions", "version-5", only(version_is(5), kiss()), MUST, "version 5"),
    ("ntp-bitflip-sweep", "dies", fragile(forged), CRIT, "none of 6 after them: bit "),
    ("ntp-cardinality", "dies", fragile(has(UNIQUE_IDENTIFIER, 2)), MUST, "none of 6 after them: no identifier"),
    ("ntp-malformed-sweep", "careless", only(unsound, plain), CRIT, "without protection"),
    ("ntp-malformed-sweep", "dies", fragile(lambda t: len(t.datagram) % 4 > 0), CRIT, "none of 6 after them: "),
    ("ntp-aeads", "17", only(aead_is(17), time_(key=bytes(64))), CRIT, "AEAD 17: a reply whose authenticator"),
    ("ntp-aeads", "30-silent", only(aead_is(30), lambda t: []), CRIT, "AEAD 30: no reply instead of time"),
    ("cookie-opaque", "c2s", only(NTS, time_(cookies=lambda t: transparent(t.session_keys().c2s))), CRIT, "returned"),
    ("cookie-opaque", "s2c", only(NTS, time_(cookies=lambda t: transparent(t.session_keys().s2c))), CRIT, "returned"),
    ("cookie-opaque", "field", only(NTS, time_(after=lambda t: raw_field(UNKNOWN_FIELD, t.session_keys().s2c))), CRIT,
     "the reply holds"),
    ("ntp-nonce-fresh", "zero", only(NTS, time_(nonce=bytes(16))), CRIT, "4 replies with 1 different nonce"),
    ("ntp-time", "transmit-1", only(NTS, time_(header=lambda t: t.header(transmit=1))), MUST, "transmit timestamp is "),
    ("ntp-time", "backwards", only(NTS, time_(header=lambda t: t.header(transmit=t.received - 2**30))), MUST, "before"),
    ("ntp-time", "a-year-off", only(NTS, time_(header=lambda t: shifted(t, 2**25))), MUST, "no certificate supports"),
    ("ntp-time", "1900", only(NTS, time_(header=lambda t: t.header(receive=1, transmit=2))), MUST, "stands still"),
    *(("ntp-modes-versions", f"plain-{m}", only(plain_in_mode(m), plain), severity, f"mode {m} without NTS: time")
      for m, severity in ((2, MUST), (4, CRIT), (5, CRIT), (6, MUST), (7, MUST))),
    ("ntp-uid-lengths", "256-only", only(longer_identifier(256), lambda t: []), MUST, "300 octets, identifier of 600"),
    ("ntp-uid-lengths", "cut-256", only(longer_identifier(256), kiss()), MUST, "300"),
    ("ntp-plain", "origin", only(is_plain, lambda t: [t.header(origin=1)]), INFO, "origin"),
    ("ntp-plain", "version", only(version_is(3), plain), INFO, "version 4"),
    ("ntp-plain", "long", only(is_plain, long_plain), INFO, "80 octets"),
]  # fmt: skip

WARNINGS: list[tuple[str, str, Answer, str]] = [
    ("ntp-basic", "unsynchronised", only(NTS, time_(header=lambda t: t.header(leap=3, stratum=16))), "synchronised"),
    ("ntp-basic", "kiss", only(NTS, time_(header=lambda t: t.header(stratum=0, reference=b"INIT"))), "0 (INIT)"),
    ("ntp-basic", "no-time", only(NTS, time_(header=lambda t: t.header(receive=0))), "timestamp is zero"),
    ("ntp-placeholders", "fewer", only(NTS, one_cookie), "1 cookie instead of 8"),
    ("ntp-placeholder-badlen", "nak", only(has(PLACEHOLDER), kiss()), "NTSN"),
    ("ntp-placeholder-ff", "always-one", only(NTS, one_cookie), "1 cookie instead of 2"),
    ("nak-badtag", "silent", only(refused, lambda t: []), "silence"),
    ("nak-badtag", "deny", only(refused, kiss(code=b"DENY")), "DENY"),
    ("nak-badcookie", "silent", only(refused, lambda t: []), "silence"),
    ("ntp-bitflip-sweep", "plain", only(refused, plain), "without protection"),
    ("ntp-cardinality", "plain", only(unsound, plain), "without protection"),
    ("ntp-plain", "nts-only", only(is_plain, lambda t: []), "no reply"),
    ("ntp-plain", "limit", lambda t: [] if len(t.datagram) > 1024 else sound(t), "1200 are not"),
]  # fmt: skip

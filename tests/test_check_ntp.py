# SPDX-License-Identifier: MIT
"""nts_check's NTP checks (33 to 52): each against sound, faulty and hostile servers, and against chronyd."""

from __future__ import annotations

import itertools
import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from nts import certs
from nts.check import runner
from nts.check.forge import UNKNOWN_FIELD, Ticket, raw_field
from nts.check.model import Check, Result, Severity, Verdict
from nts.check.ntp_probe import MAX_REPLIES, SLOWEST
from nts.check.peer import KeBehaviour, Pair, craft, pair
from nts.check.peer.ke import KeTalk
from nts.check.peer.ntp import NtpTalk, sound
from nts.check.probe import ServerProbe, Target
from nts.check.server import CHECKS
from nts.registry import FieldType
from tests import chrony, strategies
from tests.fake_servers import closed_udp_port
from tests.support import free_port, running_suite

UNIQUE_IDENTIFIER, COOKIE = FieldType.UNIQUE_IDENTIFIER, FieldType.COOKIE
PLACEHOLDER, AUTHENTICATOR = FieldType.COOKIE_PLACEHOLDER, FieldType.AUTHENTICATOR
NTP_CHECKS = {c.name: c for c in CHECKS if 33 <= int(c.id) <= 52}
NAMES = list(NTP_CHECKS)
PATIENCE = 0.4  # seconds, on the loopback interface
SHORT = 0.2  # where a server is silent on purpose, again and again
Answer = Callable[[NtpTalk], Iterable["bytes | float"]]


def test_all_twenty_are_there_under_their_numbers() -> None:
    assert [int(c.id) for c in NTP_CHECKS.values()] == list(range(33, 53))
    assert [c.name for c in CHECKS if c.last] == ["ntp-no-amplify"]


@pytest.mark.parametrize("check", NTP_CHECKS.values(), ids=NAMES)
def test_every_check_explains_itself(check: Check[ServerProbe]) -> None:
    for text in (check.sends, check.expects, check.rule):
        assert text.endswith(".")
        assert "  " not in text
        assert 20 < len(text) < 300


# --- running checks --------------------------------------------------------------------------------------------------


def probe_for(ke_port: int, patience: float = PATIENCE) -> ServerProbe:
    return ServerProbe(Target("127.0.0.1", ke_port, patience=patience), pace=0, seed=1)


def results(probe: ServerProbe, names: Iterable[str] = NAMES) -> dict[str, Result[ServerProbe]]:
    return {r.check.name: r for r in runner.run([NTP_CHECKS[n] for n in names], probe)}


def explained(found: dict[str, Result[ServerProbe]], but: Verdict = Verdict.PASS) -> list[str]:
    """What is not as it should be."""
    return [f"{name}: {r.verdict.value}: {r.evidence}" for name, r in found.items() if r.verdict is not but]


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    with pair() as both:
        yield both


@pytest.fixture
def run(servers: Pair) -> Iterator[Callable[..., Result[ServerProbe]]]:
    """Runs one check while the time server answers in some way."""

    def run_check(name: str, answer: Answer = sound) -> Result[ServerProbe]:
        servers.ntp.behave(answer=answer)
        return results(probe_for(servers.ke.port, SHORT), [name])[name]

    yield run_check
    servers.ntp.behave(answer=sound)


@pytest.mark.parametrize("name", NAMES)
def test_each_check_passes_by_itself_with_a_sound_server(run: Callable[..., Result[ServerProbe]], name: str) -> None:
    result = run(name)
    assert result.verdict is Verdict.PASS, result.evidence
    assert result.evidence
    assert result.exhibits


@pytest.mark.parametrize("engine", ["native", "python"])
def test_our_own_servers_pass_all(tmp_path: Path, engine: str) -> None:
    with running_suite(tmp_path, ntpv4={"engine": engine}) as suite:
        assert not explained(results(probe_for(suite.ke_port)))


# --- one fault for each check, at least ------------------------------------------------------------------------------


def only(condition: Callable[[NtpTalk], bool], fault: Answer) -> Answer:
    """The fault where the condition is met, and what is right everywhere else."""
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


def authenticator_of(talk: NtpTalk) -> bytes:
    return (talk.bodies(AUTHENTICATOR) or [b""])[0]


def nonce_length(talk: NtpTalk) -> int:
    return int.from_bytes(authenticator_of(talk)[:2], "big")


def length_is(*lengths: int) -> Callable[[NtpTalk], bool]:
    return lambda talk: len(talk.datagram) in lengths


def time_(**changes: object) -> Answer:
    """An authentic reply, come what may, with some part of it put differently."""
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
    cookie = strategies.cookie_of(keys, master)
    return [talk.time(cookies=[cookie] * (1 + len(talk.placeholders)))]


def once_only() -> Answer:
    """Answers no packet twice."""
    seen: set[bytes] = set()

    def answer(talk: NtpTalk) -> Iterable[bytes | float]:
        known = talk.datagram in seen
        seen.add(talk.datagram)
        return [] if known else sound(talk)

    return answer


def fragile() -> Answer:
    """Does not survive a malformed packet."""
    dead: list[bool] = []

    def answer(talk: NtpTalk) -> Iterable[bytes | float]:
        if len(talk.datagram) % 4:
            dead.append(True)
        return [] if dead else sound(talk)

    return answer


def whatever_key(talk: NtpTalk) -> Iterable[bytes | float]:
    """Takes requests that are sealed with either key."""
    reply = talk.sound()
    return [talk.time()] if reply is not None and reply[1] == 0 and talk.keys else sound(talk)


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


def long_plain(talk: NtpTalk) -> Iterable[bytes]:
    return [talk.header() + raw_field(UNKNOWN_FIELD, bytes(28))]


def one_cookie(talk: NtpTalk) -> Iterable[bytes]:
    return [talk.time(cookies=talk.fresh_cookies(1))]


def unknown_behind(talk: NtpTalk) -> bool:
    return bool(talk.fields) and talk.fields[-1].type == UNKNOWN_FIELD


CRIT, MUST, SHOULD, INFO = Severity.CRIT, Severity.MUST, Severity.SHOULD, Severity.INFO
NTS = has(AUTHENTICATOR)
FAULTS: list[tuple[str, str, Answer, Severity, str]] = [
    # check, what is wrong, the server, severity, what the evidence says
    ("ntp-basic", "no-authenticator", only(NTS, lambda t: [t.header() + t.uid()]), CRIT, "without protection"),
    ("ntp-basic", "c2s", only(NTS, time_(key=lambda t: t.session_keys().c2s)), CRIT, "not good under the S2C key"),
    ("ntp-basic", "wrong-uid", only(NTS, time_(uid=raw_field(UNIQUE_IDENTIFIER, bytes(32)))), CRIT, "Identifier"),
    ("ntp-basic", "no-uid", only(NTS, time_(uid=b"")), CRIT, "Identifier"),
    ("ntp-basic", "origin", only(NTS, time_(header=lambda t: t.header(origin=1))), CRIT, "origin"),
    ("ntp-basic", "mode", only(NTS, time_(header=lambda t: t.header(mode=2))), CRIT, "mode 2"),
    ("ntp-basic", "version", only(NTS, time_(header=lambda t: t.header(version=3))), CRIT, "version 3"),
    ("ntp-basic", "clear-cookie", only(NTS, time_(clear=cookie_field)), CRIT, "outside of the ciphertext"),
    ("ntp-basic", "late-cookie", only(NTS, time_(after=cookie_field)), CRIT, "outside of the ciphertext"),
    ("ntp-basic", "no-cookie", only(NTS, time_(cookies=[])), MUST, "0 cookies"),
    ("ntp-basic", "two-cookies", only(NTS, time_(cookies=lambda t: t.fresh_cookies(2))), MUST, "2 cookies"),
    ("ntp-basic", "stale-cookie", only(NTS, time_(cookies=lambda t: [t.body(COOKIE)])), MUST, "spent"),
    ("ntp-basic", "nak-only", only(NTS, kiss()), CRIT, "NTSN"),
    ("ntp-no-amplify", "long", only(NTS, time_(after=raw_field(UNKNOWN_FIELD, bytes(40)))), CRIT, "in reply to"),
    ("ntp-no-amplify", "twice", lambda t: [*sound(t), *sound(t)], CRIT, "in reply to"),
    ("ntp-placeholders", "one-more", only(NTS, time_(cookies=lambda t: t.fresh_cookies(2 + len(t.placeholders)))), MUST,
     "3 cookies instead of 2"),
    ("ntp-placeholders", "none", only(has(PLACEHOLDER, 3), lambda t: []), MUST, "nothing instead of time"),
    ("ntp-placeholder-badlen", "counted", only(NTS, counting_all), MUST, "2 cookies"),
    ("ntp-placeholder-ff", "looked-at", one_for_nonzero, MUST, "which a usual placeholder brings"),
    ("ntp-placeholder-ff", "dropped", lambda t: [] if any(map(any, t.placeholders)) else sound(t), MUST, "nothing"),
    ("ntp-placeholder-encrypted", "missed", only(NTS, counting_all), MUST, "which a usual placeholder brings"),
    ("ntp-cookie-chain", "same", only(NTS, stubborn), MUST, "have come before"),
    ("ntp-cookie-chain", "bad", only(NTS, time_(cookies=[bytes(100), bytes(99) + b"1"])), MUST, "nothing instead"),
    ("ntp-cookie-chain", "huge", only(NTS, time_(cookies=[bytes(1400)])), MUST, "fits in no NTP packet"),
    ("ntp-cookie-chain", "none", only(NTS, time_(cookies=[])), MUST, "no cookie to use"),
    ("ntp-replay-address", "once", once_only(), MUST, "nothing instead of time"),
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
    ("ntp-nonce-shapes", "16-only", lambda t: sound(t) if nonce_length(t) in (0, 16) else [], MUST, "nonce 15"),
    ("ntp-nonce-shapes", "no-padding", lambda t: sound(t) if len(authenticator_of(t)) < 60 else [], MUST, "padding 64"),
    ("ntp-nonce-short-nopad", "taken", only(lambda t: nonce_length(t) == 8, time_()), MUST, "authentic"),
    ("ntp-nonce-short-nopad", "plain", only(lambda t: nonce_length(t) == 8, plain), MUST, "without protection"),
    ("ntp-ef-placement", "after", only(unknown_behind, lambda t: []), MUST, "field after: nothing"),
    ("ntp-ef-placement", "any", only(has(UNKNOWN_FIELD), lambda t: []), MUST, "before, an unknown field after"),
    ("ntp-cardinality", "two-uids", only(has(UNIQUE_IDENTIFIER, 2), time_(uid=b"")), MUST, "two identifiers"),
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
    ("ntp-malformed-sweep", "careless", only(unsound, plain), CRIT, "without protection"),
    ("ntp-malformed-sweep", "dies", fragile(), CRIT, "none after them"),
    ("ntp-plain", "origin", only(is_plain, lambda t: [t.header(origin=1)]), INFO, "origin"),
    ("ntp-plain", "version", only(version_is(3), plain), INFO, "version 4"),
    ("ntp-plain", "long", only(is_plain, long_plain), INFO, "80 octets"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "answer", "severity", "text"),
    [(n, *rest) for n, _, *rest in FAULTS],
    ids=[f"{n}-{w}" for n, w, *_ in FAULTS],
)
def test_faults_are_found(
    run: Callable[..., Result[ServerProbe]], name: str, answer: Answer, severity: Severity, text: str
) -> None:
    result = run(name, answer)
    assert (result.verdict, result.severity) == (Verdict.FAIL, severity), result.evidence
    assert text in result.evidence


def test_there_is_a_fault_for_every_check() -> None:
    assert {name for name, *_ in FAULTS} == set(NAMES)


WARNINGS: list[tuple[str, str, Answer, str]] = [
    ("ntp-basic", "unsynchronised", only(NTS, time_(header=lambda t: t.header(leap=3, stratum=16))), "synchronised"),
    ("ntp-placeholders", "fewer", only(NTS, one_cookie), "1 cookie instead of 8"),
    ("ntp-placeholder-badlen", "nak", only(has(PLACEHOLDER), kiss()), "NTSN"),
    ("ntp-placeholder-ff", "always-one", only(NTS, one_cookie), "1 cookie instead of 2"),
    ("nak-badtag", "silent", only(refused, lambda t: []), "silence"),
    ("nak-badtag", "deny", only(refused, kiss(code=b"DENY")), "DENY"),
    ("nak-badcookie", "silent", only(refused, lambda t: []), "silence"),
    ("ntp-bitflip-sweep", "plain", only(refused, plain), "without protection"),
    ("ntp-cardinality", "plain", only(unsound, plain), "without protection"),
    ("ntp-plain", "nts-only", only(is_plain, lambda t: []), "nothing"),
    ("ntp-plain", "limit", lambda t: [] if len(t.datagram) > 1024 else sound(t), "1200 are not"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "answer", "text"), [(n, *rest) for n, _, *rest in WARNINGS], ids=[f"{n}-{w}" for n, w, *_ in WARNINGS]
)
def test_what_is_allowed_but_not_as_it_should_be_is_a_warning(
    run: Callable[..., Result[ServerProbe]], name: str, answer: Answer, text: str
) -> None:
    result = run(name, answer)
    assert result.verdict is Verdict.WARN, result.evidence
    assert text in result.evidence


def test_no_amplify_judges_all_exchanges_of_the_run(servers: Pair) -> None:
    """A fault that its own set does not meet, but that of another check does."""
    servers.ntp.behave(answer=only(mode_is(7), lambda t: [bytes(480)]))
    probe = probe_for(servers.ke.port)
    found = results(probe, ["ntp-no-amplify", "ntp-modes-versions"])
    servers.ntp.behave(answer=sound)
    assert list(found) == ["ntp-modes-versions", "ntp-no-amplify"]
    assert found["ntp-no-amplify"].evidence == "mode 7: 480 octets in reply to 228"


# --- silence ---------------------------------------------------------------------------------------------------------


def test_a_server_that_never_answers_is_the_path(servers: Pair) -> None:
    servers.ntp.behave(answer=lambda _talk: [])
    found = results(probe_for(servers.ke.port, patience=0.05))
    servers.ntp.behave(answer=sound)
    assert not explained(found, but=Verdict.PATH)


def test_a_path_that_drops_long_packets_is_seen(run: Callable[..., Result[ServerProbe]]) -> None:
    dropping = only(lambda t: len(t.datagram) > 48, lambda _talk: [])
    result = run("ntp-plain", dropping)
    assert result.verdict is Verdict.PATH
    assert "48 octets are answered, NTS requests of 228 are not" in result.evidence
    assert run("ntp-basic", dropping).verdict is Verdict.PATH
    result = run("ntp-plain", only(lambda t: len(t.datagram) > 500, lambda _talk: []))
    assert result.verdict is Verdict.PATH
    assert "228 octets are answered, 540 are not" in result.evidence


def test_a_port_that_nobody_listens_on_is_noted() -> None:
    with closed_udp_port() as port, pair(ke=KeBehaviour(ntp_port=port)) as both:
        found = results(probe_for(both.ke.port), ["ntp-basic", "ntp-key-swap"])
    assert not explained(found, but=Verdict.PATH)
    assert any(e.text == "no reply: Connection refused" for e in found["ntp-basic"].exhibits)


def test_losses_are_made_up_for(run: Callable[..., Result[ServerProbe]]) -> None:
    """Every second packet vanishes."""
    counter = itertools.count()
    result = run("ntp-placeholders", lambda t: sound(t) if next(counter) % 2 else [])
    assert result.verdict is Verdict.PASS, result.evidence


@pytest.mark.parametrize("name", ["ntp-key-swap", "ntp-malformed-sweep", "ntp-nonce-short-nopad"])
def test_a_server_that_serves_nobody_cannot_be_judged_by_its_refusals(
    run: Callable[..., Result[ServerProbe]], name: str
) -> None:
    result = run(name, only(NTS, kiss()))
    assert result.verdict is Verdict.SKIP
    assert "a usual request gets NTSN" in result.evidence


def test_an_old_cookie_is_replaced(servers: Pair) -> None:
    """The server forgets its keys between two checks: the control request gets new cookies."""
    probe = probe_for(servers.ke.port)
    assert results(probe, ["ntp-basic"])["ntp-basic"].verdict is Verdict.PASS
    stale = Ticket(probe.ntp.forge.ticket.keys, bytes(100))
    probe.ntp._forge = probe.ntp.with_ticket(stale)
    probe.ntp.control()
    assert probe.ntp.forge.ticket != stale
    assert results(probe, ["ntp-basic"])["ntp-basic"].verdict is Verdict.PASS


def test_rate_is_obeyed(servers: Pair) -> None:
    servers.ntp.behave(answer=only(NTS, kiss(code=b"RATE")))
    probe = ServerProbe(Target("127.0.0.1", servers.ke.port, patience=PATIENCE), pace=0.01)
    result = results(probe, ["ntp-basic"])["ntp-basic"]
    servers.ntp.behave(answer=sound)
    assert result.verdict is Verdict.SKIP
    assert "RATE" in result.evidence
    assert 0.1 < probe.ntp_pace.interval <= SLOWEST


def test_packets_are_paced(servers: Pair) -> None:
    interval = 0.05
    probe = ServerProbe(Target("127.0.0.1", servers.ke.port, patience=PATIENCE), pace=interval, seed=1)
    before = len(servers.ntp.requests)
    started = time.monotonic()
    results(probe, ["ntp-placeholder-badlen", "nak-badtag"])
    sent = len(servers.ntp.requests) - before
    assert sent == len(probe.ntp.tally)
    assert time.monotonic() - started >= (sent - 1) * interval


def test_the_default_pace_stays_within_eight_minutes(servers: Pair) -> None:
    """With a server that is sound; counted, not waited for. The sweep is coarser as soon as there is a pace."""
    probe = ServerProbe(Target("127.0.0.1", servers.ke.port, patience=PATIENCE), pace=1e-6, seed=1)
    assert not explained(results(probe))
    assert len(probe.ntp.tally) * 1.0 < 8 * 60


# --- hostile servers -------------------------------------------------------------------------------------------------

MOST = 65507  # octets of a UDP datagram over IPv4
HOSTILE: dict[str, Answer] = {
    "empty": lambda _t: [b""],
    "garbage": lambda t: [random.Random(len(t.requests)).randbytes(n) for n in (1, 47, 48, 49, 80, 300)],
    "truncated": lambda t: [r[:n] for r in sound(t) if isinstance(r, bytes) for n in (4, 47, 49, 60, 84, 100, 200)],
    "echo": lambda t: [t.datagram],
    "64-KB": lambda t: [t.datagram[:48].ljust(MOST, b"\1")],
    "64-KB-of-fields": lambda t: [(t.header() + t.uid() + raw_field(UNKNOWN_FIELD, bytes(12)) * 4090)[: MOST & ~3]],
    "64-KB-of-cookies": lambda t: [t.time(cookies=[bytes(100)] * 600)],
    "one-huge-cookie": lambda t: [t.time(cookies=[bytes(65000)])],
    "zero-fields": lambda t: [t.header() + bytes(400)],
    "many": lambda t: [*[t.header(origin=7)] * 500, *sound(t)],
    "bad-plaintext": lambda t: [t.time(cookies=[], inside=b"\1\2\0\3")],
    "authenticator-alone": lambda t: [t.header() + raw_field(AUTHENTICATOR, bytes(24))],
    "claims-too-much": lambda t: [t.header() + t.uid() + raw_field(AUTHENTICATOR, b"\xff" * 36)],
}  # fmt: skip


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_hostile_replies_end_in_a_verdict(servers: Pair, answer: Answer) -> None:
    servers.ntp.behave(answer=answer)
    probe = probe_for(servers.ke.port, patience=0.05)
    started = time.monotonic()
    found = results(probe)
    servers.ntp.behave(answer=sound)
    assert set(found) == set(NAMES)
    assert found["ntp-basic"].verdict in (Verdict.FAIL, Verdict.PATH, Verdict.PASS)
    assert time.monotonic() - started < 60
    assert max(e.received for e in probe.ntp.tally) <= MAX_REPLIES * MOST


@pytest.mark.parametrize("length", [0, 65000])
def test_cookies_that_fit_in_no_packet_are_not_sent(length: int) -> None:
    def odd_cookies(talk: KeTalk) -> None:
        talk.request()
        talk.send(craft.response(cookies=[bytes(length)]))

    with pair(ke=KeBehaviour(answer=odd_cookies)) as both:
        result = results(probe_for(both.ke.port), ["ntp-basic"])["ntp-basic"]
    assert result.verdict is Verdict.SKIP
    assert f"a cookie of {length} octets" in result.evidence


# --- chronyd ---------------------------------------------------------------------------------------------------------

CHRONY = dict.fromkeys(NAMES, "PASS") | {
    "ntp-ef-placement": "FAIL",  # it drops requests with a field that it does not know behind the authenticator
    "ntp-cardinality": "FAIL",  # it takes two identifiers, and echoes both
    "ntp-plain": "WARN",  # it takes no more than 1024 octets of extension fields
}
CHRONY_EVIDENCE = {
    "ntp-ef-placement": "an unknown field after: nothing instead of time",
    "ntp-cardinality": "two identifiers: an authentic reply",
    "ntp-plain": "956 octets are answered, 1200 are not",
    "nak-badtag": "NTSN, 84 octets",
    "nak-badcookie": "NTSN, 84 octets",
    "ntp-placeholder-badlen": "nothing",
    "ntp-nonce-short-nopad": "NTSN",
    "ntp-uid-lengths": "an identifier alone: nothing",
    "ntp-modes-versions": "mode 1, mode 2, mode 4, mode 5, mode 6, mode 7, version 1, version 2, version 3, ",
}


@pytest.mark.interop
def test_chronyd_gets_the_verdicts_that_are_known_of_it() -> None:
    chrony.require()
    with chrony.short_folder() as folder:
        certs.make(certs.LOCAL_NAMES, cert=folder / "cert.pem", key=folder / "cert.key", ca=folder / "ca.pem")
        ke_port, ntp_port = free_port(), free_port(socket.SOCK_DGRAM)
        with chrony.running(folder, chrony.nts_server(folder, ke_port, ntp_port)):
            found = results(probe_for(ke_port))
    assert {name: r.verdict.value for name, r in found.items()} == CHRONY, explained(found)
    for name, text in CHRONY_EVIDENCE.items():
        assert text in found[name].evidence

# SPDX-License-Identifier: MIT
"""The real time client against servers that misbehave: C01 to C13, C18, C19 and C23 of nts_check's cases, among others.

Cases run as those of the key exchange client do (`test_client_ke_behaviour.py`).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import pytest

from nts import ts_client, ts_session
from nts.check.peer import NtpBehaviour, NtpPeer, NtpTalk
from nts.check.peer.craft import field as ef
from nts.check.peer.craft import random_cookies
from nts.errors import Mismatch
from nts.records import encode_u16s as u16
from nts.state import ClientState
from tests import support
from tests.client_cases import (
    AUTH,
    COOKIE,
    PARALLEL,
    PLACEHOLDER,
    SLACK,
    TS,
    UID,
    Answer,
    Completed,
    Reply,
    check_failure,
    check_success,
    genuine,
    only,
    some_keys,
    stored_cookies,
    write_association,
)

MAX_PACKET = 1232  # octets of UDP payload: 1280 with IPv6 and UDP headers


def flip(packet: bytes, index: int) -> bytes:
    return packet[:index] + bytes([packet[index] ^ 1]) + packet[index + 1 :]


def lying_authenticator(request: NtpTalk) -> bytes:
    """Its nonce is longer than the field."""
    return request.header() + request.uid() + ef(AUTH, u16(400, 16) + bytes(32))


# What is not a genuine answer, the exit code when nothing better comes, and words of the explanation.
FORGED: dict[str, tuple[int, str, Reply]] = {
    "C01 plain": (22, "without NTS", lambda r: r.header()),
    "C01 crypto-NAK": (22, "without NTS", lambda r: r.header() + bytes(4)),
    "C01 unknown field": (22, "without NTS", lambda r: r.header() + ef(0xF000, bytes(24))),
    "C02 no authenticator": (22, "without NTS protection", lambda r: r.header() + r.uid()),
    "C03 no identifier": (23, "Unique Identifier", lambda r: r.time(uid=b"")),
    "C04 wrong identifier": (
        23, "Unique Identifier", lambda r: r.time(uid=ef(UID, os.urandom(32))),
    ),
    "C04 prefix of the identifier": (
        23, "Unique Identifier", lambda r: r.time(uid=ef(UID, r.body(UID)[:28])),
    ),
    "C04 identifier and more": (
        23, "Unique Identifier", lambda r: r.time(uid=ef(UID, r.body(UID) + bytes(4))),
    ),
    "C04 identifier twice": (23, "Unique Identifier", lambda r: r.time(uid=r.uid() + r.uid())),
    "C04 identifier after the authenticator": (
        22, "does not cover", lambda r: r.time(uid=b"", after=r.uid()),
    ),
    "C05 random key": (22, "tag", lambda r: r.time(os.urandom(32))),
    "C05 C2S key": (22, "tag", lambda r: r.time(r.session_keys().c2s)),
    "C05 stratum flipped": (22, "tag", lambda r: flip(genuine(r), 1)),
    "C05 receive timestamp flipped": (22, "tag", lambda r: flip(genuine(r), 39)),
    "C05 ciphertext flipped": (22, "tag", lambda r: flip(genuine(r), 150)),
    "C05 nonce flipped": (22, "tag", lambda r: flip(genuine(r), 48 + 36 + 8)),
    "two authenticators": (
        22, "more than one authenticator", lambda r: r.time(after=genuine(r)[84:]),
    ),
    "nonce overruns": (22, "ignored", lambda r: lying_authenticator(r)),
    "C08 NTSN without identifier": (22, "without NTS", lambda r: r.kiss(b"NTSN", uid=b"")),
    "C08 NTSN with a wrong identifier": (
        23, "Unique Identifier", lambda r: r.kiss(b"NTSN", uid=ef(UID, os.urandom(32))),
    ),
    "C11 RATE without identifier": (22, "without NTS", lambda r: r.kiss(b"RATE", uid=b"")),
    "C11 DENY with a wrong identifier": (
        23, "Unique Identifier", lambda r: r.kiss(b"DENY", uid=ef(UID, os.urandom(32))),
    ),
    "B11 wrong origin": (23, "origin", lambda r: r.time(header=r.header(origin=r.transmit ^ 1))),
    "B11 origin zero": (23, "origin", lambda r: r.time(header=r.header(origin=0))),
    "A52 mode 3": (23, "mode 3", lambda r: r.time(header=r.header(mode=3))),
    "A52 mode 5": (23, "mode 5", lambda r: r.time(header=r.header(mode=5))),
    "B07 version 3": (23, "version 3", lambda r: r.time(header=r.header(version=3))),
    "request reflected": (23, "mode 3", lambda r: r.datagram),
    "no octets": (22, "malformed", lambda r: b""),
    "47 octets": (22, "malformed", lambda r: genuine(r)[:47]),
    "cut off": (22, "malformed", lambda r: genuine(r)[:-4]),
    "B01 field of length 0": (22, "malformed", lambda r: r.header() + bytes(32)),
    "random": (22, "", lambda r: b"\x24" + r.datagram[1:24] + r.datagram[40:48] + b"\xff" * 200),
}  # fmt: skip

# Authentic, but no time for us: the client stops waiting.
UNUSABLE: dict[str, tuple[str, Callable[[NtpTalk], bytes]]] = {
    "B12 leap 3": ("not synchronised", lambda r: r.header(leap=3)),
    "B12 stratum 16": ("not synchronised", lambda r: r.header(stratum=16)),
    "B12 stratum 255": ("not synchronised", lambda r: r.header(stratum=255)),
    "B12 leap 3, stratum 0, INIT": ("INIT", lambda r: r.header(leap=3, stratum=0, reference=b"INIT")),
    "B12 receive timestamp zero": ("zero", lambda r: r.header(receive=0)),
    "B12 transmit timestamp zero": ("zero", lambda r: r.header(transmit=0)),
    "B12 root distance 16 s": ("root distance", lambda r: r.header(delay=16 << 16, dispersion=8 << 16)),
    "C11 RATE": ("RATE", lambda r: r.header(stratum=0, reference=b"RATE")),
    "C11 DENY": ("DENY", lambda r: r.header(stratum=0, reference=b"DENY")),
    "C11 RSTR": ("RSTR", lambda r: r.header(stratum=0, reference=b"RSTR")),
    "C11 not printable": ("????", lambda r: r.header(stratum=0, reference=b"\x1b\0\xff\n")),
}


@dataclass(frozen=True)
class NtpCase:
    answer: Answer
    arguments: tuple[object, ...] = ()
    cookies: int | list[bytes] = 8
    host: str = "127.0.0.1"
    server: str | None = None
    """the time server's name in client.ini, if it is not its address"""


@dataclass(frozen=True)
class NtpOutcome:
    completed: Completed
    server: NtpPeer
    ini: Path
    before: list[bytes]
    """the cookies in client.ini before"""
    seconds: float

    @property
    def after(self) -> list[bytes]:
        return stored_cookies(self.ini)

    @property
    def placeholders(self) -> list[int]:
        return [len(r.placeholders) for r in self.server.requests]


def run_ntp(case: NtpCase, folder: Path) -> NtpOutcome:
    """One run of the time client; what holds in each of them is asserted here."""
    folder.mkdir()
    ini = folder / "client.ini"
    before = random_cookies(case.cookies) if isinstance(case.cookies, int) else case.cookies
    keys = some_keys()
    with NtpPeer(NtpBehaviour(case.answer, case.host, keys=keys)) as server:
        write_association(ini, keys, server.port, before, case.server or case.host)
        started = time.monotonic()
        completed = support.run(TS, "-f", ini, *case.arguments)
        seconds = time.monotonic() - started
    outcome = NtpOutcome(completed, server, ini, before, seconds)
    check_requests(outcome)
    return outcome


def check_requests(outcome: NtpOutcome) -> None:
    """Every request is NTS-protected (A80), spends a cookie of its own (A63), and leaks nothing (C23)."""
    spent = outcome.server.spent()
    assert len(set(spent)) == len(spent)
    assert not set(spent) & set(outcome.after)
    assert len(outcome.after) <= 8
    for request in outcome.server.requests:
        assert request.is_authentic
        assert len(request.datagram) <= MAX_PACKET
        assert request.datagram[:40] == b"\x23" + bytes(39)  # A81
        kinds = [f.type for f in request.fields]
        assert kinds == [UID, COOKIE, *[PLACEHOLDER] * len(request.placeholders), AUTH]  # A62
        assert len(request.body(UID)) == 32  # A50
        assert set(request.placeholders) <= {bytes(len(request.body(COOKIE)))}  # A53
        assert len(request.placeholders) <= 7  # A64
        nonce_length, tag_length = int.from_bytes(request.body(AUTH)[:2], "big"), request.body(AUTH)[2:4]
        assert (nonce_length, tag_length) == (16, u16(16))  # A60: no Additional Padding is due
        assert len(request.body(AUTH)) == 36  # B02: the last field is longer than 28 octets
        assert request.port != 123  # B14


def before_genuine(reply: Reply) -> Answer:
    return lambda r: [reply(r), genuine(r)]


def kiss(code: bytes) -> Reply:
    return lambda r: r.kiss(code)


def unusable(header: Callable[[NtpTalk], bytes]) -> Reply:
    return lambda r: r.time(header=header(r))


def with_cookies(*lengths: int) -> Answer:
    return lambda r: [r.time(cookies=[os.urandom(n) for n in lengths])]


def nothing(talk: NtpTalk) -> list[bytes | float]:
    return []


def replaying(talk: NtpTalk) -> list[bytes | float]:
    """All old replies again before the genuine one, which comes twice."""
    reply = genuine(talk)
    return [*talk.peer.sent, reply, reply]


def answering_each(n: int) -> Answer:
    """Only each n-th request."""
    return lambda r: [] if len(r.requests) % n else [genuine(r)]


def clear_cookies(talk: NtpTalk) -> list[bytes | float]:
    """C07: cookies where none must be taken from, and one where it must."""
    clear = b"".join(ef(COOKIE, c) for c in CLEAR)
    return [talk.time(cookies=[HIDDEN], clear=clear, after=clear)]


CLEAR, HIDDEN = random_cookies(2), os.urandom(100)
SHORT, QUICK = ("--timeout", 0.5), ("-i", 0.001)
NTP: dict[str, NtpCase] = {
    **{f"{name}, alone": NtpCase(only(reply), SHORT) for name, (_, _, reply) in FORGED.items()},
    "all forged, then genuine": NtpCase(lambda r: [*(reply(r) for _, _, reply in FORGED.values()), genuine(r)]),
    **{name: NtpCase(only(unusable(header)), ("--timeout", 30)) for name, (_, header) in UNUSABLE.items()},
    "basic": NtpCase(only(genuine)),
    "IPv6": NtpCase(only(genuine), host="::1"),
    "C19 localhost": NtpCase(only(genuine), server="localhost"),
    "C09 NAK, then genuine": NtpCase(before_genuine(kiss(b"NTSN"))),
    "C09 NAK, then genuine within the grace": NtpCase(lambda r: [r.kiss(b"NTSN"), 0.5, genuine(r)]),
    "C10 NAK": NtpCase(only(kiss(b"NTSN")), ("--timeout", 30)),
    "C10 NAK, three queries": NtpCase(only(kiss(b"NTSN")), ("--timeout", 30, "-n", 3, *QUICK)),
    "C11 RATE without authenticator": NtpCase(only(kiss(b"RATE")), ("--timeout", 30)),
    "C11 RATE without authenticator, then genuine": NtpCase(before_genuine(kiss(b"RATE"))),
    "C11 DENY without authenticator, then genuine": NtpCase(before_genuine(kiss(b"DENY"))),
    "C06 replays": NtpCase(replaying, ("-n", 3, *QUICK)),
    "C07 cookies in clear": NtpCase(clear_cookies),
    "C12 never answers": NtpCase(nothing, ("--timeout", 1)),
    "C12 never answers nine queries": NtpCase(nothing, ("-n", 9, "--timeout", 0.2, *QUICK)),
    "C12 answers each fourth": NtpCase(answering_each(4), ("-n", 9, "--timeout", 0.3, *QUICK)),
    "C13 no cookies": NtpCase(with_cookies(), ("-n", 3, *QUICK)),
    "C13 20 cookies": NtpCase(with_cookies(*[100] * 20), cookies=4),
    "C13 cookies of 1000 octets": NtpCase(with_cookies(1000), ("-n", 9, *QUICK)),
    "C13 cookies of 2000 octets": NtpCase(with_cookies(2000, 100, 1108), cookies=2),
    "C13 mixed lengths": NtpCase(with_cookies(15, 1, 104, 100), ("-n", 4, *QUICK), cookies=1),
    "C13 few of 1000 octets in stock": NtpCase(only(genuine), cookies=random_cookies(2, 1000)),
    "C13 few of 500 octets in stock": NtpCase(only(genuine), cookies=random_cookies(2, 500)),
    "C13 few of 164 octets in stock": NtpCase(only(genuine), cookies=random_cookies(1, 164)),
    "A30 odd lengths": NtpCase(nothing, ("-n", 4, "--timeout", 0.2, *QUICK), [b"c" * n for n in (1, 15, 101, 1103)]),
    "C23 many queries": NtpCase(only(genuine), ("-n", 100, *QUICK)),
    "two queries": NtpCase(only(genuine), ("-n", 2, *QUICK)),
    "flood": NtpCase(lambda r: repeat(bytes(48)), ("--timeout", 1)),
    "flood, then none": NtpCase(lambda r: chain([genuine(r)], repeat(bytes(48))), ("--timeout", 1)),
    "no cookies left": NtpCase(only(genuine), cookies=0),
    "authenticated field before, kept": NtpCase(
        lambda r: [r.time(clear=ef(0xF000, bytes(24)), after=ef(0xF001, bytes(24)))]
    ),
}


class NtpPool:
    """Runs every case once, several at a time."""

    def __init__(self, pool: ThreadPoolExecutor, folder: Path) -> None:
        self._futures: dict[str, Future[NtpOutcome]] = {
            name: pool.submit(run_ntp, case, folder / str(i)) for i, (name, case) in enumerate(NTP.items())
        }

    def __getitem__(self, name: str) -> NtpOutcome:
        return self._futures[name].result(120)


@pytest.fixture(scope="module")
def ntp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NtpPool]:
    pool = ThreadPoolExecutor(PARALLEL)
    yield NtpPool(pool, tmp_path_factory.mktemp("ntp"))
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", FORGED)
def test_forged_answer_alone_is_explained(ntp: NtpPool, name: str) -> None:
    """C01 to C08, A72, A75: no time; one cookie spent, none won; it was waited to the end for a genuine answer."""
    code, words, _ = FORGED[name]
    outcome = ntp[f"{name}, alone"]
    check_failure(outcome.completed, code, words)
    assert outcome.completed.stdout == ""
    assert outcome.seconds > 0.5
    assert outcome.server.spent() == outcome.before[:1]
    assert outcome.after == outcome.before[1:]


def test_forged_answers_do_not_keep_the_genuine_one_out(ntp: NtpPool) -> None:
    """A72: whatever an attacker sends is dropped, and the query goes on. All of the above to one request."""
    outcome = ntp["all forged, then genuine"]
    check_success(outcome.completed)
    assert "offset" in outcome.completed.stdout
    assert len(outcome.server.requests) == 1
    assert len(outcome.server.sent) == len(FORGED) + 1
    assert len(outcome.after) == 8


@pytest.mark.parametrize("name", UNUSABLE)
def test_authentic_answer_without_time_ends_the_query(ntp: NtpPool, name: str) -> None:
    """C11, B12, B13: 25 at once; its cookie is as good as any."""
    words, _ = UNUSABLE[name]
    outcome = ntp[name]
    check_failure(outcome.completed, 25, words)
    assert outcome.completed.stdout == ""
    assert outcome.seconds < SLACK
    assert len(outcome.after) == 8


@pytest.mark.parametrize(
    "name",
    [
        "basic", pytest.param("IPv6", marks=support.needs_v6), "C19 localhost",
        "C09 NAK, then genuine", "C09 NAK, then genuine within the grace",
        "C11 RATE without authenticator, then genuine", "C11 DENY without authenticator, then genuine",
        "authenticated field before, kept",
    ],
)  # fmt: skip
def test_genuine_answer_gives_time_and_a_fresh_cookie(ntp: NtpPool, name: str) -> None:
    outcome = ntp[name]
    check_success(outcome.completed)
    (line,) = outcome.completed.stdout.splitlines()
    assert "offset" in line
    assert outcome.server.spent() == outcome.before[:1]
    assert outcome.after[:7] == outcome.before[1:]
    assert len(outcome.after) == 8
    assert outcome.placeholders == [0]


def test_nak_is_waited_on_a_while_and_no_more(ntp: NtpPool) -> None:
    """C10, A76: a NAK could be forged, so the genuine answer gets a second; then 21. Old cookies are kept."""
    outcome = ntp["C10 NAK"]
    check_failure(outcome.completed, 21, "NTS NAK")
    assert 1 < outcome.seconds < 1 + SLACK
    assert outcome.after == outcome.before[1:]


def test_nak_ends_a_series(ntp: NtpPool) -> None:
    """C10, A78, A80: no hammering, no key exchange, no plain NTP (`check_requests`)."""
    outcome = ntp["C10 NAK, three queries"]
    check_failure(outcome.completed, 21, "NTS NAK")
    assert len(outcome.server.requests) == 1


def test_unprotected_kiss_is_obeyed_only_for_lack_of_better(ntp: NtpPool) -> None:
    """C11, A75: with our Unique Identifier, and nothing else came."""
    outcome = ntp["C11 RATE without authenticator"]
    check_failure(outcome.completed, 25, "RATE")
    assert outcome.seconds < 1 + SLACK


def test_replayed_answers_are_used_once(ntp: NtpPool) -> None:
    """C06."""
    outcome = ntp["C06 replays"]
    check_success(outcome.completed)
    assert len(outcome.server.requests) == 3
    assert len(outcome.after) == len(set(outcome.after)) == 8
    assert outcome.after[:5] == outcome.before[3:]


def test_cookies_in_clear_are_not_stored(ntp: NtpPool) -> None:
    """C07, A66: neither before nor after the authenticator."""
    outcome = ntp["C07 cookies in clear"]
    check_success(outcome.completed)
    assert outcome.after == [*outcome.before[1:], HIDDEN]


def test_silence_is_reported_within_the_time_out(ntp: NtpPool) -> None:
    """C12."""
    outcome = ntp["C12 never answers"]
    check_failure(outcome.completed, 20, "no NTP answer from 127.0.0.1")
    assert 1 < outcome.seconds < 1 + SLACK


def test_placeholders_grow_with_each_lost_answer(ntp: NtpPool) -> None:
    """C12, A63, A64: eight cookies, none twice, 0 to 7 placeholders; then 24, and nothing is sent."""
    outcome = ntp["C12 never answers nine queries"]
    check_failure(outcome.completed, 24, "no cookies left")
    assert outcome.placeholders == list(range(8))
    assert outcome.server.spent() == outcome.before
    assert outcome.after == []


def test_stock_is_refilled_by_the_first_answer(ntp: NtpPool) -> None:
    """C12, A64: three answers lost, the fourth brings four cookies; and again."""
    outcome = ntp["C12 answers each fourth"]
    assert outcome.placeholders == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert outcome.completed.returncode == 0
    assert "9 queries, 2 answers" in outcome.completed.stdout
    assert len(outcome.after) == 7


def test_answers_without_cookies_are_time_all_the_same(ntp: NtpPool) -> None:
    """C13."""
    outcome = ntp["C13 no cookies"]
    check_success(outcome.completed)
    assert outcome.placeholders == [0, 1, 2]
    assert outcome.after == outcome.before[3:]


def test_never_more_than_eight_cookies_are_kept(ntp: NtpPool) -> None:
    """C13, A64."""
    outcome = ntp["C13 20 cookies"]
    check_success(outcome.completed)
    assert len(outcome.after) == 8
    assert not set(outcome.before) & set(outcome.after)  # the newest


def test_long_cookies_are_used(ntp: NtpPool) -> None:
    """C13, A30: packets stay within 1280 octets (`check_requests`)."""
    outcome = ntp["C13 cookies of 1000 octets"]
    check_success(outcome.completed)
    assert [len(c) for c in outcome.server.spent()] == [100] * 8 + [1000]
    assert [len(c) for c in outcome.after] == [1000] * 8


def test_cookies_that_fit_no_packet_are_not_kept(ntp: NtpPool) -> None:
    """C13."""
    outcome = ntp["C13 cookies of 2000 octets"]
    check_success(outcome.completed)
    assert [len(c) for c in outcome.after] == [100, 100]


def test_cookies_of_mixed_lengths_are_kept(ntp: NtpPool) -> None:
    """C13, A53: each request's placeholders have its own cookie's length (`check_requests`)."""
    outcome = ntp["C13 mixed lengths"]
    check_success(outcome.completed)
    assert [len(c) for c in outcome.server.spent()] == [100, 16, 12, 16]
    assert outcome.placeholders == [7, 4, 1, 0]


@pytest.mark.parametrize(("length", "count"), [(1000, 0), (500, 1), (164, 5)])
def test_placeholders_are_fewer_where_packets_would_be_too_long(ntp: NtpPool, length: int, count: int) -> None:
    """A64: 1280 octets is what any path carries."""
    outcome = ntp[f"C13 few of {length} octets in stock"]
    check_success(outcome.completed)
    assert outcome.placeholders == [count]


def test_cookies_of_any_length_are_sent_back_exactly(ntp: NtpPool) -> None:
    """A30: with zero octets added where extension fields need them."""
    outcome = ntp["A30 odd lengths"]
    padded = [c.ljust(max(12, len(c) + -len(c) % 4), b"\0") for c in outcome.before]
    assert outcome.server.spent() == padded
    check_failure(outcome.completed, 20, "no NTP answer")


def test_hundred_requests_have_nothing_in_common(ntp: NtpPool) -> None:
    """C23, A50, A81, B14: identifiers, transmit timestamps, nonces and cookies are fresh, ports random."""
    outcome = ntp["C23 many queries"]
    requests = outcome.server.requests
    assert outcome.completed.returncode == 0
    assert len(requests) == 100
    assert len({r.body(UID) for r in requests}) == 100
    assert len({r.body(AUTH)[4:20] for r in requests}) == 100
    assert len({r.transmit for r in requests}) == 100
    assert len({r.port for r in requests}) > 50
    ones = sum(octet.bit_count() for r in requests for octet in r.body(UID) + r.datagram[40:48])
    assert abs(ones - 16000) < 6 * 89.5  # monobit test: 32000 random bits, six standard deviations
    assert "100 queries, 100 answers" in outcome.completed.stdout


def test_two_queries_print_two_samples(ntp: NtpPool) -> None:
    outcome = ntp["two queries"]
    check_success(outcome.completed)
    *samples, summary = outcome.completed.stdout.splitlines()
    assert len(samples) == len(outcome.server.requests) == 2
    assert all("offset" in line for line in samples)
    assert summary.startswith("2 queries, 2 answers; best offset")


def test_flood_of_junk_does_not_prolong_the_wait(ntp: NtpPool) -> None:
    """C18 for UDP: --timeout holds though there is always another datagram to read."""
    outcome = ntp["flood"]
    check_failure(outcome.completed, 23, "no answer to our request")
    assert 1 < outcome.seconds < 1 + 4
    check_success(ntp["flood, then none"].completed)


def test_flood_does_not_prolong_the_wait_on_a_slow_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C18 for UDP, where reading a datagram takes longer than sending the next one."""
    judge = ts_client.judge

    def judge_slowly(datagram: bytes, query: ts_client.Query) -> ts_client.Judgement:
        time.sleep(0.005)
        return judge(datagram, query)

    monkeypatch.setattr(ts_client, "judge", judge_slowly)
    ini = tmp_path / "client.ini"
    keys = some_keys()
    with NtpPeer(NtpBehaviour(lambda r: repeat(bytes(48)), keys=keys)) as server:
        write_association(ini, keys, server.port, random_cookies(8))
        started = time.monotonic()
        store = ClientState(ini)
        exchange = ts_session.ask(store, ts_session.locate(store.load(), None, None, socket.AF_INET), 0.5)
        assert time.monotonic() - started < 4
    assert isinstance(exchange.failure, Mismatch)


def test_without_cookies_nothing_is_sent(ntp: NtpPool) -> None:
    outcome = ntp["no cookies left"]
    check_failure(outcome.completed, 24, "no cookies left")
    assert outcome.server.requests == []


def test_closed_port_is_reported_at_once(tmp_path: Path) -> None:
    """The network's word for it ends the wait; it could be forged, so nothing else follows from it."""
    ini = tmp_path / "client.ini"
    with support.closed_udp_port() as port:
        write_association(ini, some_keys(), port, random_cookies(8))
        started = time.monotonic()
        check_failure(support.run(TS, "-f", ini, "--timeout", 30), 20, f"no NTP answer from 127.0.0.1:{port}")
    assert time.monotonic() - started < SLACK
    assert len(stored_cookies(ini)) == 7


def test_name_without_dots_is_looked_up_as_fully_qualified(tmp_path: Path) -> None:
    """C19, A32: `ntp1` means `ntp1.`, whatever the resolver's search list says."""
    ini = tmp_path / "client.ini"
    write_association(ini, some_keys(), 123, random_cookies(8), "ntp1")
    env = {"RES_OPTIONS": "timeout:1 attempts:1", "LOCALDOMAIN": "localhost"}
    check_failure(support.run(TS, "-f", ini, env=env), 10, "cannot resolve ntp1.:")
    assert len(stored_cookies(ini)) == 8  # none spent


def test_host_and_port_of_the_command_line_win(tmp_path: Path) -> None:
    """Same keys and cookies, another place."""
    ini = tmp_path / "client.ini"
    keys = some_keys()
    behaviour = NtpBehaviour(only(genuine), keys=keys)
    with NtpPeer(behaviour) as elsewhere, NtpPeer(behaviour) as server:
        write_association(ini, keys, elsewhere.port, random_cookies(8))
        check_success(support.run(TS, "-f", ini, "localhost", server.port))
    assert len(server.requests) == 1
    assert elsewhere.requests == []

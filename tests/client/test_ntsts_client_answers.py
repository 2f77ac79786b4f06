# SPDX-License-Identifier: MIT
"""ntsts_client.py against servers that misbehave: what it believes of their answers, and how long it waits for better.

C01 to C06, C08 to C12 and C18 of nts_check's cases, among others. Cases run as those of `test_ntske_client.py` do.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest

from nts.base.errors import Mismatch
from nts.check.peer import NtpBehaviour, NtpPeer, NtpTalk
from nts.check.peer.craft import field as ef
from nts.check.peer.craft import random_cookies
from nts.client import ts_session
from nts.client.state import ClientState
from nts.codec.records import encode_u16s as u16
from nts.protocol import ts_client
from nts.system import addresses
from testkit import processes
from testkit.client_runs import (
    AUTH,
    QUICK,
    SHORT,
    SLACK,
    TS,
    UID,
    Answer,
    NtpCase,
    NtpOutcome,
    Reply,
    check_failure,
    check_success,
    genuine,
    nothing,
    ntp_outcomes,
    only,
    some_keys,
    stored_cookies,
    write_association,
)
from testkit.outcomes import Outcomes


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
        22, "several authenticators", lambda r: r.time(after=genuine(r)[84:]),
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


def before_genuine(reply: Reply) -> Answer:
    return lambda r: [reply(r), genuine(r)]


def kiss(code: bytes) -> Reply:
    return lambda r: r.kiss(code)


def unusable(header: Callable[[NtpTalk], bytes]) -> Reply:
    return lambda r: r.time(header=header(r))


def replaying(talk: NtpTalk) -> list[bytes | float]:
    """All old replies again before the genuine one, which comes twice."""
    reply = genuine(talk)
    return [*talk.peer.sent, reply, reply]


CASES: dict[str, NtpCase] = {
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
    "C12 never answers": NtpCase(nothing, ("--timeout", 1)),
    "two queries": NtpCase(only(genuine), ("-n", 2, *QUICK)),
    "flood": NtpCase(lambda r: repeat(bytes(48)), ("--timeout", 1)),
    "flood, then none": NtpCase(lambda r: chain([genuine(r)], repeat(bytes(48))), ("--timeout", 1)),
    "authenticated field before, kept": NtpCase(
        lambda r: [r.time(clear=ef(0xF000, bytes(24)), after=ef(0xF001, bytes(24)))]
    ),
}


@pytest.fixture(scope="module")
def ntp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes[str, NtpOutcome]]:
    with ntp_outcomes(CASES, tmp_path_factory.mktemp("ntp")) as outcomes:
        yield outcomes


@pytest.mark.parametrize("name", FORGED)
def test_forged_answer_alone_is_explained(ntp: Outcomes[str, NtpOutcome], name: str) -> None:
    """C01 to C08, A72, A75: no time; one cookie spent, none won; it was waited to the end for a genuine answer."""
    code, words, _ = FORGED[name]
    outcome = ntp[f"{name}, alone"]
    check_failure(outcome.completed, code, words)
    assert outcome.completed.stdout == ""
    assert outcome.seconds > 0.5
    assert outcome.server.spent() == outcome.before[:1]
    assert outcome.after == outcome.before[1:]


def test_forged_answers_do_not_keep_the_genuine_one_out(ntp: Outcomes[str, NtpOutcome]) -> None:
    """A72: whatever an attacker sends is dropped, and the query goes on. All of the above to one request."""
    outcome = ntp["all forged, then genuine"]
    check_success(outcome.completed)
    assert "offset" in outcome.completed.stdout
    assert len(outcome.server.requests) == 1
    assert len(outcome.server.sent) == len(FORGED) + 1
    assert len(outcome.after) == 8


@pytest.mark.parametrize("name", UNUSABLE)
def test_authentic_answer_without_time_ends_the_query(ntp: Outcomes[str, NtpOutcome], name: str) -> None:
    """C11, B12, B13: 25 at once; its cookie is as good as any."""
    words, _ = UNUSABLE[name]
    outcome = ntp[name]
    check_failure(outcome.completed, 25, words)
    assert outcome.completed.stdout == ""
    assert outcome.seconds < SLACK
    assert len(outcome.after) == 8


LOCALHOST = addresses.resolve("localhost", 123, socket.SOCK_DGRAM, socket.AF_UNSPEC)


@pytest.mark.parametrize(
    "name",
    [
        "basic", pytest.param("IPv6", marks=processes.needs_v6), "C19 localhost",
        "C09 NAK, then genuine", "C09 NAK, then genuine within the grace",
        "C11 RATE without authenticator, then genuine", "C11 DENY without authenticator, then genuine",
        "authenticated field before, kept",
    ],
)  # fmt: skip
def test_genuine_answer_gives_time_and_a_fresh_cookie(ntp: Outcomes[str, NtpOutcome], name: str) -> None:
    outcome = ntp[name]
    check_success(outcome.completed)
    (line,) = outcome.completed.stdout.splitlines()
    assert "offset" in line
    # The server listens on 127.0.0.1 alone. Each address of "localhost" that comes before it costs a cookie.
    lost = [e.host for e in LOCALHOST].index("127.0.0.1") if name == "C19 localhost" else 0
    assert outcome.server.spent() == outcome.before[lost : lost + 1]
    assert outcome.after[: 7 - lost] == outcome.before[1 + lost :]
    assert len(outcome.after) == 8
    assert outcome.placeholders == [lost]


def test_nak_is_waited_on_a_while_and_no_more(ntp: Outcomes[str, NtpOutcome]) -> None:
    """C10, A76: a NAK could be forged, so the genuine answer gets a second, and a second poll; then 21.

    Old cookies are kept. The file names no key exchange server.
    """
    outcome = ntp["C10 NAK"]
    check_failure(outcome.completed, 21, "NTS NAK")
    assert 2 < outcome.seconds < 3 + SLACK
    assert outcome.after == outcome.before[2:]


def test_nak_ends_a_series(ntp: Outcomes[str, NtpOutcome]) -> None:
    """C10, A78, A80: no hammering, no plain NTP (`check_requests`)."""
    outcome = ntp["C10 NAK, three queries"]
    check_failure(outcome.completed, 21, "NTS NAK")
    assert len(outcome.server.requests) == 2


def test_unprotected_kiss_is_obeyed_only_for_lack_of_better(ntp: Outcomes[str, NtpOutcome]) -> None:
    """C11, A75: with our Unique Identifier, and nothing else came."""
    outcome = ntp["C11 RATE without authenticator"]
    check_failure(outcome.completed, 25, "RATE")
    assert outcome.seconds < 1 + SLACK


def test_replayed_answers_are_used_once(ntp: Outcomes[str, NtpOutcome]) -> None:
    """C06."""
    outcome = ntp["C06 replays"]
    check_success(outcome.completed)
    assert len(outcome.server.requests) == 3
    assert len(outcome.after) == len(set(outcome.after)) == 8
    assert outcome.after[:5] == outcome.before[3:]


def test_silence_is_reported_within_the_time_out(ntp: Outcomes[str, NtpOutcome]) -> None:
    """C12."""
    outcome = ntp["C12 never answers"]
    check_failure(outcome.completed, 20, "no NTP answer from 127.0.0.1")
    assert 1 < outcome.seconds < 1 + SLACK


def test_two_queries_print_two_samples(ntp: Outcomes[str, NtpOutcome]) -> None:
    outcome = ntp["two queries"]
    check_success(outcome.completed)
    *samples, summary, statistics = outcome.completed.stdout.splitlines()
    assert len(samples) == len(outcome.server.requests) == 2
    where = f"127.0.0.1:{outcome.server.port} stratum 2"
    assert all("offset" in line and line.endswith(where) for line in samples)
    assert summary.startswith("2 queries, 2 answers; filtered offset")
    assert re.fullmatch(r"loss 0%; offset min .*, mean .*, max .*; delay min .*, mean .*, max .*", statistics)


def test_flood_of_junk_does_not_prolong_the_wait(ntp: Outcomes[str, NtpOutcome]) -> None:
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
        exchange = ts_session.ask(store, ts_session.Route(), 0.5)
        assert time.monotonic() - started < 4
    assert isinstance(exchange.failure, Mismatch)


def test_closed_port_is_reported_at_once(tmp_path: Path) -> None:
    """The network's word for it ends the wait; it could be forged, so nothing else follows from it."""
    ini = tmp_path / "client.ini"
    with processes.closed_udp_port() as port:
        write_association(ini, some_keys(), port, random_cookies(8))
        started = time.monotonic()
        check_failure(processes.run(TS, "-f", ini, "--timeout", 30), 20, f"no NTP answer from 127.0.0.1:{port}")
    assert time.monotonic() - started < SLACK
    assert len(stored_cookies(ini)) == 7

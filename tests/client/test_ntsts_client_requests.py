# SPDX-License-Identifier: MIT
"""ntsts_client.py against servers that misbehave: what it sends, where to, and which cookies it keeps for that.

C07, C12, C13, C19 and C23 of nts_check's cases, among others. Cases run as those of `test_ntske_client.py` do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.check.peer import NtpBehaviour, NtpPeer, NtpTalk
from nts.check.peer.craft import field as ef
from nts.check.peer.craft import random_cookies
from testkit import processes
from testkit.client_runs import (
    AUTH,
    COOKIE,
    QUICK,
    TS,
    UID,
    Answer,
    NtpCase,
    NtpOutcome,
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


def with_cookies(*lengths: int) -> Answer:
    return lambda r: [r.time(cookies=[os.urandom(n) for n in lengths])]


def answering_each(n: int) -> Answer:
    """Only each n-th request."""
    return lambda r: [] if len(r.requests) % n else [genuine(r)]


def clear_cookies(talk: NtpTalk) -> list[bytes | float]:
    """C07: cookies where none must be taken from, and one where it must."""
    clear = b"".join(ef(COOKIE, c) for c in CLEAR)
    return [talk.time(cookies=[HIDDEN], clear=clear, after=clear)]


CLEAR, HIDDEN = random_cookies(2), os.urandom(100)
CASES: dict[str, NtpCase] = {
    "C07 cookies in clear": NtpCase(clear_cookies),
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
    "no cookies left": NtpCase(only(genuine), cookies=0),
}


@pytest.fixture(scope="module")
def ntp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes[str, NtpOutcome]]:
    with ntp_outcomes(CASES, tmp_path_factory.mktemp("ntp")) as outcomes:
        yield outcomes


def test_cookies_in_clear_are_not_stored(ntp: Outcomes[str, NtpOutcome]) -> None:
    """C07, A66: neither before nor after the authenticator."""
    outcome = ntp["C07 cookies in clear"]
    check_success(outcome.completed)
    assert outcome.after == [*outcome.before[1:], HIDDEN]


def test_placeholders_grow_with_each_lost_answer(ntp: Outcomes[str, NtpOutcome]) -> None:
    """C12, A63, A64: eight cookies, none twice, 0 to 7 placeholders; then 24, and nothing is sent."""
    outcome = ntp["C12 never answers nine queries"]
    check_failure(outcome.completed, 24, "no cookies left")
    assert outcome.placeholders == list(range(8))
    assert outcome.server.spent() == outcome.before
    assert outcome.after == []


def test_stock_is_refilled_by_the_first_answer(ntp: Outcomes[str, NtpOutcome]) -> None:
    """C12, A64: three answers lost, the fourth brings four cookies; and again."""
    outcome = ntp["C12 answers each fourth"]
    assert outcome.placeholders == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert outcome.completed.returncode == 0
    assert "9 queries, 2 answers" in outcome.completed.stdout
    assert len(outcome.after) == 7


def test_answers_without_cookies_are_time_all_the_same(ntp: Outcomes[str, NtpOutcome]) -> None:
    """C13."""
    outcome = ntp["C13 no cookies"]
    check_success(outcome.completed)
    assert outcome.placeholders == [0, 1, 2]
    assert outcome.after == outcome.before[3:]


def test_never_more_than_eight_cookies_are_kept(ntp: Outcomes[str, NtpOutcome]) -> None:
    """C13, A64."""
    outcome = ntp["C13 20 cookies"]
    check_success(outcome.completed)
    assert len(outcome.after) == 8
    assert not set(outcome.before) & set(outcome.after)  # the newest


def test_long_cookies_are_used(ntp: Outcomes[str, NtpOutcome]) -> None:
    """C13, A30: packets stay within 1280 octets (`check_requests`)."""
    outcome = ntp["C13 cookies of 1000 octets"]
    check_success(outcome.completed)
    assert [len(c) for c in outcome.server.spent()] == [100] * 8 + [1000]
    assert [len(c) for c in outcome.after] == [1000] * 8


def test_cookies_that_fit_no_packet_are_not_kept(ntp: Outcomes[str, NtpOutcome]) -> None:
    """C13."""
    outcome = ntp["C13 cookies of 2000 octets"]
    check_success(outcome.completed)
    assert [len(c) for c in outcome.after] == [100, 100]


def test_cookies_of_mixed_lengths_are_kept(ntp: Outcomes[str, NtpOutcome]) -> None:
    """C13, A53: each request's placeholders have its own cookie's length (`check_requests`)."""
    outcome = ntp["C13 mixed lengths"]
    check_success(outcome.completed)
    assert [len(c) for c in outcome.server.spent()] == [100, 16, 12, 16]
    assert outcome.placeholders == [7, 4, 1, 0]


@pytest.mark.parametrize(("length", "count"), [(1000, 0), (500, 1), (164, 5)])
def test_placeholders_are_fewer_where_packets_would_be_too_long(
    ntp: Outcomes[str, NtpOutcome], length: int, count: int
) -> None:
    """A64: 1280 octets is what any path carries."""
    outcome = ntp[f"C13 few of {length} octets in stock"]
    check_success(outcome.completed)
    assert outcome.placeholders == [count]


def test_cookies_of_any_length_are_sent_back_exactly(ntp: Outcomes[str, NtpOutcome]) -> None:
    """A30: with zero octets added where extension fields need them."""
    outcome = ntp["A30 odd lengths"]
    padded = [c.ljust(max(12, len(c) + -len(c) % 4), b"\0") for c in outcome.before]
    assert outcome.server.spent() == padded
    check_failure(outcome.completed, 20, "no NTP answer")


def test_hundred_requests_have_nothing_in_common(ntp: Outcomes[str, NtpOutcome]) -> None:
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


def test_without_cookies_nothing_is_sent(ntp: Outcomes[str, NtpOutcome]) -> None:
    outcome = ntp["no cookies left"]
    check_failure(outcome.completed, 24, "no cookies left")
    assert outcome.server.requests == []


def test_name_without_dots_is_looked_up_as_fully_qualified(tmp_path: Path) -> None:
    """C19, A32: `ntp1` means `ntp1.`, whatever the resolver's search list says."""
    ini = tmp_path / "client.ini"
    write_association(ini, some_keys(), 123, random_cookies(8), "ntp1")
    env = {"RES_OPTIONS": "timeout:1 attempts:1", "LOCALDOMAIN": "localhost"}
    check_failure(processes.run(TS, "-f", ini, env=env), 10, "cannot resolve ntp1.:")
    assert len(stored_cookies(ini)) == 8  # none spent


def test_host_and_port_of_the_command_line_win(tmp_path: Path) -> None:
    """Same keys and cookies, another place."""
    ini = tmp_path / "client.ini"
    keys = some_keys()
    behaviour = NtpBehaviour(only(genuine), keys=keys)
    with NtpPeer(behaviour) as elsewhere, NtpPeer(behaviour) as server:
        write_association(ini, keys, elsewhere.port, random_cookies(8))
        check_success(processes.run(TS, "-f", ini, "localhost", server.port))
    assert len(server.requests) == 1
    assert elsewhere.requests == []

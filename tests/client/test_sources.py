# SPDX-License-Identifier: MIT
"""Several servers with a client.ini each: asked at the same time, filtered, compared."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from nts.base.errors import ConfigError, NoAnswer
from nts.check.peer import NtpTalk
from nts.client import sources, ts_session
from nts.client.sources import Comparison, Source, ask_all, compare
from nts.client.state import ClientState
from nts.client.ts_session import Exchange, Route
from testkit.client_runs import Answer, genuine, nothing, only, stored_cookies
from testkit.time_servers import ahead, time_servers


def source(ini: Path) -> Source:
    return Source(ini.name, partial(ts_session.ask, ClientState(ini), Route()))


def compared(folder: Path, *answers: Answer, timeout: float = 5.0) -> Comparison | None:
    with time_servers(folder, *answers) as servers:
        made = [source(s.ini) for s in servers]
        assert len(list(ask_all(made, timeout))) == len(made)
        return compare(made)


def named(found: tuple[Source, ...]) -> list[str]:
    return [s.name for s in found]


def test_of_three_servers_the_one_that_is_two_seconds_off_is_named(tmp_path: Path) -> None:
    found = compared(tmp_path, ahead(0), ahead(2), ahead(0))
    assert found is not None
    assert named(found.falsetickers) == ["b.ini"]
    assert named(found.truechimers) == ["a.ini", "c.ini"]
    assert found.majority is not None
    assert -0.5e9 < found.majority.low <= found.majority.high < 0.5e9


def test_of_two_servers_nobody_can_tell(tmp_path: Path) -> None:
    assert compared(tmp_path, ahead(0), ahead(-2)) == Comparison(None)


def test_there_is_nothing_to_compare_with_one_server_alone(tmp_path: Path) -> None:
    assert compared(tmp_path, ahead(0), nothing, timeout=0.3) is None


def test_all_are_asked_at_the_same_time(tmp_path: Path) -> None:
    """Three that take half a second each take less than one together."""

    def slow(talk: NtpTalk) -> list[bytes | float]:
        return [0.5, genuine(talk)]

    with time_servers(tmp_path, slow, slow, slow) as servers:
        started = time.monotonic()
        reports = list(ask_all([source(s.ini) for s in servers], 5))
        assert time.monotonic() - started < 1.4
    assert all(r.answer for r in reports)


def test_a_server_that_is_gone_is_compared_until_eight_queries_are_lost(tmp_path: Path) -> None:
    with time_servers(tmp_path, ahead(0), ahead(0)) as servers:
        made = [source(s.ini) for s in servers]
        list(ask_all(made, 5))
        servers[1].peer.behave(answer=nothing)
        for lost in range(1, 9):
            made[1].query(0.05)
            assert (compare(made) is None) == (lost == 8)
    assert made[1].failures == {"no_answer": 8}
    assert (made[1].answers, made[1].queries, made[1].stock) == (1, 9, 0)


def test_a_report_says_what_could_not_be_done(tmp_path: Path) -> None:
    """A missing file, and silence; the source remembers both."""
    with time_servers(tmp_path, nothing) as (server,):
        made = [source(tmp_path / "none.ini"), source(server.ini)]
        reports = {r.source: r for r in ask_all(made, 0.2)}
    missing, silent = (reports[s] for s in made)
    assert missing.exchange is None
    assert isinstance(missing.failure, ConfigError)
    assert isinstance(silent.failure, NoAnswer)
    assert made[0].failures == {"usage": 1}
    assert (made[1].silence, made[1].filtered, made[1].last) == (None, None, silent)
    assert len(stored_cookies(server.ini)) == 7


def test_samples_from_before_a_step_of_our_clock_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is not stepped: `sources` reads another one."""
    with time_servers(tmp_path, only(genuine)) as (server,):
        made = source(server.ini)
        for _ in range(3):
            made.query(5)
        assert made.filtered is not None
        assert made.filtered.samples == 3
        real = time.time_ns

        class Stepped:
            monotonic_ns = staticmethod(time.monotonic_ns)

            @staticmethod
            def time_ns() -> int:
                return real() + 10**9

        monkeypatch.setattr(sources, "time", Stepped)
        made.query(5)
    assert made.filtered.samples == 1


def test_a_bug_while_asking_several_is_not_lost() -> None:
    def broken(timeout: float) -> Exchange:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(ask_all([Source("a", broken), Source("b", broken)], 1))

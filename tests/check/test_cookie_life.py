# SPDX-License-Identifier: MIT
"""nts_check server --cookie-life: the truth lies in what is learned, whatever the server does; few packets; Ctrl-C."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nts.base.errors import ConnectError, NTSError
from nts.check.lifetime.life import Life, spoken
from nts.check.lifetime.watch import Fate, Reply, Watch
from nts.check.peer import pair
from nts.check.peer.ntp import NtpTalk, sound
from nts.server import keystore
from testkit.processes import ROOT, Process, free_port, one_error, run, running_suite

# --- a server that is only a rule ------------------------------------------------------------------------------------


@dataclass
class Rule:
    """A server that takes a new key every `period` seconds and keeps `keys` of them. No second passes in it."""

    period: float
    keys: int
    phase: float = 0.0
    now: float = 0.0
    asked: int = 0
    mute: bool = False
    """whether it refuses by silence"""
    lost: Callable[[float], bool] = lambda _now: False
    """whether a packet gets lost"""
    down: Callable[[float], bool] = lambda _now: False
    once: bool = False
    """whether it refuses cookies that were used"""
    used: set[bytes] = field(default_factory=set)
    made: int = 0

    def key(self) -> int:
        return math.floor((self.now + self.phase) / self.period)

    def cookie(self) -> bytes:
        self.made += 1
        return f"{self.key()} {self.made}".encode()

    def fetch(self) -> list[bytes]:
        if self.down(self.now):
            raise ConnectError("nobody there")
        return [self.cookie() for _ in range(8)]

    def ask(self, cookie: bytes) -> Reply:
        self.asked += 1
        spent, self.used = cookie in self.used and self.once, self.used | {cookie}
        if self.lost(self.now) or self.down(self.now):
            return Reply(Fate.SILENCE)
        if spent or int(cookie.split()[0]) <= self.key() - self.keys:
            return Reply(Fate.SILENCE if self.mute else Fate.REFUSED)
        return Reply(Fate.ACCEPTED, self.cookie())

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def watch(self, interval: float, duration: float) -> Life:
        self.told: list[str] = []
        return Watch(self, interval, clock=lambda: self.now, sleep=self.sleep, tell=self.told.append).run(duration)


DAY, HOUR = 86400, 3600


@settings(max_examples=60, deadline=None)
@given(st.floats(700, 30_000), st.integers(1, 4), st.floats(0, 1), st.booleans())
def test_the_truth_lies_in_what_is_learned(period: float, keys: int, phase: float, mute: bool) -> None:
    rule, interval = Rule(period, keys, phase * period, mute=mute), 300
    life = rule.watch(interval, (keys + 3) * period)
    assert life.shortest is not None
    assert life.rotation is not None
    assert life.longest is not None
    slack = 1e-3
    shortest, longest = (keys - 1) * period, keys * period
    assert life.shortest.least - slack <= shortest <= life.shortest.most + slack
    assert life.longest.least - slack <= longest <= life.longest.most + slack
    assert life.rotation.least - slack <= period <= life.rotation.most + slack
    assert life.shortest.most - life.shortest.least <= 2 * interval + slack
    rounds = life.seconds / interval + 1
    assert rule.asked <= rounds + 2 * (4 + 2 * math.log2(rounds + 1))
    assert life.exchanges == (1 if keys > 1 else 3)
    assert [d.all for d in life.deaths] == [keys == 1] * 2
    assert {d.silent for d in life.deaths} == {mute}


def test_while_nothing_dies_it_says_how_old_a_cookie_has_become() -> None:
    life = Rule(DAY, 3).watch(300, 6 * HOUR)
    assert (life.accepted, life.deaths, life.questions) == (6 * HOUR, [], 73)
    text = "\n".join(life.lines)
    assert "6 h, one question in 5 min: 73 NTP requests, 1 key exchange" in text
    assert "was 6 h old" in text
    assert "None died of age" in text


def test_after_the_first_death_it_tells_what_a_client_can_rely_on() -> None:
    life = Rule(8 * HOUR, 2).watch(600, 17 * HOUR)
    assert len(life.deaths) == 1
    assert life.rotation is None
    assert "a cookie lives between 7 h 50 min and 8 h 10 min" in "\n".join(life.lines)


def test_it_ends_once_all_is_known() -> None:
    rule = Rule(2 * HOUR, 2)
    life = rule.watch(600, 30 * DAY)
    assert life.complete
    assert life.seconds < 7 * HOUR
    assert "A key is dropped every 1 h 50 min to 2 h 10 min." in "\n".join(life.lines)


def test_lost_packets_are_not_taken_for_a_death() -> None:
    rule = Rule(4 * HOUR, 2)
    rule.lost = lambda _now: rule.asked % 7 == 0
    life = rule.watch(300, 2 * DAY)
    assert life.longest is not None
    assert life.longest.least - 300 <= 8 * HOUR <= life.longest.most + 300
    assert len(life.deaths) == 2


def test_a_server_that_is_away_for_a_while_is_no_death() -> None:
    rule = Rule(12 * HOUR, 2, down=lambda now: HOUR < now < 2 * HOUR)
    life = rule.watch(600, 6 * HOUR)
    assert life.deaths == []
    assert life.unanswered == 5
    assert life.accepted == 6 * HOUR
    assert "no cookie is accepted, and a key exchange fails: nobody there" in rule.told[0]


def test_a_server_that_loses_its_keys_is_recognised_and_watched_anew() -> None:
    rule = Rule(DAY, 1, phase=DAY - 2 * HOUR - 1, down=lambda now: 2 * HOUR < now < 2.4 * HOUR)
    life = rule.watch(600, 4 * HOUR)
    assert [(d.all, d.refused) for d in life.deaths] == [(True, 9000)]
    assert life.exchanges == 4  # two of them in vain
    assert "After 2 h 30 min it refused all cookies at once" in "\n".join(life.lines)
    assert any("all others too" in line for line in rule.told)


def test_a_server_that_takes_each_cookie_once_cannot_be_watched() -> None:
    life = Rule(DAY, 2, once=True).watch(600, 4 * HOUR)
    assert life.used_once
    assert life.deaths == []
    assert life.seconds == 600
    assert "refuses a cookie that was used before" in "\n".join(life.lines)


def test_a_first_key_exchange_that_fails_is_an_error_and_a_later_one_is_not() -> None:
    with pytest.raises(NTSError):
        Rule(DAY, 1, down=lambda _now: True).watch(600, HOUR)
    rule = Rule(HOUR, 1, phase=HOUR / 2)
    rule.down = lambda now: HOUR / 2 <= now < 2 * HOUR and rule.made > 4
    life = rule.watch(600, 4 * HOUR)
    assert life.unanswered == 9
    assert [d.refused for d in life.deaths] == [2 * HOUR, 2.5 * HOUR]


def test_ctrl_c_keeps_what_was_learned() -> None:
    rule = Rule(DAY, 2)

    def sleep(seconds: float) -> None:
        rule.now += seconds
        if rule.now > HOUR:
            raise KeyboardInterrupt

    life = Watch(rule, 600, clock=lambda: rule.now, sleep=sleep, tell=print).run(DAY)
    assert life.interrupted
    assert life.accepted == HOUR
    assert "Interrupted" in life.lines[-1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (0.3, "0.3 s"), (59, "59 s"), (60, "1 min"), (3660, "1 h 1 min"), (3601, "1 h"), (90000, "1 d 1 h")],
)
def test_a_length_of_time_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert spoken(seconds) == text


# --- real servers ----------------------------------------------------------------------------------------------------


@pytest.fixture
def rotating(tmp_path: Path) -> Iterator[Any]:
    """Our servers, whose key is new every three seconds; the last two are kept."""
    with running_suite(tmp_path) as suite:
        ended = threading.Event()

        def rotate() -> None:
            while not ended.wait(3):
                keystore.rotate(suite.keys, 2, os.urandom)

        thread = threading.Thread(target=rotate, daemon=True)
        thread.start()
        yield suite
        ended.set()
        thread.join()


def test_our_server_keeps_cookies_as_long_as_its_keys(rotating: Any) -> None:
    where = ("-4", "-c", rotating.ca, "localhost", rotating.ke_port, "--fast")
    done = run("nts_check.py", "server", *where, "--cookie-life", "25s", "--interval", "1s", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    life = found["cookie_life"]
    assert found["time_server"].endswith(f":{rotating.ntp_port}")
    assert life["exchanges"] == 1
    assert life["shortest"]["least"] - 1 <= 3 <= life["shortest"]["most"] + 1
    assert life["rotation"]["least"] - 1 <= 3 <= life["rotation"]["most"] + 1
    assert life["longest"]["least"] - 1 <= 6 <= life["longest"]["most"] + 1
    assert life["questions"] <= life["seconds"] + 20
    assert "live on" in done.stderr
    assert not re.search(r"\d\.\d{4}", done.stdout)  # milliseconds are more than anybody knows


def test_ctrl_c_prints_what_was_learned(tmp_path: Path) -> None:
    with pair() as servers:
        command = ["server", "127.0.0.1", servers.ke.port, "--fast", "--cookie-life", "1h", "--interval", "1s"]
        process = Process([sys.executable, str(ROOT / "nts_check.py"), *map(str, command)], tmp_path / "log")
        asked = threading.Semaphore(0)
        servers.ntp.behave(answer=lambda talk: _counted(talk, asked))
        assert all(asked.acquire(timeout=20) for _ in range(2))
        assert process.stop(signal.SIGINT) == 130
    output = process.output()
    assert "The oldest cookie that was accepted was" in output
    assert "Interrupted: this is what was learned so far." in output
    assert "Traceback" not in output


def _counted(talk: NtpTalk, asked: threading.Semaphore) -> Any:
    asked.release()
    return sound(talk)


def test_a_server_that_never_answers_teaches_nothing() -> None:
    with pair() as servers:
        servers.ntp.behave(answer=lambda _talk: [])
        where = ("127.0.0.1", servers.ke.port, "--fast", "--cookie-life", "1s", "--interval", "1s")
        done = run("nts_check.py", "server", *where)
    assert done.returncode == 3, done.stdout
    assert "No cookie was accepted: nothing was learned." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["h", "--cookie-life", "10"], "not a number with the unit"),
        (["h", "--cookie-life", "1h", "--interval", "0s"], "not a number with the unit"),
        (["h", "--cookie-life", "1h", "--facts"], "--cookie-life goes with --json"),
        (["--cookie-life", "1h"], "required: host"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], complaint: str) -> None:
    done = run("nts_check.py", "server", *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[-1]


def test_nobody_there_is_told_as_always() -> None:
    one_error(run("nts_check.py", "server", "127.0.0.1", free_port(), "--cookie-life", "1h"), 11, "cannot connect")

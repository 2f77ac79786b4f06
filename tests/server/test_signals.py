# SPDX-License-Identifier: MIT
"""What both servers do on SIGHUP and SIGUSR1, how they log, and how they notice a worker that hangs."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.base.errors import ConfigError
from nts.server.counters import Board
from nts.system import console
from testkit.ke_sessions import works
from testkit.processes import ROOT, Process, Suite, running_suite, workers_of


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Suite]:
    with running_suite(tmp_path, server={"sandbox": "no"}) as suite:
        yield suite


def servers(suite: Suite) -> list[Process]:
    assert suite.ke is not None
    assert suite.ts is not None
    return [suite.ke, suite.ts]


def test_counters_are_shown_on_request(both: Suite) -> None:
    assert both.fetch().returncode == 0
    assert both.ask().returncode == 0
    for process, line in zip(servers(both), ("sessions: agreed 1", "datagrams: answered nts 1"), strict=True):
        process.popen.send_signal(signal.SIGUSR1)
        process.wait_for(f"{line}\n")
    assert works(both)


def test_hang_up_ends_no_server(both: Suite) -> None:
    for process, line in zip(servers(both), ("reads its certificate again", "nothing to load"), strict=True):
        workers = workers_of(process, 1)
        process.popen.send_signal(signal.SIGHUP)
        process.wait_for(line)
        assert workers_of(process, 1) == workers
    assert works(both)


def test_a_closed_terminal_stops_the_server(tmp_path: Path) -> None:
    """SIGHUP then means what it always has."""
    suite = Suite(tmp_path)
    master, slave = pty.openpty()
    command = [sys.executable, str(ROOT / "ntske_server.py"), str(suite.ini)]
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, close_fds=True
    ) as process:
        os.close(slave)
        seen = b""
        while b"sends clients to" not in seen:
            seen += os.read(master, 4096)
        process.send_signal(signal.SIGHUP)
        while b"reads its certificate again" not in seen:
            seen += os.read(master, 4096)
        assert process.poll() is None
        os.close(master)
        process.send_signal(signal.SIGHUP)
        assert process.wait(10) == 0


def test_the_log_as_json(tmp_path: Path) -> None:
    suite = Suite(tmp_path)
    try:
        ke = suite.start_ke("--log-format", "json", "--verbose")
        assert works(suite)
        assert ke.stop() == 0
    finally:
        suite.stop()
    lines = [json.loads(line) for line in ke.output().splitlines()]
    assert all({"time", "program", "pid", "level", "message"} <= line.keys() for line in lines)
    assert {line["program"] for line in lines} == {"ntske_server.py"}
    assert lines[-1]["message"] == "stopped; sessions: agreed 1"
    assert lines[-1]["counters"] == {"agreed": 1}


def test_an_error_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "_json", True)
    console.fail("it does not work", ConfigError.hint)
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["message"], line["hint"]) == ("error", "it does not work", ConfigError.hint)


def test_warnings_about_the_same_thing_come_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(console, "_last_warned", {})
    for second in (0, 1, 59, 61, 62, 200):
        monkeypatch.setattr(time, "monotonic", lambda s=second: now + s)
        console.warn_now_and_then("worker", f"one died at {second}")
    console.warn_now_and_then("else", "something else")
    found = [line.partition("warning: ")[2] for line in capsys.readouterr().err.splitlines()]
    assert found == [
        "one died at 0",
        "one died at 61",
        "one died at 200",
        "something else",
    ]


def test_a_worker_without_a_sign_of_life_is_noticed() -> None:
    board = Board(3)
    now = time.monotonic()
    assert board.silent_since(now + 60) == [], "not yet set up"
    for worker in (0, 2):
        board.beat(worker)
    assert board.silent_since(now - 60) == []
    assert board.silent_since(now + 60) == [0, 2]

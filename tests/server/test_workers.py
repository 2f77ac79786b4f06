# SPDX-License-Identifier: MIT
"""Worker processes: how they start, what happens when they die, and that a signal stops them at any time.

Where it matters how long something took, the pause between two starts of a worker is an hour, so that only a file
that shifts the parent's clock can end it.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nts.server import config, keystore, listen
from testkit import processes
from testkit.processes import ROOT, Process, children, eventually, kill_orphans, workers_of

HOUR = 3600.0
NATIVE = pytest.mark.skipif(not processes.HAS_ENGINE, reason=processes.NO_ENGINE)
Start = Callable[[int, float], Process]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start testkit/supervised.py with so many workers and seconds between two starts of one."""
    monkeypatch.chdir(ROOT)
    started: list[Process] = []

    def start_one(count: int, pause: float) -> Process:
        command = [sys.executable, "-m", "testkit.supervised", str(tmp_path), str(count), str(pause)]
        started.append(Process(command, tmp_path / "log"))
        return started[-1]

    yield start_one
    for process in started:
        left = children(process.popen.pid)
        process.popen.kill()
        process.popen.wait()
        kill_orphans(left)


def said(process: Process) -> list[str]:
    return [line.removeprefix("supervised.py: ") for line in process.output().splitlines()]


def ends(process: Process) -> int:
    """The exit code of a process that ends by itself."""
    return process.popen.wait(processes.START_TIMEOUT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_stops_all(start: Start, number: signal.Signals) -> None:
    process = start(3, HOUR)
    process.wait_for("all run")
    workers = workers_of(process, 3)
    assert process.stop(number) == 0
    assert not any(map(processes.is_running, workers))
    assert said(process) == ["all run", "stopping", "stopped"]


def test_more_signals_do_not_cut_short_what_ends_in_order(start: Start) -> None:
    """As `timeout` sends them: to the process, and to its group."""
    process = start(2, HOUR)
    process.wait_for("all run")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        process.popen.send_signal(number)
    assert ends(process) == 0
    assert said(process) == ["all run", "stopping", "stopped"]


def test_a_worker_is_replaced_even_if_whoever_started_us_had_deaths_of_children_ignored(
    start: Start, tmp_path: Path
) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = start(2, 0.05)
    finally:
        signal.signal(signal.SIGCHLD, before)
    process.wait_for("all run")
    first, other = workers_of(process, 2)
    os.kill(first, signal.SIGKILL)
    process.wait_for(f"worker process {first} ended with signal 9")
    assert eventually(lambda: len(set(children(process.popen.pid)) - {first}) == 2)
    assert other in children(process.popen.pid)
    assert process.stop() == 0


# --- the start -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["0", "2", "0 1 2"])
def test_a_worker_that_cannot_be_set_up_ends_the_start_with_its_error(
    start: Start, tmp_path: Path, broken: str
) -> None:
    """Said once, whoever else meets it, with its hint and its exit code; the others end."""
    (tmp_path / "set-up").write_text(broken)
    process = start(3, HOUR)
    assert ends(process) == 2
    assert said(process) == ["error: the set-up does not work", "hint: repair it"]


def test_neither_does_the_server_start_when_the_system_refuses_what_a_worker_needs(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "system").write_text("1")
    process = start(2, HOUR)
    assert ends(process) == 1
    assert said(process) == [f"error: a worker process cannot start: {os.strerror(errno.EMFILE)}"]


def test_a_signal_need_not_wait_for_the_start(start: Start, tmp_path: Path) -> None:
    (tmp_path / "slow").touch()
    process = start(3, HOUR)
    workers = workers_of(process, 3)
    assert process.stop() == 0
    assert not any(map(processes.is_running, workers))


def test_a_process_that_cannot_be_made_ends_the_start(start: Start, tmp_path: Path) -> None:
    (tmp_path / "processes").write_text("2")
    process = start(3, HOUR)
    assert ends(process) == 1
    error, hint = said(process)
    assert error == f"error: cannot start worker process 3 of 3: {os.strerror(errno.EAGAIN)}"
    assert hint.startswith("hint: ")


# --- duties ----------------------------------------------------------------------------------------------------------


def test_a_worker_that_hangs_is_killed_and_replaced(start: Start, tmp_path: Path) -> None:
    process = start(2, 0.05)
    process.wait_for("all run")
    first, other = (int((tmp_path / f"worker{index}").read_text()) for index in range(2))
    os.kill(other, signal.SIGSTOP)
    (tmp_path / "hangs").write_text("1")
    process.wait_for(f"warning: worker process {other} hangs: killed")
    (tmp_path / "hangs").unlink()
    process.wait_for("replaced")
    assert first in children(process.popen.pid)
    assert process.stop() == 0


def test_signals_that_mean_something_to_the_parent_end_nobody(start: Start) -> None:
    process = start(2, HOUR)
    process.wait_for("all run")
    workers = workers_of(process, 2)
    for pid in (*workers, process.popen.pid):
        os.kill(pid, signal.SIGUSR1)
    process.wait_for("signalled")
    assert workers_of(process, 2) == workers
    assert process.stop() == 0
    assert said(process) == ["all run", "signalled", "stopping", "stopped"]


# --- deaths ----------------------------------------------------------------------------------------------------------


def test_workers_that_died_young_wait_for_the_pause_and_a_signal_does_not(start: Start) -> None:
    process = start(3, HOUR)
    process.wait_for("all run")
    first, *others = workers_of(process, 3)
    for pid in others:
        os.kill(pid, signal.SIGKILL)
        process.wait_for(f"warning: worker process {pid} ended with signal 9; starting another")
    assert children(process.popen.pid) == [first]
    assert process.stop() == 0
    assert not processes.is_running(first)


def test_pauses_run_side_by_side(start: Start, tmp_path: Path) -> None:
    """Each worker has its own: they end together here, when the clock has moved on."""
    process = start(8, HOUR)
    process.wait_for("all run")
    first = workers_of(process, 8)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
        process.wait_for(f"worker process {pid} ended with signal 9")
    (tmp_path / "later").touch()
    os.kill(process.popen.pid, signal.SIGCHLD)  # look again
    assert len(workers_of(process, 8)) == 8
    assert process.stop() == 0


def test_a_worker_that_lived_long_is_replaced_at_once(start: Start, tmp_path: Path) -> None:
    process = start(2, HOUR)
    process.wait_for("all run")
    first = workers_of(process, 2)
    (tmp_path / "later").touch()
    os.kill(first[0], signal.SIGKILL)
    assert eventually(lambda: len(set(children(process.popen.pid)) - {first[0]}) == 2)
    assert first[1] in children(process.popen.pid)
    assert process.stop() == 0


def test_a_process_that_cannot_be_made_later_leaves_the_others_alone(start: Start, tmp_path: Path) -> None:
    """It is tried again and again, and said once."""
    process = start(2, 0.05)
    process.wait_for("all run")
    first, other = workers_of(process, 2)
    for round_ in (1, 2):
        (tmp_path / "processes").write_text("0")
        os.kill(other, signal.SIGKILL)
        assert eventually(lambda: (tmp_path / "refused").exists() and len((tmp_path / "refused").read_text()) >= 3)
        refusals = [line for line in said(process) if "cannot start" in line]
        why = os.strerror(errno.EAGAIN)
        line = f"warning: cannot start another worker process: {why}; trying again until it works"
        assert refusals == round_ * [line]
        assert children(process.popen.pid) == [first]
        (tmp_path / "processes").unlink()
        (tmp_path / "refused").unlink()
        (other,) = set(workers_of(process, 2)) - {first}
    assert process.stop() == 0


@pytest.mark.parametrize(("fault", "why"), [("set-up", "the set-up does not work"), ("serve", "serving does not work")])
def test_an_error_after_the_start_ends_no_other_worker(start: Start, tmp_path: Path, fault: str, why: str) -> None:
    """A line for each attempt, and neither a traceback nor a second line that only has the exit code."""
    process = start(2, 0.05)
    process.wait_for("all run")
    first, other = (int((tmp_path / f"worker{index}").read_text()) for index in range(2))
    (tmp_path / fault).write_text("1")
    if fault == "set-up":
        os.kill(other, signal.SIGKILL)
    assert eventually(lambda: process.output().count(why) >= 3)
    (tmp_path / fault).unlink()
    workers_of(process, 2)
    assert first in children(process.popen.pid)
    assert process.stop() == 0
    about = [line for line in said(process)[1:-2] if "ended with signal 9" not in line and line != "replaced"]
    assert about
    for line in about:
        assert line.startswith("warning: worker process ")
        assert line.endswith(f" ended: {why}; starting another")


# --- the servers -----------------------------------------------------------------------------------------------------

ENGINE_TOO_SMALL = """
import sys
from pathlib import Path
from nts.cli import script
from nts.server import config, ts_daemon
config.MAX_LISTEN = 1000
script.run(lambda: ts_daemon.serve(config.load(Path(sys.argv[1])), verbose=False))
"""


@NATIVE
def test_an_engine_that_cannot_serve_ends_the_time_server_in_one_line(tmp_path: Path) -> None:
    from nts import _engine

    addresses = ", ".join(f"127.0.0.{i}" for i in range(1, _engine.lib.NTS_MAX_SOCKETS + 2))
    suite = processes.Suite(tmp_path, options={"ntpv4": {"listen": addresses, "workers": 2}})
    keystore.ensure_key(suite.keys, 3, os.urandom)
    process = Process([sys.executable, "-c", ENGINE_TOO_SMALL, str(suite.ini)], tmp_path / "log")
    try:
        assert ends(process) == 1
    finally:
        process.stop()
    error, hint = process.output().splitlines()[-2:]
    assert error == "-c: error: the native engine cannot serve these sockets"
    assert hint.startswith("hint: ")


def test_many_sockets_need_no_higher_limit_of_descriptors(tmp_path: Path) -> None:
    """The time server has one for each worker and address; the soft limit is 1024 on many systems."""
    addresses = ", ".join(f"127.0.0.{i}" for i in range(1, 33))
    suite = processes.Suite(tmp_path, options={"ntpv4": {"listen": addresses, "workers": 4}})
    command = ["sh", "-c", 'ulimit -S -n 64 && exec "$@"', "sh"]
    process = Process([*command, sys.executable, str(ROOT / "ntsts_server.py"), str(suite.ini)], tmp_path / "log")
    try:
        process.wait_for("engine:")
    finally:
        process.stop()


@NATIVE
def test_the_engine_has_room_for_all_sockets_that_there_can_be() -> None:
    from nts import _engine

    assert config.MAX_LISTEN <= _engine.lib.NTS_MAX_SOCKETS
    assert len(listen.ANY) + len(listen.TARGETS) <= _engine.lib.NTS_MAX_SOCKETS

# SPDX-License-Identifier: MIT
"""A real chronyd takes our samples through its reference clock SOCK. It runs with -x: no clock is set."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit import chrony
from testkit.client_runs import TS
from testkit.processes import ROOT, Process
from testkit.time_servers import ahead, time_servers

pytestmark = pytest.mark.interop
OFF = 0.123  # seconds by which the server is ahead
EXACT = 0.02  # seconds; the machine may be busy


@pytest.fixture
def folder() -> Iterator[Path]:
    chrony.require()
    with chrony.short_folder() as path:
        yield path


def test_chronyd_shows_the_offset_that_we_measure(folder: Path, tmp_path: Path) -> None:
    """`noselect`: it must not correct its own notion of the time, which would make the offset vanish."""
    sock = folder / "nts.sock"
    lines = ["port 0", f"refclock SOCK {sock} refid NTS poll 0 filter 1 noselect"]
    with time_servers(tmp_path, ahead(OFF)) as (server,), chrony.running(folder / "c", lines) as chronyd:
        command = [sys.executable, str(ROOT / TS), "-f", str(server.ini), "--monitor", "-i", "0.3"]
        monitor = Process([*command, "--chrony-sock", str(sock)], tmp_path / "out")
        try:
            chronyd.wait("samples", lambda: chronyd.source("NTS").reach.bit_count() >= 5)
            offset = chronyd.source("NTS").offset
            (statistics,) = (line.split(",") for line in chronyd.ask("-c", "sourcestats").splitlines())
        finally:
            monitor.stop()
    assert "warning" not in monitor.output()
    assert offset == pytest.approx(-OFF, abs=EXACT)  # to chronyc, our clock is ahead where the number is positive
    name, samples, *_, estimated, _deviation = statistics
    assert (name, int(samples) >= 4) == ("NTS", True)
    assert float(estimated) == pytest.approx(-OFF, abs=EXACT)


def test_of_several_servers_only_those_that_agree_are_fed(folder: Path, tmp_path: Path) -> None:
    """One of three is off; chronyd never sees it."""
    sock = folder / "nts.sock"
    lines = ["port 0", f"refclock SOCK {sock} refid NTS poll 0 filter 1 noselect"]
    with (
        time_servers(tmp_path, ahead(OFF), ahead(OFF), ahead(2)) as servers,
        chrony.running(folder / "c", lines) as chronyd,
    ):
        files = [word for s in servers for word in ("-f", str(s.ini))]
        command = [sys.executable, str(ROOT / TS), *files, "--monitor", "-i", "0.3", "--chrony-sock", str(sock)]
        monitor = Process(command, tmp_path / "out")
        try:
            chronyd.wait("samples", lambda: chronyd.source("NTS").reach.bit_count() >= 5)
            (statistics,) = (line.split(",") for line in chronyd.ask("-c", "sourcestats").splitlines())
        finally:
            monitor.stop()
    *_, estimated, deviation = statistics
    assert float(estimated) == pytest.approx(-OFF, abs=EXACT)
    assert float(deviation) < EXACT


def test_a_chronyd_that_ends_is_reported_and_the_next_one_is_fed(folder: Path, tmp_path: Path) -> None:
    sock = folder / "nts.sock"
    lines = ["port 0", f"refclock SOCK {sock} refid NTS poll 0 filter 1 noselect"]
    with time_servers(tmp_path, ahead(OFF)) as (server,):
        command = [sys.executable, str(ROOT / TS), "-f", str(server.ini), "--monitor", "-i", "0.3"]
        with chrony.running(folder / "c", lines):
            monitor = Process([*command, "--chrony-sock", str(sock)], tmp_path / "out")
            monitor.wait_for("offset +")
        try:
            monitor.wait_for(f"warning: cannot feed chronyd through {sock}: ")
            with chrony.running(folder / "d", lines) as chronyd:
                chronyd.wait("samples", lambda: chronyd.source("NTS").reach)
        finally:
            monitor.stop()

# SPDX-License-Identifier: MIT
"""A short run of the interop matrix, and what it makes of peers that do not keep its contract."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testkit import chrony
from testkit.processes import ROOT
from tools.interop import cases, network, run
from tools.interop.cases import CASES
from tools.interop.network import Machine, NetworkError
from tools.interop.peers import Peer
from tools.interop.run import Cell, Grade

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module", autouse=True)
def namespaces(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where a machine of one's own cannot be made."""
    folder = tmp_path_factory.mktemp("cell") / "server"
    folder.mkdir()
    try:
        if reason := network.missing():
            pytest.skip(reason)
        Machine(folder).close()
    except NetworkError as e:
        pytest.skip(str(e))


def matrix(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.interop", "--folder", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


def test_our_servers_and_clients_with_chronyd_and_among_themselves(tmp_path: Path) -> None:
    chrony.require()
    theirs = f"chrony-{'.'.join(map(str, chrony.version()))}"
    before = time.time() - time.monotonic()
    chosen = [word for name in ("exchange", "refill", "nak") for word in ("--case", name)]
    chosen += [word for peer in ("ours", theirs) for role in ("--server", "--client") for word in (role, peer)]
    done = matrix(tmp_path, *chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    assert abs(time.time() - time.monotonic() - before) < 0.2  # nobody has set the clock
    cells = json.loads((tmp_path / "result.json").read_text())["cells"]
    assert len(cells) == 12
    for cell in cells:
        assert (cell["grade"], cell["problems"]) == ("succeeded", []), cell
        folder = tmp_path / cell["server"].replace(" ", "-") / cell["client"].replace(" ", "-") / cell["case"]
        assert (folder / "capture.pcap").stat().st_size > 1000
        opened, sealed = re.search(r"(\d+) of (\d+) decrypted", cell["decoded"]).groups()  # type: ignore[union-attr]
        # When keys are lost, so are those of the first packets; our time client keeps no log of TLS keys.
        assert int(opened) == int(sealed) > 5 or cell["case"] == "nak", cell
    page = (tmp_path / "index.html").read_text()
    assert page.count('class="ok"') == 12
    assert not re.search(r'<script|<link|<img|src=|url\(|href="http', page)


def test_an_unknown_peer_is_named_with_those_that_are_here(tmp_path: Path) -> None:
    done = matrix(tmp_path, "--server", "nobody")
    assert done.returncode == 2
    assert re.search(r"error: no peer 'nobody'; here are ours-\S+", done.stderr)


# --- the contract -----------------------------------------------------------------------------------------------------

SERVES = 'exec "$PYTHON" "$(dirname "$0")/listen.py"'
LISTEN = """
import os, socket, time
kept = [socket.create_server(("", 4460)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
kept[1].bind(("", int(os.environ["NTP_PORT"])))
time.sleep(60)
"""


def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, client: str, case: str) -> run.Outcome:
    """A cell of a peer whose program does this as a server and as a client."""
    monkeypatch.setattr(run, "PATIENCE", 3.0)
    monkeypatch.setattr(run, "_START", 3.0)
    program = tmp_path / "peer"
    program.write_text(f"#!/bin/sh\ncase $1 in\nserver) {server} ;;\nclient) {client} ;;\n*) exit 4 ;;\nesac\n")
    program.chmod(0o755)
    (tmp_path / "listen.py").write_text(LISTEN)
    peer = Peer(program, "test 1", "")
    (outcome,) = run.play_all([Cell(peer, peer, CASES[case])], tmp_path / "results", 1, lambda _outcome: None)
    return outcome


@pytest.mark.parametrize(
    ("server", "client", "case", "grade", "reason"),
    [
        ("echo starts; echo does not; exit 127", "sleep 60", "exchange", Grade.UNSUPPORTED,
         "test 1 as a server does not"),
        (SERVES, "echo cannot; exit 127", "exchange", Grade.UNSUPPORTED, "test 1 as a client cannot"),
        ("exit 3", "sleep 60", "exchange", Grade.FAILED, "server: it ends with exit code 3"),
        (SERVES, "exit 0", "exchange", Grade.FAILED, "client: it ends with exit code 0"),
        ("sleep 60", "sleep 60", "exchange", Grade.FAILED, "server: it does not listen within 3 s"),
        (SERVES, "echo accepted; sleep 60", "exchange", Grade.FAILED,
         "client: after the start it takes 1 of 3 answers within 3 s"),
        (SERVES, "for i in 1 2 3; do sleep 0.2; echo accepted; done; sleep 60", "exchange", Grade.OK, ""),
        (SERVES, "for i in 1 2 3; do sleep 0.2; echo accepted; done; sleep 60", "ipv6", Grade.FAILED,
         "client: it asks nobody and not [2001:db8::1]:123"),
        (SERVES, "for i in 1 2 3; do sleep 0.2; echo accepted; done; sleep 60", "rotation", Grade.FAILED,
         "server: its program's rotate ends with exit code 4"),
        (SERVES, "trap 'exit 0' TERM; while :; do sleep 0.1; done", "exchange", Grade.FAILED,
         "client: after the start it takes no of 3 answers within 3 s"),
    ],
)  # fmt: skip
def test_what_a_peer_does_decides(
    server: str, client: str, case: str, grade: Grade, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = play(tmp_path, monkeypatch, server, client, case)
    assert (outcome.grade, outcome.reason) == (grade, reason)


def test_a_peer_can_write_nothing_but_its_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = ROOT / "build/not-there"
    client = f"touch here; touch {outside} 2>said || [ -e {outside} ] || echo accepted; sleep 60"
    monkeypatch.setattr(cases, "_SOME", 1)
    assert play(tmp_path, monkeypatch, SERVES, f"sleep 0.3; {client}", "exchange").grade is Grade.OK
    folder = tmp_path / "results/test-1/test-1/exchange/client"
    assert "Read-only" in (folder / "said").read_text()
    assert (folder / "here").exists()


def test_nothing_runs_on_when_a_run_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = f"{os.getpid()}.25"  # seconds to sleep
    stubborn = f"trap '' TERM; sleep {mark} & wait; sleep {mark}"
    monkeypatch.setattr(network, "_PATIENCE", 2.0)
    assert play(tmp_path, monkeypatch, SERVES, stubborn, "exchange").grade is Grade.FAILED
    lines = (p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists())
    assert not [line for line in lines if line.split(b"\0")[:2] == [b"sleep", mark.encode()]]

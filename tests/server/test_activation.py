# SPDX-License-Identifier: MIT
"""Both servers with sockets that a service manager passed to them."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.activation import activated, bound
from testkit.ke_sessions import ask, check_agreement
from testkit.processes import HAS_ENGINE, NO_ENGINE, ROOT, Process, Suite, ask_udp, free_port, workers_of
from testkit.raw_ke import GOOD_REQUEST

NTP_REQUEST = b"\x23" + bytes(47)
TOOL = shutil.which("systemd-socket-activate")
needs_tool = pytest.mark.skipif(TOOL is None, reason="no systemd-socket-activate here (Debian: systemd)")


@contextlib.contextmanager
def running(suite: Suite, script: str, *sockets: socket.socket) -> Iterator[Process]:
    """A server that is up, with these sockets passed."""
    descriptors = tuple(s.fileno() for s in sockets)
    command = activated(descriptors, [sys.executable, str(ROOT / script), str(suite.ini)])
    server = Process(command, suite.folder / "server.log", pass_fds=descriptors)
    try:
        server.wait_for("sends clients to" if script == "ntske_server.py" else "engine:")
        yield server
    finally:
        assert server.stop() == 0, server.output()


def test_key_exchange_on_passed_sockets(tmp_path: Path) -> None:
    suite = Suite(tmp_path, options={"ntske": {"workers": 2}})
    with bound(socket.SOCK_STREAM) as one, bound(socket.SOCK_STREAM) as other:
        ports = [s.getsockname()[1] for s in (one, other)]
        with running(suite, "ntske_server.py", one, other) as server:
            assert "listen and port in server.ini do not count" in server.output()
            assert f"NTS-KE on TCP 127.0.0.1:{ports[0]}, 127.0.0.1:{ports[1]}; 2 workers" in server.output()
            for port in ports:
                check_agreement(ask(port, GOOD_REQUEST), suite.ntp_port)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", suite.ke_port))


@pytest.mark.parametrize(
    "engine", ["python", pytest.param("native", marks=pytest.mark.skipif(not HAS_ENGINE, reason=NO_ENGINE))]
)
def test_all_workers_of_a_time_server_share_a_passed_socket(tmp_path: Path, engine: str) -> None:
    suite = Suite(tmp_path, options={"ntpv4": {"workers": 2, "engine": engine}})
    with bound(socket.SOCK_DGRAM) as sock:
        port = sock.getsockname()[1]
        with running(suite, "ntsts_server.py", sock) as server:
            assert f"NTP on UDP 127.0.0.1:{port}; 2 workers" in server.output()
            for pid in workers_of(server, 2):
                links = [str(f.readlink()) for f in Path(f"/proc/{pid}/fd").iterdir()]
                assert str(Path(f"/proc/self/fd/{sock.fileno()}").readlink()) in links
            for _ in range(20):
                assert ask_udp(port, NTP_REQUEST)
            with pytest.raises(ConnectionRefusedError):
                ask_udp(suite.ntp_port, NTP_REQUEST)
    assert "plain 20" in server.output()


@pytest.mark.parametrize(
    ("script", "kind"), [("ntske_server.py", socket.SOCK_DGRAM), ("ntsts_server.py", socket.SOCK_STREAM)]
)
def test_sockets_of_the_other_server_end_the_start(tmp_path: Path, script: str, kind: socket.SocketKind) -> None:
    suite = Suite(tmp_path)
    (tmp_path / "master_keys").mkdir(mode=0o700)
    with bound(kind) as sock:
        command = activated([sock.fileno()], [sys.executable, str(ROOT / script), str(suite.ini)])
        server = Process(command, tmp_path / "log", pass_fds=(sock.fileno(),))
        assert server.popen.wait(20) == 2
    error, hint = server.output().splitlines()
    assert error.startswith(f"{script}: error: descriptor 3 from the service manager is not a ")
    assert hint.startswith("hint: correct the service manager's .socket unit")


@needs_tool
@pytest.mark.parametrize("script", ["ntske_server.py", "ntsts_server.py"])
def test_systemd_starts_a_server_at_the_first_request(tmp_path: Path, script: str) -> None:
    assert TOOL is not None
    suite = Suite(tmp_path)
    kind = socket.SOCK_STREAM if script == "ntske_server.py" else socket.SOCK_DGRAM
    port = free_port(kind)
    options = [f"--listen=127.0.0.1:{port}", *(["--datagram"] if kind == socket.SOCK_DGRAM else [])]
    server = Process([TOOL, *options, sys.executable, str(ROOT / script), str(suite.ini)], tmp_path / "log")
    try:
        server.wait_for(f"Listening on 127.0.0.1:{port}")
        if kind == socket.SOCK_STREAM:
            check_agreement(ask(port, GOOD_REQUEST), suite.ntp_port)
        else:
            assert ask_udp(port, NTP_REQUEST, timeout=20)
    finally:
        assert server.stop() == 0, server.output()

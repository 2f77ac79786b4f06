# SPDX-License-Identifier: MIT
"""The protocol of the service manager: notifications, watchdog and passed sockets."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.base.errors import ConfigError
from nts.system import service
from testkit.activation import activated, bound
from testkit.processes import ROOT, needs_v6

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM

# --- notifications ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def manager(monkeypatch: pytest.MonkeyPatch, address: str) -> Iterator[socket.socket]:
    """The service manager's socket, which is announced to this process."""
    with socket.socket(socket.AF_UNIX, UDP) as sock:
        sock.bind(address)
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + address[1:] if address.startswith("\0") else address)
        yield sock


@pytest.mark.parametrize("abstract", [False, True])
def test_notifications_reach_the_service_manager(monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"nts-test-{os.getpid()}"
    address = f"\0{name}" if abstract else f"/tmp/{name}"
    try:
        with manager(monkeypatch, address) as sock:
            service.notify("READY=1", "STATUS=serves")
            assert sock.recv(100) == b"READY=1\nSTATUS=serves"
            before = time.monotonic_ns() // 1000
            service.notify_reloading()
            reloading, _, usec = sock.recv(100).decode().partition("\nMONOTONIC_USEC=")
            assert reloading == "RELOADING=1"
            assert before <= int(usec) <= time.monotonic_ns() // 1000
    finally:
        Path(f"/tmp/{name}").unlink(missing_ok=True)


def test_without_a_service_manager_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service.notify("READY=1")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("address", ["/nonexistent/notify", "@nts-test-nobody", "/" + 200 * "x"])
def test_a_service_manager_out_of_reach_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    service.notify("READY=1")
    (line,) = capsys.readouterr().err.splitlines()
    assert "warning: cannot notify the service manager: " in line


# --- watchdog ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usec", "other_pid", "interval"),
    [
        (None, None, None),
        ("30000000", None, 15.0),
        ("30000000", 0, 15.0),
        ("30000000", 1, None),
        ("1", None, 5e-7),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, other_pid: int | None, interval: float | None
) -> None:
    pid = None if other_pid is None else os.getpid() + other_pid
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, str(value))
    assert service.watchdog_interval() == interval


@pytest.mark.parametrize("usec", ["", "0", "-1", "soon", "1e6"])
def test_a_watchdog_that_makes_no_sense_is_an_error(monkeypatch: pytest.MonkeyPatch, usec: str) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with pytest.raises(ConfigError, match="no number of microseconds"):
        service.watchdog_interval()


# --- passed sockets ---------------------------------------------------------------------------------------------------

# What a process sees of the sockets passed to it, as JSON: twice, since only the first call may return any.
RECEIVER = """
import json, os, socket, sys
from nts.base.errors import NTSError
from nts.system import service
try:
    found = service.inherited_sockets(socket.SocketKind(int(sys.argv[1])))
except NTSError as e:
    sys.exit(f"{e}; {e.hint}")
print(json.dumps({
    "names": [s.getsockname() for s in found],
    "blocking": [s.getblocking() for s in found],
    "inherited": [s.get_inheritable() for s in found],
    "again": len(service.inherited_sockets(socket.SocketKind(int(sys.argv[1])))),
    "variables": [n for n in os.environ if n.startswith("LISTEN_")],
}))
"""


def receive(kind: socket.SocketKind, descriptors: list[int], **variables: str) -> subprocess.CompletedProcess[str]:
    """The receiver, after `env` has set more variables."""
    assignments = [f"{name}={value}" for name, value in variables.items()]
    command = ["env", *assignments, sys.executable, "-c", RECEIVER, str(int(kind))]
    return subprocess.run(
        activated(descriptors, command), cwd=ROOT, pass_fds=descriptors, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("kind", [TCP, UDP])
def test_passed_sockets_arrive_in_order_and_for_this_process_alone(kind: socket.SocketKind) -> None:
    with bound(kind) as first, bound(kind) as second:
        names = [list(s.getsockname()) for s in (second, first)]
        done = receive(kind, [second.fileno(), first.fileno()], LISTEN_FDNAMES="a:b")
    assert json.loads(done.stdout) == {
        "names": names, "blocking": [False, False], "inherited": [False, False], "again": 0, "variables": [],
    }  # fmt: skip


def test_sockets_for_another_process_are_left_alone() -> None:
    with bound(TCP) as sock:
        found = json.loads(receive(TCP, [sock.fileno()], LISTEN_PID="1").stdout)
    assert (found["names"], found["variables"]) == ([], [])


@needs_v6
def test_an_ipv6_socket_must_not_serve_ipv4() -> None:
    with bound(TCP, "::") as good, socket.socket(socket.AF_INET6, TCP) as both:
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        both.bind(("::", 0))
        both.listen()
        assert json.loads(receive(TCP, [good.fileno()]).stdout)["names"][0][0] == "::"
        done = receive(TCP, [both.fileno()])
    assert (done.returncode, done.stdout) == (1, "")
    assert "IPv4 and IPv6 at once; set BindIPv6Only=ipv6-only" in done.stderr


def unsuitable() -> Iterator[tuple[socket.socket, socket.SocketKind]]:
    """Sockets, and the kind that they are not, though a server needs it."""
    yield bound(UDP), TCP
    yield bound(TCP), UDP
    yield socket.socket(socket.AF_INET, UDP), UDP  # not bound
    silent = socket.socket(socket.AF_INET, TCP)
    silent.bind(("127.0.0.1", 0))
    yield silent, TCP  # not listening
    yield socket.socket(socket.AF_UNIX, TCP), TCP


def test_a_socket_of_another_kind_is_an_error() -> None:
    for number, (sock, kind) in enumerate(unsuitable()):
        with sock, bound(kind) as good:
            done = receive(kind, [good.fileno(), sock.fileno()])
        assert (done.returncode, done.stdout) == (1, ""), number
        assert done.stderr.startswith("descriptor 4 from the service manager is not a "), number


def test_a_descriptor_that_is_no_socket_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as f:
        assert "descriptor 3 from" in receive(TCP, [f.fileno()]).stderr
    with bound(TCP) as sock:
        assert "descriptor 4 from" in receive(TCP, [sock.fileno()], LISTEN_FDS="2").stderr


@pytest.mark.parametrize("count", ["", "0", "x", "-1", "99999"])
def test_a_number_of_sockets_that_makes_no_sense_is_an_error(count: str) -> None:
    with bound(TCP) as sock:
        assert "is no number of sockets" in receive(TCP, [sock.fileno()], LISTEN_FDS=count).stderr

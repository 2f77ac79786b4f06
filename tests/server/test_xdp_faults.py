# SPDX-License-Identifier: MIT
"""AF_XDP when something changes or fails: addresses, interfaces, processes, privileges, floods."""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.server import keystore
from testkit import xdp
from testkit.namespaces import ip
from testkit.processes import ROOT, Process, Suite, eventually, workers_of
from testkit.ts_requests import Asker, plain, process_of
from testkit.xdp import (
    FAR,
    HOSTS,
    NEAR,
    SERVER4,
    Network,
    by_xdp,
    comes_by_xdp,
    frames,
    metric,
    needs_xdp,
    serving,
    worker,
)

pytestmark = needs_xdp

ALL_FRAMES = 1024  # of a queue: engine/xsk.c


@pytest.fixture
def net() -> Iterator[Network]:
    with xdp.network() as found:
        yield found


def answered(asker: Asker, count: int, timeout: float = 2.0) -> int:
    """How many of so many requests are answered, of which up to 50 are sent at once."""
    asker.sock.settimeout(timeout)
    found = 0
    for first in range(0, count, 50):
        portion = min(50, count - first)
        for _ in range(portion):
            asker.sock.send(plain())
        try:
            for _ in range(portion):
                asker.sock.recv(100)
                found += 1
        except TimeoutError:
            pass
    return found


def answers(asker: Asker) -> bool:
    asker.sock.send(plain())
    try:
        asker.sock.recv(100)
    except (TimeoutError, ConnectionRefusedError):
        return False
    return True


def shown(*options: str) -> str:
    """What `ip` says of the server's interface."""
    command = ["ip", *options, "link", "show", NEAR]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def has_all_frames(suite: Suite, asker: Asker) -> bool:
    """Whether a worker that is stopped finds as many requests afterwards as its queue has frames, and no more."""
    os.kill(worker(suite), signal.SIGSTOP)
    found = []
    for count in (ALL_FRAMES - 100, 300):
        for _ in range(count // 10):
            for _ in range(10):
                asker.sock.send(plain())
            time.sleep(0.001)  # a veth has room for 256 packets
        found.append(metric(suite, "nts_ntp_receive_queue_drops"))
    os.kill(worker(suite), signal.SIGCONT)
    drain(asker)
    return found[0] == 0 < found[1] <= 200


def drain(asker: Asker) -> None:
    asker.sock.settimeout(0.3)
    try:
        while True:
            asker.sock.recv(100)
    except TimeoutError:
        asker.sock.settimeout(10)


# --- addresses and interfaces ----------------------------------------------------------------------------------------


def test_addresses_are_followed(net: Network, tmp_path: Path) -> None:
    """A new one is served by socket until the server has seen it; one that is gone is left to the kernel."""
    (station,) = re.findall(r"link/ether (\S+)", shown())
    with serving(tmp_path, server={"sandbox": "yes"}) as suite, net.asker(suite, "10.77.0.9") as asker:
        ip(f"addr add 10.77.0.9/24 dev {NEAR}")
        assert comes_by_xdp(suite, asker)
        with net.clients.inside():
            ip(f"neigh replace 10.77.0.9 lladdr {station} dev {FAR}")
        ip(f"addr del 10.77.0.9/24 dev {NEAR}")
        asker.sock.settimeout(0.2)
        assert eventually(lambda: not answers(asker))
        before = frames(suite)
        assert not answers(asker)
        assert frames(suite) == before


def test_addresses_of_lo_that_lead_outside_are_served(net: Network, tmp_path: Path) -> None:
    """As for anycast."""
    ip("addr add 198.51.100.1/32 dev lo")
    with net.clients.inside():
        ip(f"route add 198.51.100.1 via {SERVER4}")
    with serving(tmp_path) as suite, net.asker(suite, "198.51.100.1") as asker:
        assert by_xdp(suite, asker)


def test_only_addresses_that_it_listens_on(net: Network, tmp_path: Path) -> None:
    ip(f"addr add 10.77.0.9/24 dev {NEAR}")
    with serving(tmp_path, listen=f"{SERVER4}, 127.0.0.1") as suite, net.asker(suite) as asker:
        assert by_xdp(suite, asker)
        with net.asker(suite, "10.77.0.9") as other:
            assert not answers(other)


def test_an_interface_that_goes_down_and_up(net: Network, tmp_path: Path) -> None:
    with serving(tmp_path) as suite, net.asker(suite) as asker:
        assert by_xdp(suite, asker)
        ip(f"link set {NEAR} down")
        asker.sock.settimeout(0.2)
        assert not answers(asker)
        ip(f"link set {NEAR} up")
        assert eventually(lambda: answers(asker))
        asker.sock.settimeout(10)
        assert comes_by_xdp(suite, asker)
        assert answered(asker, ALL_FRAMES + 500) == ALL_FRAMES + 500


def test_an_interface_whose_driver_refuses(net: Network, tmp_path: Path) -> None:
    """A veth's does for long frames. Then the kernel runs the program."""
    ip(f"link set {NEAR} mtu 9000")
    with net.clients.inside():
        ip(f"link set {FAR} mtu 9000")
    with serving(tmp_path) as suite:
        assert f"AF_XDP: {NEAR}, 1 queue (generic, copy); " in process_of(suite).output()
        for host in HOSTS:
            with net.asker(suite, host) as asker:
                assert by_xdp(suite, asker)


@pytest.mark.parametrize("kind", ["bridge", "vlan"])
def test_an_interface_above_another(net: Network, tmp_path: Path, kind: str) -> None:
    """It has no driver that runs programs: the kernel runs ours."""
    above(kind, NEAR, "10.79.0.1")
    with net.clients.inside():
        above(kind, FAR, "10.79.0.2")
    with serving(tmp_path, xdp=f"{NEAR}.5") as suite, net.asker(suite, "10.79.0.1") as asker:
        assert f"AF_XDP: {NEAR}.5, 1 queue (generic, copy); " in process_of(suite).output()
        assert comes_by_xdp(suite, asker)
        assert answered(asker, 500) == 500


def above(kind: str, interface: str, address: str) -> None:
    """Put INTERFACE.5 above an interface."""
    name = f"{interface}.5"
    if kind == "bridge":
        ip(f"link add {name} type bridge")
        ip(f"link set {interface} master {name}")
    else:
        command = ["ip", "link", "add", "link", interface, "name", name, "type", "vlan", "id", "5"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "Unknown device type" in done.stderr:
            pytest.skip("this kernel has no VLAN interfaces")
        assert done.returncode == 0, done.stderr
    ip(f"addr add {address}/24 dev {name}")
    ip(f"link set {name} up")


def test_an_interface_that_goes_for_good(net: Network, tmp_path: Path) -> None:
    with serving(tmp_path) as suite:
        server = process_of(suite)
        ip(f"link del {NEAR}")
        server.wait_for(f"warning: AF_XDP: {NEAR} is gone; the sockets serve until the server is started again")
        with Asker(suite.ntp_port) as asker:
            assert answers(asker)
        assert server.output().count("is gone") == 1


# --- several queues and workers --------------------------------------------------------------------------------------


def test_queues_are_spread_over_workers(tmp_path: Path) -> None:
    """Of two workers and three queues. What comes by the queues of a worker that is stopped waits for it."""
    with xdp.network(3) as net, serving(tmp_path, workers=2) as suite:
        assert "3 queues" in process_of(suite).output()
        second = worker(suite, 1)
        askers = [net.asker(suite) for _ in range(64)]
        try:
            assert all(answered(asker, 1) for asker in askers)
            assert frames(suite) == len(askers)
            os.kill(second, signal.SIGSTOP)
            quick = [asker for asker in askers if answered(asker, 1, 0.1)]
            assert len(askers) / 4 < len(quick) < len(askers)
            os.kill(second, signal.SIGCONT)
            for asker in set(askers) - set(quick):
                asker.sock.settimeout(5)
                asker.sock.recv(100)
        finally:
            for asker in askers:
                asker.sock.close()


def test_more_workers_than_queues(net: Network, tmp_path: Path) -> None:
    with serving(tmp_path, workers=2) as suite:
        for host in HOSTS:
            with net.asker(suite, host) as asker:
                assert by_xdp(suite, asker)


# --- processes -------------------------------------------------------------------------------------------------------


def has_program() -> bool:
    return "prog/xdp" in shown("-d")


def test_a_worker_that_is_killed_under_load(net: Network, tmp_path: Path) -> None:
    """What waits is answered by the next one, and the frames that it had in hand are not lost for ever."""
    with serving(tmp_path) as suite, net.asker(suite) as asker:
        assert has_all_frames(suite, asker)
    (tmp_path / "again").mkdir()
    with serving(tmp_path / "again") as suite, net.asker(suite) as asker:
        for _ in range(5):
            before = worker(suite)
            asker.sock.setblocking(False)
            for i in range(900):
                asker.sock.send(plain())
                if i == 300:
                    os.kill(before, signal.SIGKILL)
            assert eventually(lambda: worker(suite) != before)  # noqa: B023
            drain(asker)
            assert by_xdp(suite, asker)
        assert metric(suite, "nts_ntp_receive_queue_drops") == 0
        assert has_all_frames(suite, asker)


def test_a_server_that_is_killed_leaves_nothing(net: Network, tmp_path: Path) -> None:
    """And the next one can start at once."""
    with serving(tmp_path) as suite, net.asker(suite) as asker:
        assert has_program()
        workers = workers_of(process_of(suite), 2)
        for _ in range(500):
            asker.sock.send(plain())
        for pid in (process_of(suite).popen.pid, *workers):
            os.kill(pid, signal.SIGKILL)
        process_of(suite).popen.wait()
        suite.start_ts().wait_for(f"AF_XDP: {NEAR}, 1 queue")
        assert comes_by_xdp(suite, asker)
        process_of(suite).popen.kill()  # only the parent: its workers notice
        process_of(suite).popen.wait()
        assert eventually(lambda: not has_program())


def test_a_server_that_stops_leaves_nothing(net: Network, tmp_path: Path) -> None:
    with serving(tmp_path) as suite:
        assert has_program()
        assert process_of(suite).stop() == 0
        assert not has_program()


def test_another_program_on_the_interface(net: Network, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with serving(tmp_path) as suite, serving(tmp_path / "other", fails=True) as other, net.asker(other) as asker:
        expected = f"warning: AF_XDP: not on {NEAR}: another program uses XDP there; the sockets serve"
        assert expected in process_of(other).output()
        assert answers(asker)
        assert has_program()
        assert process_of(suite).popen.poll() is None


# --- floods ----------------------------------------------------------------------------------------------------------


def test_a_flood(net: Network, tmp_path: Path) -> None:
    """Of requests, unusual ones and damaged frames: what is too much is lost, and then all is as before."""
    with serving(tmp_path) as suite, net.asker(suite) as asker:
        for packet in (plain(), plain(more=bytes(28)), b"short"):
            end = time.monotonic() + 0.5
            asker.sock.setblocking(False)
            while time.monotonic() < end:
                for _ in range(100):
                    asker.sock.send(packet)
            drain(asker)
        assert by_xdp(suite, asker)
        assert answered(asker, 500) == 500


# --- what is missing -------------------------------------------------------------------------------------------------


def test_no_such_interface(net: Network, tmp_path: Path) -> None:
    with serving(tmp_path, xdp="none0", fails=True) as suite, net.asker(suite) as asker:
        assert (
            "warning: AF_XDP: not on none0: no interface with this name; the sockets serve"
            in process_of(suite).output()
        )
        assert answers(asker)


def checked(suite: Suite, *prefix: str) -> list[str]:
    """What server_helper.py check says of AF_XDP."""
    command = [*prefix, sys.executable, str(ROOT / "server_helper.py"), str(suite.ini), "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return [line for line in done.stdout.splitlines() if NEAR in line or "none0" in line]


def test_what_check_says(net: Network, tmp_path: Path) -> None:
    """And it takes nothing that a running server would miss."""
    usable = f"ok:      AF_XDP can be used on {NEAR}, if no other program does: 1 queue"
    with serving(tmp_path, workers=1) as suite, net.asker(suite) as asker:
        assert checked(suite) == [usable]
        assert by_xdp(suite, asker)
        for options, said in {
            (("workers", 2),): f"warning: {NEAR} has fewer queues than there are workers, 2: ",
            (("xdp", "none0"),): "warning: AF_XDP: not on none0: no interface with this name; the sockets",
            (("engine", "python"),): f"warning: AF_XDP: not on {NEAR}: it needs the native engine; the sockets",
            (("xdp_allow", "10.77.0.0/24"), ("xdp_deny", "fd00::/16")): usable,
        }.items():  # fmt: skip
            other = Suite(tmp_path, options={"ntpv4": {"xdp": NEAR, **dict(options)}})
            assert checked(other)[-1].startswith(said)


def test_what_check_says_without_capabilities(net: Network, folder: Path) -> None:
    suite = Suite(folder, options={"ntpv4": {"xdp": NEAR}})
    (said,) = checked(suite, "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    reason = "it needs root, or CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF"
    assert said == f"warning: AF_XDP: not on {NEAR}: {reason}; the sockets would serve"


def test_the_python_engine_does_without(net: Network, tmp_path: Path) -> None:
    with serving(tmp_path, engine="python", fails=True) as suite, net.asker(suite) as asker:
        assert f"AF_XDP: not on {NEAR}: it needs the native engine; the sockets serve" in process_of(suite).output()
        assert answers(asker)


def with_capabilities(suite: Suite, *names: str) -> Process:
    """The server, as systemd would start it: as another user, with these capabilities alone."""
    listed = "".join(f",+{name}" for name in names)
    user = ["--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    command = ["setpriv", *user, f"--inh-caps=-all{listed}", f"--ambient-caps=-all{listed}"]
    process = Process([*command, sys.executable, str(ROOT / "ntsts_server.py"), str(suite.ini)], suite.folder / "log")
    suite.ts = process
    process.wait_for("AF_XDP: ")
    return process


@pytest.fixture
def for_nobody(folder: Path, net: Network) -> Iterator[Suite]:
    suite = Suite(folder, options={"ntpv4": {"xdp": NEAR}, "server": {"sandbox": "yes"}})
    keystore.ensure_key(suite.keys, 3, os.urandom)
    nobody = pwd.getpwnam("nobody")
    for path in (suite.keys, *suite.keys.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    yield suite
    suite.stop()


def test_no_capability(net: Network, for_nobody: Suite) -> None:
    output = with_capabilities(for_nobody).output()
    reason = "it needs root, or CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF"
    assert f"warning: AF_XDP: not on {NEAR}: {reason}; the sockets serve" in output
    with net.asker(for_nobody) as asker:
        assert answers(asker)
    assert not has_program()


def test_privileges_are_gone_when_it_serves(net: Network, for_nobody: Suite) -> None:
    server = with_capabilities(for_nobody, "net_admin", "net_raw", "bpf", "ipc_lock", "net_bind_service")
    assert f"AF_XDP: {NEAR}, 1 queue" in server.output()
    with net.asker(for_nobody) as asker:
        assert answers(asker)
    for pid in (server.popen.pid, *workers_of(server, 1)):
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.findall(r"Cap(?:Inh|Prm|Eff|Amb):\t0*(\w+)", status) == ["400"] * 4  # CAP_NET_BIND_SERVICE alone


def test_root_becomes_another_user_first(net: Network, for_nobody: Suite) -> None:
    text = for_nobody.ini.read_text().replace("[server]", "[server]\nuser = nobody")
    for_nobody.ini.write_text(text)
    server = for_nobody.start_ts()
    server.wait_for(f"AF_XDP: {NEAR}, 1 queue")
    with net.asker(for_nobody) as asker:
        assert answers(asker)
    for pid in (server.popen.pid, *workers_of(server, 1)):
        assert "CapEff:\t0000000000000000" in Path(f"/proc/{pid}/status").read_text()

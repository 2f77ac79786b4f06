# SPDX-License-Identifier: MIT
"""Servers started by root give it up; and what the sandbox takes from them."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.server import keystore
from testkit import processes
from testkit.ke_sessions import ask, check_agreement, server_of, works
from testkit.processes import ROOT, Process, Suite, children, eventually, workers_of
from testkit.raw_ke import GOOD_REQUEST

NOBODY = pwd.getpwnam("nobody")
pytestmark = pytest.mark.usefixtures("ke_engine")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def low_port() -> int:
    """A free port that only root can open."""
    for port in range(400, 1024):
        with contextlib.suppress(OSError), socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port below 1024")


@pytest.fixture
def dropped(folder: Path) -> Iterator[Suite]:
    """Both servers, started by root on ports that only root can open, as user nobody in the sandbox."""
    port = low_port()
    section = {"listen": "127.0.0.1", "workers": 2}
    suite = Suite(
        folder, port, port, {"ntske": section, "ntpv4": section, "server": {"user": "nobody", "sandbox": "yes"}}
    )
    for name in ("cert.pem", "cert.key"):
        os.chown(folder / name, NOBODY.pw_uid, NOBODY.pw_gid)
    try:
        suite.start_ke("--verbose")
        suite.start_ts("--verbose")
        yield suite
    finally:
        suite.stop()


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def everyone(process: Process, count: int = 2) -> list[int]:
    return [process.popen.pid, *workers_of(process, count)]


@needs_root
def test_no_process_keeps_root_or_a_way_back(dropped: Suite) -> None:
    for process in (dropped.ke, dropped.ts):
        assert process is not None
        for pid in everyone(process):
            found = status(pid)
            assert found["Uid"].split() == 4 * [str(NOBODY.pw_uid)]
            assert found["Gid"].split() == 4 * [str(NOBODY.pw_gid)]
            assert "0" not in found["Groups"].split()
            assert {found[f"Cap{kind}"] for kind in ("Prm", "Eff", "Inh")} == {"0000000000000000"}
            assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert "Max core file size        0                    0" in limits
        assert "confined by Landlock " in process.output()


@needs_root
def test_workers_are_replaced_and_keys_and_certificates_followed_without_root(dropped: Suite, tmp_path: Path) -> None:
    assert works(dropped)
    assert dropped.fetch().returncode == 0
    assert dropped.ask().returncode == 0
    ke = server_of(dropped)
    first = workers_of(ke, 2)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: len(set(children(ke.popen.pid)) - set(first)) == 2)
    new, _removed = keystore.rotate(dropped.keys, 3, os.urandom)
    os.chown(new.path, NOBODY.pw_uid, NOBODY.pw_gid)
    cookies = check_agreement(ask(dropped.ke_port, GOOD_REQUEST), dropped.ntp_port)
    assert cookies[0][:2] == new.key.id.to_bytes(2, "big")
    ke.popen.send_signal(signal.SIGHUP)
    ke.wait_for("loaded the certificate for localhost")
    assert ke.stop() == 0


@needs_root
def test_what_the_user_cannot_read_again_is_said_at_the_start_and_by_check(folder: Path) -> None:
    suite = Suite(folder, options={"server": {"user": "nobody"}})
    cannot = f"user nobody cannot read {folder / 'cert.key'}"
    try:
        suite.start_ke()
        assert (
            f"user nobody cannot read {suite.folder / 'cert.key'}: changes to it will go" in server_of(suite).output()
        )
        assert works(suite)
        assert server_of(suite).stop() == 0
    finally:
        suite.stop()
    done = processes.run("server_helper.py", suite.ini, "check")
    assert done.returncode == 1
    assert f"error:   {cannot}\n" in done.stdout
    os.chown(folder / "cert.key", NOBODY.pw_uid, NOBODY.pw_gid)
    done = processes.run("server_helper.py", suite.ini, "check")
    assert "ok:      user nobody can read the certificate and the master keys\n" in done.stdout


@needs_root
def test_root_without_another_user_is_warned(tmp_path: Path) -> None:
    suite = Suite(tmp_path)
    try:
        assert "warning: runs as root: name another user in server.ini, [server] user\n" in suite.start_ke().output()
    finally:
        suite.stop()


def test_unknown_user_is_an_error(tmp_path: Path) -> None:
    suite = Suite(tmp_path, options={"server": {"user": "no-such-user"}})
    done = processes.run("ntsts_server.py", suite.ini)
    processes.one_error(done, 2, r"\[server\] user = no-such-user: this machine has no such user")


@needs_root
def test_nobody_else_can_become_another_user(folder: Path) -> None:
    suite = Suite(folder, options={"server": {"user": "daemon"}})
    code = (
        "import encodings.idna, os  # the first is in a folder that only root can read\n"
        "from pathlib import Path; from nts.cli import script; from nts.server import config, ts_daemon\n"
        f"settings = config.load(Path({str(suite.ini)!r}))\n"
        f"os.setgid({NOBODY.pw_gid}); os.setuid({NOBODY.pw_uid})\n"
        "script.run(lambda: ts_daemon.serve(settings, verbose=False))"
    )
    suite.keys.mkdir()
    suite.keys.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code], env=processes.unmeasured(), capture_output=True, text=True, timeout=60,
        cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "-c: error: cannot become user daemon",
        "hint: start the server as root or as daemon",
    ]


@needs_root
def test_keys_are_rotated_in_the_sandbox_and_by_one_process_alone(folder: Path) -> None:
    """Two servers share the folder of keys, which are made to look old. Nobody rotates twice."""
    sections: dict[str, dict[str, object]] = {
        "ntske": {"workers": 2},
        "keys": {"rotate_every": "1h", "master_keys_dir": folder / "master_keys", "max_keys": 9},
        "server": {"user": "nobody", "sandbox": "yes"},
    }
    with contextlib.ExitStack() as stack:
        servers = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            servers.append(Suite(folder / name, options=sections))
            stack.callback(servers[-1].stop)
            servers[-1].start_ke()
        keys = folder / "master_keys"
        for count in (2, 3, 4):
            newest = keystore.load(keys).files[-1]
            old = newest.mtime_ns - 3601 * 1_000_000_000
            os.utime(newest.path, ns=(old, old))
            assert eventually(lambda n=count: len(keystore.load(keys).files) == n)  # type: ignore[misc]
            time.sleep(2.2)  # two looks of each
            assert len(keystore.load(keys).files) == count
        said = [line for server in servers for line in server_of(server).output().splitlines() if "master key" in line]
        assert len([line for line in said if "the last one was 3600 seconds old" in line]) == 3
        assert all(works(server) for server in servers)


# --- the sandbox ------------------------------------------------------------------------------------------------------

IN_SANDBOX = """
import os, socket, sys, time
from pathlib import Path
from nts.system import privileges, sandbox

def attempt(name, action):
    try:
        action()
        print(name, "works")
    except OSError:
        print(name, "refused")

folder, other, listening = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
privileges.harden()
print(sandbox.enter([folder]))
attempt("read", lambda: (other / "file").read_text())
attempt("fork", lambda: os.waitpid(os.fork() or os._exit(0), 0))
attempt("null", lambda: Path(os.devnull).write_text("x"))
attempt("write", lambda: (folder / ".new").write_text("x"))
attempt("rename", lambda: (folder / ".new").rename(folder / "x"))
attempt("remove", lambda: (folder / "x").unlink())
attempt("write elsewhere", lambda: (other / "new").write_text("x"))
attempt("change elsewhere", lambda: (other / "file").write_text("x"))
attempt("remove elsewhere", lambda: (other / "file").unlink())
attempt("folder elsewhere", lambda: (other / "folder").mkdir())
attempt("run", lambda: os.execv("/bin/true", ["true"]))
attempt("connect", lambda: socket.create_connection(("127.0.0.1", listening), 1))
attempt("listen", lambda: socket.socket().bind(("127.0.0.1", 0)))
attempt("signal", lambda: os.kill(os.getppid(), 0))
attempt("clock", lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))
attempt("root", lambda: os.chroot("/"))
attempt("unshare", lambda: os.unshare(os.CLONE_NEWUSER) if hasattr(os, "unshare") else os.chroot("/"))
"""
MAY = {"read", "fork", "null", "write", "rename", "remove"}


def test_the_sandbox_takes_what_serving_does_not_need(tmp_path: Path) -> None:
    for name in ("keys", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "other/file").write_text("here")
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = [str(tmp_path / "keys"), str(tmp_path / "other"), str(server.getsockname()[1])]
        done = subprocess.run(
            [sys.executable, "-c", IN_SANDBOX, *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT,
            check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    in_force, *results = done.stdout.splitlines()
    if "no Landlock" in in_force or "no seccomp" in in_force or int(in_force.split()[1].rstrip(",")) < 6:
        pytest.skip(f"this machine has only: {in_force}")
    found = dict(line.rsplit(" ", 1) for line in results)
    assert {name for name, result in found.items() if result == "works"} == MAY
    assert len(found) == len(MAY) + 11
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["file"]

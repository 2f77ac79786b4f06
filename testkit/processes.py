# SPDX-License-Identifier: MIT
"""Real processes: free ports, configuration files, scripts run to their end, and both servers of the suite."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from nts.system import certs
from nts.system.addresses import family_of

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 20.0  # seconds
HAS_ENGINE = any((ROOT / "nts").glob("_engine*.so"))
NO_ENGINE = "the native engine has not been built (make build)"
needs_ke_engine = pytest.mark.skipif(
    not any((ROOT / "nts").glob("_engine_ke*.so")), reason="the native loop has not been built (make build)"
)
KE_ENGINES = ["python", pytest.param("native", marks=needs_ke_engine)]
"""what may serve key exchanges, as parameters of a fixture"""


def loopback_works(address: str) -> bool:
    """Whether this machine has a loopback address: containers without IPv6 are common."""
    with contextlib.suppress(OSError), socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        return True
    return False


HAS_V6 = loopback_works("::1")
needs_v6 = pytest.mark.skipif(not HAS_V6, reason="this machine has no ::1: enable IPv6 on the loopback interface")
V6_PARAM = pytest.param("::1", marks=needs_v6)
_OURS = random.SystemRandom()  # tests in other processes take other ports
V6_IF_ANY = ("::1",) if HAS_V6 else ()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that was free a moment ago, on IPv4 and, where the machine has it, IPv6.

    The kernel gives clients none of these, so nobody takes it while its server is down.
    """
    family, everywhere = (socket.AF_INET6, "::") if HAS_V6 else (socket.AF_INET, "0.0.0.0")
    while True:
        with socket.socket(family, kind) as sock, contextlib.suppress(OSError):
            if HAS_V6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind((everywhere, _OURS.randrange(10000, 32768)))
            return int(sock.getsockname()[1])


def unmeasured() -> dict[str, str]:
    """The environment without what makes coverage measure programs: it cannot write in a sandbox, on a full disk or as
    another user, and its own modules and start-up would be in the way."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def run(
    script: str, *arguments: object, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a script of the suite to its end, as a user would."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def error_lines(done: subprocess.CompletedProcess[str], code: int) -> list[str]:
    """The error line of a run that ended with `code`, and its hint if it has one; else stderr has only warnings."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    lines = [x for x in done.stderr.splitlines() if not re.match(r"\w+\.py: warning: ", x)]
    error, *hints = lines
    assert re.match(r"\w+\.py: error: ", error), lines
    assert len(hints) <= 1, lines
    assert all(re.match("hint: .", x) for x in hints), lines
    return lines


def one_error(done: subprocess.CompletedProcess[str], code: int, pattern: str) -> None:
    """The run ended with `code` and an error line that matches `pattern`, and printed nothing to stdout."""
    error = error_lines(done, code)[0]
    assert re.search(rf"error: .*{pattern}", error), error
    assert done.stdout == ""


class Process:
    """A program that runs until stopped, its output in a file."""

    def __init__(
        self, command: list[str], log: Path, env: dict[str, str] | None = None, pass_fds: tuple[int, ...] = ()
    ) -> None:
        self.log = log
        with log.open("ab") as f:
            self._start = f.tell()  # what an earlier process wrote into the same file is not this one's output
            self.popen = subprocess.Popen(
                command,
                stdout=f,
                stderr=f,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
                pass_fds=pass_fds,
                # A shell without job control starts things in the background with SIGINT ignored, which is inherited.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def output(self) -> str:
        """All it has written so far."""
        return self.log.read_bytes()[self._start :].decode(errors="replace")

    def wait_for(self, text: str, timeout: float = START_TIMEOUT) -> None:
        """Wait until `text` is in the output. Fails when the program ends or time is up first."""
        end = time.monotonic() + timeout
        while text not in self.output():
            assert self.popen.poll() is None, f"ended with {self.popen.returncode}:\n{self.output()}"
            assert time.monotonic() < end, f"{text!r} did not appear:\n{self.output()}"
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 10) -> int:
        """Send a signal, wait, and return the exit code; killed when it does not stop in time."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise AssertionError(f"did not stop within {timeout} s:\n{self.output()}") from None


def write_ini(path: Path, **sections: Mapping[str, object]) -> Path:
    """An INI file of these sections and options."""
    lines = [f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in options.items()) for name, options in sections.items()]
    path.write_text("\n".join(lines))
    return path


def server_ini(tmp_path: Path, **ntske: object) -> Path:
    """A server.ini with a certificate, free ports and these options of [ntske]."""
    certs.make(certs.LOCAL_NAMES, cert=tmp_path / "cert.pem", key=tmp_path / "cert.key", ca=tmp_path / "ca.pem")
    ke = {"port": free_port(), "server_cert": "cert.pem", "server_key": "cert.key", "root_ca": "ca.pem", **ntske}
    return write_ini(tmp_path / "server.ini", ntske=ke, ntpv4={"port": free_port(socket.SOCK_DGRAM)})


@dataclass
class Suite:
    """Both servers of the suite with a configuration of their own in a folder of their own."""

    folder: Path
    ke_port: int = field(default_factory=free_port)
    ntp_port: int = field(default_factory=lambda: free_port(socket.SOCK_DGRAM))
    options: dict[str, dict[str, object]] = field(default_factory=dict)
    """more options, by section"""
    engine: ClassVar[str] = "native"
    """what serves the time, in all suites made from now on"""
    ke_engine: ClassVar[str] = "auto"
    """what serves the key exchange, in the same way"""

    def __post_init__(self) -> None:
        self.ca, self.ini = self.folder / "ca.pem", self.folder / "server.ini"
        self.keys, self.client_ini = self.folder / "master_keys", self.folder / "client.ini"
        self.ke: Process | None = None
        self.ts: Process | None = None
        if not self.ca.exists():
            certs.make(certs.LOCAL_NAMES, cert=self.folder / "cert.pem", key=self.folder / "cert.key", ca=self.ca)
        write_ini(
            self.ini,
            ntske={
                "port": self.ke_port, "server_cert": "cert.pem", "server_key": "cert.key", "root_ca": "ca.pem",
                "engine": Suite.ke_engine, "workers": 1, "aeads": "15, 17, 16, 30", **self.options.get("ntske", {}),
            },
            ntpv4={
                "port": self.ntp_port, "workers": 1, "clock": "local", "engine": Suite.engine,
                **self.options.get("ntpv4", {}),
            },
            keys={"master_keys_dir": "master_keys", **self.options.get("keys", {})},
            server={"sandbox": "no", **self.options.get("server", {})},  # coverage writes files
        )  # fmt: skip

    def start_ke(self, *arguments: str) -> Process:
        command = [sys.executable, str(ROOT / "ntske_server.py"), str(self.ini), *arguments]
        self.ke = Process(command, self.folder / "ke.log", self._ke_environment())
        self.ke.wait_for("sends clients to")
        return self.ke

    def _ke_environment(self) -> dict[str, str]:
        """With the native loop, TLS groups that every OpenSSL has: no session needs the reference for its group."""
        if self.ke_engine != "native" or "OPENSSL_CONF" in os.environ:
            return {}
        file = self.folder / "openssl.cnf"
        file.write_text((ROOT / "nts/server/openssl.cnf").read_text().replace("\n#Groups", "\nGroups"))
        return {"OPENSSL_CONF": str(file)}

    def start_ts(self, *arguments: str) -> Process:
        command = [sys.executable, str(ROOT / "ntsts_server.py"), str(self.ini), *arguments]
        self.ts = Process(command, self.folder / "ts.log")
        self.ts.wait_for("engine:")
        return self.ts

    def stop(self) -> None:
        for process in (self.ke, self.ts):
            if process is not None:
                process.stop()

    def fetch(self, *arguments: object, output: Path | None = None) -> subprocess.CompletedProcess[str]:
        """ntske_client.py against this suite's server, with verification."""
        target = ("-o", output or self.client_ini)
        return run("ntske_client.py", "-c", self.ca, *target, "localhost", self.ke_port, *arguments)

    def ask(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """ntsts_client.py with the cookies that `fetch` stored."""
        return run("ntsts_client.py", "-f", self.client_ini, *arguments)


@contextlib.contextmanager
def running_suite(folder: Path, **options: dict[str, object]) -> Iterator[Suite]:
    """Both servers, started; stopped at the end of the block."""
    suite = Suite(folder, options=options)
    try:
        suite.start_ke()
        suite.start_ts()
        yield suite
    finally:
        suite.stop()


# --- processes -------------------------------------------------------------------------------------------------------


def all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def stat_of(pid: int) -> list[str]:
    """What /proc/PID/stat says, from the process's state on; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def children(pid: int) -> list[int]:
    """The worker processes of a server."""
    return sorted(other for other in all_processes() if stat_of(other)[1:2] == [str(pid)])


def workers_of(process: Process, count: int) -> list[int]:
    """The worker processes, once all have been started."""
    assert eventually(lambda: len(children(running(process).pid)) == count), process.output()
    return children(process.popen.pid)


def eventually(condition: Callable[[], bool], timeout: float = 10) -> bool:
    """Whether it becomes true in time."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def running(process: Process) -> subprocess.Popen[bytes]:
    assert process.popen.poll() is None, process.output()
    return process.popen


def kill_orphans(workers: list[int]) -> bool:
    """Kill workers that outlived their parent, after a failure. Returns whether there were any."""
    left = [pid for pid in workers if is_running(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return bool(left)


def is_running(pid: int) -> bool:
    """Whether the process is there and not just a zombie that waits for init."""
    return stat_of(pid)[:1] not in ([], ["Z"])


# --- UDP -------------------------------------------------------------------------------------------------------------


def ask_udp(port: int, packet: bytes, *, host: str = "127.0.0.1", timeout: float = 2.0) -> bytes | None:
    """Send a datagram and return the first answer; None when there is none in time."""
    with socket.socket(family_of(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.connect((host, port))
        sock.send(packet)
        try:
            return sock.recv(65535)
        except TimeoutError:
            return None


@contextlib.contextmanager
def closed_udp_port() -> Iterator[int]:
    """A port on 127.0.0.1 on which nobody listens, kept so by a socket that is connected elsewhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
        sock.connect(("127.0.0.1", 9))  # takes datagrams from there alone
        yield port

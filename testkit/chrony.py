# SPDX-License-Identifier: MIT
"""A real chronyd for the interoperability tests.

Every chronyd runs with -x, so that it never touches the clock, on the loopback interface alone, as the current
user, with its pid file and its command socket in a folder of its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nts.check.peer import Authority
from testkit.processes import V6_PARAM, Process

TIMEOUT = 30.0  # seconds; generous, since a wait ends as soon as it can
_PAUSE = 0.05
_NEVER = 2**32 - 1  # how chronyc -c shows a "Last" of "-"
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
_INSTALL = "./bootstrap test unpacks it; or install the chrony package"


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a short path, since that of a Unix socket has 107 octets at most; pytest's may be longer."""
    with tempfile.TemporaryDirectory(prefix="nts-", dir="/tmp") as folder:
        yield Path(folder)


V4, V6, OTHER_V4 = "127.0.0.1", "::1", "127.0.0.2"
V4_AND_V6 = [V4, V6_PARAM]
SANE = 0.5  # seconds of offset; both ends read the same clock, on a machine that may be busy


def unused(folder: Path) -> Path:
    """A new folder in `folder`, with a short name."""
    path = folder / str(len(list(folder.iterdir())))
    path.mkdir(mode=0o700)
    return path


@functools.cache
def unavailable() -> str | None:
    """Why tests cannot use a chronyd here, and what to do about it; None when they can."""
    chronyd = shutil.which("chronyd", path=_PATH)
    if chronyd is None or shutil.which("chronyc", path=_PATH) is None:
        return f"no chronyd and chronyc here: {_INSTALL}"
    version = subprocess.run([chronyd, "--version"], capture_output=True, text=True, timeout=10, check=False)
    if "+NTS" not in version.stdout:
        return f"{chronyd} has no NTS: {_INSTALL}"
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return f"chronyd runs only as a user with a name, and uid {os.geteuid()} has none: add it to /etc/passwd"
    with short_folder() as folder:
        try:
            with running(folder, ["port 0", "local"]):
                return None
        except AssertionError as e:
            return (
                f"{chronyd} does not run as this user ({e}): run the tests as root, or deselect them: -m 'not interop'"
            )


@functools.cache
def version() -> tuple[int, ...]:
    """The version of this machine's chronyd, for tests that `require()` it."""
    chronyd = shutil.which("chronyd", path=_PATH) or "chronyd"
    told = subprocess.run([chronyd, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    found = re.search(r"version (\d+(?:\.\d+)*)", told)
    assert found is not None, told
    return tuple(map(int, found[1].split(".")))


def has_gcm_siv() -> bool:
    """Whether chronyd speaks AEAD 30 and seals its cookies with it: since 4.4, if its libraries can."""
    return version() >= (4, 4)


def has_record_1024() -> bool:
    """Whether chronyd knows record 1024, which puts AEAD 30's number into the exporter's context: since 4.6.1."""
    return version() >= (4, 6, 1)


def require() -> None:
    """Skip the test where chronyd cannot run. In CI fail instead, so that no pipeline is green without it."""
    reason = unavailable()
    if reason and os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)


@dataclass(frozen=True)
class Auth:
    """A line of `chronyc authdata`."""

    mode: str
    key_id: int
    """counts the key exchanges that succeeded"""
    type: int
    key_length: int
    """bits"""
    last: int | None
    """seconds since the last key exchange"""
    attempts: int
    """key exchanges since the last authentic answer"""
    nak: int
    cookies: int
    cookie_length: int


@dataclass(frozen=True)
class Source:
    """A line of `chronyc sources`."""

    state: str
    """* selected, + combined, - not combined, ? unusable, x falseticker, ~ too variable"""
    stratum: int
    reach: int
    """the last eight polls as bits, the newest lowest"""
    offset: float
    """seconds"""
    error: float
    """seconds"""


class Chronyd:
    """A chronyd that runs until stopped."""

    def __init__(self, folder: Path, lines: Iterable[str], *flags: str) -> None:
        self.socket, self.log = folder / "c.sock", folder / "chronyd.log"
        folder.mkdir(mode=0o700, exist_ok=True)
        self.conf = folder / "chrony.conf"
        own = ["cmdport 0", f"bindcmdaddress {self.socket}", f"pidfile {folder / 'chronyd.pid'}"]
        self.conf.write_text("\n".join([*lines, *own]) + "\n")
        user = pwd.getpwuid(os.geteuid()).pw_name
        command = [shutil.which("chronyd", path=_PATH) or "chronyd", "-x", "-d", "-u", user, *flags]
        if os.geteuid():
            command.append("-U")
        self._process = Process([*command, "-f", str(self.conf)], self.log)
        try:
            self.wait("the command socket", lambda: self._run("tracking").returncode == 0)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it and wait for its end; by then it has written its cookies to ntsdumpdir."""
        self._process.stop()

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        chronyc = shutil.which("chronyc", path=_PATH) or "chronyc"
        command = [chronyc, "-n", "-h", str(self.socket), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    def ask(self, *arguments: str) -> str:
        """What chronyc prints."""
        result = self._run(*arguments)
        assert result.returncode == 0, f"chronyc {' '.join(arguments)}: {result.stdout}{result.stderr}\n{self.state()}"
        return result.stdout

    def _rows(self, *arguments: str) -> list[list[str]]:
        return [line.split(",") for line in self.ask("-c", *arguments).splitlines()]

    def _report(self, *arguments: str) -> dict[str, str]:
        """A report of lines `Name : value`."""
        pairs = (line.partition(": ") for line in self.ask(*arguments).splitlines())
        return {name.strip(): value.strip() for name, colon, value in pairs if colon}

    def authdata(self, address: str) -> Auth:
        """A source's authentication."""
        mode, *rest = {row[0]: row[1:] for row in self._rows("authdata")}[address]
        key_id, kind, bits, last, attempts, nak, cookies, length = map(int, rest)
        return Auth(mode, key_id, kind, bits, None if last == _NEVER else last, attempts, nak, cookies, length)

    def source(self, address: str) -> Source:
        """A source's state."""
        _, state, _, stratum, _, reach, _, offset, _, error = {row[2]: row for row in self._rows("sources")}[address]
        return Source(state, int(stratum), int(reach, 8), float(offset), float(error))

    def selectdata(self, address: str) -> tuple[str, str]:
        """A source's state in the selection, and Y if it is authenticated."""
        state, _, authenticated, *_ = {row[1]: row for row in self._rows("selectdata")}[address]
        return state, authenticated

    def ntpdata(self, address: str) -> dict[str, str]:
        """A source's last answer and counters, by chronyc's own names."""
        return self._report("ntpdata", address)

    def valid(self, address: str) -> int:
        """How many answers of a source were valid (the tests 1 to 5 of RFC 5905, authentication among them)."""
        return int(self.ntpdata(address)["Total valid RX"])

    def tracking(self) -> dict[str, str]:
        """What it follows, by chronyc's own names."""
        return self._report("tracking")

    def serverstats(self) -> dict[str, int]:
        """Counters of its servers, by chronyc's own names."""
        return {name: int(value) for name, value in self._report("serverstats").items()}

    def wait(self, what: str, probe: Callable[[], object], timeout: float = TIMEOUT) -> None:
        """Wait until `probe` gives a true value. Fails with chronyd's log when chronyd ends or time is up."""
        end = time.monotonic() + timeout
        while True:
            code = self._process.popen.poll()
            assert code is None, f"chronyd ended with {code} before {what}:\n{self._process.output()}"
            if probe():
                return
            assert time.monotonic() < end, f"chronyd: not within {timeout:g} s: {what}\n{self.state()}"
            time.sleep(_PAUSE)

    def wait_for_answers(self, address: str, count: int = 3) -> None:
        """Wait until so many more valid answers have come from a source."""
        goal = self.valid(address) + count
        self.wait(f"{count} more answers from {address}", lambda: self.valid(address) >= goal)

    def wait_for_nts(self, address: str) -> Auth:
        """Wait until a source is reached with NTS. A key exchange may have to lead to it first."""
        self.wait(f"a source {address}", lambda: any(row[2] == address for row in self._rows("sources")))
        self.wait(f"authentic answers from {address}", lambda: self.source(address).reach and self.valid(address) >= 2)
        return self.authdata(address)

    def used_source(self, address: str) -> Source:
        """A source, once the selection accepts it."""
        self.wait(f"{address} in use", lambda: self.source(address).state in "*+-")
        return self.source(address)

    def state(self) -> str:
        """What helps to see what went wrong."""
        reports = [self._run(r) for r in ("sources", "authdata", "selectdata", "ntpdata")]
        return "\n".join([*(r.stdout + r.stderr for r in reports), "log:", self._process.output()])


@contextlib.contextmanager
def running(folder: Path, lines: Iterable[str], *flags: str) -> Iterator[Chronyd]:
    """A chronyd for the length of the block."""
    chronyd = Chronyd(folder, lines, *flags)
    try:
        yield chronyd
    finally:
        chronyd.stop()


def nts_client(ca: Path, dump: Path | None = None) -> list[str]:
    """Configuration of a client, without its sources."""
    lines = ["port 0", f"ntstrustedcerts {ca}"]
    if dump is not None:
        dump.mkdir(mode=0o700, exist_ok=True)
        lines.append(f"ntsdumpdir {dump}")
    return lines


def nts_server(authority: Authority, ke_port: int, ntp_port: int) -> list[str]:
    """Configuration of a server with a certificate of that authority."""
    certificate, key = authority.certificate
    return [
        "local stratum 1", "allow", f"port {ntp_port}", f"ntsport {ke_port}",
        f"ntsservercert {certificate}", f"ntsserverkey {key}",
    ]  # fmt: skip

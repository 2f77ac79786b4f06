# SPDX-License-Identifier: MIT
"""chronyd as the client under test. It runs with -x, so it leaves the clock alone, and in its own folder.

It polls several times a second, because each case waits for a few polls. chronyc tells whether it took the time: a
source without a sample has given none.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from nts.check.client.recipes import ClientResult, Enough, Place, stop, wait_until
from nts.check.model import Skipped

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
_START = 10.0  # seconds for it to answer chronyc
POLL = "iburst minpoll -3 maxpoll -3"


def snippet(host: str, ke_port: int, ca: Path) -> list[str]:
    """The lines of chrony.conf for a client of our servers."""
    return [f"server {host} nts ntsport {ke_port} {POLL}", f"ntstrustedcerts {ca}"]


class ChronydClient:
    """This machine's chronyd."""

    name, resident, keeps = "chronyd", True, True

    def __init__(self) -> None:
        self._chronyd, self._chronyc = (shutil.which(name, path=_PATH) for name in ("chronyd", "chronyc"))

    def meet(self, place: Place, enough: Enough) -> ClientResult:
        if self._chronyd is None or self._chronyc is None:
            raise Skipped("there are no chronyd and chronyc on this machine")
        # A Unix socket's path has 107 octets at most, and chronyd wants the folder to itself.
        with (
            tempfile.TemporaryDirectory(prefix="nts-", dir="/tmp") as folder,
            (place.folder / "output").open("ab") as log,
        ):
            control = Path(folder) / "c.sock"
            process = subprocess.Popen(
                self._command(place, Path(folder), control), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
            try:
                if not wait_until(lambda: process.poll() is not None or self._answers(control), _START):
                    raise Skipped("chronyd does not answer chronyc")
                wait_until(lambda: process.poll() is not None or enough(self._accepted(control)), place.seconds)
                accepted, code = self._accepted(control), process.poll()
            finally:
                stop(process)
        text = (place.folder / "output").read_text(errors="replace")
        return ClientResult(accepted, code, text)

    def _command(self, place: Place, folder: Path, control: Path) -> list[str]:
        """Write its configuration, and return the command that runs it."""
        dump = place.folder / "cookies"
        dump.mkdir(mode=0o700, exist_ok=True)
        lines = [
            *snippet("127.0.0.1", place.ke_port, place.ca), f"ntsdumpdir {dump}", "port 0", "cmdport 0",
            f"bindcmdaddress {control}", f"pidfile {folder / 'pid'}",
        ]  # fmt: skip
        conf = folder / "chrony.conf"
        conf.write_text("\n".join(lines) + "\n")
        command = [str(self._chronyd), "-x", "-d", "-f", str(conf)]
        with contextlib.suppress(KeyError):
            command += ["-u", pwd.getpwuid(os.geteuid()).pw_name]
        return command if os.geteuid() == 0 else [*command, "-U"]

    @functools.cached_property
    def _user(self) -> list[str]:
        """chronyc since 4.9 becomes a user who may not come near chronyd's socket, unless it is told another."""
        told = subprocess.run(
            [str(self._chronyc), "--help"], capture_output=True, text=True, timeout=_START, check=False
        )
        return ["-u", "root"] if os.geteuid() == 0 and "-u USER" in told.stdout + told.stderr else []

    def _ask(self, control: Path, *arguments: str) -> str | None:
        command = [str(self._chronyc), *self._user, "-n", "-c", "-h", str(control), *arguments]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=_START, check=False)
        except subprocess.TimeoutExpired:
            return None
        return result.stdout if result.returncode == 0 else None

    def _answers(self, control: Path) -> bool:
        return self._ask(control, "tracking") is not None

    def _accepted(self, control: Path) -> bool:
        """Whether any source has given a sample."""
        rows = [line.split(",") for line in (self._ask(control, "sourcestats") or "").splitlines()]
        return any(len(row) > 1 and row[1].isdigit() and int(row[1]) > 0 for row in rows)

# SPDX-License-Identifier: MIT
"""ntpd-rs as the client under test. All that it does to the clock seems to succeed and does nothing; refused, it ends.

It polls once a second, and keeps no cookies when it ends. Its observation socket tells whether it took the time.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
from pathlib import Path

from nts.check.client.recipes import ClientResult, Enough, Place, stop, wait_until
from nts.check.model import Skipped
from nts.system import sandbox, still_clock

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
_ASK = 2.0  # seconds for it to tell its state


class NtpdRsClient:
    """This machine's ntp-daemon."""

    name, resident, keeps = "ntpd-rs", True, False

    def meet(self, place: Place, enough: Enough) -> ClientResult:
        daemon = shutil.which("ntp-daemon", path=_PATH)
        if daemon is None:
            raise Skipped("there is no ntp-daemon on this machine")
        if not sandbox.has_seccomp():
            raise Skipped("there is no libseccomp on this machine, which keeps ntp-daemon from setting the clock")
        # A Unix socket's path has 107 octets at most.
        with (
            tempfile.TemporaryDirectory(prefix="nts-", dir="/tmp") as folder,
            (place.folder / "output").open("a+b") as log,
        ):
            start = log.tell()
            conf, observed = Path(folder) / "ntp.toml", Path(folder) / "observe"
            conf.write_text(_configuration(place, observed))
            process = subprocess.Popen(
                still_clock.command(daemon, "-c", str(conf)), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=still_clock.FOLDER, start_new_session=True,
            )  # fmt: skip
            try:
                wait_until(lambda: process.poll() is not None or enough(_accepted(observed)), place.seconds)
                took, code = _accepted(observed), process.poll()
            finally:
                stop(process)
            log.seek(start)
            output = log.read().decode(errors="replace")
        return ClientResult(took, code, output)


def _configuration(place: Place, observed: Path) -> str:
    return f"""\
[observability]
log-level = "info"
ansi-colors = false
observation-path = "{observed}"
[source-defaults]
poll-interval-limits = {{ min = 0, max = 4 }}
initial-poll-interval = 0
[[source]]
mode = "nts"
address = "127.0.0.1:{place.ke_port}"
certificate-authority = "{place.ca}"
"""


def _accepted(observed: Path) -> bool:
    """Whether it has taken the time from a source; False also while it does not answer."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_ASK)
            sock.connect(str(observed))
            with sock.makefile("rb") as f:
                (length,) = struct.unpack(">Q", f.read(8))
                state = json.loads(f.read(length))
        return any(source["last_update"]["timestamp"] for source in state["sources"])
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return False

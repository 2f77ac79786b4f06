# SPDX-License-Identifier: MIT
"""NTPsec's ntpd as the client under test. It runs without the capability that setting the clock takes.

It wants UDP port 123 of all addresses, and so root. It polls once a second, writes down each sample it takes, and keeps
no cookies when it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from nts.check.client.recipes import ClientResult, Enough, Place, stop, wait_until
from nts.check.model import Skipped

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
_ASK = 10.0  # seconds for it to say its version


class NtpsecClient:
    """This machine's ntpd, if it is NTPsec's."""

    name, resident, keeps = "NTPsec", True, False

    def meet(self, place: Place, enough: Enough) -> ClientResult:
        command = _command()
        with tempfile.TemporaryDirectory(prefix="nts-") as folder, (place.folder / "output").open("a+b") as log:
            start = log.tell()
            conf, samples = Path(folder) / "ntp.conf", Path(folder) / "peerstats"
            conf.write_text("\n".join(_configuration(place, folder)) + "\n")

            def accepted() -> bool:
                return samples.exists() and samples.stat().st_size > 0

            process = subprocess.Popen(
                [*command, "-n", "-c", str(conf), "-p", f"{folder}/pid"], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
            try:
                wait_until(lambda: process.poll() is not None or enough(accepted()), place.seconds)
                took, code = accepted(), process.poll()
            finally:
                stop(process)
            log.seek(start)
            output = log.read().decode(errors="replace")
        if code is not None and "unable to bind" in output:
            raise Skipped("ntpd wants UDP port 123 of all addresses, and cannot have it here")
        return ClientResult(took, code, output)


def _command() -> list[str]:
    """What runs ntpd. Skipped where it is not NTPsec's, or could set the clock."""
    ntpd = shutil.which("ntpd", path=_PATH)
    if ntpd is None:
        raise Skipped("there is no ntpd on this machine")
    try:
        version = subprocess.run([ntpd, "--version"], capture_output=True, text=True, timeout=_ASK, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        version = ""
    if "ntpsec" not in version:
        raise Skipped(f"{ntpd} is not NTPsec's")
    if os.geteuid() != 0:  # it cannot set the clock anyway
        return [ntpd]
    setpriv = shutil.which("setpriv", path=_PATH)
    if setpriv is None:
        raise Skipped("there is no setpriv on this machine, which keeps ntpd from setting the clock")
    return [setpriv, "--bounding-set=-sys_time", "--", ntpd]


def _configuration(place: Place, folder: str) -> list[str]:
    return [
        "interface ignore all", "interface listen 127.0.0.1", "interface listen ::1", "disable ntp",
        f"nts ca {place.ca}", f"server 127.0.0.1:{place.ke_port} nts iburst minpoll 0 maxpoll 4",
        f"statsdir {folder}/", "filegen peerstats file peerstats type none enable",
    ]  # fmt: skip

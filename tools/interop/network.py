# SPDX-License-Identifier: MIT
"""Two machines on one wire: network, mount and process namespaces of their own. All of it ends with the `with` block.

No packet leaves them, they write nothing but the cell's folder and a /run of their own, and no program there can touch
the clock: what it calls to set it does nothing, and seems to succeed (nts.system.still_clock).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from nts.system import still_clock
from testkit.processes import children, eventually, stat_of

PROGRAMS = {"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2", "nft": "nftables", "tcpdump": "tcpdump"}
"""what this takes, and Debian's packages of it"""
NAME, NAME6 = "ntp.test", "ntp6.test"
SERVER, SERVER6, OTHER, CLIENT, CLIENT6 = "192.0.2.1", "2001:db8::1", "192.0.2.3", "192.0.2.2", "2001:db8::2"
_PATIENCE = 10.0  # seconds for a namespace, a wire or a capture to be there
_SETTING_UP = """
mount -t tmpfs tmpfs /run
mount --bind "$1/hosts" /etc/hosts
mount --bind "$2" "$2"
mount -o remount,bind,ro /
ip link set lo up
echo ready
exec cat # until whoever began this is gone
"""


class NetworkError(Exception):
    """A namespace, or what belongs to it, cannot be had; the text says why."""


class Machine:
    """A machine that runs what it is given."""

    def __init__(self, folder: Path) -> None:
        hosts = folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{SERVER} {NAME}\n{SERVER6} {NAME6}\n")
        self.folder = folder
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-euc"]
        self._holder = subprocess.Popen(
            [*command, _SETTING_UP, "sh", str(folder), str(folder.parent)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            _, said = self._holder.communicate()
            raise NetworkError(f"no namespace of one's own: {said.strip()} (needs root)")
        (self.pid,) = children(self._holder.pid)

    def close(self) -> None:
        """End all that runs there."""
        with self._holder:  # closes its pipes
            self._holder.kill()
        eventually(lambda: stat_of(self.pid)[:1] in ([], ["Z"]), _PATIENCE)

    def start(
        self, command: list[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program that leads a session; its output goes to a file."""
        with log.open("ab") as f:
            return subprocess.Popen(
                still_clock.command(*self._inside(command)), stdin=subprocess.DEVNULL, stdout=f, stderr=f,
                cwd=still_clock.FOLDER, env=environment, start_new_session=True,
            )  # fmt: skip

    @staticmethod
    def stop(process: subprocess.Popen[bytes]) -> None:
        """End a program that was started here: nsenter waits for it, and would not pass a signal on."""
        for pid in children(process.pid) or [process.pid]:  # it may not have come so far
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def run(self, *command: str, text: str = "") -> str:
        """Run a program to its end; its stdout. NetworkError."""
        try:
            done = subprocess.run(
                self._inside(list(command)), input=text, capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            raise NetworkError(f"{' '.join(command)}: not within {_PATIENCE:g} s") from None
        if done.returncode:
            raise NetworkError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def _inside(self, command: list[str]) -> list[str]:
        return [
            "nsenter",
            "--target",
            str(self.pid),
            "--net",
            "--mount",
            "--pid",
            f"--wd={self.folder}",
            "--",
            *command,
        ]

    def listens(self, kind: str, port: int) -> bool:
        """Whether something listens on a port, of `tcp` or `udp`."""
        for name in (kind, f"{kind}6"):
            for line in Path(f"/proc/{self.pid}/net/{name}").read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if int(local.rpartition(":")[2], 16) == port and state == ("0A" if kind == "tcp" else "07"):
                    return True
        return False


class Wire:
    """The link between both machines, seen from the client's end: all is captured, and answers can be lost there."""

    def __init__(self, server: Machine, client: Machine, capture: Path, ntp_port: int) -> None:
        self._client, self._port = client, ntp_port
        pair = ["ip", "link", "add", "eth0", "netns", str(server.pid), "type", "veth", "peer", "eth0", "netns"]
        done = subprocess.run([*pair, str(client.pid)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NetworkError(f"no wire: {done.stderr.strip()}")
        for machine, addresses in ((server, (SERVER, OTHER, SERVER6)), (client, (CLIENT, CLIENT6))):
            lines = [f"address add {a}/{'64 dev eth0 nodad' if ':' in a else '24 dev eth0'}" for a in addresses]
            machine.run("ip", "-batch", "-", text="\n".join([*lines, "link set eth0 up"]))
        self._count("ke", "output", "tcp dport 4460 tcp flags & (syn|ack) == syn counter")
        log = capture.with_suffix(".log")
        command = ["tcpdump", "-i", "eth0", "-U", "--immediate-mode", "-Z", "root", "-w", str(capture), "tcp or udp"]
        self._tcpdump = client.start(command, log)
        if not eventually(lambda: "listening" in log.read_text(), _PATIENCE):
            raise NetworkError(f"no capture: {log.read_text().strip()}")

    @contextlib.contextmanager
    def losing(self) -> Iterator[Callable[[], int]]:
        """For the length of the block, lose what comes from the time server; how many packets that were so far."""
        self._count("loss", "input", f"udp sport {self._port} counter drop")
        try:
            yield lambda: self._counted("loss")
        finally:
            self._client.run("nft", "delete", "table", "inet", "loss")

    def exchanges(self) -> int:
        """How many connections of NTS-KE the client has begun."""
        return self._counted("ke")

    def _count(self, table: str, hook: str, rule: str) -> None:
        chain = f"add chain inet {table} here {{ type filter hook {hook} priority 0; }}"
        self._client.run("nft", "-f", "-", text=f"add table inet {table}\n{chain}\nadd rule inet {table} here {rule}\n")

    def _counted(self, table: str) -> int:
        return int(re.findall(r"packets (\d+)", self._client.run("nft", "list", "table", "inet", table))[0])

    def close(self) -> None:
        """End the capture."""
        self._client.stop(self._tcpdump)


def missing() -> str:
    """Why there can be no such network here, and what to install; empty if there can be."""
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            return f"no {program}: install {package}"
    return ""

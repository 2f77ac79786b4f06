# SPDX-License-Identifier: MIT
"""Fleets of real processes: hosts in network namespaces with servers and an agent each, and three etcd members."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nts.codec import foreign_keys
from nts.system import certs
from testkit import chrony
from testkit.etcd import EtcdCluster, make_certificate
from testkit.hosts import Hosts, network
from testkit.key_files import ids
from testkit.processes import ROOT, Process, Suite, eventually, write_ini

KE_PORT, NTP_PORT = 4460, 4123
_STATUS = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from nts.base.errors import NTSError
from nts.cli import fleet_status
from nts.fleet import config
fleet = config.load(Path(sys.argv[2])).open()
for _ in sys.stdin:
    while True:
        try:
            print(json.dumps(fleet_status.status(fleet)), flush=True)
            break
        except NTSError:  # a member of etcd has just gone
            time.sleep(0.1)
"""


class Site:
    """A network with three etcd members and a client, and what all hosts have in common."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self.folder, self.hosts = folder, hosts
        everybody = ("localhost", *(f"10.77.0.{i}" for i in range(1, 60)))  # all hosts have one certificate
        certs.make(everybody, cert=folder / "cert.pem", key=folder / "cert.key", ca=folder / "ca.pem")
        names = ["etcd0", "etcd1", "etcd2", "operator"]
        addresses = tuple(map(hosts.add, names))[:3]
        self.etcd = EtcdCluster(
            folder / "etcd", addresses, lambda i, command: hosts.command(names[i], command), [2379] * 3, [2380] * 3
        )
        if shutil.which("cc") is None:
            pytest.skip("no cc here, which makes a wrong clock: install gcc")
        shim = folder / "clock_off.so"
        line = [
            "cc",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            "-o",
            str(shim),
            str(ROOT / "tools/clock_off.c"),
        ]
        subprocess.run(line, check=True)
        self.shim = shim


@dataclass
class Host:
    """One member, with its folder and its processes."""

    name: str
    space: str
    address: str
    folder: Path
    suite: Suite
    agent: Process | None = None
    servers: list[Process] = field(default_factory=list)
    chronyd: chrony.Chronyd | None = None
    clock_off: int = 0
    """seconds, of all that is started from now on"""

    @property
    def keys(self) -> Path:
        """The folder that the agent writes."""
        return self.folder / "master_keys"

    def held(self) -> list[int]:
        """The identifiers of the keys there."""
        if self.chronyd is None:
            return ids(self.keys)
        return [k.id for k in foreign_keys.read_chrony((self.keys / "ntskeys").read_text())]


class RealFleet:
    """Hosts of one site, made one by one. Fleets on one etcd have different names, of one letter."""

    def __init__(self, site: Site, name: str, cookie_format: str, leaders: tuple[str, ...]) -> None:
        """`leaders`: the members whose agents may lead."""
        self.site, self._name, self._format, self._leaders = site, name, cookie_format, leaders
        self.folder = site.folder / name
        self.folder.mkdir()
        self.hosts: dict[str, Host] = {}
        self.services: list[Process] = []
        self._status: subprocess.Popen[str] | None = None

    def grant(self, *users: str) -> None:
        """A role for these members and nothing else."""
        self.host("operator")
        root = ("--root-cert", self.site.etcd.root[0], "--root-key", self.site.etcd.root[1], "--enable-auth")
        self.must("operator", "init", *(w for u in ("operator", *users) for w in ("--grant", self._name + u)), *root)

    def host(self, name: str, sends_to: str = "", chronyd: Path | None = None) -> Host:
        """A host with its configuration; nothing runs there yet. Its NTS-KE server names another time server.

        `chronyd`: a folder with a short path, for one that serves there.
        """
        space, folder = self._name + name, self.folder / name
        address = self.site.hosts.add(space)
        folder.mkdir()
        for file in ("ca.pem", "cert.pem", "cert.key"):
            (folder / file).write_bytes((self.site.folder / file).read_bytes())
        options: dict[str, dict[str, object]] = {
            "ntpv4": {"listen": address, "server": sends_to},
            "keys": {"cookie_format": self._format},
            "ntske": {"aeads": "15"} if self._format == "chrony" else {},
        }
        suite = Suite(folder, ke_port=KE_PORT, ntp_port=NTP_PORT, options=options)
        cert, key = make_certificate(self.site.folder / "etcd", space)
        own: dict[str, object] = {}
        if chronyd is not None:
            command = f"chronyc -h {chronyd}/c.sock rekey"
            own = {"keys": "chrony:master_keys/ntskeys", "command": command, "ask": f"127.0.0.1:{NTP_PORT}"}
        etcd = self.site.etcd
        write_ini(
            folder / "fleet.ini",
            fleet={
                "name": name, "prefix": f"/{self._name}/", "wrapping_key": "../fleet.key", "lease": "2s", "poll": "4s",
                "lead": "yes" if name in self._leaders else "no", **own,
            },
            etcd={"endpoints": etcd.endpoints, "ca": etcd.ca, "cert": cert, "key": key},
        )  # fmt: skip
        self.hosts[name] = Host(name, space, address, folder, suite)
        return self.hosts[name]

    def _command(self, name: str, script: str, *arguments: object) -> list[str]:
        host = self.hosts[name]
        clock = ["env", f"LD_PRELOAD={self.site.shim}", f"CLOCK_OFF={host.clock_off}"] if host.clock_off else []
        return self.site.hosts.command(host.space, [*clock, sys.executable, ROOT / script, *arguments])

    def run(self, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """fleet_helper.py on this host."""
        command = self._helper(name, *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def _helper(self, name: str, *arguments: object) -> list[str]:
        return self._command(name, "fleet_helper.py", "-c", self.hosts[name].folder / "fleet.ini", *arguments)

    def must(self, name: str, *arguments: object) -> str:
        """The same; it must succeed. Its output."""
        done = self.run(name, *arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, name: str, *what: str) -> None:
        """Start servers: ke, ts."""
        host = self.hosts[name]
        scripts = {"ke": ("ntske_server.py", "sends clients to"), "ts": ("ntsts_server.py", "engine:")}
        for script, said in (scripts[w] for w in what):
            server = Process(self._command(name, script, host.suite.ini), host.folder / f"{script}.log")
            host.servers.append(server)
            server.wait_for(said)

    def serve_with_chronyd(self, name: str, folder: Path) -> None:
        """Key exchanges and time; the keys are in the folder that the agent writes."""
        host = self.hosts[name]
        lines = [
            "local stratum 1", "allow", f"port {NTP_PORT}", f"ntsport {KE_PORT}", f"ntsdumpdir {host.keys}",
            f"ntsservercert {host.folder}/cert.pem", f"ntsserverkey {host.folder}/cert.key", "ntsrotate 0",
        ]  # fmt: skip
        with self.site.hosts.on(host.space):
            host.chronyd = chrony.Chronyd(folder, lines)

    def start_agent(self, name: str) -> Process:
        host = self.hosts[name]
        host.agent = Process(self._helper(name, "agent"), host.folder / "agent.log")
        host.agent.wait_for("agent of")
        return host.agent

    def agent(self, name: str) -> Process:
        agent = self.hosts[name].agent
        assert agent is not None
        return agent

    def start_service(self, name: str, *arguments: object) -> None:
        """A command of fleet_helper.py that runs until stopped."""
        self.services.append(Process(self._helper(name, *arguments), self.hosts[name].folder / f"{arguments[0]}.log"))

    def kill_agent(self, name: str) -> None:
        agent = self.agent(name)
        agent.popen.kill()
        agent.popen.wait()

    def cut(self, name: str, *, whole: bool = True) -> None:
        """From etcd, or (`whole` is False) let it back."""
        self.site.hosts.cut(self.hosts[name].space, self.site.etcd.addresses, whole=whole)

    def status(self) -> dict[str, Any]:
        """What `fleet_helper.py status --json` prints, of a process that is there already: many are asked for."""
        if self._status is None:
            line = [sys.executable, "-c", _STATUS, ROOT, self.hosts["operator"].folder / "fleet.ini"]
            self._status = subprocess.Popen(
                self.site.hosts.command(self.hosts["operator"].space, line),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert self._status.stdin is not None
        assert self._status.stdout is not None
        self._status.stdin.write("\n")
        self._status.stdin.flush()
        found: dict[str, Any] = json.loads(self._status.stdout.readline())
        return found

    def phases(self) -> Mapping[str, str]:
        """Of each key: staged, active, sealing (old, and members may still seal with it), or old."""
        keys = self.status()["keys"]
        return {
            k["id"]: "sealing" if k["phase"] == "old" and k["goes_in_seconds"] is None else k["phase"] for k in keys
        }

    def active(self) -> str:
        """The identifier of the active key."""
        return next(key for key, phase in self.phases().items() if phase == "active")

    def rotations(self) -> int:
        """How often agents that lead made a key active, as they say."""
        logs = "".join(h.agent.log.read_text() for h in self.hosts.values() if h.agent)
        return len(set(re.findall(r"leads to version .* (\w+) active$", logs, re.MULTILINE)))

    def rotates(self, times: int, timeout: float = 40) -> None:
        """It goes on to rotate so many times."""
        before = self.rotations()
        assert eventually(lambda: self.rotations() >= before + times, timeout), self.status()

    def waits_for(self, *names: str) -> None:
        """The rotation soon does, and for nobody else."""
        assert eventually(lambda: self.status()["waits_for"] == list(names), 20), self.status()

    def leader(self, other_than: str = "") -> str:
        """Whose agent leads, as soon as one does."""
        found = [""]

        def leads() -> bool:
            found[0] = self.status()["leader"] or ""
            return found[0] not in ("", other_than)

        assert eventually(leads, 20)
        return found[0]

    def stop(self) -> None:
        if self._status is not None:
            self._status.kill()
            self._status.communicate()
        for host in self.hosts.values():
            for process in (host.agent, *host.servers):
                if process is not None and process.popen.poll() is None:
                    process.stop()
            if host.chronyd is not None:
                host.chronyd.stop()
        for service in self.services:
            if service.popen.poll() is None:
                service.stop()


@contextlib.contextmanager
def site(folder: Path) -> Iterator[Site]:
    """A network with an etcd that runs. All ends with the block."""
    with network() as hosts:
        made = Site(folder, hosts)
        try:
            made.etcd.start_all()
            yield made
        finally:
            made.etcd.stop()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of its own for a folder."""
    folder.mkdir(mode=0o700)
    line = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system of one's own: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)

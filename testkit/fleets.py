# SPDX-License-Identifier: MIT
"""A fleet of real processes: hosts in network namespaces with our servers and an agent each, and three etcd members."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nts.system import certs
from testkit.etcd import EtcdCluster, make_certificate
from testkit.hosts import Hosts, network
from testkit.processes import ROOT, Process, Suite, eventually, write_ini

KE_PORT, NTP_PORT = 4460, 4123
_SKEWED = """
import runpy, sys, time, types
sys.path.insert(0, sys.argv[2].rpartition("/")[0])
shift = float(sys.argv[1])
import nts.fleet.agent, nts.server.keystore
off = {"time": lambda: time.time() + shift, "time_ns": lambda: time.time_ns() + int(shift * 1e9)}
nts.fleet.agent.time = nts.server.keystore.time = types.SimpleNamespace(**{**vars(time), **off})
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""  # the modules that look at the wall clock (gRPC's deadlines must go by the kernel's)


@dataclass
class Host:
    """One member, with its folder and its processes."""

    name: str
    address: str
    folder: Path
    suite: Suite
    agent: Process | None = None
    servers: list[Process] = field(default_factory=list)

    @property
    def keys(self) -> Path:
        return self.folder / "master_keys"


class RealFleet:
    """Three etcd members and the hosts, made one by one."""

    def __init__(self, folder: Path, hosts: Hosts, lease: str = "3s", poll: str = "4s") -> None:
        self.folder, self._hosts, self._lease, self._poll = folder, hosts, lease, poll
        everybody = ("localhost", *(f"10.77.0.{i}" for i in range(1, 40)))  # all hosts have one certificate
        certs.make(everybody, cert=folder / "cert.pem", key=folder / "cert.key", ca=folder / "ca.pem")
        addresses = tuple(hosts.add(f"etcd{i}") for i in range(3))
        hosts.add("operator")
        self.client_address = hosts.add("client")
        names = ["etcd0", "etcd1", "etcd2", "operator"]
        self.etcd = EtcdCluster(
            folder / "etcd", addresses, lambda i, command: hosts.command(names[i], command), [2379] * 3, [2380] * 3
        )
        self.hosts: dict[str, Host] = {}
        self.services: list[Process] = []

    def start_etcd(self, users: tuple[str, ...]) -> None:
        """With a role for these members and nothing else."""
        self.etcd.start_all()
        self.host("operator-host")
        root = ("--root-cert", self.etcd.root[0], "--root-key", self.etcd.root[1], "--enable-auth")
        grants = [word for user in users for word in ("--grant", user)]
        done = self.run("operator-host", "init", *grants, *root)
        assert done.returncode == 0, done.stderr

    def host(self, name: str, sends_to: str = "") -> Host:
        """A host with its configuration; nothing runs there yet. Its NTS-KE server names another time server."""
        address, folder = self._hosts.add(name[:10]), self.folder / name
        folder.mkdir()
        for file in ("ca.pem", "cert.pem", "cert.key"):
            (folder / file).write_bytes((self.folder / file).read_bytes())
        options: dict[str, dict[str, object]] = {"ntpv4": {"listen": address, "server": sends_to}}
        suite = Suite(folder, ke_port=KE_PORT, ntp_port=NTP_PORT, options=options)
        cert, key = make_certificate(self.folder / "etcd", name)
        write_ini(
            folder / "fleet.ini",
            fleet={"name": name, "wrapping_key": "../fleet.key", "lease": self._lease, "poll": self._poll},
            etcd={"endpoints": self.etcd.endpoints, "ca": self.etcd.ca, "cert": cert, "key": key},
        )
        self.hosts[name] = Host(name, address, folder, suite)
        return self.hosts[name]

    def _command(self, name: str, *arguments: object, skew: float = 0) -> list[str]:
        script = [str(ROOT / "fleet_helper.py"), "-c", str(self.hosts[name].folder / "fleet.ini"), *map(str, arguments)]
        python = [sys.executable, "-c", _SKEWED, str(skew)] if skew else [sys.executable]
        return self._hosts.command(name[:10], [*python, *script])

    def run(self, name: str, *arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """fleet_helper.py on this host."""
        return subprocess.run(
            self._command(name, *arguments), capture_output=True, text=True, timeout=timeout, check=False
        )

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
            command = [sys.executable, ROOT / script, host.suite.ini]
            server = Process(self._hosts.command(name[:10], command), host.folder / f"{script}.log")
            host.servers.append(server)
            server.wait_for(said)

    def start_agent(self, name: str, skew: float = 0) -> Process:
        host = self.hosts[name]
        host.agent = Process(self._command(name, "agent", skew=skew), host.folder / "agent.log")
        host.agent.wait_for("agent of")
        return host.agent

    def start_service(self, name: str, *arguments: object) -> Process:
        """A command of fleet_helper.py that runs until stopped."""
        process = Process(self._command(name, *arguments), self.hosts[name].folder / f"{arguments[0]}.log")
        self.services.append(process)
        return process

    def kill_agent(self, name: str) -> None:
        agent = self.hosts[name].agent
        assert agent is not None
        agent.popen.kill()
        agent.popen.wait()

    def cut(self, name: str, *, whole: bool = True) -> None:
        """From etcd, or (`whole` is False) let it back."""
        self._hosts.cut(name[:10], self.etcd.addresses, whole=whole)

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.must(name, "status", "--json"))
        return found

    def rotations(self) -> int:
        """How often agents that lead made a key active, as they say."""
        logs = "".join(h.agent.log.read_text() for h in self.hosts.values() if h.agent)
        return len(set(re.findall(r"leads to version .* (\w+) active$", logs, re.MULTILINE)))

    def rotates(self, times: int, timeout: float = 40) -> bool:
        """Whether it goes on to rotate so many times."""
        before = self.rotations()
        return eventually(lambda: self.rotations() >= before + times, timeout)

    def leader(self) -> str:
        """Whose agent leads; empty: nobody's."""
        return self.status("a")["leader"] or ""

    def stop(self) -> None:
        for host in self.hosts.values():
            for process in (host.agent, *host.servers):
                if process is not None and process.popen.poll() is None:
                    process.stop()
        for service in self.services:
            if service.popen.poll() is None:
                service.stop()
        self.etcd.stop()


@contextlib.contextmanager
def real_fleet(folder: Path) -> Iterator[tuple[RealFleet, Hosts]]:
    """A fleet with nothing started. All that was ends with the block."""
    with network() as hosts:
        fleet = RealFleet(folder, hosts)
        try:
            yield fleet, hosts
        finally:
            fleet.stop()

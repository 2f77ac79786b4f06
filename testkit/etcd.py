# SPDX-License-Identifier: MIT
"""A cluster of three real etcd members, with TLS and client certificates: on loopback, or each on a host of its own."""

from __future__ import annotations

import datetime
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nts.system import certs
from testkit.processes import ROOT, Process, eventually, free_port

PATH = f"{ROOT / '.tools/bin'}:/usr/bin:/usr/local/bin"


def program(name: str) -> str:
    """Skips where etcd is missing."""
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"no {name} here: ./bootstrap test unpacks Debian's etcd-server and etcd-client into .tools")
    return found


def make_certificate(folder: Path, name: str, addresses: tuple[str, ...] = ("127.0.0.1",)) -> tuple[Path, Path]:
    """A certificate for server and client with this common name, of the CA in the folder, which is made if missing."""
    ca, cert, key = folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key"
    if not ca.exists():
        certs.make(("unused.example",), cert=folder / "unused.pem", key=folder / "unused.key", ca=ca)
    ca_cert, ca_key = certs.load_ca(ca, folder / "ca.key")
    private = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(ca_cert.subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=5))
        .add_extension(certs.alternative_names(addresses), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    certs.write_pair(cert, made, key, private)
    return cert, key


@dataclass
class EtcdCluster:
    """Three members, started one by one."""

    folder: Path
    addresses: tuple[str, ...] = ("127.0.0.1",) * 3
    on: Callable[[int, list[str]], list[str]] = lambda _, command: command
    """the command that runs a command on the host of a member, or of etcdctl (3)"""
    ports: list[int] = field(default_factory=lambda: [free_port() for _ in range(3)])
    peers: list[int] = field(default_factory=lambda: [free_port() for _ in range(3)])
    members: list[Process | None] = field(default_factory=lambda: [None] * 3)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.cert, self.key = make_certificate(self.folder, "etcd", self.addresses)
        self.root = make_certificate(self.folder, "root")
        self.ca = self.folder / "ca.pem"

    @property
    def endpoints(self) -> str:
        return ", ".join(f"{address}:{port}" for address, port in zip(self.addresses, self.ports, strict=True))

    def start(self, i: int) -> None:
        peer = f"https://{self.addresses[i]}:{self.peers[i]}"
        here = f"https://{self.addresses[i]}:{self.ports[i]}"
        options = {
            "name": f"e{i}", "data-dir": self.folder / f"e{i}", "heartbeat-interval": 100, "election-timeout": 1000,
            "initial-cluster": self._peer_urls, "listen-peer-urls": peer, "initial-advertise-peer-urls": peer,
            "listen-client-urls": here, "advertise-client-urls": here,
            "trusted-ca-file": self.ca, "cert-file": self.cert, "key-file": self.key, "client-cert-auth": "true",
            "peer-trusted-ca-file": self.ca, "peer-cert-file": self.cert, "peer-key-file": self.key,
            "peer-client-cert-auth": "true",
        }  # fmt: skip
        words = [program("etcd"), *(f"--{name}={value}" for name, value in options.items())]
        self.members[i] = Process(self.on(i, words), self.folder / f"e{i}.log")

    def start_all(self) -> None:
        for i in range(3):
            self.start(i)
        self.wait()

    def wait(self) -> None:
        """Until all members are well."""
        assert eventually(lambda: self.ctl("endpoint", "health", "--cluster").returncode == 0, 60), self.logs()

    def ctl(self, *arguments: str, at: str = "") -> subprocess.CompletedProcess[str]:
        """etcdctl, as root of etcd; `at` one endpoint, or all."""
        cert, key = self.root
        line = [program("etcdctl"), "--endpoints", at or self.endpoints.replace(" ", ""), "--command-timeout=3s"]
        tls = ["--cacert", str(self.ca), "--cert", str(cert), "--key", str(key)]
        return subprocess.run(
            self.on(3, [*line, *tls, *arguments]), capture_output=True, text=True, timeout=60, check=False
        )

    def kill(self, i: int) -> None:
        member = self.members[i]
        assert member is not None
        member.popen.send_signal(signal.SIGKILL)
        member.popen.wait()
        self.members[i] = None

    def save(self, backup: Path) -> None:
        """A backup, as etcd's manual says."""
        assert self.ctl("snapshot", "save", str(backup), at=self.endpoints.split(", ")[0]).returncode == 0

    def restore(self, backup: Path) -> None:
        """All members begin anew with that backup."""
        self.stop()
        self.members = [None] * 3
        for i in range(3):
            shutil.rmtree(self.folder / f"e{i}")
            line = [program("etcdctl"), "snapshot", "restore", str(backup), f"--data-dir={self.folder / f'e{i}'}"]
            line += [f"--name=e{i}", f"--initial-cluster={self._peer_urls}"]
            line += [f"--initial-advertise-peer-urls=https://{self.addresses[i]}:{self.peers[i]}"]
            done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
        self.start_all()

    @property
    def _peer_urls(self) -> str:
        urls = zip(self.addresses, self.peers, strict=True)
        return ",".join(f"e{i}=https://{address}:{port}" for i, (address, port) in enumerate(urls))

    def stop(self) -> None:
        for i, member in enumerate(self.members):
            if member is not None:
                self.kill(i)

    def logs(self) -> str:
        return "\n".join((self.folder / f"e{i}.log").read_text()[-2000:] for i in range(3))

# SPDX-License-Identifier: MIT
"""A chronyd and our servers open each other's cookies: one replaces the other, or both serve at the same time."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.base.errors import ExitCode
from nts.client.state import ClientState
from nts.codec.keyring import CookieFormat
from nts.server import keystore, peer_file
from nts.server.config import ForeignFile
from testkit import chrony
from testkit.chrony import V4, Chronyd, unused
from testkit.processes import HAS_ENGINE, NO_ENGINE, Suite, eventually, free_port, run

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("chronyd_can_run")]
STEADY = "iburst minpoll 0 maxpoll 0"  # one a second, so that eight cookies outlive a change of servers
ENGINES = ["python", pytest.param("native", marks=pytest.mark.skipif(not HAS_ENGINE, reason=NO_ENGINE))]


def suite_of(path: Path, engine: str = "auto", aeads: str = "15, 17, 16", **keys: object) -> Suite:
    return Suite(path, options={"keys": keys, "ntpv4": {"engine": engine}, "ntske": {"aeads": aeads}})


def server_of(suite: Suite, *lines: str, ke_port: int | None = None, ntp_port: int | None = None) -> list[str]:
    """The configuration of a chronyd with the certificate of the suite, by default on its ports."""
    return [
        "local stratum 1", "allow", f"port {ntp_port or suite.ntp_port}", f"ntsport {ke_port or suite.ke_port}",
        f"ntsservercert {suite.folder}/cert.pem", f"ntsserverkey {suite.folder}/cert.key", *lines,
    ]  # fmt: skip


@contextlib.contextmanager
def client_of(suite: Suite, folder: Path) -> Iterator[Chronyd]:
    source = f"server {V4} nts ntsport {suite.ke_port} port {suite.ntp_port} {STEADY}"
    with chrony.running(unused(folder), [*chrony.nts_client(suite.ca), source]) as client:
        client.wait_for_nts(V4)
        client.wait("a full stock of cookies", lambda: client.authdata(V4).cookies == 8)
        yield client


def goes_on(client: Chronyd) -> None:
    """More answers, with the keys of the first key exchange and without a NAK."""
    client.wait_for_answers(V4, 4)
    auth = client.authdata(V4)
    assert (auth.key_id, auth.nak) == (1, 0)
    client.wait("a full stock of cookies", lambda: client.authdata(V4).cookies == 8)


@pytest.mark.parametrize("engine", ENGINES)
def test_our_server_replaces_chronyd_and_its_clients_notice_nothing(folder: Path, engine: str) -> None:
    path = unused(folder)
    (path / "dump").mkdir(mode=0o700)
    suite = suite_of(path, engine, **{"import": "chrony:dump/ntskeys"})
    keystore.ensure_key(suite.keys, 3, os.urandom)
    with contextlib.ExitStack() as stack:
        server = Chronyd(path / "s", server_of(suite, f"ntsdumpdir {path}/dump"))
        stack.callback(server.stop)
        client = stack.enter_context(client_of(suite, folder))
        length = client.authdata(V4).cookie_length
        server.stop()
        stack.callback(suite.stop)
        suite.start_ts()
        goes_on(client)
        assert client.authdata(V4).cookie_length == length
    assert re.search(r"stopped; datagrams: answered nts \d+\n", (path / "ts.log").read_text())  # and nothing else


@pytest.mark.parametrize("engine", ENGINES)
def test_chronyd_replaces_our_server_and_its_clients_notice_nothing(folder: Path, engine: str) -> None:
    path = unused(folder)
    (path / "dump").mkdir(mode=0o700)
    suite = suite_of(path, engine, "15, 30", cookie_format="chrony", export="dump/ntskeys")
    with contextlib.ExitStack() as stack:
        suite.start_ke()
        stack.callback(suite.stop)
        suite.start_ts()
        client = stack.enter_context(client_of(suite, folder))
        rotated = run("server_helper.py", suite.ini, "rotate")
        assert (rotated.returncode, rotated.stderr) == (ExitCode.OK, "")
        goes_on(client)
        suite.stop()
        server = Chronyd(path / "s", server_of(suite, f"ntsdumpdir {path}/dump", "ntsrotate 0"))
        stack.callback(server.stop)
        goes_on(client)
        assert server.serverstats()["Authenticated NTP packets"] >= 4


class Fleet:
    """Our servers and a chronyd that share keys: rotation tells the chronyd by chronyc."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        path = unused(folder)
        self.dump = path / "dump"
        self.dump.mkdir(mode=0o700)
        chronyc = f"chronyc -h {path}/s/c.sock rekey"
        self.suite = suite_of(
            path, aeads="15", cookie_format="chrony", export="dump/ntskeys", export_command=chronyc,
            **{"import": "chrony:dump/ntskeys"},
        )  # fmt: skip
        self.ke_port, self.ntp_port = free_port(), free_port(socket.SOCK_DGRAM)
        lines = server_of(
            self.suite, f"ntsdumpdir {self.dump}", "ntsrotate 0", ke_port=self.ke_port, ntp_port=self.ntp_port
        )
        self.seed(lines, path)
        self.chronyd = Chronyd(path / "s", lines)
        stack.callback(self.chronyd.stop)

    def seed(self, lines: list[str], path: Path) -> None:
        """Let the chronyd make keys of its own, which it writes when it stops, as long as it rotates itself."""
        first = Chronyd(path / "s", [line for line in lines if line != "ntsrotate 0"])
        first.stop()
        assert (self.dump / "ntskeys").exists()

    def start(self, stack: contextlib.ExitStack) -> None:
        self.suite.start_ke()
        stack.callback(self.suite.stop)
        self.suite.start_ts()

    def rotate(self, *how: str) -> str:
        done = run("server_helper.py", self.suite.ini, "rotate", *how)
        assert done.returncode == ExitCode.OK, done.stderr
        assert all(" removes " in line for line in done.stderr.splitlines())
        return done.stdout

    def fetch(self, from_chronyd: bool, name: str) -> Path:
        ini = self.suite.folder / name
        port = self.ke_port if from_chronyd else self.suite.ke_port
        done = run("ntske_client.py", "-c", self.suite.ca, "-o", ini, V4, port)
        assert done.returncode == ExitCode.OK, done.stderr
        return ini

    def ask(self, ini: Path, of_chronyd: bool) -> None:
        """A query of either server with these cookies, which brings another one. Fails if there has to be a new key."""
        text = ini.read_text()
        port = self.ntp_port if of_chronyd else self.suite.ntp_port
        ini.write_text("\n".join(f"port = {port}" if x.startswith("port = ") else x for x in text.splitlines()) + "\n")
        done = run("ntsts_client.py", "-f", ini, "--no-rekey")
        assert (done.returncode, done.stderr) == (ExitCode.OK, "")


def test_both_open_each_others_cookies_through_rotations(folder: Path) -> None:
    """Also those that chronyd made with its own keys before they were shared, if it made them with AES-SIV-CMAC-256."""
    with contextlib.ExitStack() as stack:
        fleet = Fleet(folder, stack)
        before = fleet.fetch(True, "before.ini")
        fleet.rotate()
        fleet.start(stack)
        clients = [fleet.fetch(True, "theirs.ini"), fleet.fetch(False, "ours.ini")]
        if not chrony.has_gcm_siv():
            clients.append(before)
        assert {len(c) for ini in clients for c in ClientState(ini).load().cookies} == {100}
        for how in ((), ("--stage",), ("--activate",), ()):
            for ini in clients:
                for of_chronyd in (True, False, True):
                    fleet.ask(ini, of_chronyd)
            assert "and run chronyc" in fleet.rotate(*how)
        shared = ForeignFile(CookieFormat.CHRONY, fleet.dump / "ntskeys")
        assert peer_file.holds(shared, keystore.load(fleet.suite.keys).ring)
        for ini in clients:
            assert {c[:2] for c in ClientState(ini).load().cookies} >= {b"\0\0"}


def test_a_chronyd_that_cannot_be_told_is_reported_and_the_next_rotation_goes_on(folder: Path) -> None:
    with contextlib.ExitStack() as stack:
        fleet = Fleet(folder, stack)
        fleet.rotate()
        fleet.chronyd.stop()
        failed = run("server_helper.py", fleet.suite.ini, "rotate")
        assert failed.returncode == ExitCode.USAGE
        assert "export_command = chronyc" in failed.stderr
        assert "rekey failed: Could not open connection to daemon" in failed.stderr
        snapshot = keystore.load(fleet.suite.keys)
        assert (len(snapshot.files), len(snapshot.staged)) == (1, 1)
        ini = fleet.suite.ini
        ini.write_text("".join(x for x in ini.read_text().splitlines(True) if not x.startswith("export_command")))
        fleet.rotate()
        assert keystore.load(fleet.suite.keys).files[-1].key == snapshot.staged[0].key


def test_imported_keys_are_followed(folder: Path) -> None:
    """A copied file reaches a running server; a half-copied one costs nothing, and a deleted one its keys."""
    path = unused(folder)
    (path / "dump").mkdir(mode=0o700)
    suite = suite_of(path, **{"import": "chrony:ntskeys"})
    keystore.ensure_key(suite.keys, 3, os.urandom)
    with contextlib.ExitStack() as stack:
        ports = free_port(), free_port(socket.SOCK_DGRAM)
        lines = server_of(suite, f"ntsdumpdir {path}/dump", ke_port=ports[0], ntp_port=ports[1])
        stack.enter_context(chrony.running(path / "s", lines))
        stack.callback(suite.stop)
        ts = suite.start_ts()
        assert f"{path}/ntskeys does not exist: cookies of chrony's are refused" in ts.output()

        def answered() -> bool:
            ini = path / "client.ini"
            assert run("ntske_client.py", "-c", suite.ca, "-o", ini, V4, ports[0]).returncode == ExitCode.OK
            text = ini.read_text().replace(f"port = {ports[1]}", f"port = {suite.ntp_port}")
            ini.write_text(text)
            return run("ntsts_client.py", "-f", ini, "--no-rekey").returncode == ExitCode.OK

        assert not answered()
        shutil.copy(path / "dump" / "ntskeys", path / "ntskeys")
        assert eventually(answered, 20)
        (path / "ntskeys").write_text("NKS1\n")
        ts.wait_for("; the keys read earlier stay in use")
        assert answered()
        (path / "ntskeys").unlink()
        assert eventually(lambda: not answered(), 20)

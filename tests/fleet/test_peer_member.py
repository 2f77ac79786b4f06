# SPDX-License-Identifier: MIT
"""A member whose server is a real chronyd or NTPsec's ntpd: it holds the fleet's keys as any other, and whatever keeps
it from using them holds up the rotation."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.base.registry import NTP_PORT
from nts.codec import foreign_keys
from nts.codec.aead import SessionKeys
from nts.codec.keyring import COOKIE_AEAD, CookieFormat, ForeignKey
from nts.protocol import ts_client
from nts.server import keystore, peer_file
from nts.server.config import ForeignFile
from nts.system import certs
from testkit import chrony
from testkit.chrony import Chronyd
from testkit.folder_fleets import FolderMember, members
from testkit.processes import ask_udp, eventually, free_port, one_error, write_ini

pytestmark = pytest.mark.interop
CHRONY = CookieFormat.CHRONY


class Peer(FolderMember):
    """A member with a chronyd, which is not there until started."""

    def __init__(self, folder: Path, shared: Path, fleet: dict[str, object]) -> None:
        self.port, self.dump, self.chronyd = free_port(socket.SOCK_DGRAM), folder / "dump", None
        self.short = folder.parent / "s"
        command = f"chronyc -h {self.short}/c.sock rekey"
        own = {"keys": f"chrony:{self.dump}/ntskeys", "command": command, "ask": f"127.0.0.1:{self.port}"}
        super().__init__(folder, shared, fleet={**own, **fleet})
        self.dump.mkdir(mode=0o700)
        certs.make(certs.LOCAL_NAMES, cert=folder / "cert.pem", key=folder / "cert.key", ca=folder / "ca.pem")

    def start(self, rotates: str = "ntsrotate 0") -> Chronyd:
        lines = [
            "local stratum 1", "allow", f"port {self.port}", f"ntsport {free_port()}", f"ntsdumpdir {self.dump}",
            f"ntsservercert {self.folder}/cert.pem", f"ntsserverkey {self.folder}/cert.key", rotates,
        ]  # fmt: skip
        return Chronyd(self.short, lines)

    @property
    def file(self) -> ForeignFile:
        return ForeignFile(CHRONY, self.dump / "ntskeys")


@pytest.fixture
def pair() -> Iterator[tuple[FolderMember, Peer]]:
    """Ours, which has made the fleet, and one with a chronyd."""
    chrony.require()
    with chrony.short_folder() as folder:
        (folder / "shared").mkdir()
        ours = FolderMember(folder / "ours", folder / "shared", cookie_format="chrony")
        ours.must("init", "--cookie-life", "2s")
        yield ours, Peer(folder / "peer", folder / "shared", {})


def ask(port: int, key: ForeignKey) -> bytes | None:
    """The cookie that a time server gives for one of this key; None when it refuses that."""
    keys = SessionKeys(COOKIE_AEAD, bytes(32), bytes(32))
    query = ts_client.build_query(keys, foreign_keys.seal(key, keys, os.urandom(16)), 0, os.urandom)
    answer = ask_udp(port, query.packet)
    assert answer is not None
    return next(iter(ts_client.judge(answer, query).cookies), None)


def test_chronyd_goes_through_rotations_as_any_member(pair: tuple[FolderMember, Peer]) -> None:
    ours, peer = pair
    peer.start("").stop()  # with keys of its own
    peer.file.path.chmod(0o640)
    with contextlib.ExitStack() as stack:
        stack.callback(peer.start().stop)
        peer.must("join")
        stack.enter_context(ours.agent())
        stack.enter_context(peer.agent())
        for _ in range(2):
            assert "is active on all members" in ours.must("rotate")
            ring = keystore.load(ours.keys).ring
            assert peer_file.holds(peer.file, ring)
            sealed = {ask(peer.port, k.foreign(CHRONY)) for k in ring.keys}
            assert ring.current is not None
            assert {c and c[:4] for c in sealed} == {ring.current.foreign(CHRONY).wire_id}
        assert stat.S_IMODE(peer.file.path.stat().st_mode) == 0o640
        assert eventually(lambda: len(ours.status()["keys"]) == 1, 20)
        leaked = ours.status()["keys"][0]["id"]
        assert eventually(lambda: {tuple(m["holds"]) for m in ours.status()["members"]} == {(f"{leaked} active",)})
        assert ours.status()["cookie_format"] == "chrony"
        ours.must("revoke", leaked)
        assert ask(peer.port, ForeignKey(CHRONY, int(leaked, 16), ring.keys[-1].key)) is None
        assert "is active on all members" in ours.must("rotate"), "the new keys are in chronyd's order"


def test_the_end_of_the_command_is_no_proof(pair: tuple[FolderMember, Peer]) -> None:
    """A chronyd that rotates its keys itself takes `rekey` well and reads nothing. Nobody seals with the next key."""
    ours, peer = pair
    server = peer.start("ntsrotate 100000")
    try:
        one_error(peer.run("join"), 1, r"(refuses cookies of|does not seal with) key .*: it has not read .*ntsrotate 0")
        assert server.ask("rekey") == "200 OK\n"
        with ours.agent(), peer.agent() as agent:
            waiting = subprocess.Popen(ours.line("rotate"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            agent.wait_for("it has not read")
            found = ours.status()
            assert found["waits_for"] == ["peer"]
            assert [k["phase"] for k in found["keys"]] == ["active", "staged"]
            server.stop()
            server = peer.start()  # as it should be, but with keys of its own: it has written them when it stopped
            out, err = waiting.communicate(timeout=30)
            assert "is active on all members" in out, err
    finally:
        server.stop()


def test_a_chronyd_that_does_not_run_holds_up_the_rotation(pair: tuple[FolderMember, Peer]) -> None:
    ours, peer = pair
    one_error(peer.run("join"), 2, "command = chronyc .* failed: .*Could not open connection to daemon")
    server = peer.start()  # it reads the file at its start
    try:
        with ours.agent(), peer.agent() as agent:
            ours.must("rotate")
            server.stop()
            waiting = subprocess.Popen(ours.line("rotate"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            agent.wait_for("Could not open connection to daemon")
            assert ours.status()["waits_for"] == ["peer"]
            server = peer.start()
            out, err = waiting.communicate(timeout=30)
            assert "is active on all members" in out, err
            assert "Traceback" not in agent.output()
    finally:
        server.stop()


def test_what_does_not_go_together_is_refused(pair: tuple[FolderMember, Peer]) -> None:
    ours, peer = pair
    other = FolderMember(ours.folder.parent / "other", ours.shared)
    one_error(other.run("join"), 2, "the fleet's cookies have the format chrony, those of this host own: its keys stay")
    assert not other.keys.exists()
    first = FolderMember(ours.folder.parent / "first", ours.folder.parent / "shared2", cookie_format="chrony")
    one_error(first.run("init", "--max-keys", 5), 2, "a server of chrony's holds no more than --max-keys 4")
    ini = peer.ini.read_text()
    for old, new, why in (
        ("keys = chrony", "keys = x", "must be chrony:PATH or ntpsec:PATH"),
        ("keys = ", "keys = ntpsec:a, ", "must be one file, or empty"),
        ("ask = ", "ask = x", "must be an IP address and a port"),
        ("command = ", "command = '", "must be a command with its arguments"),
    ):
        peer.ini.write_text(ini.replace(old, new))
        one_error(peer.run("status"), 2, why)
    keys = {"master_keys_dir": "master_keys", "cookie_format": "chrony", "export": "x"}
    write_ini(ours.folder / "server.ini", keys=keys, ntske={"aeads": "15"})
    one_error(ours.run("agent"), 2, r"\[keys\] export is set, but no fleet writes that file")


def test_a_fleet_changes_its_format_and_keeps_its_keys(tmp_path: Path) -> None:
    a, b = members(tmp_path, "a", "b")
    a.must("init")
    b.must("join")
    (tmp_path / "anew").mkdir()
    for member in (a, b):
        keys = {"master_keys_dir": "master_keys", "cookie_format": "chrony"}
        write_ini(member.folder / "server.ini", keys=keys, ntske={"aeads": "15"})
    one_error(a.run("join"), 2, "the fleet's cookies have the format own, those of this host chrony")
    before = a.ids()
    for member, command in ((a, "init"), (b, "join")):
        ini = member.ini.read_text().replace(str(member.shared), f"{tmp_path}/anew")
        member.ini.write_text(ini.replace("[fleet]", "[fleet]\nprefix = /anew/"))
        member.must(command)
    assert a.ids() == b.ids() == before
    assert b.status()["cookie_format"] == "chrony"


def test_ntpsecs_ntpd_is_restarted_at_each_step(tmp_path: Path, ntpd: list[str]) -> None:
    (tmp_path / "shared").mkdir()
    ours = FolderMember(tmp_path / "ours", tmp_path / "shared", cookie_format="ntpsec")
    ours.must("init", "--cookie-life", "2s")
    here = tmp_path / "peer"
    fleet = {"keys": f"ntpsec:{here}/nts-keys", "command": f"sh {here}/restart"}
    peer = FolderMember(here, ours.shared, fleet=fleet)
    certs.make(certs.LOCAL_NAMES, cert=here / "cert.pem", key=here / "cert.key", ca=here / "ca.pem")
    (here / "ntp.conf").write_text(
        f"interface ignore all\ninterface listen 127.0.0.1\ndisable ntp\nrefclock local\nnts enable\n"
        f"nts cert {here}/cert.pem\nnts key {here}/cert.key\nnts cookie {here}/nts-keys\n"
    )
    kill = f"[ ! -e {here}/pid ] || {{ kill $(cat {here}/pid); while kill -0 $(cat {here}/pid); do sleep 0.1; done; }}"
    run = shlex.join([*ntpd, "-n", "-4", "-c", f"{here}/ntp.conf", "-p", f"{here}/pid"])
    (here / "restart").write_text(f"{kill} 2>/dev/null\necho >>{here}/starts\n{run} >{here}/log 2>&1 &\n")
    try:
        peer.must("join")
        with ours.agent(), peer.agent():
            assert "is active on all members" in ours.must("rotate")
            ring = keystore.load(ours.keys).ring
            assert ring.current is not None
            cookie = ask(NTP_PORT, ring.current.foreign(CookieFormat.NTPSEC))
            assert cookie is not None
            assert cookie[:4] == ring.current.foreign(CookieFormat.NTPSEC).wire_id
        restarts = len((here / "starts").read_text().splitlines())
        assert restarts <= ours.status()["version"], "not more than one for each version"
    finally:
        subprocess.run(["sh", "-c", kill], stderr=subprocess.DEVNULL, timeout=20, check=False)

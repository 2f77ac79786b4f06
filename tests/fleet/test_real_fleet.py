# SPDX-License-Identifier: MIT
"""The promises of docs/fleet.md with real processes: three etcd members, four time servers, two NTS-KE servers, each on
a host of its own, a rotation every few seconds, and a client that brings young and old cookies to every server.

One fleet for all tests of this file: each breaks something, heals it, and sees that the fleet goes on."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit import chrony
from testkit.fleet_load import Load
from testkit.fleets import KE_PORT, NTP_PORT, RealFleet, real_fleet
from testkit.key_files import ids
from testkit.processes import eventually

LIFE = (
    10  # seconds that a cookie is promised to work: chronyd uses the oldest of eight, and asks every second or sooner
)
TIME, EXCHANGE = ("a", "b", "c", "d"), ("k1", "k2")


class Running:
    """The fleet and its load."""

    def __init__(self, fleet: RealFleet, load: Load, chronyd: chrony.Chronyd) -> None:
        self.fleet, self.load, self.chronyd = fleet, load, chronyd


pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    chrony.require()
    folder = tmp_path_factory.mktemp("fleet")
    with real_fleet(folder) as (fleet, hosts), contextlib.ExitStack() as stack:
        fleet.start_etcd((*TIME, *EXCHANGE, "e"))
        for name in (*TIME, *EXCHANGE):
            fleet.host(name, fleet.hosts["a"].address if name in EXCHANGE else "")
        stack.enter_context(small_disk(fleet.hosts["d"].keys))
        fleet.must("a", "init", "--cookie-life", f"{LIFE}s", "--max-keys", 6)
        for name in (*TIME[1:], *EXCHANGE):
            fleet.must(name, "join")
        for name in (*TIME, *EXCHANGE):
            fleet.start_agent(name)
            fleet.serve(name, "ts" if name in TIME else "ke")
        load = Load(lambda: hosts.on("client"), folder / "ca.pem", LIFE)
        load.servers = [(fleet.hosts[name].address, NTP_PORT) for name in TIME]
        load.exchanges = [(fleet.hosts[name].address, KE_PORT) for name in EXCHANGE]
        stack.enter_context(load)
        for name in ("a", "k1"):  # of two, one is the first each time
            fleet.start_service(name, "rotate", "--every", "4s")
        hosts.add("chrony")
        short = stack.enter_context(chrony.short_folder())
        lines = [
            f"server {fleet.hosts['k1'].address} nts ntsport {KE_PORT} iburst minpoll -2 maxpoll -2",
            f"ntstrustedcerts {folder / 'ca.pem'}",
        ]
        with hosts.on("chrony"):
            chronyd = chrony.Chronyd(short, lines)
        stack.callback(chronyd.stop)
        assert fleet.rotates(1), fleet.must("a", "status")
        yield Running(fleet, load, chronyd)


def active_key(fleet: RealFleet) -> str:
    (active,) = (str(k["id"]) for k in fleet.status("a")["keys"] if k["phase"] == "active")
    return active


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


@pytest.fixture
def fleet(running: Running) -> Iterator[RealFleet]:
    """It is sound before and after, and nothing has been refused."""
    running.load.check()
    yield running.fleet
    assert running.fleet.rotates(1), running.fleet.must("a", "status")
    running.load.check()


def test_rotations_go_by_and_nothing_is_refused(running: Running, fleet: RealFleet) -> None:
    assert fleet.rotates(3)
    load = running.load
    assert load.oldest > LIFE - 1.5, "old cookies were used"
    assert len(set.union(*load.sealers.values())) >= 3, "new keys were used"
    assert len(load.sealers) == len(TIME)


@pytest.mark.parametrize("member", [0, 1, 2])
def test_a_member_of_etcd_is_killed_and_comes_back(fleet: RealFleet, member: int) -> None:
    fleet.etcd.kill(member)
    assert fleet.rotates(1), fleet.must("a", "status")
    fleet.etcd.start(member)


def test_all_of_etcd_is_gone_for_a_while(fleet: RealFleet) -> None:
    agent = fleet.hosts["b"].agent
    assert agent is not None
    for member in range(3):
        fleet.etcd.kill(member)
    agent.wait_for("stay in use, and last until this member is removed by force")
    before = {name: ids(fleet.hosts[name].keys) for name in TIME}
    time.sleep(LIFE)
    assert {name: ids(fleet.hosts[name].keys) for name in TIME} == before
    fleet.etcd.start_all()


@pytest.mark.parametrize("after", [r" staged", r" active", r"old, \w+ active", "leads the fleet"])
def test_the_leader_is_killed_between_phases(fleet: RealFleet, after: str) -> None:
    """As soon as it says that it has done this; a second later; and its host stays without an agent for a while."""
    for pause in (0.0, 0.3, 1.0):
        assert eventually(lambda: fleet.leader() != "", 20)
        name = fleet.leader()
        agent = fleet.hosts[name].agent
        assert agent is not None
        seen = len(agent.output())
        eventually(lambda agent=agent, seen=seen: after.strip() in agent.output()[seen:], 6)  # type: ignore[misc]
        time.sleep(pause)
        fleet.kill_agent(name)
        assert eventually(lambda name=name: fleet.leader() not in ("", name), 20)  # type: ignore[misc]
        fleet.start_agent(name)


def test_a_member_is_cut_off_goes_on_and_catches_up(running: Running, fleet: RealFleet) -> None:
    fleet.cut("c")
    agent = fleet.hosts["c"].agent
    assert agent is not None
    try:
        agent.wait_for("out of reach")
        assert eventually(lambda: fleet.status("a")["waits_for"] == ["c"], 20)
        active, answered = active_key(fleet), running.load.answered
        time.sleep(LIFE)
        found = fleet.status("a")
        assert found["waits_for"] == ["c"]
        assert active_key(fleet) == active, "nobody goes on without it"
        assert [m["name"] for m in found["members"] if m["agent"] == "silent"] == ["c"]
        assert running.load.answered > answered
    finally:
        fleet.cut("c", whole=False)


def test_a_disk_is_full(fleet: RealFleet) -> None:
    host = fleet.hosts["d"]
    assert host.agent is not None
    with contextlib.suppress(OSError), (host.keys / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    try:
        host.agent.wait_for("No space left on device")
        assert eventually(lambda: fleet.status("a")["waits_for"] == ["d"], 20)
        active = active_key(fleet)
        time.sleep(LIFE)
        assert active_key(fleet) == active, "nobody goes on without it"
    finally:
        (host.keys / "ballast").unlink()


@pytest.mark.parametrize("skew", [3600, -3600])
def test_a_clock_is_an_hour_off(fleet: RealFleet, skew: float) -> None:
    for name in ("b", fleet.leader()):
        agent = fleet.hosts[name].agent
        assert agent is not None
        agent.stop()
        fleet.start_agent(name, skew=skew)
    assert fleet.rotates(2), fleet.must("a", "status")
    for name in {"b", "a"}:
        agent = fleet.hosts[name].agent
        assert agent is not None
        agent.stop()
        fleet.start_agent(name)


def test_a_member_is_new_and_leaves(running: Running, fleet: RealFleet) -> None:
    host = fleet.host("e")
    fleet.must("e", "join")
    fleet.start_agent("e")
    fleet.serve("e", "ts")
    running.load.servers.append((host.address, NTP_PORT))
    assert fleet.rotates(3), fleet.must("a", "status")
    running.load.servers.pop()
    time.sleep(1)
    for process in (host.agent, *host.servers):
        assert process is not None
        process.stop()
    fleet.must("e", "leave")
    assert ids(host.keys), "it keeps its keys"
    shutil.rmtree(host.folder)
    del fleet.hosts["e"]


def test_a_member_is_gone_for_good(running: Running, fleet: RealFleet) -> None:
    host = fleet.hosts["b"]
    (gone,) = [s for s in running.load.servers if s[0] == host.address]
    running.load.servers.remove(gone)
    time.sleep(1)
    fleet.kill_agent("b")
    assert eventually(lambda: fleet.status("a")["waits_for"] == ["b"], 20)
    done = fleet.run("a", "leave", "b")
    assert done.returncode == 2
    assert "b is another host" in done.stderr
    said = fleet.run("a", "leave", "b", "--force").stderr
    assert "do not let it serve after the next rotation" in said
    assert fleet.rotates(1)
    fleet.must("b", "join", "--force")
    fleet.start_agent("b")
    running.load.servers.append(gone)


def test_chronyd_has_never_been_refused(running: Running, fleet: RealFleet) -> None:
    """It has asked all the time, with the cookies of one key exchange and those that followed."""
    address = fleet.hosts["a"].address
    before = running.chronyd.valid(address)
    assert fleet.rotates(2), fleet.must("a", "status")
    assert running.chronyd.valid(address) > before
    auth = running.chronyd.authdata(address)
    assert (auth.key_id, auth.nak, auth.attempts) == (1, 0, 0)


def test_a_leaked_key_goes_at_once_everywhere(running: Running, fleet: RealFleet) -> None:
    """The one case in which clients are refused."""
    leaked = active_key(fleet)
    assert "seals" in fleet.must("a", "revoke", leaked)
    assert all(int(leaked, 16) not in ids(fleet.hosts[name].keys) for name in (*TIME, *EXCHANGE))
    assert eventually(lambda: bool(running.load.refused), 5)
    assert fleet.rotates(1)
    time.sleep(LIFE)
    assert all(leaked in line or "NAK" in line for line in running.load.refused)
    running.load.refused.clear()


def test_agents_stop_when_told_to(fleet: RealFleet) -> None:
    agent = fleet.hosts["k2"].agent
    assert agent is not None
    assert agent.stop(signal.SIGTERM) == 0
    assert "Traceback" not in agent.output()
    fleet.start_agent("k2")

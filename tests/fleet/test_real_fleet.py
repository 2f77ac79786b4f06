# SPDX-License-Identifier: MIT
"""The promises of docs/fleet.md with real processes: three etcd members and two fleets, each of four time servers and
two NTS-KE servers on hosts of their own, a rotation every few seconds, a chronyd as client, and one that brings young
and old cookies to every server. One fleet is all ours, in our format. In the other one, a time server is a chronyd.

The fleets are there for all tests of this file: each breaks something in both at the same time, heals it, and sees that
they go on. From the beginning, one host's clock is an hour fast, and another one's an hour slow."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from testkit import chrony
from testkit.fleet_load import Load
from testkit.fleets import KE_PORT, NTP_PORT, RealFleet, Site, site, small_disk
from testkit.processes import eventually

LIFE = 5  # seconds that a cookie is promised to work: chronyd uses the oldest of eight, and asks four times a second
TIME, EXCHANGE = ("a", "b", "c", "d"), ("k1", "k2")
LEADERS = ("a", "b", "k2")
HOUR = 3600
CLOCKS = {"b": HOUR, "k2": -HOUR}

pytestmark = pytest.mark.interop


class Running:
    """A fleet, its load, and its client."""

    def __init__(self, here: Site, name: str, cookie_format: str, stack: contextlib.ExitStack) -> None:
        self.is_mixed = cookie_format == "chrony"
        self.fleet = fleet = RealFleet(here, name, cookie_format, LEADERS)
        stack.callback(fleet.stop)
        fleet.grant(*TIME, *EXCHANGE, "e")
        short = stack.enter_context(chrony.short_folder())
        for member in (*TIME, *EXCHANGE):
            sends_to = fleet.hosts["a"].address if member in EXCHANGE else ""
            host = fleet.host(member, sends_to, short / "s" if self.is_mixed and member == "d" else None)
            host.clock_off = CLOCKS.get(member, 0)
        stack.enter_context(small_disk(fleet.hosts["d"].keys))
        fleet.must("a", "init", "--cookie-life", f"{LIFE}s", "--max-keys", 4 if self.is_mixed else 6)
        if self.is_mixed:
            fleet.serve_with_chronyd("d", short / "s")
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._start, (*TIME, *EXCHANGE)))
        self.load = Load(lambda: here.hosts.on(f"{name}client"), here.folder / "ca.pem", LIFE)
        self.load.servers = [(fleet.hosts[member].address, NTP_PORT) for member in TIME]
        self.load.exchanges = [(fleet.hosts[member].address, KE_PORT) for member in EXCHANGE]
        if self.is_mixed:
            self.load.exchanges.append((fleet.hosts["d"].address, KE_PORT))
        here.hosts.add(f"{name}client")
        stack.enter_context(self.load)
        for member in ("a", "k1"):  # of two, one is the first each time
            fleet.start_service(member, "rotate", "--every", "3s")
        lines = [
            f"server {fleet.hosts['k1'].address} nts ntsport {KE_PORT} iburst minpoll -2 maxpoll -2",
            f"ntstrustedcerts {here.folder / 'ca.pem'}",
        ]
        here.hosts.add(f"{name}chrony")
        with here.hosts.on(f"{name}chrony"):
            self.chronyd = chrony.Chronyd(short / "c", lines)
        stack.callback(self.chronyd.stop)
        fleet.rotates(1)

    def _start(self, member: str) -> None:
        if member != "a":
            self.fleet.must(member, "join")
        self.fleet.start_agent(member)
        if not (self.is_mixed and member == "d"):
            self.fleet.serve(member, "ts" if member in TIME else "ke")


class Both:
    """The two fleets."""

    def __init__(self, here: Site, fleets: list[Running]) -> None:
        self.site, self.fleets = here, fleets

    def do(self, what: Callable[[Running], None]) -> None:
        """In both at the same time."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(what, self.fleets))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    chrony.require()
    with site(tmp_path_factory.mktemp("fleet")) as here, contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        made = [pool.submit(Running, here, name, kind, stack) for name, kind in (("o", "own"), ("m", "chrony"))]
        yield Both(here, [future.result() for future in made])


@pytest.fixture
def both(running: Both) -> Iterator[Both]:
    """Nothing has been refused before and after."""
    for one in running.fleets:
        one.load.check()
    yield running
    for one in running.fleets:
        one.load.check()


def test_rotations_go_by_and_nothing_is_refused(both: Both) -> None:
    both.do(lambda one: one.fleet.rotates(2))
    for one in both.fleets:
        for name, off in CLOCKS.items():
            newest = max(path.stat().st_mtime for path in one.fleet.hosts[name].keys.glob("*.key"))
            assert abs(newest - time.time() - off) < HOUR / 2, "its clock is off"
        addresses = {server for server, _ in one.load.servers}
        assert one.load.oldest > LIFE - 1.5, "old cookies were used"
        assert len(set.intersection(*one.load.sealers.values())) >= 2, "all have used new keys"
        assert set(one.load.sealers) == addresses
        for server, sealers in one.load.opened.items():
            assert sealers >= addresses - {server}, "each opens what the others seal"


def test_leaders_die_between_phases_and_so_do_members_of_etcd(both: Both) -> None:
    """As soon as a key is staged, active, old, gone, and when a leader has just been elected. The agent that led starts
    again with another clock."""
    clocks, members = itertools.cycle((-HOUR, 0, HOUR)), itertools.cycle(range(3))
    for step in ("staged", "active", "old", "gone", "elected"):
        clock_off, member = next(clocks), next(members)
        both.site.etcd.kill(member)
        both.do(lambda one, step=step, off=clock_off: lose_the_leader(one.fleet, step, off))  # type: ignore[misc]
        both.site.etcd.start(member)
        both.site.etcd.wait()
    both.do(lambda one: one.fleet.rotates(1))


def lose_the_leader(fleet: RealFleet, step: str, clock_off: int) -> None:
    before = fleet.phases()

    def is_there() -> bool:
        now = fleet.phases()
        news = {phase for key, phase in now.items() if before.get(key) != phase}
        return step == "elected" or step in news or (step == "gone" and not before.keys() <= now.keys())

    assert eventually(is_there, 20), fleet.status()
    name = fleet.leader()
    fleet.kill_agent(name)
    fleet.leader(other_than=name)
    fleet.hosts[name].clock_off = clock_off
    fleet.start_agent(name)


def test_all_of_etcd_is_gone_for_a_while(both: Both) -> None:
    for member in range(3):
        both.site.etcd.kill(member)
    for one in both.fleets:
        one.fleet.agent("b").wait_for("stay in use, and last until this member is removed by force")
    before = held(both)
    time.sleep(3)
    assert held(both) == before
    both.site.etcd.start_all()
    both.do(lambda one: one.fleet.rotates(1))


def held(both: Both) -> list[list[int]]:
    return [host.held() for one in both.fleets for name, host in one.fleet.hosts.items() if name != "operator"]


def test_one_member_is_cut_off_and_the_disk_of_another_is_full(both: Both) -> None:
    both.do(break_two)


def break_two(one: Running) -> None:
    fleet = one.fleet
    ballast = fleet.hosts["d"].keys / "ballast"
    fleet.cut("c")
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as f:
        while True:
            f.write(bytes(4096))
    try:
        fleet.agent("c").wait_for("out of reach")
        fleet.agent("d").wait_for("No space left on device")
        fleet.waits_for("c", "d")
        active, answered = fleet.active(), one.load.answered
        time.sleep(LIFE)
        assert fleet.active() == active, "nobody goes on without them"
        assert [m["name"] for m in fleet.status()["members"] if m["agent"] == "silent"] == ["c"]
        assert one.load.answered > answered
        fleet.cut("c", whole=False)
        fleet.waits_for("d")
    finally:
        ballast.unlink()
    fleet.rotates(1)


def test_a_member_is_gone_for_good_and_another_one_is_new(both: Both) -> None:
    both.do(change_members)


def change_members(one: Running) -> None:
    fleet, load = one.fleet, one.load
    (gone,) = [s for s in load.servers if s[0] == fleet.hosts["b"].address]
    load.servers.remove(gone)
    time.sleep(0.2)
    fleet.kill_agent("b")
    fleet.waits_for("b")
    done = fleet.run("a", "leave", "b")
    assert done.returncode == 2
    assert "b is another host" in done.stderr
    assert "do not let it serve after the next rotation" in fleet.run("a", "leave", "b", "--force").stderr
    host = fleet.host("e")
    fleet.must("e", "join")
    fleet.start_agent("e")
    fleet.serve("e", "ts")
    load.servers.append((host.address, NTP_PORT))
    fleet.rotates(2)
    fleet.must("b", "join", "--force")
    fleet.start_agent("b")
    load.servers[-1] = gone
    time.sleep(0.2)
    for process in (host.agent, *host.servers):
        assert process is not None
        process.stop()
    fleet.must("e", "leave")
    assert host.held(), "it keeps its keys"
    shutil.rmtree(host.folder)
    del fleet.hosts["e"]
    fleet.rotates(1)


def test_chronyd_as_a_client_has_never_been_refused(both: Both) -> None:
    """It has asked all the time, with the cookies of one key exchange and those that followed."""
    for one in both.fleets:
        address = one.fleet.hosts["a"].address
        one.chronyd.wait_for_answers(address)
        auth = one.chronyd.authdata(address)
        assert (auth.key_id, auth.nak, auth.attempts) == (1, 0, 0)


def test_a_leaked_key_goes_at_once_everywhere(both: Both) -> None:
    """The one case in which clients are refused."""
    both.do(leak)


def leak(one: Running) -> None:
    fleet = one.fleet
    leaked = fleet.active()
    assert "seals" in fleet.must("a", "revoke", leaked)
    fresh = fleet.active()
    assert all(int(leaked, 16) not in fleet.hosts[name].held() for name in (*TIME, *EXCHANGE))
    assert eventually(lambda: bool(one.load.refused), 5)
    fleet.rotates(1)
    time.sleep(LIFE)
    assert all(f"of key {leaked}" in line or f"of key {fresh}" in line for line in one.load.refused), "no other key's"
    one.load.refused.clear()


def test_agents_stop_when_told_to(both: Both) -> None:
    for one in both.fleets:
        agent = one.fleet.agent("k1")
        assert agent.stop(signal.SIGTERM) == 0
        for name in (*TIME, *EXCHANGE):
            assert "Traceback" not in one.fleet.agent(name).log.read_text()

# SPDX-License-Identifier: MIT
"""How much etcd has to do for one rotation of a fleet, by etcd's own counters; the table of docs/fleet.md.

usage: python -m tools.fleet_traffic [MEMBERS...]     (default: 10 100 1000)

A cluster of three real etcd members on loopback, with TLS. The members of the fleet are real agents with a lease and a
watch each, on threads of this one process, which keep their keys in memory. So the times are those of one machine with
all of them on it: on hosts of their own, they would be shorter.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aetcd import rpc

from nts.codec.keyring import KeyRing, MasterKey
from nts.fleet import steps
from nts.fleet.agent import Agent
from nts.fleet.envelope import Wrapping, WrappingKey
from nts.fleet.etcd import Cluster, Etcd, credentials
from nts.fleet.fleet import Fleet
from nts.fleet.local import Memory
from nts.fleet.plan import Ack
from nts.fleet.store import Unreachable
from nts.system import console
from testkit.etcd import EtcdCluster

LIFE, LEASE, POLL = 5, 60, 600  # seconds
CONNECTIONS = 20
METHODS = ("Range", "Txn", "LeaseGrant", "LeaseKeepAlive")
WRAPPING = Wrapping("/nts/", (WrappingKey(bytes(32)),))


class InMemory(Memory):
    """Keys and plan of an agent that writes no file; a `local.Target` too."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.ring, self.value = KeyRing(), b""

    def apply(self, ring: KeyRing) -> list[str]:
        self.ring = ring
        return []

    def keys(self) -> KeyRing:
        return self.ring

    def load(self) -> bytes | None:
        return self.value or None

    def save(self, value: bytes) -> None:
        self.value = value

    def forget(self) -> None:
        self.value = b""


class Watches(threading.Thread):
    """The watches of all agents on one event loop: a thread for each would keep this process busy with waiting."""

    def __init__(self, endpoints: list[str], tls: Any) -> None:
        super().__init__(daemon=True)
        self._endpoints, self._tls, self._loop = endpoints, tls, asyncio.new_event_loop()
        self._channels: list[Any] = []

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def add(self, store: Etcd) -> None:
        """Watch for this agent, in place of `Etcd._watch`."""
        store._watcher = self
        asyncio.run_coroutine_threadsafe(self._watch(store), self._loop)

    async def _watch(self, store: Etcd) -> None:
        if len(self._channels) < CONNECTIONS:
            endpoint = self._endpoints[len(self._channels) % len(self._endpoints)]
            self._channels.append(rpc.secure_channel(endpoint, self._tls))
        stream = rpc.WatchStub(self._channels[hash(store) % len(self._channels)]).Watch()
        await stream.write(store.watch_request())
        while True:
            await stream.read()
            store._changed.set()


class Measured:
    """A cluster, and what its members have counted."""

    def __init__(self, etcd: EtcdCluster) -> None:
        self._urls = [f"https://{a}:{p}/metrics" for a, p in zip(etcd.addresses, etcd.ports, strict=True)]
        self._tls = ssl.create_default_context(cafile=str(etcd.ca))
        self._tls.load_cert_chain(*etcd.root)

    def counts(self) -> Counter[str]:
        """Of all members: calls by method, octets received from and sent to clients."""
        found = Counter[str]()
        for url in self._urls:
            text = urllib.request.urlopen(url, context=self._tls, timeout=30).read().decode()
            for method, count in re.findall(
                r'^grpc_server_started_total\{grpc_method="(\w+)".* (\S+)$', text, re.MULTILINE
            ):
                found[method] += int(float(count))
            for way, count in re.findall(r"^etcd_network_client_grpc_(\w+)_bytes_total (\S+)$", text, re.MULTILINE):
                found[way] += int(float(count))
        return found


def measure(etcd: EtcdCluster, members: int) -> str:
    """A rotation of a fleet of that size; a row of the table."""
    tls, prefix = credentials(etcd.ca, *etcd.root), f"/nts{members}/"
    wrapping = Wrapping(prefix, WRAPPING.keys)
    clusters = [Cluster(tuple(etcd.endpoints.split(", ")), tls) for _ in range(CONNECTIONS)]

    def fleet(i: int) -> Fleet:
        return Fleet(Etcd(clusters[i % CONNECTIONS], prefix, LEASE), lambda: wrapping, os.urandom)

    operator = fleet(0)
    plan = steps.create("f", LIFE, 4, None, (MasterKey(1, bytes(32)),))
    for i in range(members):
        plan = steps.join(plan, f"member{i}.example.net", os.urandom(4).hex())
    assert operator.create(plan)
    stop = threading.Event()
    watches = Watches(etcd.endpoints.split(", "), tls)
    watches.start()
    threads = [threading.Thread(target=run, args=(fleet(i), i, stop, watches), daemon=True) for i in range(members)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    settled = progress(operator)
    until(lambda: settled(1))
    time.sleep(5)
    measured, begin = Measured(etcd), time.monotonic()
    before = measured.counts()
    operator.change(lambda p: steps.stage(p, MasterKey(2, os.urandom(32)), 0))
    active = until(lambda: settled(3)) - begin
    until(lambda: settled(4))
    spent = measured.counts() - before
    stop.set()
    for thread in threads:
        thread.join(120)
    calls = [f"{spent[m]:,}" for m in METHODS[:2]]
    octets = [f"{spent[way] / 1e6:,.1f}" for way in ("received", "sent")]
    return f"| {members:,} | {' | '.join(calls)} | {' | '.join(octets)} | {active:.1f} s |"


def run(fleet: Fleet, number: int, stop: threading.Event, watches: Watches) -> None:
    kept = InMemory()
    assert isinstance(fleet.store, Etcd)
    watches.add(fleet.store)
    agent = Agent(fleet, f"member{number}.example.net", kept, kept, leads=True, lease=LEASE, poll=POLL)
    while not stop.is_set():
        agent.wait(min(agent.turn(), 5.0))


def progress(fleet: Fleet) -> Callable[[int], bool]:
    """Tells whether all have acknowledged a version of the plan (2: staged, 3: active, 4: the old key is gone), or a
    later one. It reads as `fleet_helper.py rotate` does."""
    acks, revision = dict[str, Ack](), 0

    def settled(version: int) -> bool:
        nonlocal revision
        try:
            plan = fleet.shared().plan
            fresh, revision = fleet.acks(revision)
        except Unreachable:  # there is much to do
            return False
        acks.update(fresh)
        return plan.version >= version and not steps.lagging(plan, acks)

    return settled


def until(condition: Callable[[], bool]) -> float:
    """Wait for it, looking seldom enough to hardly count. When that was."""
    while not condition():
        time.sleep(0.5)
    return time.monotonic()


def main(sizes: list[int]) -> None:
    console.say = console.warn = console.ignore  # type: ignore[assignment]
    threading.stack_size(1 << 18)
    print("| members | range reads | transactions | MB to etcd | MB from etcd | until all seal with the new key |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        etcd = EtcdCluster(Path(folder) / "etcd")
        try:
            etcd.start_all()
            for size in sizes:
                print(measure(etcd, size), flush=True)
        finally:
            etcd.stop()


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [10, 100, 1000])

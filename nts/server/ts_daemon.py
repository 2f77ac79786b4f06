# SPDX-License-Identifier: MIT
"""The time server: sockets and clocks around `ts_server.respond`, or around the native engine.

Each worker process has its own sockets, and the kernel spreads clients over them (SO_REUSEPORT), unless the service
manager passed sockets for all of them. The kernel timestamps datagrams on arrival. A reply leaves from the address that
the request was sent to. Datagrams are not logged: each verdict has a counter, which the server prints when it stops.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import NamedTuple

from prometheus_client.core import Metric

from nts.base.errors import LibraryError
from nts.base.registry import Stratum
from nts.base.text import counted
from nts.codec import aead, aes_siv, ntp
from nts.codec.keyring import KeyRing
from nts.protocol import ts_server
from nts.protocol.rate_limit import Limit, RateLimiter
from nts.protocol.ts_server import Limiter, SystemVariables, Verdict
from nts.server import keystore, listen, xdp
from nts.server.config import NtpConfig, ServerConfig
from nts.server.counters import Family, Layout, by_verdict
from nts.server.engine import Engine, Handover, Xsk
from nts.server.harness import Harness, WorkerContext
from nts.server.metrics import gauge, metric
from nts.system import addresses, console, privileges, udp
from nts.system.clock import Clock
from nts.system.clock import now as clock_now

BATCH = 64  # datagrams from one socket before the others get their turn
RECEIVE_BUFFER = 1 << 20  # octets; a burst must wait in the kernel, not be lost
_ROUND_MS = 500  # the longest time between checks of keys and clock, and between signs of life
_ROOM = ts_server.MAX_REQUEST + 4  # so that longer datagrams are recognised; the native engine has as much
_ANCILLARY_ROOM = 256
_PKTINFO4 = struct.Struct("=I4s4s")  # in_pktinfo: interface, address to answer from, destination in the header
_MULTICAST6 = 0xFF  # the first octet of such an address


class Cell(IntEnum):
    """What each worker counts beside the verdicts, in the cells after theirs."""

    HANDOVERS = len(Verdict)
    """packets that the native engine gave to the reference"""
    OCTETS_RECEIVED = auto()
    """of UDP payload; of a datagram that is longer than any request, what was read"""
    OCTETS_SENT = auto()
    KEY_AGE_0 = auto()
    """authenticated requests by `ts_server.Outcome.key_age`"""
    KEY_AGE_1 = auto()
    KEY_AGE_2 = auto()
    KEY_AGE_3 = auto()
    KEY_AGE_4 = auto()
    KEY_AGE_5 = auto()
    KEY_AGE_6 = auto()
    KEY_AGE_7 = auto()
    """seven or more"""
    XDP_FRAMES = auto()
    """that came by AF_XDP"""
    XDP_DAMAGED = auto()
    """of those, with a wrong length or checksum"""


LAYOUT = Layout(  # in the order of `Verdict` and `Cell`
    by_verdict("nts_ntp_datagrams", "Datagrams received, by what became of them.", Verdict),
    Family("nts_ntp_handovers", "Datagrams that the native engine left to the Python reference."),
    Family("nts_ntp_received_bytes", "UDP payload received."),
    Family("nts_ntp_sent_bytes", "UDP payload sent."),
    Family(
        "nts_ntp_cookie_keys",
        "Authenticated requests, by how many master keys are newer than the one that sealed their cookie (7: or more).",
        "newer_keys",
        tuple(map(str, range(8))),
    ),
    Family("nts_ntp_xdp_frames", "Frames that came by AF_XDP."),
    Family("nts_ntp_xdp_damaged", "Of those, dropped for a wrong length or checksum."),
)


class Datagram(NamedTuple):
    """What a socket received."""

    data: bytes
    arrived_ns: int
    """since 1970"""
    peer: addresses.Address
    source: udp.Ancillary
    """control messages that make the reply come from the address that was asked"""
    misdirected: bool
    """sent to a broadcast or multicast address"""


class Receiver:
    """A UDP socket with kernel timestamps."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        udp.enable_timestamps(sock)
        udp.allow_fragmentation(sock)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, udp.IP_PKTINFO, 1)

    def receive(self) -> Datagram:
        """The oldest datagram. OSError when there is none."""
        data, ancillary, _, peer = self.sock.recvmsg(_ROOM, _ANCILLARY_ROOM)
        source, misdirected = [], False
        for level, kind, value in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, udp.IP_PKTINFO):
                _, local, asked = _PKTINFO4.unpack_from(value)
                misdirected = asked != local
                source.append((level, kind, _PKTINFO4.pack(0, local, bytes(4))))
            elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                misdirected = value[0] == _MULTICAST6
                source.append((level, kind, value))
        return Datagram(data, udp.arrival_ns(ancillary), peer, source, misdirected)


def _respond(
    datagram: bytes, received: int, keys: KeyRing, system: SystemVariables, limit: Limiter, cells: memoryview
) -> bytes | None:
    """Count the reference's verdict and key age, and return its reply, if any. `received` is an NTP timestamp."""
    outcome = ts_server.respond(
        datagram, keys=keys, system=system, received=received, now=clock_now, random=os.urandom, limit=limit
    )
    cells[outcome.verdict] += 1
    if outcome.key_age is not None:
        cells[min(Cell.KEY_AGE_0 + outcome.key_age, Cell.KEY_AGE_7)] += 1
    return outcome.reply


class PythonWorker:
    """The event loop of one process, all in Python."""

    def __init__(self, sockets: list[socket.socket], clock: Clock, limit: Limit, worker: WorkerContext) -> None:
        self._clock, self._watcher, self._cells, self._beat = clock, worker.watcher, worker.counters, worker.beat
        self._limiter = RateLimiter(limit, os.urandom) if limit.rate else None
        self._selector = selectors.DefaultSelector()
        for descriptor in worker.stop.descriptors():
            self._selector.register(descriptor, selectors.EVENT_READ, None)
        for sock in sockets:
            self._selector.register(sock, selectors.EVENT_READ, Receiver(sock))

    def run(self) -> None:
        """Serve until a descriptor of the stop signal is readable."""
        while True:
            self._beat()
            self._watcher.ring()  # says what is wrong with the keys, also while no datagram comes
            for key, _ in self._selector.select(_ROUND_MS / 1000):
                if key.data is None:
                    return
                self._drain(key.data)

    def _drain(self, receiver: Receiver) -> None:
        """Answer the datagrams that wait at one socket, up to a batch."""
        for _ in range(BATCH):
            try:
                datagram = receiver.receive()
            except OSError:  # nothing left, or an ICMP error for an earlier reply
                return
            self._cells[Cell.OCTETS_RECEIVED] += len(datagram.data)
            if datagram.misdirected:
                self._cells[Verdict.DROP_DESTINATION] += 1
                continue
            ring = self._watcher.ring()  # for each datagram: a rotation takes effect at once
            received = ntp.timestamp(datagram.arrived_ns)
            limit = self._limit_for(datagram.peer)
            reply = _respond(datagram.data, received, ring, self._clock.system(), limit, self._cells)
            if reply is not None:
                with contextlib.suppress(OSError):  # no route or a full buffer: lost like any datagram
                    sent = receiver.sock.sendmsg([reply], datagram.source, 0, datagram.peer)
                    self._cells[Cell.OCTETS_SENT] += sent

    def _limit_for(self, peer: addresses.Address) -> Limiter:
        """The limit of requests for one from this peer."""
        limiter = self._limiter
        if limiter is None:
            return ts_server.unlimited
        address = addresses.packed(peer[0])
        return lambda verdict: limiter.judge(verdict, address, time.monotonic_ns())


class NativeWorker:
    """The event loop of one process around the native engine: updates keys and system variables, answers handovers."""

    def __init__(
        self, sockets: list[socket.socket], clock: Clock, limit: Limit, worker: WorkerContext, xsks: Sequence[Xsk] = ()
    ) -> None:
        self._clock, self._watcher, self._cells, self._beat = clock, worker.watcher, worker.counters, worker.beat
        self._ring: KeyRing | None = None
        self._system: SystemVariables | None = None
        self._engine = Engine()
        self._engine.count_into(worker.counters)
        self._engine.set_limit(limit)
        self._engine.attach(sockets, worker.stop.descriptors())
        if xsks:
            self._engine.attach_xsks(xsks)
        self._refresh()

    def run(self) -> None:
        """Serve until a descriptor of the stop signal is readable."""
        folder = os.fsencode(self._watcher.folder)
        while (turn := self._engine.run(folder, self._watcher.seen, _ROUND_MS)) >= 0:
            self._beat()
            self._refresh()
            handover = self._engine.handover() if turn == 1 else None
            if handover is not None:
                self._answer(handover)

    def _refresh(self) -> None:
        ring, system = self._watcher.ring(), self._clock.system()
        if ring is not self._ring:
            self._engine.set_keys(ring)
            self._ring = ring
        if system is not self._system:
            self._engine.set_system(system)
            self._system = system

    def _answer(self, handover: Handover) -> None:
        """Let the reference answer a packet that the engine does not handle."""
        assert self._ring is not None
        assert self._system is not None
        reply = _respond(
            handover.datagram, handover.received, self._ring, self._system, self._engine.limit_handover, self._cells
        )
        self._engine.handover_done(reply)


def serve(config: ServerConfig, *, verbose: bool) -> None:
    """Run the time server until SIGINT or SIGTERM. ConfigError when it cannot start."""
    ntp_config, keys = config.ntpv4, config.keys
    aead.check(config.ntske.aeads)
    native, engine_line = choose_engine(ntp_config.engine)
    if keys.label_problem:
        console.warn(keys.label_problem)
    keystore.load(keys.master_keys_dir)  # fail now if the folder is unreadable, instead of warning later
    listen.raise_descriptor_limit()
    where, bound = listen.for_time(ntp_config.listen, ntp_config.port, ntp_config.workers)
    for sock in itertools.chain(*bound):
        udp.enlarge_buffer(sock, RECEIVE_BUFFER)
    fast, xdp_line = choose_xdp(ntp_config, bound, native)
    clock = Clock(ntp_config.clock, ntp_config.local_stratum)
    watch = _Watch(clock, list(itertools.chain(*bound)), native, fast)

    def set_up(worker: WorkerContext) -> Callable[[], None]:
        arguments = bound[worker.index], clock, ntp_config.limit, worker
        if not native:
            return PythonWorker(*arguments).run
        return NativeWorker(*arguments, fast.of_worker(worker.index, ntp_config.workers) if fast else ()).run

    def announce() -> None:
        console.say(f"NTP on UDP {where}; {counted(ntp_config.workers, 'worker')}")
        watch.look()
        if _is_synchronised(clock):
            console.say(_describe_clock(clock))
        console.say(engine_line)
        if ntp_config.xdp:
            (console.say if fast else console.warn)(xdp_line)

    harness = Harness(
        config,
        ntp_config.workers,
        LAYOUT,
        verbose=verbose,
        metrics_at=ntp_config.metrics,
        sources=[watch.metrics],
    )
    harness.run(
        set_up,
        announce,
        "datagrams",
        reload="nothing to load: it follows the master keys by itself",
        look=watch.look,
    )
    for group in bound:
        listen.close_all(group)


@dataclass
class _Watch:
    """What an operator should know about a running time server, besides its counters."""

    clock: Clock
    sockets: list[socket.socket]
    native: bool
    xdp: xdp.Xdp | None
    _synchronised: bool = True

    def dropped(self) -> int:
        """How many datagrams the kernel had no room for."""
        return sum(map(udp.drops, self.sockets)) + (self.xdp.lost() if self.xdp else 0)

    def look(self) -> None:
        """Print a line for whatever calls for action. Called every second."""
        if (synchronised := _is_synchronised(self.clock)) != self._synchronised:
            self._synchronised = synchronised
            (console.say if synchronised else console.warn)(_describe_clock(self.clock))
        if self.xdp and not self.xdp.look():
            console.warn(f"AF_XDP: {self.xdp.interface} is gone; the sockets serve until the server is started again")
            self.xdp = None
        dropped = self.dropped()
        console.warn_of_more("drops", f"the receive queues were full: {dropped} datagrams lost so far", dropped)

    def metrics(self) -> Iterator[Metric]:
        """For Prometheus."""
        system = self.clock.system()
        yield gauge("nts_ntp_stratum", "Stratum that the server announces; 16: not synchronised.", system.stratum)
        yield gauge("nts_ntp_leap", "Leap indicator that the server announces; 3: not synchronised.", system.leap)
        drops = Family("nts_ntp_receive_queue_drops", "Datagrams that found the receive queue full.")
        yield metric(drops, [self.dropped()])
        name, backend = "native" if self.native else "python", aes_siv.backend()
        yield gauge("nts_ntp_engine_info", "What answers the common packets.", 1, engine=name, aes=backend)


def choose_engine(wanted: str) -> tuple[bool, str]:
    """Whether to use the native engine, and the line that says so. LibraryError when it is required but unusable."""
    if wanted == "python":
        return False, f"engine: python (as configured); AES-SIV: {aes_siv.backend()}"
    try:
        return True, f"engine: native ({Engine().backend})"
    except LibraryError as e:
        if wanted == "native":
            raise
        return False, f"engine: python ({e}; {e.hint}); AES-SIV: {aes_siv.backend()}"


def choose_xdp(config: NtpConfig, sockets: list[list[socket.socket]], native: bool) -> tuple[xdp.Xdp | None, str]:
    """The way past the network stack, if server.ini asks for it and it can be had, and the line that says so."""
    if not config.xdp:
        return None, ""
    try:
        if not native:
            raise xdp.NoXdp("it needs the native engine")
        found = xdp.start(config, itertools.chain(*sockets))
    except (xdp.NoXdp, LibraryError) as e:
        return None, f"AF_XDP: not on {config.xdp}: {e}; the sockets serve"
    finally:
        privileges.give_up(*xdp.PRIVILEGES)
    queues = counted(len(found.queues), "queue")
    return found, f"AF_XDP: {config.xdp}, {queues} ({found.mode}); the firewall does not see the requests taken there"


def _is_synchronised(clock: Clock) -> bool:
    return clock.system().stratum <= Stratum.MAX_SYNCHRONISED


def _describe_clock(clock: Clock) -> str:
    system = clock.system()
    if not _is_synchronised(clock):
        return (
            "the kernel says its clock is not synchronised, so clients will not use this server; "
            "clock = local in server.ini serves it anyway"
        )
    return f"clock: {clock.mode}, stratum {system.stratum}, precision 2^{system.precision} s"

# SPDX-License-Identifier: MIT
"""The time server: sockets and clocks around `ts_server.respond`.

Each worker process has sockets of its own; the kernel spreads clients over them (SO_REUSEPORT). A datagram's
receive timestamp is the kernel's, taken as it arrived, and the reply leaves from the address that was asked.
Nothing a datagram does is logged: each verdict has a counter, shown when the server stops.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
from collections.abc import Callable

from nts import aead, cli, keystore, ntp, sockets, ts_server, workers
from nts.clock import Clock
from nts.clock import now as clock_now
from nts.config import ServerConfig
from nts.keystore import KeyWatcher
from nts.ts_server import Verdict

BATCH = 64  # datagrams from one socket before the others get a look
RECEIVE_BUFFER = 1 << 20  # octets; a burst must wait in the kernel, not be lost
_ROOM = ts_server.MAX_REQUEST + 1  # so that a longer datagram is seen to be longer
_ANCILLARY_ROOM = 256
_PKTINFO4 = struct.Struct("=I4s4s")  # in_pktinfo: interface, local address, destination in the header


class Receiver:
    """One UDP socket with kernel timestamps."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sockets.enable_timestamps(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, sockets.IP_PKTINFO, 1)

    def receive(self) -> tuple[bytes, int, sockets.Ancillary, sockets.Address]:
        """A datagram, when it arrived (ns since 1970), what sends the answer from the same address, and the peer."""
        data, ancillary, _, peer = self.sock.recvmsg(_ROOM, _ANCILLARY_ROOM)
        source = []
        for level, kind, value in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, sockets.IP_PKTINFO):
                _, local, _ = _PKTINFO4.unpack_from(value)
                source.append((level, kind, _PKTINFO4.pack(0, local, bytes(4))))
            elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                source.append((level, kind, value))
        return data, sockets.arrival_ns(ancillary), source, peer


class Worker:
    """The loop of one process."""

    def __init__(
        self, receivers: list[Receiver], clock: Clock, watcher: KeyWatcher, count: Callable[[Verdict], None]
    ) -> None:
        self._receivers, self._clock, self._watcher, self._count = receivers, clock, watcher, count

    def run(self, stop: workers.StopSignal) -> None:
        """Serve until told to stop."""
        selector = selectors.DefaultSelector()
        for descriptor in stop.descriptors():
            selector.register(descriptor, selectors.EVENT_READ, None)
        for receiver in self._receivers:
            selector.register(receiver.sock, selectors.EVENT_READ, receiver)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    return
                self._drain(key.data)

    def _drain(self, receiver: Receiver) -> None:
        """Answer what has come to one socket, up to a batch."""
        for _ in range(BATCH):
            try:
                data, received_ns, source, peer = receiver.receive()
            except OSError:  # nothing left, or an error of an earlier reply that the network reports
                return
            outcome = ts_server.respond(
                data,
                keys=self._watcher.ring(),  # a stat() each: a rotation counts from the very next datagram on
                system=self._clock.system(),
                received=ntp.timestamp(received_ns),
                now=clock_now,
                random=os.urandom,
            )
            self._count(outcome.verdict)
            if outcome.reply is not None:
                with contextlib.suppress(OSError):  # no route, a full buffer: lost like any datagram
                    receiver.sock.sendmsg([outcome.reply], source, 0, peer)


def serve(config: ServerConfig, *, verbose: bool) -> None:
    """Run the time server until SIGINT or SIGTERM. ConfigError when it cannot start."""
    ntp_config, keys = config.ntpv4, config.keys
    backend = aead.backend()
    keystore.load(keys.master_keys_dir)  # an unreadable folder is an error now, not a warning later
    # Shared sockets never refuse to bind: try without sharing first, so that a port in use is seen.
    sockets.close_all(sockets.listening(socket.SOCK_DGRAM, ntp_config.listen, ntp_config.port))
    bound = [
        sockets.listening(socket.SOCK_DGRAM, ntp_config.listen, ntp_config.port, share=True)
        for _ in range(ntp_config.workers)
    ]
    clock = Clock(ntp_config.clock, ntp_config.local_stratum)
    counters = workers.Counters(Verdict, ntp_config.workers)

    def work(index: int, stop: workers.StopSignal) -> None:
        cells = counters.of(index)

        def count(verdict: Verdict) -> None:
            cells[verdict] += 1

        watcher = KeyWatcher(keys.master_keys_dir, cli.warn if index == 0 else cli.ignore)
        watcher.ring()  # what is wrong with the keys is said now, not at the first datagram
        if verbose:
            cli.say(f"worker {index} runs as process {os.getpid()}")
        Worker([Receiver(s) for s in bound[index]], clock, watcher, count).run(stop)

    def announce() -> None:
        where = ", ".join(sockets.shown(s.getsockname()) for s in bound[0])
        cli.say(f"NTP on UDP {where}; {ntp_config.workers} worker{'s' if ntp_config.workers > 1 else ''}")
        cli.say(_describe_clock(clock, ntp_config.clock))
        cli.say(f"engine: python (this version has no native engine); AES-SIV: {backend}")

    workers.supervise(ntp_config.workers, work, announce)
    for group in bound:
        sockets.close_all(group)
    cli.say(f"stopped; datagrams: {cli.counts(counters.totals())}")


def _describe_clock(clock: Clock, mode: str) -> str:
    system = clock.system()
    if system.stratum > 15:
        return (
            "warning: the kernel says its clock is not synchronised, so clients will not use this server; "
            "clock = local in server.ini serves it all the same"
        )
    return f"clock: {mode}, stratum {system.stratum}, precision 2^{system.precision} s"

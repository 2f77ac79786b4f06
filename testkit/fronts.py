# SPDX-License-Identifier: MIT
"""Servers of the suite behind a front that notes when each packet and each connection comes to them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from nts.codec.ntp import NS
from nts.system import udp
from testkit.processes import Suite

_HERE = "127.0.0.1"
_CERTIFICATE = ("ca.pem", "cert.pem", "cert.key")


def haste(arrivals: Sequence[float], pace: float) -> float:
    """By how many seconds an arrival is too early, if at most one may come in `pace` seconds."""
    worst, due = 0.0, 0.0
    for arrival in arrivals:
        worst = max(worst, due - arrival)
        due = max(due, arrival) + pace
    return worst


@dataclass
class Front:
    """A server of the suite, and when it was asked for something, in seconds."""

    ke: Suite
    ts: Suite
    sock: socket.socket
    """where its packets come to"""
    ke_port: int = 0
    packets: list[float] = field(default_factory=list)
    """by the kernel's timestamps"""
    connections: list[float] = field(default_factory=list)
    """by the time when this process notices them"""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def listen(self) -> None:
        """Serve until `close`."""
        udp.enable_timestamps(self.sock)
        asyncio.get_running_loop().add_reader(self.sock, self._packet)
        self._server = await asyncio.start_server(self._connection, _HERE)
        self.ke_port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        self._server.close()
        asyncio.get_running_loop().remove_reader(self.sock)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(time.monotonic())
        inner, outer = await asyncio.open_connection(_HERE, self.ke.ke_port)
        await asyncio.gather(_pump(reader, outer), _pump(inner, writer))

    def _packet(self) -> None:
        data, ancillary, _, client = self.sock.recvmsg(65535, 256)
        self.packets.append(udp.arrival_ns(ancillary) / NS)
        task = asyncio.get_running_loop().create_task(self._forward(data, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, data: bytes, client: tuple[str, int]) -> None:
        """Over a socket of its own, as the packet has a client of its own."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((_HERE, self.ts.ntp_port))
            with contextlib.suppress(OSError, TimeoutError):
                await loop.sock_sendall(sock, data)
                self.sock.sendto(await asyncio.wait_for(loop.sock_recv(sock, 65535), 1), client)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


async def _end(fronts: Sequence[Front]) -> None:
    for front in fronts:
        front.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _suites(folder: Path, port: int) -> tuple[Suite, Suite]:
    """A server whose key exchange sends clients to this UDP port; both are started."""
    for name in ("ke", "ts"):
        (folder / name).mkdir(parents=True)
        for file in _CERTIFICATE:
            with contextlib.suppress(FileNotFoundError):  # the first one makes it
                shutil.copy(folder.parent / file, folder / name)
    ke = Suite(folder / "ke", ntp_port=port)
    ts = Suite(folder / "ts", options={"keys": {"master_keys_dir": "../ke/master_keys"}})
    ke.start_ke()
    ts.start_ts()
    return ke, ts


@contextlib.contextmanager
def fronts(folder: Path, number: int) -> Iterator[list[Front]]:
    """So many servers, all with the certificate of `folder / "ca.pem"`, for the length of the `with` block."""
    Suite(folder)  # makes the certificate
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    found: list[Front] = []
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(number)]
    try:
        for sock in sockets:
            sock.setblocking(False)
            sock.bind((_HERE, 0))
        ports = [sock.getsockname()[1] for sock in sockets]
        with ThreadPoolExecutor(4) as pool:
            made = pool.map(lambda i: _suites(folder / f"{i}", ports[i]), range(number))
            found += [Front(*both, sock) for both, sock in zip(made, sockets, strict=True)]
        for front in found:
            asyncio.run_coroutine_threadsafe(front.listen(), loop).result(10)
        yield found
    finally:
        for front in found:
            front.ke.stop()
            front.ts.stop()
        asyncio.run_coroutine_threadsafe(_end(found), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        for sock in sockets:
            sock.close()

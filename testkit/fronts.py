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
from typing import cast

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
    """A server of the suite, and when it was asked for something, in monotonic seconds."""

    ke: Suite
    ts: Suite
    ke_port: int = 0
    packets: list[float] = field(default_factory=list)
    connections: list[float] = field(default_factory=list)
    _open: list[asyncio.BaseTransport | asyncio.AbstractServer] = field(default_factory=list)

    async def listen(self, packets: socket.socket) -> None:
        """Serve until `close`."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Packets(self.packets, self.ts.ntp_port), sock=packets
        )
        server = await asyncio.start_server(self._connection, _HERE)
        self._open += [transport, server]
        self.ke_port = server.sockets[0].getsockname()[1]

    def close(self) -> None:
        for one in self._open:
            one.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(time.monotonic())
        inner, outer = await asyncio.open_connection(_HERE, self.ke.ke_port)
        await asyncio.gather(_pump(reader, outer), _pump(inner, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


class _Packets(asyncio.DatagramProtocol):
    """Forwards each packet over a socket of its own, as it has a client of its own."""

    def __init__(self, arrivals: list[float], port: int) -> None:
        self._arrivals, self._port = arrivals, port
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._arrivals.append(time.monotonic())
        task = asyncio.get_running_loop().create_task(self._forward(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, data: bytes, client: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((_HERE, self._port))
            with contextlib.suppress(OSError, TimeoutError):
                await loop.sock_sendall(sock, data)
                reply = await asyncio.wait_for(loop.sock_recv(sock, 65535), 1)
                self._transport.sendto(reply, client)


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
            sock.bind((_HERE, 0))
        ports = [sock.getsockname()[1] for sock in sockets]
        with ThreadPoolExecutor(4) as pool:
            made = pool.map(lambda i: _suites(folder / f"{i}", ports[i]), range(number))
            found += [Front(*both) for both in made]
        for front, sock in zip(found, sockets, strict=True):
            asyncio.run_coroutine_threadsafe(front.listen(sock), loop).result(10)
        yield found
    finally:
        for front in found:
            front.ke.stop()
            front.ts.stop()
        asyncio.run_coroutine_threadsafe(_end(found), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

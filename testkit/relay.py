# SPDX-License-Identifier: MIT
"""A UDP relay between clients and a time server, which sees what passes on the wire."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass

from nts.system.addresses import family_of


@dataclass(frozen=True)
class Passed:
    """A request, and what came back for it."""

    request: bytes
    reply: bytes | None


class Relay:
    """Forwards to `target` what arrives at `address`, one request after the other, and loses replies on demand."""

    def __init__(self, target: tuple[str, int], address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.requests: list[bytes] = []
        """as they arrived"""
        self.packets: list[Passed] = []
        """those that have been forwarded"""
        self.lose = 0
        """how many of the next replies to lose"""
        self._target, self._stopping = target, threading.Event()
        self._sock = _socket(address)
        self._sock.bind(address)
        self._sock.settimeout(0.1)
        self.port = int(self._sock.getsockname()[1])
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._sock.close()

    def _work(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                request, client = self._sock.recvfrom(65535)
                self.requests.append(request)
                reply = self._forward(request)
                self.packets.append(Passed(request, reply))
                if self.lose:
                    self.lose -= 1
                elif reply is not None:
                    self._sock.sendto(reply, client)

    def _forward(self, request: bytes) -> bytes | None:
        with _socket(self._target) as sock:
            sock.settimeout(1)
            sock.connect(self._target)
            with contextlib.suppress(OSError):  # nothing comes back, or the server does not run
                sock.send(request)
                return sock.recv(65535)
        return None


def _socket(address: tuple[str, int]) -> socket.socket:
    return socket.socket(family_of(address[0]), socket.SOCK_DGRAM)

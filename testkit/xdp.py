# SPDX-License-Identifier: MIT
"""A time server that serves by AF_XDP, in a network of its own, and clients in another one. Wants root."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testkit import namespaces
from testkit.namespaces import OtherNetwork
from testkit.processes import HAS_ENGINE, HAS_V6, NO_ENGINE, Suite, eventually, free_port
from testkit.ts_requests import Asker, own_server, plain, process_of

_AF_XDP = 44


def _why_not() -> str:
    """What this machine lacks for AF_XDP; empty: nothing but, maybe, privileges."""
    if not HAS_ENGINE:
        return NO_ENGINE
    if [int(n) for n in re.findall(r"\d+", os.uname().release)[:2]] < [6, 1]:
        return "AF_XDP needs Linux 6.1"
    try:
        socket.socket(_AF_XDP, socket.SOCK_RAW).close()
    except OSError as e:
        return "this kernel has no AF_XDP" if e.errno == errno.EAFNOSUPPORT else ""
    return ""


needs_xdp = pytest.mark.skipif(bool(_why_not()), reason=_why_not())
NEAR, FAR = "near0", "far0"
"""the server's interface, and that of its clients"""
SERVER4, SERVER6, CLIENT4 = "10.77.0.1", "fd00:77::1", "10.77.0.2"
HOSTS = (SERVER4, SERVER6) if HAS_V6 else (SERVER4,)


@dataclass
class Network:
    """The server's network, which is this thread's, and that of its clients."""

    clients: OtherNetwork

    def asker(self, suite: Suite, host: str = SERVER4, source: str | None = None) -> Asker:
        """A client, over there."""
        with self.clients.inside():
            return Asker(suite.ntp_port, host, source)

    def raw(self) -> socket.socket:
        """A socket for frames to the server."""
        with self.clients.inside():
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
            sock.bind((FAR, 0))
            sock.settimeout(10)
            return sock


@contextlib.contextmanager
def network(queues: int = 1) -> Iterator[Network]:
    """Both networks, joined."""
    with namespaces.other_network() as other:
        namespaces.join(other, NEAR, FAR, 77, queues)
        yield Network(other)


@contextlib.contextmanager
def serving(
    folder: Path, *, server: dict[str, object] | None = None, fails: bool = False, **ntpv4: object
) -> Iterator[Suite]:
    """A server that takes what comes by NEAR, or says why it cannot."""
    options = {"ntpv4": {"xdp": NEAR, "metrics": f"127.0.0.1:{free_port()}", **ntpv4}, "server": server or {}}
    with own_server(folder, "--verbose", **options) as suite:
        process_of(suite).wait_for("the sockets serve" if fails else f"AF_XDP: {ntpv4.get('xdp', NEAR)}, ")
        yield suite


def worker(suite: Suite, index: int = 0) -> int:
    """The process of a worker."""
    return int(re.findall(rf"worker {index} runs as process (\d+)", process_of(suite).output())[-1])


def metric(suite: Suite, name: str) -> int:
    """A counter of the server."""
    endpoint = suite.options["ntpv4"]["metrics"]
    with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=10) as answer:
        found = re.search(rf"^{name}(?:_total)? (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None, name
    return int(float(found[1]))


def frames(suite: Suite) -> int:
    """How many came by AF_XDP."""
    return metric(suite, "nts_ntp_xdp_frames")


def by_xdp(suite: Suite, asker: Asker) -> bool:
    """Whether a request that is answered goes past the kernel."""
    before = frames(suite)
    asker.sock.send(plain())
    assert len(asker.sock.recv(100)) == 48
    return frames(suite) > before


def comes_by_xdp(suite: Suite, asker: Asker, wanted: bool = True) -> bool:
    """Whether that becomes so in time: the server looks at its addresses every second."""
    return eventually(lambda: by_xdp(suite, asker) == wanted)

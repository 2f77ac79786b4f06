# SPDX-License-Identifier: MIT
"""Replies that are longer than what a path passes in one piece must arrive all the same, from both engines.

In a network namespace of the test's own whose loopback passes 1280 octets, as a tunnel would. That needs root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.codec import cookies
from nts.codec.aead import Aead, SessionKeys
from nts.protocol import ts_client
from nts.server import keystore
from nts.system.addresses import family_of
from testkit.namespaces import own_network
from testkit.processes import HAS_ENGINE, NO_ENGINE, V6_PARAM, Process, Suite, eventually, workers_of

MTU = 1280
SIOCSIFFLAGS, SIOCSIFMTU, IFF_UP = 0x8914, 0x8922, 1  # netdevice(7)

NATIVE = pytest.mark.skipif(not HAS_ENGINE, reason=NO_ENGINE)
ANOTHER_WORKER = -1


@pytest.fixture
def narrow_path() -> Iterator[None]:
    """A network namespace with a narrow loopback and nothing else."""
    with own_network():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for request, value in ((SIOCSIFMTU, struct.pack("@i", MTU)), (SIOCSIFFLAGS, struct.pack("@h", IFF_UP))):
                fcntl.ioctl(sock, request, struct.pack("@16s24s", b"lo", value))
        yield


def replace_worker(server: Process) -> None:
    (worker,) = workers_of(server, 1)
    os.kill(worker, signal.SIGKILL)
    assert eventually(lambda: workers_of(server, 1) != [worker])


@pytest.mark.usefixtures("narrow_path")
@pytest.mark.parametrize("host", ["127.0.0.1", V6_PARAM])
@pytest.mark.parametrize("engine", [pytest.param("native", marks=NATIVE), "python"])
def test_a_reply_longer_than_the_path_passes_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, host: str
) -> None:
    """Eight cookies for AEAD 17; after a short reply, which leaves with other options of the socket, and with the next
    worker, which takes over that socket."""
    monkeypatch.setattr(Suite, "engine", engine)
    suite = Suite(tmp_path)
    master = keystore.ensure_key(suite.keys, 3, os.urandom)
    assert master is not None
    server = suite.start_ts()
    keys = SessionKeys(Aead.AES_SIV_CMAC_512, os.urandom(64), os.urandom(64))
    family = family_of(host)
    try:
        with contextlib.closing(socket.socket(family, socket.SOCK_DGRAM)) as sock:
            sock.settimeout(10)
            sock.connect((host, suite.ntp_port))
            for placeholders in (0, 7, 0, ANOTHER_WORKER, 7):
                if placeholders == ANOTHER_WORKER:
                    replace_worker(server)
                    continue
                cookie = cookies.seal(master.key, (keys,), os.urandom(16))
                query = ts_client.build_query(keys, cookie, placeholders, os.urandom)
                sock.send(query.packet)
                reply = sock.recv(65535)
                assert len(ts_client.judge(reply, query).cookies) == placeholders + 1
                assert (len(reply) > MTU) == (placeholders == 7)
    finally:
        suite.stop()

# SPDX-License-Identifier: MIT
"""No cookie is ever sent twice: real clients on one client.ini, killed at any point of a query (RFC 8915 section 5.7).

What the clients send is recorded by a relay on its way to the real time server, so that answers and fresh cookies
are part of the game.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.base.registry import FieldType
from nts.client.state import ClientState
from nts.codec import extensions
from testkit.processes import ROOT, Suite
from testkit.relay import Relay


@pytest.fixture
def relay(suite: Suite) -> Iterator[Relay]:
    with Relay(("127.0.0.1", suite.ntp_port)) as relay:
        yield relay


def cookies_seen(relay: Relay) -> list[bytes]:
    """The cookies of all requests so far."""
    fields = [field for request in relay.requests for field in extensions.walk(request)[0]]
    return [field.body for field in fields if field.type == FieldType.COOKIE]


def start_client(file: Path, port: int, queries: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "ntsts_client.py"), "-f", str(file), "-n", str(queries), "-i", "0.001",
               "--timeout", "2", "127.0.0.1", str(port)]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_clients_at_once_never_send_the_same_cookie(suite: Suite, relay: Relay, tmp_path: Path) -> None:
    """A63."""
    file = tmp_path / "client.ini"
    assert suite.fetch(output=file).returncode == 0
    clients = [start_client(file, relay.port, 40) for _ in range(2)]
    for client in clients:
        _, stderr = client.communicate(timeout=60)
        assert client.returncode == 0, stderr
    assert len(cookies_seen(relay)) == len(set(cookies_seen(relay))) == 80
    assert len(ClientState(file).load().cookies) == 8


def test_clients_killed_at_any_point_never_send_a_cookie_again(suite: Suite, relay: Relay, tmp_path: Path) -> None:
    """A63: kill -9 in the middle of queries of two clients, many times; the file stays whole and usable."""
    file = tmp_path / "client.ini"
    for i in range(15):
        if i % 3 == 0:
            assert suite.fetch(output=file).returncode == 0, "the file was damaged"
        before = len(relay.requests)
        clients = [start_client(file, relay.port, 1000) for _ in range(2)]
        end = time.monotonic() + 20
        while len(relay.requests) < before + 2:  # at least one of them is in the middle of its work
            assert time.monotonic() < end
            time.sleep(0.001)
        time.sleep(0.0013 * i)
        for client in clients:
            client.send_signal(signal.SIGKILL)
        for client in clients:
            client.communicate()
        stock = ClientState(file).load().cookies  # whole, or this raises
        assert not set(stock) & set(cookies_seen(relay)), "a cookie that was sent is still in stock"
    assert len(relay.requests) == len(cookies_seen(relay)) == len(set(cookies_seen(relay)))
    client = start_client(file, relay.port, 1)
    _, stderr = client.communicate(timeout=30)
    assert client.returncode == 0, stderr

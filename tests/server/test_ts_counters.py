# SPDX-License-Identifier: MIT
"""What the workers of the time server count: the same with both engines, but for handovers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nts.codec import cookies, extensions
from nts.codec.aead import Aead, SessionKeys
from nts.codec.keyring import MasterKey
from nts.codec.ntp import Header
from nts.protocol import ts_client
from nts.server import keystore
from testkit.packets import Counter
from testkit.processes import HAS_ENGINE, NO_ENGINE
from testkit.time_workers import TimeWorker, time_worker

ENGINES = [pytest.param("native", marks=pytest.mark.skipif(not HAS_ENGINE, reason=NO_ENGINE)), "python"]
KEYS = SessionKeys(Aead.AES_SIV_CMAC_256, bytes(32), bytes(range(32)))
PLAIN = Header(mode=3, transmit=1).encode()
UNUSUAL = PLAIN + extensions.encode(0xF123, bytes(24))  # the native engine hands it over

pytestmark = pytest.mark.parametrize("engine", ENGINES)


def request(master: MasterKey, spoil: Callable[[bytes], bytes] = bytes) -> bytes:
    return ts_client.build_query(KEYS, spoil(cookies.seal(master, (KEYS,), bytes(16))), 0, Counter()).packet


def rotated(folder: Path, times: int) -> list[MasterKey]:
    return [keystore.rotate(folder, times, Counter(i))[0].key for i in range(times)]


def dropped(worker: TimeWorker, *packets: bytes) -> None:
    """Send packets that get no answer, and wait until they have been dealt with."""
    for packet in packets:
        worker.client.send(packet)
    worker.ask(PLAIN)


def test_octets_and_handovers(tmp_path: Path, engine: str) -> None:
    (master,) = rotated(tmp_path, 1)
    nts, nak = request(master), request(master, lambda cookie: cookie[:-1] + b"!")
    with time_worker(engine, tmp_path) as worker:
        replies = worker.ask(PLAIN, nts, nak, UNUSUAL)
        dropped(worker, b"odd", bytes(60_000))
    read = len(PLAIN + nts + nak + UNUSUAL) + 3 + 2052 + len(PLAIN)
    counted = worker.counted()
    assert counted.pop("HANDOVERS", 0) == (engine == "native")
    assert counted == {
        "ANSWERED_PLAIN": 3, "ANSWERED_NTS": 1, "NAK_COOKIE": 1, "DROP_LENGTH": 2,
        "OCTETS_RECEIVED": read, "OCTETS_SENT": sum(map(len, replies)) + len(PLAIN), "KEY_AGE_0": 1,
    }  # fmt: skip


def test_accepted_cookies_are_counted_by_the_age_of_their_key(tmp_path: Path, engine: str) -> None:
    """Those of the usual requests and of those that the engine hands over; not those of requests that get a NAK."""
    masters = rotated(tmp_path, 10)
    with time_worker(engine, tmp_path) as worker:
        for master in masters:
            query = ts_client.build_query(KEYS, cookies.seal(master, (KEYS,), bytes(16)), 0, Counter())
            worker.ask(query.packet, query.packet[:-1] + bytes([query.packet[-1] ^ 1]))
        gcm = SessionKeys(Aead.AES_128_GCM_SIV, bytes(16), bytes(range(16)))
        worker.ask(ts_client.build_query(gcm, cookies.seal(masters[-3], (gcm,), bytes(16)), 0, Counter()).packet)
    ages = {name: count for name, count in worker.counted().items() if name.startswith("KEY_AGE")}
    assert ages == {f"KEY_AGE_{age}": 1 for age in range(7)} | {"KEY_AGE_2": 2, "KEY_AGE_7": 3}

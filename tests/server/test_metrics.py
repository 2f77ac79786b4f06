# SPDX-License-Identifier: MIT
"""Metrics over HTTP, as Prometheus reads them."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.protocol import ke_server, ts_server
from nts.server import keystore
from nts.system import certs
from testkit.ke_sessions import own_server, server_of, works
from testkit.metrics import samples, scrape, value
from testkit.processes import Suite, ask_udp, children, eventually, free_port, running_suite, workers_of
from testkit.ts_requests import plain


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Suite, int, int]]:
    """Both servers with two workers each, and their metrics' ports."""
    ke_port, ntp_port = free_port(), free_port()
    with running_suite(
        tmp_path_factory.mktemp("metrics"),
        ntske={"metrics": f"127.0.0.1:{ke_port}", "workers": 2},
        ntpv4={"metrics": f"127.0.0.1:{ntp_port}", "workers": 2},
    ) as suite:
        yield suite, ke_port, ntp_port


def test_all_workers_count_into_the_same_metrics(watched: tuple[Suite, int, int]) -> None:
    suite, ke_port, ntp_port = watched
    before = value(ke_port, "nts_ke_sessions_total", verdict="agreed")
    for _ in range(20):
        assert works(suite)
    assert value(ke_port, "nts_ke_sessions_total", verdict="agreed") == before + 20
    assert suite.fetch().returncode == 0
    assert suite.ask().returncode == 0
    for _ in range(20):
        assert ask_udp(suite.ntp_port, plain())
    assert value(ntp_port, "nts_ntp_datagrams_total", verdict="answered_nts") == 1
    assert value(ntp_port, "nts_ntp_datagrams_total", verdict="answered_plain") == 20
    assert value(ntp_port, "nts_ntp_sent_bytes_total") >= 20 * 48
    assert value(ntp_port, "nts_ntp_cookie_keys_total", newer_keys="0") == 1


def test_every_verdict_is_there_before_it_happens(watched: tuple[Suite, int, int]) -> None:
    """So that rate() and alerts see the first one."""
    _suite, ke_port, ntp_port = watched
    for port, name, verdicts in (
        (ke_port, "nts_ke_sessions_total", ke_server.Verdict),
        (ntp_port, "nts_ntp_datagrams_total", ts_server.Verdict),
    ):
        results = {dict(labels)["verdict"] for metric, labels in samples(port) if metric == name}
        assert results == {v.name.lower() for v in verdicts}


def test_certificate_and_keys(watched: tuple[Suite, int, int]) -> None:
    suite, ke_port, ntp_port = watched
    expiry = certs.describe(suite.folder / "cert.pem").not_after.timestamp()
    assert value(ke_port, "nts_ke_certificate_expiry_timestamp_seconds") == expiry
    for port in (ke_port, ntp_port):
        assert value(port, "nts_master_keys") == len(keystore.load(suite.keys).files)
    keystore.rotate(suite.keys, 3, os.urandom)
    for port in (ke_port, ntp_port):
        assert value(port, "nts_master_keys") == len(keystore.load(suite.keys).files)
        assert 0 <= value(port, "nts_master_key_age_seconds") < 10


def test_engine_clock_and_drops(watched: tuple[Suite, int, int]) -> None:
    _suite, _ke_port, port = watched
    found = samples(port)
    (engine,) = [dict(labels) for name, labels in found if name == "nts_ntp_engine_info"]
    assert engine["engine"] == Suite.engine
    assert value(port, "nts_ntp_stratum") == 10
    assert value(port, "nts_ntp_leap") == 0
    assert value(port, "nts_ntp_receive_queue_drops_total") == 0


def test_a_replaced_worker_is_counted_and_its_counters_stay(watched: tuple[Suite, int, int]) -> None:
    suite, ke_port, _ntp_port = watched
    process = server_of(suite)
    assert works(suite)
    before, sessions = (
        value(ke_port, "nts_worker_restarts_total"),
        value(ke_port, "nts_ke_sessions_total", verdict="agreed"),
    )
    victim = workers_of(process, 3)[0]
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: victim not in children(process.popen.pid) and len(children(process.popen.pid)) == 3)
    assert value(ke_port, "nts_worker_restarts_total") == before + 1
    assert value(ke_port, "nts_ke_sessions_total", verdict="agreed") == sessions
    assert value(ke_port, "nts_workers") == 2


def test_slow_and_broken_readers_hold_up_nobody(watched: tuple[Suite, int, int]) -> None:
    _suite, ke_port, _ntp_port = watched
    with socket.create_connection(("127.0.0.1", ke_port)) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\n")
        started = time.monotonic()
        assert "nts_ke_sessions_total" in scrape(ke_port)
        assert time.monotonic() - started < 2
    with socket.create_connection(("127.0.0.1", ke_port)) as rude:
        rude.sendall(b"\x16\x03\x01" + os.urandom(200) + b"\r\n\r\n")
    assert "nts_ke_sessions_total" in scrape(ke_port)


def test_full_receive_queues_are_seen(tmp_path: Path) -> None:
    """The workers stand still, and the kernel drops what finds no room."""
    port = free_port()
    with running_suite(tmp_path, ntpv4={"metrics": f"127.0.0.1:{port}"}) as suite:
        assert suite.ts is not None
        worker, _exporter = workers_of(suite.ts, 2)
        os.kill(worker, signal.SIGSTOP)
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            for _ in range(6000):
                sock.sendto(plain(), ("127.0.0.1", suite.ntp_port))
        assert value(port, "nts_ntp_receive_queue_drops_total") > 0
        os.kill(worker, signal.SIGCONT)
        suite.ts.wait_for("warning: the receive queues were full: ")


def test_no_metrics_unless_asked_for(tmp_path: Path) -> None:
    with own_server(tmp_path) as own:
        assert len(workers_of(server_of(own), 1)) == 1

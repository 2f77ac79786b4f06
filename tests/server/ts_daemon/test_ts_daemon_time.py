# SPDX-License-Identifier: MIT
"""The time that the real time server process tells, and the addresses at which it does."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from nts.base.registry import Leap, Stratum
from nts.codec import ntp
from nts.codec.ntp import Header
from nts.protocol import ts_client
from nts.server import listen
from nts.system import clock
from nts.system.addresses import family_of
from testkit import processes
from testkit.processes import Suite, eventually, workers_of
from testkit.ts_requests import HOSTS, Asker, Request, mint, own_server, plain, process_of

# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
def test_timestamps_lie_between_request_and_reply(suite: Suite, host: str) -> None:
    """B11, RFC 5905 section 8; authentic and plain."""
    slack = 100_000  # ns: two readings of one clock
    with Asker(suite.ntp_port, host) as asker:
        for packet in (plain(), Request(mint(suite)).encode()):
            before = time.time_ns()
            header = Header.decode(asker.reply(packet))
            after = time.time_ns()
            received, sent = (ntp.unix_ns(t, before) for t in (header.receive, header.transmit))
            assert before - slack <= received <= sent <= after + slack


def test_receive_timestamp_is_the_kernels(tmp_path: Path) -> None:
    """Of the arrival, not of the time when a busy server gets round to reading: the worker is stopped meanwhile."""
    with own_server(tmp_path) as own:
        (worker,) = workers_of(process_of(own), 1)
        with Asker(own.ntp_port) as asker:
            assert len(asker.reply(plain())) == 48
            os.kill(worker, signal.SIGSTOP)
            before = time.time_ns()
            asker.sock.send(plain())
            time.sleep(0.5)
            os.kill(worker, signal.SIGCONT)
            header = Header.decode(asker.sock.recv(100))
    received, sent = (ntp.unix_ns(t, before) - before for t in (header.receive, header.transmit))
    assert received < 0.25 * ntp.NS
    assert sent > 0.45 * ntp.NS


@pytest.mark.parametrize("stratum", [1, 15])
def test_local_clock_is_served_with_its_stratum(tmp_path: Path, stratum: int) -> None:
    with own_server(tmp_path, ntpv4={"local_stratum": stratum}) as own, Asker(own.ntp_port) as asker:
        header = Header.decode(asker.reply(plain()))
        assert (header.leap, header.stratum) == (Leap.NONE, stratum)
        assert header.reference_id == (b"LOCL" if stratum == 1 else bytes([127, 127, 1, 1]))


def test_the_reference_time_moves_on(suite: Suite) -> None:
    """While nothing but common requests comes, which the native engine answers by itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect(("127.0.0.1", suite.ntp_port))

        def reference_time() -> int:
            sock.send(plain())
            return Header.decode(sock.recv(100)).reference_time

        first = reference_time()
        assert eventually(lambda: reference_time() - first >= 2 << 32)


def test_auto_clock_says_what_the_kernel_says(tmp_path: Path) -> None:
    """B12: an unsynchronised kernel clock is served as leap 3, stratum 16, also in authentic replies."""
    leap, _ = clock.kernel_status()
    unsynchronised = leap == Leap.UNSYNCHRONISED
    with own_server(tmp_path, ntpv4={"clock": "auto", "local_stratum": 3}) as own, Asker(own.ntp_port) as asker:
        request = Request(mint(own))
        for reply in (asker.reply(plain()), asker.reply(request.encode())):
            header = Header.decode(reply)
            if unsynchronised:
                assert (header.leap, header.stratum) == (Leap.UNSYNCHRONISED, Stratum.UNSYNCHRONISED)
            else:
                assert (header.leap, header.stratum) == (leap, 3)
        verdict = request.judge(reply).kind
        assert verdict is (ts_client.AnswerKind.UNUSABLE if unsynchronised else ts_client.AnswerKind.TIME)
        assert ("the kernel says its clock is not synchronised" in process_of(own).output()) == unsynchronised


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.1.2.3", processes.V6_PARAM])
def test_reply_comes_from_the_address_that_was_asked(suite: Suite, host: str) -> None:
    """The server listens on all; RFC 5905 section 9: a client drops what comes from elsewhere."""
    with socket.socket(family_of(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.sendto(plain(), (host, suite.ntp_port))
        _, source = sock.recvfrom(100)
    assert source[:2] == (host, suite.ntp_port)


def test_listens_only_where_told(tmp_path: Path) -> None:
    with own_server(tmp_path, ntpv4={"listen": "127.0.0.1"}) as own:
        with Asker(own.ntp_port) as asker:
            assert len(asker.reply(plain())) == 48
        for host in ("127.0.0.2", *processes.V6_IF_ANY):
            with Asker(own.ntp_port, host) as asker, pytest.raises(ConnectionRefusedError):
                asker.reply(plain())


def bound_to(port: int) -> set[str]:
    """The IPv4 addresses that UDP sockets with this port are bound to."""
    rows = [line.split()[1].split(":") for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return {socket.inet_ntoa(bytes.fromhex(host)[::-1]) for host, found in rows if int(found, 16) == port}


@pytest.mark.skipif(sys.byteorder != "little", reason="/proc/net/udp has addresses in the order of the machine")
def test_the_usual_addresses_have_sockets_of_their_own(suite: Suite, tmp_path: Path) -> None:
    ipv4 = [a for a in listen.usual_addresses() if ":" not in a]
    assert "127.0.0.1" in ipv4
    assert bound_to(suite.ntp_port) == {"0.0.0.0", *ipv4}
    for host in ipv4:
        with Asker(suite.ntp_port, host) as asker:  # connected: receives only what comes from that address
            assert len(asker.reply(plain())) == 48
    with own_server(tmp_path, ntpv4={"listen": "127.0.0.1"}) as other:
        assert bound_to(other.ntp_port) == {"127.0.0.1"}


def test_addresses_that_cannot_be_bound_are_left_to_the_sockets_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "usual_addresses", lambda: ["192.0.2.77", "2001:db8::77", "127.0.0.1"])
    found = listen.listening_everywhere(processes.free_port(socket.SOCK_DGRAM))
    hosts = [s.getsockname()[0] for s in found]
    listen.close_all(found)
    assert [h for h in hosts if h not in listen.ANY] == ["127.0.0.1"]


def test_a_machine_without_a_way_to_others_has_its_loopback_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "TARGETS", ("127.0.0.1", "255.255.255.255"))  # refused, as where there is no route
    assert listen.usual_addresses() == ["127.0.0.1"]

# SPDX-License-Identifier: MIT
"""nts_check.py misbehave: one fault on demand, as somebody meets it who debugs a client by hand."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nts.base.registry import FieldType
from nts.check.commands import misbehave
from nts.check.peer import NtpPeer, craft
from nts.check.peer.faults import FAULTS, UnknownFault, find
from nts.check.peer.ke import KeSession
from nts.check.peer.ntp import NtpTalk
from testkit import processes
from testkit.processes import Process
from testkit.raw_ke import END, GOOD_REQUEST, record

DEMANDED = (
    "warning", "duplicate-record", "missing-eom", "noncritical-eom", "unknown-critical", "one-octet-records",
    "slow-drip", "unoffered-aead", "wrong-uid", "stripped-authenticator", "stale-cookie", "short-nonce", "nak",
    "forged-nak", "forged-nak-wrong-uid", "oversize-response", "cookie-length-change", "wrong-exporter-context",
    "bad-origin", "tls12-only", "no-alpn", "expired-certificate", "wrong-name-certificate", "self-signed", "error-0",
    "error-1", "error-2", "error-unknown", "endless-response",
)  # fmt: skip


@contextmanager
def misbehaving(folder: Path, *arguments: object) -> Iterator[Process]:
    command = [sys.executable, str(processes.ROOT / "nts_check.py"), "misbehave", *map(str, arguments)]
    process = Process(command, folder / "misbehave.log")
    try:
        process.wait_for("ntstrustedcerts")
        yield process
    finally:
        process.stop()


def start_clients(process: Process, folder: Path) -> tuple[subprocess.CompletedProcess[str], ...]:
    """The command lines that it prints, in a folder of the test's own."""
    found = re.search(r"ntske_client.py -c (\S+) -o \S+ (\S+) (\d+)", process.output())
    assert found is not None
    state = folder / "client.ini"
    exchange = processes.run("ntske_client.py", "-c", found[1], "-o", state, found[2], found[3])
    return exchange, processes.run("ntsts_client.py", "-f", state, "--timeout", "0.5", "--no-rekey")


def test_all_that_people_ask_for_is_there() -> None:
    assert set(DEMANDED) <= set(FAULTS)
    done = processes.run("nts_check.py", "misbehave", "--list")
    assert done.returncode == 0
    for name, fault in FAULTS.items():
        assert f"{name}\n" in done.stdout
        assert fault.expected.value in done.stdout


@pytest.mark.parametrize(("fault", "codes"), [("nak", (0, 21)), ("error-2", (16, 2)), ("expired-certificate", (13, 2))])
def test_our_clients_meet_the_fault(tmp_path: Path, fault: str, codes: tuple[int, int]) -> None:
    """With the command lines printed; each client is one line, and the end comes by itself."""
    with misbehaving(tmp_path, fault, "--count", 1, "--timeout", 60) as process:
        clients = start_clients(process, tmp_path)
        assert tuple(c.returncode for c in clients) == codes, clients
        assert process.popen.wait(20) == 0
    lines = [line for line in process.output().splitlines() if line.startswith("127.0.0.1:")]
    assert len(lines) == (2 if fault == "nak" else 1)
    assert "key exchange: " in lines[0]
    if fault == "nak":
        assert "TLSv1.3, 'localhost'; sent NTS Next Protocol Negotiation 0 + AEAD Algorithm Negotiation 15" in lines[0]
        assert lines[1].endswith("request of 228 octets: NTS, cookie opens, authentic, 0 placeholders")
    if fault == "expired-certificate":
        assert "no TLS handshake" in lines[0]
    assert not re.search(r"[0-9a-f]{32}", process.output())  # no key and no cookie


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_and_nothing_stays(tmp_path: Path, number: int) -> None:
    with misbehaving(tmp_path, "wrong-uid") as process:
        ca = re.search(r"ntstrustedcerts (\S+)", process.output())
        assert ca is not None
        assert Path(ca[1]).exists()
        assert process.stop(number) == 0
        assert not Path(ca[1]).parent.exists()
    assert "Traceback" not in process.output()


def test_ends_after_the_time_given_on_the_ports_given(tmp_path: Path) -> None:
    ke, ntp = processes.free_port(), processes.free_port(socket.SOCK_DGRAM)
    with misbehaving(tmp_path, "nak", "--timeout", "0.3", "--ke-port", ke, "--ntp-port", ntp) as process:
        assert process.popen.wait(20) == 0
    assert f"NTS-KE on TCP 127.0.0.1 port {ke}, NTP on UDP port {ntp}," in process.output()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), "no fault is called 'nonsense'"),
        ((), "required: FAULT"),
        (("nak", "--listen", "localhost"), "'localhost' is not an IP address"),
        (("nak", "--listen", "192.0.2.1"), "cannot listen"),
        (("nak", "--ke-port", "0"), "is not a port"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], words: str) -> None:
    done = processes.run("nts_check.py", "misbehave", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_fault() -> None:
    with pytest.raises(UnknownFault):
        find("nonsense")


@pytest.mark.parametrize(
    ("received", "words"),
    [
        (b"", "sent nothing"),
        (GOOD_REQUEST[:5], "5 octets, which are not a complete message"),
        (record(4, b"\0") + END, "octets: a list of 16-bit integers"),
        (GOOD_REQUEST, "End of Message"),
    ],
)
def test_whatever_a_client_sends_is_one_line(received: bytes, words: str) -> None:
    session = KeSession("127.0.0.1:4000", tls_version="TLSv1.3", server_name=b"\x1b[2J\xff", received=received)
    line = misbehave._session_line(session)
    assert words in line
    assert line.isprintable()


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (bytes([0x23]) + bytes(47), "request of 48 octets without NTS"),
        (b"", "request of 0 octets without NTS"),
        (bytes([0x23]) + bytes(47) + bytes([1, 4, 0, 36]) + bytes(32), "not all of NTS"),
    ],
)
def test_whatever_is_asked_of_the_time_server_is_one_line(packet: bytes, words: str) -> None:
    with NtpPeer() as peer:
        assert words in misbehave._request_line(NtpTalk(packet, ("127.0.0.1", 4000), peer))


def test_one_is_not_several() -> None:
    fields = ((FieldType.UNIQUE_IDENTIFIER, 32), (FieldType.COOKIE, 100), (FieldType.COOKIE_PLACEHOLDER, 100))
    packet = bytes([0x23]) + bytes(47) + b"".join(craft.field(kind, bytes(n)) for kind, n in fields)
    packet += craft.field(FieldType.AUTHENTICATOR, bytes(36))
    with NtpPeer() as peer:
        assert misbehave._request_line(NtpTalk(packet, ("127.0.0.1", 4000), peer)).endswith(", 1 placeholder")


def test_a_refusal_is_told_in_words(tmp_path: Path) -> None:
    with misbehaving(tmp_path, "alpn-refused", "--count", 1, "--timeout", 60) as process:
        start_clients(process, tmp_path)
        assert process.popen.wait(20) == 0
    assert process.output().splitlines()[-1].endswith("key exchange: no TLS handshake: ntske/1 refused")

# SPDX-License-Identifier: MIT
"""What the NTS-KE server's file for OpenSSL does, and that an operator's own takes its place."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from OpenSSL import SSL

from testkit.ke_sessions import own_server
from testkit.processes import ROOT, Suite, error_lines, run, running_suite
from testkit.raw_ke import GOOD_REQUEST, RawKe, client_context


@pytest.fixture(scope="module")
def suite(ke_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Both servers, with each loop of the key exchange in turn."""
    with running_suite(tmp_path_factory.mktemp("suite")) as running:
        yield running


OWN_FILE = ROOT / "nts/server/openssl.cnf"
MINIMAL = """openssl_conf = init
config_diagnostics = 1
[init]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
"""


def records_after_the_handshake(port: int) -> int:
    """How many TLS records the server sends to a client that asks once, until it closes."""
    tls, received = SSL.Connection(client_context(None), None), b""
    tls.set_connect_state()
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        while True:
            with contextlib.suppress(SSL.WantReadError):
                tls.do_handshake()
                break
            sock.sendall(tls.bio_read(1 << 16))
            tls.bio_write(sock.recv(1 << 16))
        sock.sendall(tls.bio_read(1 << 16))  # Finished: tickets would be the answer
        time.sleep(0.1)
        tls.send(GOOD_REQUEST)
        sock.sendall(tls.bio_read(1 << 16))
        while data := sock.recv(1 << 16):
            received += data
    count = 0
    while received:
        received = received[5 + int.from_bytes(received[3:5], "big") :]
        count += 1
    return count


def negotiated(port: int, suites: bytes = b"") -> tuple[str | None, str | None]:
    """The cipher suite and the group that a client of today's OpenSSL gets."""
    context = client_context(None)
    if suites:
        context.set_tls13_ciphersuites(suites)
    with RawKe(port, context=context) as peer:
        peer.handshake()
        return peer.tls.get_cipher_name(), peer.tls.get_group_name()


def test_no_session_ticket_is_sent(suite: Suite) -> None:
    """Response and close_notify are all there is."""
    assert records_after_the_handshake(suite.ke_port) == 2


@pytest.mark.parametrize("suite_name", ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
def test_the_fastest_cipher_suite_is_preferred_and_the_others_stay(suite: Suite, suite_name: str) -> None:
    assert negotiated(suite.ke_port)[0] == "TLS_AES_128_GCM_SHA256"
    assert negotiated(suite.ke_port, suite_name.encode() + b":TLS_AES_128_GCM_SHA256")[0] == "TLS_AES_128_GCM_SHA256"
    assert negotiated(suite.ke_port, suite_name.encode())[0] == suite_name


def test_the_operators_openssl_conf_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own.cnf"
    file.write_text(MINIMAL + "NumTickets = 1\nGroups = P-384\n")
    monkeypatch.setenv("OPENSSL_CONF", str(file))
    with own_server(tmp_path) as own:
        assert records_after_the_handshake(own.ke_port) == 3
        assert negotiated(own.ke_port) == ("TLS_AES_256_GCM_SHA384", "secp384r1")


def test_groups_in_a_copy_of_the_file_take_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As README has it: copy the file, edit the copy, set OPENSSL_CONF."""
    text = OWN_FILE.read_text()
    assert "\n#Groups = X25519:P-256\n" in text
    file = tmp_path / "copy.cnf"
    file.write_text(text.replace("\n#Groups", "\nGroups"))
    monkeypatch.setenv("OPENSSL_CONF", str(file))
    with own_server(tmp_path) as own:
        assert negotiated(own.ke_port) == ("TLS_AES_128_GCM_SHA256", "x25519")
        assert records_after_the_handshake(own.ke_port) == 2


def test_a_client_without_tcp_nodelay_does_not_wait(suite: Suite) -> None:
    """Its kernel keeps back the request until Finished is acknowledged, which a kernel may delay by 40 ms.

    A ticket would carry the acknowledgement. In each session all or nothing is lost, so the fastest of ten tells.
    """
    times = []
    for _ in range(10):
        with RawKe(suite.ke_port) as peer:  # does not set TCP_NODELAY, and sends Finished at once
            started = time.monotonic()
            peer.handshake().send(GOOD_REQUEST)
            assert peer.receive()
            times.append(time.monotonic() - started)
    assert min(times) < 0.03, times


SYSTEMS = {
    "Debian": "openssl_conf=openssl_init\n[openssl_init]\nssl_conf=ssl_sect\n[ssl_sect]\n"
    "system_default=system_default_sect\n[system_default_sect]\n",
    "Fedora": "openssl_conf=openssl_init\nconfig_diagnostics=1\n[openssl_init]\nssl_conf=ssl_module\n[ssl_module]\n"
    "system_default=crypto_policy\n[crypto_policy]\nNotForThisVersion = 1\n",
}


@pytest.mark.parametrize("system", [*SYSTEMS, None])
def test_the_systems_settings_stay_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str | None
) -> None:
    """Whatever the section is called there, and even if there is no such file."""
    theirs, ours = tmp_path / "system.cnf", tmp_path / "ours.cnf"
    if system:
        theirs.write_text(SYSTEMS[system] + "MinProtocol = TLSv1.2\nCiphersuites = TLS_CHACHA20_POLY1305_SHA256\n")
    ours.write_text(OWN_FILE.read_text().replace("/etc/ssl/openssl.cnf", str(theirs)))
    monkeypatch.setenv("OPENSSL_CONF", str(ours))
    with own_server(tmp_path) as own:
        expected = "TLS_CHACHA20_POLY1305_SHA256" if system else "TLS_AES_128_GCM_SHA256"
        assert negotiated(own.ke_port)[0] == expected
        assert records_after_the_handshake(own.ke_port) == 2


def test_a_bad_line_is_reported_if_the_file_asks_for_that(tmp_path: Path) -> None:
    file, own = tmp_path / "own.cnf", Suite(tmp_path)
    file.write_text(MINIMAL + "Groups = NoSuchGroup\n")
    done = run("ntske_server.py", own.ini, env={**os.environ, "OPENSSL_CONF": str(file)})
    assert "OpenSSL refuses its configuration: bad value" in error_lines(done, 2)[0]

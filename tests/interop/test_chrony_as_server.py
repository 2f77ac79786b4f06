# SPDX-License-Identifier: MIT
"""Our clients against chronyd as a server, and against its rotated keys."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nts.base.errors import ExitCode
from nts.check.peer import Authority
from nts.client import ke_session
from nts.client.state import ClientState
from nts.codec import ntp
from nts.codec.aead import Aead
from nts.protocol import ts_client
from nts.protocol.ts_client import AnswerKind
from testkit import chrony
from testkit.chrony import SANE, V4, V4_AND_V6, V6, Chronyd, unused
from testkit.processes import ask_udp, free_port, needs_v6, run

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("chronyd_can_run")]

CHRONY_COOKIES = {96, 100}  # octets; by version: chronyd seals its cookies with AES-GCM-SIV or AES-SIV-CMAC


# --- our clients against chronyd as a server -------------------------------------------------------------------------


@dataclass
class Server:
    """A chronyd that serves NTS, and a client.ini for it."""

    chronyd: Chronyd
    folder: Path
    ca: Path
    ke_port: int
    ntp_port: int

    def fetch(self, host: str, *arguments: object) -> Path:
        """A new client.ini by ntske_client.py; its text is in a file of the same name with .txt."""
        ini = self.folder / f"client{len(list(self.folder.glob('client*.ini')))}.ini"
        result = run("ntske_client.py", "-c", self.ca, "-o", ini, *arguments, host, self.ke_port)
        assert (result.returncode, result.stderr) == (ExitCode.OK, ""), result.stderr + self.chronyd.state()
        ini.with_suffix(".txt").write_text(result.stdout)
        return ini


@contextlib.contextmanager
def serving(path: Path, *lines: str) -> Iterator[Server]:
    authority = Authority(path)
    ke_port, ntp_port = free_port(), free_port(socket.SOCK_DGRAM)
    with chrony.running(path / "c", [*chrony.nts_server(authority, ke_port, ntp_port), *lines]) as chronyd:
        yield Server(chronyd, path, authority.ca, ke_port, ntp_port)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(unused(folder)) as running:
        yield running


@pytest.mark.parametrize("host", ["localhost", *V4_AND_V6])
def test_our_ke_client_agrees_with_chronyd(server: Server, host: str) -> None:
    ini = server.fetch(host, "--aead", "17,15", "--json")
    answer = json.loads(ini.with_suffix(".txt").read_text())
    assert answer["aead"] == {"id": 15, "name": "AEAD_AES_SIV_CMAC_256"}
    assert answer["cookies"]["count"] == 8
    (length,) = answer["cookies"]["lengths"]
    assert length in CHRONY_COOKIES
    assert answer["tls"]["version"] == "TLSv1.3"
    assert answer["ntp"]["port"] == server.ntp_port
    if host != "localhost":
        assert answer["ntp"]["server"] == host  # no Server Negotiation record: the address of the key exchange
    stored = ClientState(ini).load()
    assert (stored.keys.aead, stored.verify, len(stored.cookies)) == (Aead.AES_SIV_CMAC_256, True, 8)


def test_our_ke_client_shows_chronyds_records(server: Server) -> None:
    shown = server.fetch("localhost").with_suffix(".txt").read_text()
    assert "8 cookies and keys for AEAD_AES_SIV_CMAC_256" in shown
    lengths = list(map(int, re.findall(r"New Cookie for NTPv4 +<(\d+) octets>", shown)))
    assert len(lengths) == 8
    assert set(lengths) <= CHRONY_COOKIES
    assert re.search(rf"critical +7 NTPv4 Port Negotiation +{server.ntp_port}\n", shown)


def test_our_ke_client_refuses_chronyds_certificate_without_its_ca(server: Server, folder: Path) -> None:
    other = unused(folder)
    result = run("ntske_client.py", "-c", Authority(other).ca, "-o", other / "client.ini", "localhost", server.ke_port)
    assert result.returncode == ExitCode.CERTIFICATE
    assert not (other / "client.ini").exists()


@pytest.mark.parametrize("host", V4_AND_V6)
def test_our_time_client_takes_chronyds_time(server: Server, host: str) -> None:
    result = run("ntsts_client.py", "-f", server.fetch(host), "--json")
    assert (result.returncode, result.stderr) == (ExitCode.OK, "")
    answer = json.loads(result.stdout)
    assert (answer["server"], answer["stratum"], answer["authenticated"]) == (host, 1, True)
    assert answer["cookies"] == {"received": 1, "stock": 8}
    assert abs(answer["offset"]) < SANE


@pytest.mark.parametrize("host", V4_AND_V6)
def test_our_time_client_asks_chronyd_five_times_and_chronyd_counts_them_as_authenticated(
    server: Server, host: str
) -> None:
    ini = server.fetch(host)
    before = server.chronyd.serverstats()["Authenticated NTP packets"]
    result = run("ntsts_client.py", "-f", ini, "-n", 5, "-i", 0.05)
    assert (result.returncode, result.stderr) == (ExitCode.OK, "")
    *lines, summary, statistics = result.stdout.splitlines()
    assert len(lines) == 5
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z  offset [+-]", line) for line in lines)
    assert summary.startswith("5 queries, 5 answers; filtered offset ")
    assert statistics.startswith("loss 0%; offset min ")
    assert len(ClientState(ini).load().cookies) == 8
    assert server.chronyd.serverstats()["Authenticated NTP packets"] == before + 5


@pytest.mark.parametrize("lost", [1, 4, 7])
def test_one_query_to_chronyd_refills_the_stock(server: Server, lost: int) -> None:
    ini = server.fetch(V4)
    for _ in range(lost):
        ClientState(ini).take_cookie()
    result = run("ntsts_client.py", "-f", ini, "--json")
    assert (result.returncode, result.stderr) == (ExitCode.OK, "")
    assert json.loads(result.stdout)["cookies"] == {"received": lost + 1, "stock": 8}
    assert len(set(ClientState(ini).load().cookies)) == 8
    # The last of the fresh ones is as good as the first.
    assert run("ntsts_client.py", "-f", ini, "-n", 8, "-i", 0.02).returncode == ExitCode.OK


@pytest.mark.parametrize("octet", [0, 50], ids=["key identifier", "ciphertext"])
def test_a_damaged_cookie_gets_a_nak_from_chronyd(server: Server, octet: int) -> None:
    ini = server.fetch(V4)
    stored = configparser.ConfigParser()
    stored.read(ini)
    damaged = bytearray.fromhex(stored["cookies"]["0"])
    damaged[octet] ^= 1
    stored["cookies"]["0"] = damaged.hex()
    with ini.open("w") as f:
        stored.write(f)
    result = run("ntsts_client.py", "-f", ini, "--no-rekey")
    assert (result.returncode, result.stdout) == (ExitCode.NTS_NAK, "")
    assert "NTS NAK" in result.stderr
    assert "hint: " in result.stderr
    assert run("ntsts_client.py", "-f", ini).returncode == ExitCode.OK  # the other seven are good


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("host", V4_AND_V6)
def test_our_pure_code_judges_chronyds_answers(server: Server, host: str, count: int) -> None:
    offered = (Aead.AES_SIV_CMAC_512, Aead.AES_SIV_CMAC_256)
    result = ke_session.exchange(ke_session.Options(host, server.ke_port, offered, ca=server.ca))
    query = ts_client.build_query(result.keys[0], result.agreement.cookies[0], count, os.urandom)
    sent_ns = time.time_ns()
    datagram = ask_udp(server.ntp_port, query.packet, host=host)
    received_ns = time.time_ns()
    assert datagram is not None
    length = len(result.agreement.cookies[0])
    assert length in CHRONY_COOKIES
    assert len(datagram) == len(query.packet) == 128 + length + (4 + length) * count
    judgement = ts_client.judge(datagram, query)
    assert judgement.kind is AnswerKind.TIME, judgement
    assert [len(c) for c in judgement.cookies] == [length] * (1 + count)
    assert judgement.header is not None
    measured = ts_client.measure(judgement.header, sent_ns, received_ns)
    assert measured is not None
    assert abs(measured.offset) < SANE * ntp.NS
    other = ts_client.build_query(result.keys[0], result.agreement.cookies[1], count, os.urandom)
    assert ts_client.judge(datagram, other).kind is AnswerKind.MISMATCH


def test_our_client_follows_the_server_record_of_chronyd(folder: Path) -> None:
    with serving(unused(folder), "ntsntpserver localhost") as server:
        ini = server.fetch(V4, "-4")
        shown = ini.with_suffix(".txt").read_text()
        assert re.search(r"critical +6 NTPv4 Server Negotiation +localhost\n", shown)
        stored = ClientState(ini).load()
        assert (stored.server, stored.port) == ("localhost", server.ntp_port)
        result = run("ntsts_client.py", "-f", ini)
        assert (result.returncode, result.stderr) == (ExitCode.OK, "")


@needs_v6
def test_our_client_goes_where_the_server_record_of_chronyd_leads(folder: Path) -> None:
    with serving(unused(folder), f"ntsntpserver {V6}") as server:
        ini = server.fetch(V4)
        result = run("ntsts_client.py", "-f", ini, "--json")
        assert (result.returncode, result.stderr) == (ExitCode.OK, "")
        assert json.loads(result.stdout)["server"] == V6


# --- chronyd's own key rotation --------------------------------------------------------------------------------------


def chrony_keys(first: int, seed: int) -> str:
    """A file of chrony's server keys: two old ones, the current one and the next, as chrony 4.3 writes it.

    The two lowest bits of an identifier count, so that key n is the current one of a file and an old one of the next.
    """
    keys = [(n << 8 | n & 3, bytes([seed, n]) * 16) for n in range(first, first + 4)]
    return "NKS0\n15 0.0\n" + "".join(f"{i:08X} {key.hex().upper()}\n" for i, key in keys)


def test_stored_cookies_live_through_chronyds_rekey_and_get_a_nak_when_their_key_has_gone(folder: Path) -> None:
    path = unused(folder)
    dump = path / "d"
    dump.mkdir(mode=0o700)

    def install(first: int) -> None:
        """With ntsrotate 0 chronyd leaves its keys to whoever manages the file, and reads it when told to rekey."""
        new = dump / "new"
        new.write_text(chrony_keys(first, seed=7))
        new.chmod(0o600)
        new.replace(dump / "ntskeys")

    install(0)
    with serving(path, f"ntsdumpdir {dump}", "ntsrotate 0") as server:
        ini = server.fetch(V4)
        kept = path / "kept.ini"
        shutil.copy(ini, kept)
        current = {c[:4] for c in ClientState(ini).load().cookies}
        assert current == {bytes.fromhex("00000202")}  # the third of the file
        for first in (1, 2):  # the cookies of the key exchange are good until the third rotation
            install(first)
            server.chronyd.ask("rekey")
            result = run("ntsts_client.py", "-f", ini)
            assert (result.returncode, result.stderr) == (ExitCode.OK, "")
        newest = ClientState(ini).load().cookies[-1]
        assert newest[:4] == bytes.fromhex("00000400")
        install(3)
        server.chronyd.ask("rekey")
        assert run("ntsts_client.py", "-f", kept, "--no-rekey").returncode == ExitCode.NTS_NAK
        store = ClientState(ini)
        while store.load().cookies != (newest,):
            store.take_cookie()
        result = run("ntsts_client.py", "-f", ini, "--json")
        assert (result.returncode, result.stderr) == (ExitCode.OK, "")
        assert json.loads(result.stdout)["cookies"] == {"received": 8, "stock": 8}

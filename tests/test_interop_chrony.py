# SPDX-License-Identifier: MIT
"""Interoperability with chrony, both ways: chronyd as client of our servers, and our clients against chronyd.

A chronyd that failed once to get through a TLS handshake waits for 2**10 s, so our servers start first, always.
"""

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

from nts import certs, extensions, ke_session, ntp, ts_client
from nts.errors import ExitCode
from nts.ntp import Header
from nts.registry import KISS_NTSN, AeadId, FieldType
from nts.state import ClientState
from nts.ts_client import Verdict
from tests import chrony
from tests.chrony import Chronyd, Relay
from tests.support import V6_IF_ANY, Suite, ask_udp, free_port, needs_v6, run, running_suite

pytestmark = pytest.mark.interop

V4, V6, OTHER_V4 = "127.0.0.1", "::1", "127.0.0.2"
V4_AND_V6 = [V4, pytest.param(V6, marks=needs_v6)]
LOCAL_STRATUM = 10  # of our server by default
FAST = "iburst minpoll -3 maxpoll -3"  # eight polls a second: as many as there are cookies
STEADY = "iburst minpoll 0 maxpoll 0"  # one a second, so that eight cookies outlive a server's restart
SANE = 0.5  # seconds of offset; both ends read the same clock, on a machine that may be busy
PLAIN_REQUEST = 228  # octets: header 48, identifier 36, cookie 104, authenticator 40
PLACEHOLDER = 104  # octets, and as many for a cookie
CHRONY_COOKIES = {96, 100}  # octets; by version: chronyd seals its cookies with AES-GCM-SIV or AES-SIV-CMAC


@pytest.fixture(scope="module", autouse=True)
def _chronyd_can_run() -> None:
    chrony.require()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with chrony.short_folder() as path:
        yield path


def unused(folder: Path) -> Path:
    """A new folder in it, with a short name."""
    path = folder / str(len(list(folder.iterdir())))
    path.mkdir(mode=0o700)
    return path


# --- chronyd as a client of our servers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(suite: Suite, folder: Path) -> Iterator[Chronyd]:
    """A chronyd with our servers as its sources, by addresses, over IPv4 and, if there is any, IPv6."""
    addresses = [V4, *V6_IF_ANY]
    sources = [f"server {address} nts ntsport {suite.ke_port} {FAST}" for address in addresses]
    with chrony.running(unused(folder), [*chrony.nts_client(suite.ca), *sources]) as chronyd:
        yield chronyd


@pytest.fixture(scope="module")
def named_client(suite: Suite, folder: Path) -> Iterator[Chronyd]:
    """A chronyd with our servers as its source by name (-4, as it may resolve to both), and a plain source."""
    sources = [
        f"server localhost nts ntsport {suite.ke_port} {FAST}",
        f"server {OTHER_V4} port {suite.ntp_port} {FAST}",
    ]
    mixed = "authselectmode ignore"  # else a plain source counts for nothing beside one with NTS
    with chrony.running(unused(folder), [*chrony.nts_client(suite.ca), mixed, *sources], "-4") as chronyd:
        yield chronyd


def check_nts_source(chronyd: Chronyd, address: str) -> None:
    auth = chronyd.wait_for_nts(address)
    assert (auth.mode, auth.key_id, auth.type, auth.key_length) == ("NTS", 1, 15, 256)
    assert (auth.nak, auth.attempts, auth.cookie_length) == (0, 0, 100)
    # A poll spends a cookie and its answer brings one, so a look may fall between the two.
    chronyd.wait("a full stock of cookies", lambda: chronyd.authdata(address).cookies == 8)
    data = chronyd.ntpdata(address)
    assert (data["Authenticated"], data["Leap status"], data["Mode"]) == ("Yes", "Normal", "Server")
    assert (data["Version"], data["Stratum"]) == ("4", str(LOCAL_STRATUM))
    assert abs(float(data["Offset"].split()[0])) < SANE


@pytest.mark.parametrize("address", V4_AND_V6)
def test_chronyd_synchronises_to_our_server_by_address(client: Chronyd, address: str) -> None:
    check_nts_source(client, address)


def test_chronyd_synchronises_to_our_server_by_name(named_client: Chronyd) -> None:
    check_nts_source(named_client, V4)


@pytest.mark.parametrize("address", V4_AND_V6)
def test_chronyd_accepts_our_server_as_a_source(client: Chronyd, address: str) -> None:
    """A40."""
    client.wait("a selectable source", lambda: client.selectdata(address)[0] in "*+-D")
    assert client.selectdata(address)[1] == "Y"
    source = client.used_source(address)
    assert source.stratum == LOCAL_STRATUM
    assert source.reach & 1
    assert abs(source.offset) < SANE
    assert source.error < SANE


@pytest.mark.parametrize("name", ["client", "named_client"])
def test_chronyd_selects_our_server_and_would_serve_its_time(name: str, request: pytest.FixtureRequest) -> None:
    chronyd: Chronyd = request.getfixturevalue(name)
    chronyd.wait("a selection", lambda: chronyd.tracking()["Leap status"] == "Normal")
    tracking = chronyd.tracking()
    assert int(tracking["Stratum"]) == LOCAL_STRATUM + 1
    assert abs(float(tracking["System time"].split()[0])) < SANE
    assert any(f"({address})" in tracking["Reference ID"] for address in (V4, V6, OTHER_V4))


def test_chronyd_uses_our_server_without_nts(named_client: Chronyd) -> None:
    named_client.wait_for_answers(OTHER_V4)
    data = named_client.ntpdata(OTHER_V4)
    assert (data["Authenticated"], data["Stratum"], data["Leap status"]) == ("No", str(LOCAL_STRATUM), "Normal")
    assert named_client.authdata(OTHER_V4).mode == "-"
    source = named_client.used_source(OTHER_V4)
    assert source.reach & 1
    assert abs(source.offset) < SANE


# --- chronyd through a relay: what passes on the wire ----------------------------------------------------------------


@dataclass
class Wire:
    """A chronyd that our KE server sends to a relay on another address, which leads to our time server."""

    ke: Suite
    ts: Suite
    relay: Relay
    chronyd: Chronyd


@pytest.fixture
def wire(folder: Path) -> Iterator[Wire]:
    port = free_port(socket.SOCK_DGRAM)
    path = unused(folder)
    keys: dict[str, object] = {"master_keys_dir": path / "keys"}
    (path / "ke").mkdir()
    (path / "ts").mkdir()
    ke = Suite(path / "ke", ntp_port=port, options={"keys": keys, "ntpv4": {"server": OTHER_V4}})
    ts = Suite(path / "ts", options={"keys": keys})
    source = f"server {V4} nts ntsport {ke.ke_port} {FAST}"
    try:
        ke.start_ke()
        ts.start_ts()
        with (
            Relay(OTHER_V4, port, (V4, ts.ntp_port)) as relay,
            chrony.running(path / "c", [*chrony.nts_client(ke.ca), source]) as chronyd,
        ):
            chronyd.wait_for_nts(OTHER_V4)
            yield Wire(ke, ts, relay, chronyd)
    finally:
        ke.stop()
        ts.stop()


def placeholders(request: bytes) -> int:
    return sum(f.type == FieldType.COOKIE_PLACEHOLDER for f in extensions.walk(request)[0])


def test_chronyd_follows_server_and_port_records_and_every_answer_is_as_long_as_its_request(wire: Wire) -> None:
    # The source was 127.0.0.1: that 127.0.0.2 is reached shows that both records count.
    wire.chronyd.wait("answers to ordinary requests", lambda: len(wire.relay.packets) >= 20)
    assert wire.chronyd.ntpdata(OTHER_V4)["Remote port"] == str(wire.ke.ntp_port)
    packets = wire.relay.packets[:]
    assert PLAIN_REQUEST in {len(p.request) for p in packets}
    for packet in packets:
        assert packet.reply is not None
        assert len(packet.reply) == len(packet.request)
        assert len(packet.request) == PLAIN_REQUEST + PLACEHOLDER * placeholders(packet.request)


def test_chronyd_refills_its_cookies_through_placeholders_after_answers_were_lost(wire: Wire) -> None:
    before = wire.chronyd.authdata(OTHER_V4)
    seen = len(wire.relay.packets)
    wire.relay.lose = 3
    wire.chronyd.wait("three lost answers", lambda: not wire.relay.lose)
    wire.chronyd.wait_for_answers(OTHER_V4)
    wire.chronyd.wait("a full stock again", lambda: wire.chronyd.authdata(OTHER_V4).cookies == 8)
    later = wire.relay.packets[seen:]
    assert max(placeholders(p.request) for p in later) >= 3
    assert all(p.reply is not None and len(p.reply) == len(p.request) for p in later)
    after = wire.chronyd.authdata(OTHER_V4)
    assert (after.key_id, after.nak, after.attempts) == (before.key_id, 0, 0)


def test_chronyd_understands_our_nak_and_makes_a_new_key_exchange(wire: Wire) -> None:
    assert wire.chronyd.authdata(OTHER_V4).key_id == 1
    folder = wire.ke.folder.parent / "keys"
    old = list(folder.glob("*.key"))
    assert run("server_helper.py", wire.ke.ini).returncode == 0
    for path in old:
        path.unlink()
    # Its first retry after a success is not delayed, so this is a matter of one poll.
    wire.chronyd.wait("a second key exchange", lambda: wire.chronyd.authdata(OTHER_V4).key_id == 2)
    wire.chronyd.wait_for_answers(OTHER_V4)
    auth = wire.chronyd.authdata(OTHER_V4)
    assert (auth.key_id, auth.nak, auth.attempts, auth.cookie_length) == (2, 0, 0, 100)
    naks = [p for p in wire.relay.packets if p.reply and Header.decode(p.reply).reference_id == KISS_NTSN]
    assert naks
    for nak in naks:
        assert nak.reply is not None
        header, (fields, mac) = Header.decode(nak.reply), extensions.walk(nak.reply)
        asked = next(f for f in extensions.walk(nak.request)[0] if f.type == FieldType.UNIQUE_IDENTIFIER)
        assert (header.stratum, header.leap, mac, len(nak.reply)) == (0, 3, 0, 84)
        assert [(f.type, f.body) for f in fields] == [(FieldType.UNIQUE_IDENTIFIER, asked.body)]


# --- rotations and restarts -----------------------------------------------------------------------------------------


@dataclass
class Living:
    """Servers of our own, and a chronyd that is to live through what operators do to them."""

    suite: Suite
    conf: list[str]
    folder: Path
    chronyd: Chronyd

    @property
    def dump(self) -> Path:
        """The file of chronyd's cookies, of its format NNC0: one a line, in hex."""
        return self.folder / f"d/{V4}.nts"

    def key_ids(self) -> set[str]:
        """Under which master keys chronyd's cookies are: it saves them when told to."""
        self.chronyd.ask("dump")
        lines = self.dump.read_text().splitlines() if self.dump.exists() else []
        return {line[:4].lower() for line in lines if re.fullmatch(r"[0-9A-F]{200}", line)}

    def wait_for_key(self, key_id: str) -> None:
        self.chronyd.wait(f"all cookies under {key_id}", lambda: self.key_ids() == {key_id})


@contextlib.contextmanager
def living(path: Path, polls: str) -> Iterator[Living]:
    (path / "s").mkdir()
    with running_suite(path / "s") as suite, contextlib.ExitStack() as stack:
        source = f"server {V4} nts ntsport {suite.ke_port} {polls}"
        conf = [*chrony.nts_client(suite.ca, path / "d"), source]
        state = Living(suite, conf, path, Chronyd(path / "c", conf))
        stack.callback(lambda: state.chronyd.stop())  # whichever runs by then
        state.chronyd.wait_for_nts(V4)
        yield state


def sessions(suite: Suite) -> str:
    """Stop the KE server, and what it says of the key exchanges it has seen."""
    assert suite.ke is not None
    assert suite.ke.stop() == 0
    return suite.ke.output().rpartition("sessions: ")[2].strip()


def restart_ke(suite: Suite) -> str:
    """Stop and start the KE server; what it had seen until then."""
    seen = sessions(suite)
    (suite.folder / "ke.log").unlink()  # `start_ke` waits for a line that the old one wrote too
    suite.start_ke()
    return seen


def restart_ts(suite: Suite) -> None:
    assert suite.ts is not None
    assert suite.ts.stop() == 0
    (suite.folder / "ts.log").unlink()
    suite.start_ts()


def test_chronyd_lives_through_key_rotations_without_a_new_key_exchange(folder: Path) -> None:
    with living(unused(folder), FAST) as it:
        (first,) = it.key_ids()
        started, last = time.monotonic(), it.chronyd.authdata(V4).last or 0
        for _ in range(4):  # with max_keys = 3 the first key goes at the third
            rotated = run("server_helper.py", it.suite.ini)
            match = re.match(r"new master key ([0-9a-f]{4}) ", rotated.stdout)
            assert match, rotated.stderr
            it.wait_for_key(match[1])
            auth = it.chronyd.authdata(V4)
            assert (auth.key_id, auth.nak, auth.attempts) == (1, 0, 0)
        assert not (it.suite.keys / f"{first}.key").exists()
        it.chronyd.wait_for_answers(V4, 10)
        auth = it.chronyd.authdata(V4)
        assert (auth.key_id, auth.nak, auth.attempts, auth.cookie_length) == (1, 0, 0, 100)
        assert auth.last is not None
        assert auth.last >= last + int(time.monotonic() - started) - 2
        assert it.chronyd.source(V4).reach == 0o377
        assert sessions(it.suite) == "agreed 1"


def test_chronyd_goes_on_after_restarts_of_our_servers(folder: Path) -> None:
    with living(unused(folder), STEADY) as it:
        assert restart_ke(it.suite) == "agreed 1"
        restart_ts(it.suite)
        it.chronyd.wait_for_answers(V4)
        it.chronyd.wait("all cookies back", lambda: it.chronyd.authdata(V4).cookies == 8)
        auth = it.chronyd.authdata(V4)
        assert (auth.mode, auth.key_id, auth.nak, auth.attempts) == ("NTS", 1, 0, 0)
        assert it.chronyd.source(V4).reach & 0b11 == 0b11
        assert sessions(it.suite) == "none"


def test_chronyd_restarted_resumes_with_the_cookies_it_has_saved(folder: Path) -> None:
    with living(unused(folder), FAST) as it:
        assert sessions(it.suite) == "agreed 1"  # and stopped for good: there can be no other key exchange
        it.chronyd.stop()
        assert it.dump.exists()
        it.chronyd = Chronyd(it.folder / "c2", it.conf)
        auth = it.chronyd.wait_for_nts(V4)
        assert (auth.mode, auth.key_id, auth.type, auth.nak, auth.cookie_length) == ("NTS", 1, 15, 0, 100)
        assert auth.attempts == 0
        assert it.chronyd.ntpdata(V4)["Authenticated"] == "Yes"


# --- our clients against chronyd as a server -------------------------------------------------------------------------


@dataclass
class Server:
    """A chronyd that serves NTS, and a client.ini for it."""

    chronyd: Chronyd
    folder: Path
    ke_port: int
    ntp_port: int

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def fetch(self, host: str, *arguments: object) -> Path:
        """A new client.ini by ntske_client.py; its text is in a file of the same name with .txt."""
        ini = self.folder / f"client{len(list(self.folder.glob('client*.ini')))}.ini"
        result = run("ntske_client.py", "-c", self.ca, "-o", ini, *arguments, host, self.ke_port)
        assert (result.returncode, result.stderr) == (ExitCode.OK, ""), result.stderr + self.chronyd.state()
        ini.with_suffix(".txt").write_text(result.stdout)
        return ini


@contextlib.contextmanager
def serving(path: Path, *lines: str) -> Iterator[Server]:
    certs.make(certs.LOCAL_NAMES, cert=path / "cert.pem", key=path / "cert.key", ca=path / "ca.pem")
    ke_port, ntp_port = free_port(), free_port(socket.SOCK_DGRAM)
    with chrony.running(path / "c", [*chrony.nts_server(path, ke_port, ntp_port), *lines]) as chronyd:
        yield Server(chronyd, path, ke_port, ntp_port)


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
    assert (stored.keys.aead, stored.verify, len(stored.cookies)) == (AeadId.AES_SIV_CMAC_256, True, 8)


def test_our_ke_client_shows_chronyds_records(server: Server) -> None:
    shown = server.fetch("localhost").with_suffix(".txt").read_text()
    assert "8 cookies and keys for AEAD_AES_SIV_CMAC_256" in shown
    lengths = list(map(int, re.findall(r"New Cookie for NTPv4 +<(\d+) octets>", shown)))
    assert len(lengths) == 8
    assert set(lengths) <= CHRONY_COOKIES
    assert re.search(rf"critical +7 NTPv4 Port Negotiation +{server.ntp_port}\n", shown)


def test_our_ke_client_refuses_chronyds_certificate_without_its_ca(server: Server, folder: Path) -> None:
    other = unused(folder)
    certs.make(("localhost",), cert=other / "cert.pem", key=other / "cert.key", ca=other / "ca.pem")
    result = run("ntske_client.py", "-c", other / "ca.pem", "-o", other / "client.ini", "localhost", server.ke_port)
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
    *lines, summary = result.stdout.splitlines()
    assert len(lines) == 5
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z  offset [+-]", line) for line in lines)
    assert summary.startswith("5 queries, 5 answers; best offset ")
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
    result = run("ntsts_client.py", "-f", ini)
    assert (result.returncode, result.stdout) == (ExitCode.NTS_NAK, "")
    assert "NTS NAK" in result.stderr
    assert "hint: " in result.stderr
    assert run("ntsts_client.py", "-f", ini).returncode == ExitCode.OK  # the other seven are good


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("host", V4_AND_V6)
def test_our_pure_code_judges_chronyds_answers(server: Server, host: str, count: int) -> None:
    offered = (AeadId.AES_SIV_CMAC_512, AeadId.AES_SIV_CMAC_256)
    result = ke_session.exchange(ke_session.Options(host, server.ke_port, offered, ca=server.ca))
    query = ts_client.build_query(result.keys, result.agreement.cookies[0], count, os.urandom)
    sent_ns = time.time_ns()
    datagram = ask_udp(server.ntp_port, query.packet, host=host)
    received_ns = time.time_ns()
    assert datagram is not None
    length = len(result.agreement.cookies[0])
    assert length in CHRONY_COOKIES
    assert len(datagram) == len(query.packet) == 128 + length + (4 + length) * count
    judgement = ts_client.judge(datagram, query)
    assert judgement.verdict is Verdict.TIME, judgement
    assert [len(c) for c in judgement.cookies] == [length] * (1 + count)
    assert judgement.header is not None
    assert abs(ts_client.measure(judgement.header, sent_ns, received_ns).offset) < SANE * ntp.NS
    other = ts_client.build_query(result.keys, result.agreement.cookies[1], count, os.urandom)
    assert ts_client.judge(datagram, other).verdict is Verdict.MISMATCH


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
        assert run("ntsts_client.py", "-f", kept).returncode == ExitCode.NTS_NAK
        store = ClientState(ini)
        while store.load().cookies != (newest,):
            store.take_cookie()
        result = run("ntsts_client.py", "-f", ini, "--json")
        assert (result.returncode, result.stderr) == (ExitCode.OK, "")
        assert json.loads(result.stdout)["cookies"] == {"received": 8, "stock": 8}

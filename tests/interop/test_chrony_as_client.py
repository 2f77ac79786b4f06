# SPDX-License-Identifier: MIT
"""chronyd as a client of our servers: what it makes of them, what passes on the wire, rotations and restarts.

A chronyd that failed once to get through a TLS handshake waits for 2**10 s, so our servers start first, always.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nts.base.registry import KISS_NTSN, FieldType
from nts.codec import extensions
from nts.codec.ntp import Header
from testkit import chrony
from testkit.chrony import OTHER_V4, SANE, V4, V4_AND_V6, V6, Chronyd, unused
from testkit.processes import V6_IF_ANY, Suite, free_port, run, running_suite
from testkit.relay import Relay

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("chronyd_can_run")]

LOCAL_STRATUM = 10  # of our server by default
FAST = "iburst minpoll -3 maxpoll -3"  # eight polls a second: as many as there are cookies
STEADY = "iburst minpoll 0 maxpoll 0"  # one a second, so that eight cookies outlive a server's restart
PLAIN_REQUEST = 228  # octets: header 48, identifier 36, cookie 104, authenticator 40
PLACEHOLDER = 104  # octets, and as many for a cookie


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
            Relay((V4, ts.ntp_port), (OTHER_V4, port)) as relay,
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
    """Our servers, and a chronyd that must live through what operators do to them."""

    suite: Suite
    conf: list[str]
    folder: Path
    chronyd: Chronyd

    @property
    def dump(self) -> Path:
        """The file of chronyd's cookies, of its format NNC0: one a line, in hex."""
        return self.folder / f"d/{V4}.nts"

    def key_ids(self) -> set[str]:
        """The identifiers of the master keys of chronyd's cookies, which it saves when told to."""
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
    """Stop the KE server; return what it says about the key exchanges it has seen."""
    assert suite.ke is not None
    assert suite.ke.stop() == 0
    return suite.ke.output().rpartition("sessions: ")[2].strip()


def restart_ke(suite: Suite) -> str:
    """Restart the KE server; return what it had seen until then."""
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

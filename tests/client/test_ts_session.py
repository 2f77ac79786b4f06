# SPDX-License-Identifier: MIT
"""One query: what the network says of a server does not outweigh the server's own answer."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import pytest

from nts.base.errors import NoAnswer, NoCookies, ResolveError, UnusableServer
from nts.base.registry import FieldType
from nts.check.peer import NtpBehaviour, NtpPeer, NtpTalk
from nts.check.peer.ntp import sound
from nts.client import ts_session
from nts.client.state import Association, ClientState
from nts.client.ts_session import Attempt, Reception
from nts.codec import cookies
from nts.codec.aead import Aead, SessionKeys
from nts.codec.keyring import KeyRing
from nts.protocol import ts_client, ts_server
from nts.protocol.ts_server import SystemVariables
from nts.system import addresses, clock
from nts.system.addresses import Endpoint
from testkit import processes
from testkit.packets import RING

KEYS = SessionKeys(Aead.AES_SIV_CMAC_256, bytes(32), bytes(range(32)))


class Failing(socket.socket):
    """A socket whose first reading raises `error`."""

    error: OSError | None = ConnectionRefusedError(111, "Connection refused")

    def recvmsg(self, *arguments: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        if self.error and len(arguments) < 3:  # not the error queue, where timestamps are
            error, self.error = self.error, None
            raise error
        return super().recvmsg(*arguments)


@pytest.fixture
def attempt(ring: KeyRing, server: socket.socket) -> Attempt:
    assert ring.current is not None
    cookie = cookies.seal(ring.current, (KEYS,), bytes(16))
    endpoint = Endpoint(socket.AF_INET, server.getsockname())
    return Attempt(endpoint, ts_client.build_query(KEYS, cookie, 0, os.urandom))


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def answer(server: socket.socket, ring: KeyRing, client: tuple[str, int], request: bytes) -> None:
    system = SystemVariables()
    now = clock.now()
    outcome = ts_server.respond(request, keys=ring, system=system, received=now, now=clock.now, random=os.urandom)
    assert outcome.reply is not None
    server.sendto(outcome.reply, client)


def make(attempt: Attempt, client: Failing, server: socket.socket, ring: KeyRing, grace: float) -> None:
    """What `ts_session.query` does, with this socket and a server that answers at once."""
    with mock.patch.object(socket, "socket", return_value=client), Reception(attempt, 5, grace) as reception:
        request, sender = server.recvfrom(2000)
        answer(server, ring, sender, request)
        while (left := reception.left()) > 0 and select.select([reception], [], [], left)[0]:
            reception.receive()


def test_a_genuine_answer_counts_though_an_icmp_error_came_first(
    attempt: Attempt, server: socket.socket, ring: KeyRing
) -> None:
    """An ICMP error is unprotected: anybody can send one (A72)."""
    make(attempt, Failing(socket.AF_INET, socket.SOCK_DGRAM), server, ring, 1)
    assert attempt.refused
    assert attempt.answer is not None


def test_a_datagram_with_a_bad_checksum_does_not_end_the_wait(
    attempt: Attempt, server: socket.socket, ring: KeyRing
) -> None:
    """select() reports such a datagram, then the kernel drops it and reading would block (A72)."""
    client = Failing(socket.AF_INET, socket.SOCK_DGRAM)
    client.error = BlockingIOError(11, "Resource temporarily unavailable")
    make(attempt, client, server, ring, 0)
    assert not attempt.refused
    assert attempt.answer is not None


def test_without_an_answer_the_icmp_error_is_what_is_reported(attempt: Attempt, server: socket.socket) -> None:
    server.close()
    started = time.monotonic()
    ts_session.query(attempt, 20)
    assert attempt.answer is None
    assert attempt.refused == "Connection refused"
    assert ts_session.NAK_GRACE <= time.monotonic() - started < 10


def test_a_family_that_the_kernel_lacks_is_a_missing_answer(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*_arguments: object) -> socket.socket:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", no_socket)
    ts_session.query(attempt, 1)
    assert attempt.refused == "Address family not supported by protocol"


# --- several addresses, two pairs of keys ----------------------------------------------------------------------------

GCM_KEYS = tuple(SessionKeys(Aead.AES_128_GCM_SIV, bytes([n]) * 16, bytes([n + 1]) * 16) for n in (1, 3))


def stored(
    folder: Path, keys: Sequence[SessionKeys] = (KEYS,), right: int = 0, *, server: str = "localhost",
    port: int = 4123, verify: bool = True,
) -> ClientState:  # fmt: skip
    """A client.ini with these pairs of keys and eight cookies, which hold the right one."""
    assert RING.current is not None
    made = tuple(cookies.seal(RING.current, (keys[right],), os.urandom(16)) for _ in range(8))
    store = ClientState(folder / "client.ini")
    other = keys[1] if len(keys) > 1 else None
    store.save(Association("h", 4460, "", verify, server, port, keys[0], made, other_keys=other))
    return store


def endpoint_of(peer: NtpPeer) -> Endpoint:
    return Endpoint(socket.AF_INET, ("127.0.0.1", peer.port))


class Fixed(ts_session.Route):
    """A way to these addresses, whatever client.ini says."""

    def __init__(self, *endpoints: Endpoint) -> None:
        super().__init__()
        self._endpoints = list(endpoints)

    def endpoints(self, association: Association) -> list[Endpoint]:
        return list(self._endpoints)


SILENT = NtpBehaviour(lambda talk: [])


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "is silent"])
def test_another_address_is_asked_when_the_first_one(silent: bool, tmp_path: Path) -> None:
    """With another cookie, and in a share of the time."""
    store = stored(tmp_path)
    with (
        NtpPeer(ring=RING) as right,
        NtpPeer(SILENT) as mute,
        processes.closed_udp_port() as shut,
    ):
        first = endpoint_of(mute) if silent else Endpoint(socket.AF_INET, ("127.0.0.1", shut))
        started = time.monotonic()
        exchange = ts_session.ask(store, Fixed(first, endpoint_of(right)), 1.0)
        assert exchange.answer is not None
        assert exchange.failure is None
        assert exchange.answer.endpoint == endpoint_of(right)
        assert time.monotonic() - started < (5 if silent else ts_session.NAK_GRACE)
    spent = [t.body(FieldType.COOKIE) for t in (*mute.requests, *right.requests)]
    assert len(set(spent)) == len(spent) == (2 if silent else 1)
    assert exchange.stock == 8


def test_an_icmp_error_leaves_each_address_a_moment(tmp_path: Path) -> None:
    """A72: anybody can send one, so it must not be enough to have a sound server skipped."""
    with processes.closed_udp_port() as one, NtpPeer(ring=RING) as right:
        started = time.monotonic()
        route = Fixed(Endpoint(socket.AF_INET, ("127.0.0.1", one)), endpoint_of(right))
        store = stored(tmp_path)
        exchange = ts_session.ask(store, route, 20)
        assert [a.refused for a in exchange.attempts] == ["Connection refused", ""]
        assert ts_session.REFUSAL_GRACE <= time.monotonic() - started < 10
        assert route.endpoints(store.load())[0] == endpoint_of(right), "the one that answered is first now"
        assert len(ts_session.ask(store, route, 20).attempts) == 1


def test_another_address_is_asked_when_the_first_one_is_not_synchronised(tmp_path: Path) -> None:
    """B12: and its cookies are kept."""
    behaviour = NtpBehaviour(lambda talk: [talk.time(header=talk.header(leap=3))])
    with NtpPeer(behaviour, ring=RING) as wrong, NtpPeer(ring=RING) as right:
        exchange = ts_session.ask(stored(tmp_path), Fixed(endpoint_of(wrong), endpoint_of(right)), 20)
        assert exchange.answer is not None
        assert exchange.answer.endpoint == endpoint_of(right)
        alone = ts_session.ask(stored(tmp_path), Fixed(endpoint_of(wrong), endpoint_of(wrong)), 20)
    assert exchange.stock == 8
    assert isinstance(alone.failure, UnusableServer)
    assert len(alone.attempts) == 2


def test_timestamps_that_contradict_the_clock_give_no_time(tmp_path: Path) -> None:
    """The server claims to have worked for a second on an answer that was there at once."""

    def boast(talk: NtpTalk) -> list[bytes | float]:
        now = clock.now()
        return [talk.time(header=talk.header(receive=now, transmit=now + 2**32))]

    with NtpPeer(NtpBehaviour(boast), ring=RING) as server:
        exchange = ts_session.ask(stored(tmp_path), Fixed(endpoint_of(server)), 20)
    assert isinstance(exchange.failure, UnusableServer)
    assert "contradict our clock" in str(exchange.failure)
    assert exchange.stock == 8


def test_after_a_key_exchange_cookies_go_to_the_server_that_made_them(tmp_path: Path) -> None:
    """A63: in the middle of a series, another process stores keys, cookies and address of another server."""
    with NtpPeer(ring=RING) as one, NtpPeer(ring=RING) as two:
        store, route = stored(tmp_path, port=one.port), ts_session.Route(family=socket.AF_INET)
        assert ts_session.ask(store, route, 20).association.verify
        later = stored(tmp_path, (SessionKeys(KEYS.aead, bytes(32), bytes(32)),), port=two.port, verify=False)
        of_two = later.load().cookies
        exchange = ts_session.ask(store, route, 20)
        assert exchange.answer is not None
        assert not exchange.association.verify
        assert two.spent() == [of_two[0]]
        assert len(one.requests) == 1
        ts_session.ask(store, ts_session.Route(port=one.port, family=socket.AF_INET), 20)
        assert len(one.requests) == 2, "what the command line says counts"


def test_a_key_exchange_between_look_up_and_cookie_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A63: what counts is the association that the cookie is from."""
    with NtpPeer(ring=RING) as one, NtpPeer(ring=RING) as two:
        store = stored(tmp_path, port=one.port)
        take_cookie = store.take_cookie

        def exchange_keys_first() -> tuple[Association, bytes]:
            stored(tmp_path, (SessionKeys(KEYS.aead, bytes(32), bytes(32)),), port=two.port)
            return take_cookie()

        monkeypatch.setattr(store, "take_cookie", exchange_keys_first)
        assert ts_session.ask(store, ts_session.Route(family=socket.AF_INET), 20).answer is not None
        assert (len(one.requests), len(two.requests)) == (0, 1)


def test_an_algorithm_that_does_not_work_costs_no_cookie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(tmp_path)
    monkeypatch.setenv("AES_SIV_BACKEND", "abacus")  # in a process of its own: the backend is chosen once
    done = processes.run("ntsts_client.py", "-f", store.path)
    processes.one_error(done, 1, "AES_SIV_BACKEND names a backend")
    assert len(store.load().cookies) == 8


def test_a_name_that_is_only_in_the_hosts_file_is_explained(tmp_path: Path) -> None:
    """A32."""
    store = stored(tmp_path, server="time.invalid")
    with pytest.raises(ResolveError, match=r"cannot resolve time\.invalid\.:") as caught:
        ts_session.ask(store, ts_session.Route(), 5)
    assert "hosts files" in str(caught.value.hint)
    with pytest.raises(ResolveError) as caught:
        ts_session.ask(store, ts_session.Route("time.invalid"), 5)
    assert "hosts files" not in str(caught.value.hint)
    assert len(store.load().cookies) == 8


def test_when_all_addresses_fail_the_error_names_them_all(tmp_path: Path) -> None:
    with processes.closed_udp_port() as one, processes.closed_udp_port() as two:
        ends = [Endpoint(socket.AF_INET, ("127.0.0.1", port)) for port in (one, two)]
        exchange = ts_session.ask(stored(tmp_path), Fixed(*ends), 5)
    assert isinstance(exchange.failure, NoAnswer)
    refused = "; ".join(f"127.0.0.1:{port}: Connection refused" for port in (one, two))
    assert str(exchange.failure) == f"no NTP answer from {refused}"


def test_the_last_cookie_is_not_missed_when_it_was_spent_on_the_first_address(tmp_path: Path) -> None:
    """What is reported then is what came of it."""
    store = stored(tmp_path)
    for _ in range(7):
        store.take_cookie()
    with processes.closed_udp_port() as one:
        end = Endpoint(socket.AF_INET, ("127.0.0.1", one))
        assert isinstance(ts_session.ask(store, Fixed(end, end), 5).failure, NoAnswer)
        with pytest.raises(NoCookies):
            ts_session.ask(store, Fixed(end, end), 5)


@pytest.mark.parametrize(("right", "context"), [(0, 30), (1, 15)])
def test_the_client_finds_out_which_exporter_context_the_server_uses(right: int, context: int, tmp_path: Path) -> None:
    """A40: after a NAK to the first pair of keys it tries the second one, and keeps the right one."""
    store = stored(tmp_path, GCM_KEYS, right)
    with NtpPeer(ring=RING) as server:
        exchange = ts_session.ask(store, Fixed(endpoint_of(server)), 5)
        assert exchange.answer is not None
        assert (len(exchange.attempts), exchange.context, exchange.stock) == (1 + right, context, 8)
        assert (store.load().keys, store.load().other_keys) == (GCM_KEYS[right], None)
        assert ts_session.ask(store, Fixed(endpoint_of(server)), 5).context is None


@pytest.mark.parametrize("timeout", [0.5, 1.0])
@pytest.mark.parametrize("silent", [False, True], ids=["NAK", "silence"])
def test_the_second_pair_of_keys_has_its_turn_however_short_the_time(
    silent: bool, timeout: float, tmp_path: Path
) -> None:
    """A40: also when the first try brought nothing at all."""

    def answer(talk: NtpTalk) -> Iterable[bytes | float]:
        return [] if silent and len(talk.requests) == 1 else sound(talk)

    store = stored(tmp_path, GCM_KEYS, 1)
    with NtpPeer(NtpBehaviour(answer), ring=RING) as server:
        exchange = ts_session.ask(store, Fixed(endpoint_of(server)), timeout)
    assert exchange.answer is not None
    assert (len(exchange.attempts), exchange.context) == (2, 15)


def test_a_link_local_peer_keeps_its_zone() -> None:
    """The time server is at the same address, which is nowhere without the zone."""
    index = socket.if_nametoindex("lo")
    assert addresses.numeric_host(("fe80::1", 4460, 0, index)) == "fe80::1%lo"
    assert addresses.numeric_host(("::1", 4460, 0, 0)) == "::1"
    assert addresses.numeric_host(("127.0.0.1", 4460)) == "127.0.0.1"

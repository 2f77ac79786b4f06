# SPDX-License-Identifier: MIT
"""The library, blocking and for asyncio alike: answers, errors, and when a client makes another key exchange."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

import nts
from nts.check.peer import Authority, NtpTalk, Pair, pair
from nts.check.peer.craft import random_cookies
from nts.check.peer.ntp import sound
from testkit.processes import Suite, eventually

WAYS = (nts, nts.aio)
NO_TIME = 0.3  # seconds


@pytest.fixture
def peers(authority: Authority) -> Iterator[Pair]:
    """Servers that tests can look into."""
    with pair(authority=authority) as running:
        yield running


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.run_until_complete(made.shutdown_default_executor())
    made.close()


class Way:
    """Calls the library one way or the other."""

    def __init__(self, module: Any, loop: asyncio.AbstractEventLoop, peers: Pair) -> None:
        self.module, self._loop, self._peers = module, loop, peers

    def run(self, value: Any) -> Any:
        """What was returned, or what it amounts to if it was a coroutine."""
        return self._loop.run_until_complete(value) if inspect.isawaitable(value) else value

    def fetch(self, **options: Any) -> Any:
        options = {"ca": self._peers.authority.ca, **options}
        return self.run(self.module.key_exchange("127.0.0.1", self._peers.ke.port, **options))

    def query(self, association: nts.Association, timeout: float = 5) -> Any:
        return self.run(self.module.query(association, timeout=timeout))

    def client(self, **options: Any) -> Any:
        return self.module.Client("127.0.0.1", self._peers.ke.port, ca=self._peers.authority.ca, **options)

    def ask(self, client: Any) -> Any:
        return self.run(client.query())


@pytest.fixture(params=WAYS, ids=lambda m: m.__name__)
def way(request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop, peers: Pair) -> Way:
    return Way(request.param, loop, peers)


def nak(talk: NtpTalk) -> Iterable[bytes | float]:
    return [talk.kiss()]


def silent(talk: NtpTalk) -> Iterable[bytes | float]:
    return []


def forged(talk: NtpTalk) -> Iterable[bytes | float]:
    reply = talk.time()
    return [reply[:-1] + bytes([reply[-1] ^ 1])]


# --- an association ---------------------------------------------------------------------------------------------------


def test_an_association_gives_the_time_and_keeps_its_stock(way: Way, peers: Pair) -> None:
    association = way.fetch()
    assert (association.server, association.port) == ("127.0.0.1", peers.ntp.port)
    assert (association.aead, association.cookies) == (15, 8)
    answers = [way.query(association) for _ in range(9)]
    for answer in answers:
        assert abs(answer.offset) <= answer.error < 1
        assert 0 <= answer.delay < 1
        assert abs((answer.time - datetime.now(timezone.utc)).total_seconds()) < 60
        assert (answer.address, answer.port) == ("127.0.0.1", peers.ntp.port)
        assert (1 <= answer.stratum <= 15, answer.leap) == (True, 0)
    assert association.cookies == 8
    assert len(set(peers.ntp.spent())) == 9
    assert len(peers.ke.sessions) == 1


def test_algorithms_are_offered_as_asked_for(way: Way) -> None:
    association = way.fetch(aeads=[17])
    assert association.aead == 17
    assert way.query(association)
    for wrong in ([], [99]):
        with pytest.raises(ValueError, match=r"AEAD|Aead"):
            way.fetch(aeads=wrong)


def test_an_untrusted_certificate_is_refused(way: Way) -> None:
    with pytest.raises(nts.errors.CertificateError, match="no trusted CA"):
        way.fetch(ca=None)
    with pytest.raises(nts.errors.CertificateError, match=r"not for other\.example"):
        way.fetch(verify_name="other.example")


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [(silent, nts.errors.NoAnswer), (nak, nts.errors.NtsNak), (forged, nts.errors.NotAuthentic)],
)
def test_without_an_authentic_answer_a_query_says_why(way: Way, peers: Pair, behaviour: Any, error: type) -> None:
    association = way.fetch()
    peers.ntp.behave(answer=behaviour)
    with pytest.raises(error) as caught:
        way.query(association, timeout=NO_TIME)
    assert isinstance(caught.value, nts.errors.NTSError)
    assert association.cookies == 7


def test_a_query_without_cookies_sends_nothing(way: Way, peers: Pair) -> None:
    association = way.fetch()
    peers.ntp.behave(answer=silent)
    for _ in range(8):
        with pytest.raises(nts.errors.NoAnswer):
            way.query(association, timeout=0.05)
    with pytest.raises(nts.errors.NoCookies):
        way.query(association)
    assert eventually(lambda: len(peers.ntp.requests) >= 8 and peers.ntp.is_idle)
    assert len(peers.ntp.requests) == 8


def test_no_representation_shows_a_secret(way: Way) -> None:
    client = way.client()
    way.ask(client)
    association = client.association
    content = association._store.load()
    shown = f"{client!r}{association!r}{association}"
    for secret in (content.keys.c2s, content.keys.s2c, *content.cookies):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    assert repr(association) in repr(client)


# --- a client that lives ----------------------------------------------------------------------------------------------


def test_a_client_keeps_its_association(way: Way, peers: Pair) -> None:
    client = way.client()
    assert client.association is None
    for _ in range(10):
        way.ask(client)
    assert len(peers.ke.sessions) == 1


def test_an_empty_stock_leads_to_a_key_exchange(way: Way, peers: Pair) -> None:
    client = way.client(timeout=0.1)
    way.ask(client)
    peers.ntp.behave(answer=silent)
    for _ in range(8):
        with pytest.raises(nts.errors.NoAnswer):
            way.ask(client)
    peers.ntp.behave(answer=sound)
    client.timeout = 5.0
    assert way.ask(client)
    assert len(peers.ke.sessions) == 2


def test_a_second_nts_nak_leads_to_a_key_exchange(way: Way, peers: Pair) -> None:
    """A76: the first one may be forged."""
    client = way.client()
    way.ask(client)
    before, old = client.association, peers.ntp.spent()
    for _ in range(2):  # an answer in between: nothing follows from the first
        peers.ntp.behave(answer=lambda talk: sound(talk) if len(peers.ke.sessions) > 1 else nak(talk))
        with pytest.raises(nts.errors.NtsNak):
            way.ask(client)
        peers.ntp.behave(answer=sound)
        assert way.ask(client)
    assert (client.association, len(peers.ke.sessions)) == (before, 1)
    peers.ntp.behave(answer=lambda talk: sound(talk) if len(peers.ke.sessions) > 1 else nak(talk))
    with pytest.raises(nts.errors.NtsNak):
        way.ask(client)
    assert way.ask(client)
    assert client.association is not before
    assert len(peers.ke.sessions) == 2
    assert not set(old) & set(peers.ntp.spent()[len(old) :])


def test_a_server_that_only_naks_is_not_asked_for_keys_in_a_loop(way: Way, peers: Pair) -> None:
    """A38, A78: a key exchange that led to no answer counts as failed."""
    client = way.client()
    peers.ntp.behave(answer=nak)
    for _ in range(3):
        with pytest.raises(nts.errors.NtsNak):
            way.ask(client)
    assert len(peers.ke.sessions) == 1
    client._due = 0.0  # time has passed
    peers.ntp.behave(answer=lambda talk: sound(talk) if len(peers.ke.sessions) > 1 else nak(talk))
    assert way.ask(client)


def test_a_failed_key_exchange_is_not_repeated_at_once(way: Way, peers: Pair) -> None:
    """A38: the failure is told again instead."""
    client = way.client()
    client.verify_name = "other.example"
    for _ in range(3):
        with pytest.raises(nts.errors.CertificateError, match=r"not for other\.example"):
            way.ask(client)
    assert len(peers.ke.sessions) == 1


def test_the_pause_grows_until_there_is_an_answer(way: Way, peers: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A38: min(10 * 1.5**(n - 1), 432000) seconds."""
    now, tries = 1000.0, []

    def failed(*_: object, **_options: object) -> nts.Association:
        tries.append(now)
        raise nts.errors.ConnectError("nobody there")

    monkeypatch.setattr("nts.api.key_exchange", failed)
    monkeypatch.setattr("nts.api.time", SimpleNamespace(monotonic=lambda: now))
    client = way.client()
    for _ in range(1000):
        with pytest.raises(nts.errors.ConnectError):
            way.ask(client)
        now += 0.25
    assert tries == [1000, 1010, 1025, 1047.5, 1081.25, 1132, 1208]
    client._answered()
    assert (client._vain, client._due) == (0, 0)


# --- concurrency ------------------------------------------------------------------------------------------------------


def test_threads_may_share_a_client(peers: Pair) -> None:
    client = nts.Client("127.0.0.1", peers.ke.port, ca=peers.authority.ca)
    answers: list[nts.Answer] = []

    def ask() -> None:
        answers.extend(client.query() for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 20
    assert len(set(peers.ntp.spent())) == 20
    assert len(peers.ke.sessions) == 1


def test_queries_on_an_event_loop_wait_together(peers: Pair, loop: asyncio.AbstractEventLoop) -> None:
    way = Way(nts.aio, loop, peers)
    associations = [way.fetch() for _ in range(10)]
    peers.ntp.behave(answer=silent)

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(nts.aio.query(a, timeout=1) for a in associations), return_exceptions=True)

    started = time.monotonic()
    outcomes = loop.run_until_complete(all_at_once())
    assert time.monotonic() - started < 5
    assert {type(o) for o in outcomes} == {nts.errors.NoAnswer}


def test_a_query_can_be_cancelled(peers: Pair, loop: asyncio.AbstractEventLoop) -> None:
    """And leaves no open socket: pytest would report it as a ResourceWarning."""
    way = Way(nts.aio, loop, peers)
    association = way.fetch()
    peers.ntp.behave(answer=silent)
    started = time.monotonic()
    with pytest.raises(asyncio.TimeoutError):
        way.run(asyncio.wait_for(nts.aio.query(association, timeout=60), 0.2))
    assert time.monotonic() - started < 5
    peers.ntp.behave(answer=sound)
    assert way.query(association)


def test_a_busy_event_loop_does_not_spoil_the_measurement(peers: Pair, loop: asyncio.AbstractEventLoop) -> None:
    """The kernel notes when a datagram leaves and arrives."""
    association = Way(nts.aio, loop, peers).fetch()

    async def ask_while_busy() -> nts.Answer:
        asyncio.get_running_loop().call_later(0.001, time.sleep, 0.3)
        asked = asyncio.ensure_future(nts.aio.query(association))
        return await asked

    peers.ntp.behave(answer=lambda talk: [0.05, *sound(talk)])
    answer = loop.run_until_complete(ask_while_busy())
    assert answer.delay < 0.2


def test_the_answer_of_a_real_server(suite: Suite) -> None:
    client = nts.Client("localhost", suite.ke_port, ca=suite.ca)
    answer = client.query()
    assert abs(answer.offset) <= answer.error
    assert answer.port == suite.ntp_port


def test_the_stock_is_refilled_after_losses(way: Way, peers: Pair) -> None:
    association = way.fetch()
    peers.ntp.behave(answer=silent)
    for _ in range(3):
        with pytest.raises(nts.errors.NoAnswer):
            way.query(association, timeout=0.05)
    peers.ntp.behave(answer=sound)
    way.query(association)
    assert association.cookies == 8


def test_a_client_gets_new_cookies_when_our_server_refuses_the_old_ones(suite: Suite) -> None:
    client = nts.Client("localhost", suite.ke_port, ca=suite.ca)
    client.query()
    assert client.association is not None
    store = client.association._store
    store._association = replace(store.load(), cookies=tuple(random_cookies()))
    refused = client.association
    with pytest.raises(nts.errors.NtsNak):
        client.query()
    assert client.association is refused
    client.query()
    assert client.association is not refused

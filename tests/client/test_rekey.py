# SPDX-License-Identifier: MIT
"""The time client does a new key exchange by itself: when it must, as the first one was, and not too often."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.base.errors import NoCookies, NtsNak
from nts.base.registry import FieldType
from nts.client import rekey, ts_session
from nts.client.state import ClientState
from nts.codec import extensions
from nts.protocol import ke_client
from nts.server import keystore
from nts.system import certs
from testkit import processes
from testkit.ke_sessions import server_of
from testkit.processes import ROOT, Suite, running_suite
from testkit.relay import Relay

QUICK = ("-i", "0.05")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Suite]:
    """Both servers, and a client.ini from a first key exchange."""
    with running_suite(tmp_path, keys={"max_keys": 9}) as suite:
        assert suite.fetch().returncode == 0
        yield suite


def key_exchanges(suite: Suite) -> int:
    """How many have succeeded so far."""
    process = server_of(suite)
    before = process.output().count("sessions: ")
    process.popen.send_signal(signal.SIGUSR1)
    assert processes.eventually(lambda: process.output().count("sessions: ") > before)
    return sum(map(int, re.findall(r"agreed (\d+)", process.output().rpartition("sessions: ")[2])))


def forget_keys(suite: Suite) -> None:
    """The servers lose the keys of all cookies and get another one, at the same instant: none bridges the gap."""
    new, old = (suite.folder / f"{name}-{time.monotonic_ns()}" for name in ("new", "old"))
    keystore.ensure_key(new, 9, os.urandom)
    suite.keys.rename(old)
    new.rename(suite.keys)


def edit(path: Path, **options: str) -> None:
    """Set options of [ntske]."""
    text = path.read_text()
    for name, value in options.items():
        text = re.sub(rf"(?m)^{name} = .*\n", "", text).replace("[ntske]\n", f"[ntske]\n{name} = {value}\n")
    path.write_text(text)


def empty_stock(path: Path) -> None:
    path.write_text(re.sub(r"(?m)^[0-7] = .*\n", "", path.read_text()))


def test_no_cookies_left(own: Suite) -> None:
    empty_stock(own.client_ini)
    done = own.ask()
    assert done.returncode == 0, done.stderr
    assert "no cookies left in" in done.stderr
    assert "there was a new key exchange with localhost" in done.stderr
    assert key_exchanges(own) == 2
    assert len(ClientState(own.client_ini).load().cookies) == 8


def test_cookies_that_the_server_refuses_twice(own: Suite) -> None:
    """A76: not before the next poll has been refused too."""
    forget_keys(own)
    started = time.monotonic()
    done = own.ask("-i", "1")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started > 3, "the grace of each NTS NAK, and the pause"
    assert "answered with an NTS NAK: it did not accept our cookie or our request; asking again in 1 s" in done.stderr
    assert key_exchanges(own) == 2
    association = ClientState(own.client_ini).load()
    assert (association.attempts, association.not_before, len(association.cookies)) == (0, 0, 8)
    assert own.ask().stderr == ""


def test_a_refusal_that_is_followed_by_an_answer_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: Suite
) -> None:
    """A76: the NTS NAK was forged."""
    genuine = ts_session.ask
    said: list[str] = []
    calls: list[int] = []

    def first_refused(*arguments: object, **_: object) -> ts_session.Exchange:
        exchange = genuine(*arguments)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 1:
            exchange.failure = NtsNak("refused")
        return exchange

    monkeypatch.setattr(ts_session, "ask", first_refused)
    exchange = rekey.ask(
        ClientState(own.client_ini), ts_session.Route(), 5.0, refusals=rekey.Refusals(), pause=0.01, say=said.append
    )
    assert exchange.answer is not None
    assert not exchange.renewed
    assert len(calls) == 2
    assert key_exchanges(own) == 1


def test_one_of_several_servers_waits_for_the_next_round(own: Suite) -> None:
    """A76: the others are not to wait for it, so the next round is the next poll."""
    forget_keys(own)
    store, refusals = ClientState(own.client_ini), rekey.Refusals()

    def poll() -> ts_session.Exchange:
        said: list[str] = []
        return rekey.ask(store, ts_session.Route(), 5.0, refusals=refusals, pause=None, say=said.append)

    first = poll()
    assert isinstance(first.failure, NtsNak)
    assert (first.renewed, key_exchanges(own)) == (False, 1)
    second = poll()
    assert second.answer is not None
    assert (second.renewed, key_exchanges(own)) == (True, 2)


def test_a_server_that_refuses_whatever_it_gives_is_not_hammered(own: Suite, tmp_path: Path) -> None:
    """A38, A78: the time server has other keys than the key exchange server. Its clock is ours, and the file's."""
    assert own.ts is not None
    own.ts.stop()
    (tmp_path / "stranger").mkdir()
    stranger = Suite(tmp_path / "stranger", own.ke_port, own.ntp_port)
    keystore.ensure_key(stranger.keys, 3, os.urandom)
    try:
        stranger.start_ts()
        processes.error_lines(own.ask(*QUICK), 21)
        assert key_exchanges(own) == 2
        for _ in range(2):
            edit(own.client_ini, not_before=str(int(time.time()) + 10))  # however slow this machine is
            _error, hint = processes.error_lines(own.ask(*QUICK), 21)
            assert re.match(r"hint: another key exchange may begin in ([1-9]|10) s; ", hint)
        assert key_exchanges(own) == 2
        edit(own.client_ini, not_before=str(int(time.time()) - 1))
        processes.error_lines(own.ask(*QUICK), 21)
        assert key_exchanges(own) == 3
        state = ClientState(own.client_ini).load()
        assert state.attempts == 2
        assert 5 < state.not_before - time.time() <= 15
        edit(own.client_ini, not_before=str(int(time.time()) + 10**8))  # a clock was wrong
        processes.error_lines(own.ask(*QUICK), 21)
        assert key_exchanges(own) == 4
    finally:
        stranger.stop()


def test_no_rekey_on_demand(own: Suite) -> None:
    empty_stock(own.client_ini)
    processes.error_lines(own.ask("--no-rekey"), 24)
    assert key_exchanges(own) == 1


def test_old_cookies_stay_until_the_key_exchange_succeeds(own: Suite) -> None:
    """A79, A80: and nobody is asked without NTS."""
    forget_keys(own)
    server_of(own).stop()
    with Relay(("127.0.0.1", own.ntp_port)) as relay:
        done = own.ask(*QUICK, "127.0.0.1", relay.port)
        processes.error_lines(done, 11)
        assert all(len(request) >= 228 for request in relay.requests)
        assert len(relay.requests) == 2
    assert len(ClientState(own.client_ini).load().cookies) == 6


# --- the same verification -------------------------------------------------------------------------------------------


def test_the_name_that_was_verified_is_verified_again(tmp_path: Path) -> None:
    """-n is stored. A certificate for another name, even the host's, is refused, and the file stays as it was."""
    suite = Suite(tmp_path)
    for name in ("cert.pem", "cert.key"):
        (tmp_path / name).unlink()
    files = {"cert": tmp_path / "cert.pem", "key": tmp_path / "cert.key", "ca": tmp_path / "ca.pem"}
    certs.make(("time.example",), **files)
    try:
        suite.start_ke()
        suite.start_ts()
        assert suite.fetch("-n", "time.example").returncode == 0
        empty_stock(suite.client_ini)
        assert suite.ask().returncode == 0
        for name in ("cert.pem", "cert.key"):
            (tmp_path / name).unlink()
        certs.make(("localhost",), **files)
        server_of(suite).wait_for("loaded the certificate for localhost")
        empty_stock(suite.client_ini)
        before = ClientState(suite.client_ini).load()
        processes.error_lines(suite.ask(), 13)
        assert ClientState(suite.client_ini).load().keys == before.keys
    finally:
        suite.stop()


def test_verification_is_never_switched_off(own: Suite, tmp_path: Path) -> None:
    empty_stock(own.client_ini)
    edit(own.client_ini, ca=str(tmp_path / "gone.pem"))
    processes.error_lines(own.ask(), 2)
    edit(own.client_ini, ca="", not_before="0")  # the system's CAs do not know ours
    processes.error_lines(own.ask(), 13)


def test_algorithms_are_offered_as_at_first(own: Suite) -> None:
    assert own.fetch("--aead", "17").returncode == 0
    empty_stock(own.client_ini)
    assert own.ask().returncode == 0
    assert int(ClientState(own.client_ini).load().keys.aead) == 17


def test_a_file_that_names_no_key_exchange_server_says_so(own: Suite) -> None:
    empty_stock(own.client_ini)
    edit(own.client_ini, host="")
    error, hint = processes.error_lines(own.ask(), 24)
    assert "no cookies left" in error
    assert "does not name the key exchange server: run ntske_client.py" in hint


# --- one command for the whole way -----------------------------------------------------------------------------------


def test_key_exchange_and_query_in_one_go(own: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    file = own.folder / "state.ini"
    arguments = ("-f", file, "--ke", "localhost", "--ke-port", own.ke_port, "-c", own.ca)
    first = processes.run("ntsts_client.py", *arguments)
    assert first.returncode == 0, first.stderr
    assert "key exchange with localhost; stored in" in first.stderr
    second = processes.run("ntsts_client.py", *arguments)
    assert (second.returncode, second.stderr) == (0, "")
    assert key_exchanges(own) == 2


# --- many processes --------------------------------------------------------------------------------------------------


def test_eight_processes_share_a_file_while_keys_are_lost(own: Suite) -> None:
    """A63: no cookie twice, no query lost, and one key exchange for each time that the cookies were refused."""
    losses = 3
    with Relay(("127.0.0.1", own.ntp_port)) as relay:
        command = [
            sys.executable, str(ROOT / "ntsts_client.py"), "-f", str(own.client_ini), "-n", "125", "-i", "0.02",
            "127.0.0.1", str(relay.port),
        ]  # fmt: skip
        clients = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)
        ]
        for number in range(1, losses + 1):
            assert processes.eventually(lambda n=number: len(relay.requests) > 200 * n, 60)  # type: ignore[misc]
            forget_keys(own)
            assert processes.eventually(lambda n=number: key_exchanges(own) == 1 + n, 90)  # type: ignore[misc]
        for client in clients:
            stdout, stderr = client.communicate(timeout=120)
            assert client.returncode == 0, stderr
            assert "125 queries, 125 answers" in stdout, stdout[-400:] + stderr
        fields = [field for request in relay.requests for field in extensions.walk(request)[0]]
        cookies = [field.body for field in fields if field.type == FieldType.COOKIE]
        assert len(cookies) == len(set(cookies)) >= 1000
    assert key_exchanges(own) == 1 + losses
    assert len(ClientState(own.client_ini).load().cookies) == 8


def test_intervals_are_those_of_the_rfc() -> None:
    """A38."""
    assert [ke_client.retry_interval(n) for n in (1, 2, 3, 4)] == [10, 15, 22.5, 33.75]
    assert ke_client.retry_interval(27) < 432000 == ke_client.retry_interval(28) == ke_client.retry_interval(10**9)


def test_waiting_for_cookies_of_others_ends(own: Suite) -> None:
    """Nobody brings any."""
    empty_stock(own.client_ini)
    store = ClientState(own.client_ini)
    assert rekey.renew(store, store.load(), 5.0, NoCookies("none"), lambda _line: None)

# SPDX-License-Identifier: MIT
"""Every exit code of both clients, by a real fault; and what the same fault looks like with --json."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from OpenSSL import SSL

from nts.base.errors import ExitCode
from nts.check.peer import Authority, NtpBehaviour, NtpPeer
from nts.check.peer.craft import random_cookies, response
from nts.check.peer.ke import no_alpn
from testkit import processes
from testkit.client_runs import (
    KE,
    TS,
    Answer,
    Completed,
    KeCase,
    genuine,
    ke_server,
    nothing,
    only,
    say,
    some_keys,
    write_association,
)
from testkit.processes import ROOT, Process
from testkit.raw_ke import END, record

C = ExitCode
NOWHERE = "nowhere.invalid"
QUICK_DNS = {"RES_OPTIONS": "timeout:1 attempts:1"}
NO_BACKEND = {"AES_SIV_BACKEND": "abacus"}

KE_FAULTS: dict[ExitCode, KeCase] = {
    C.OK: KeCase(),
    C.TLS: KeCase(newest=SSL.TLS1_2_VERSION),
    C.CERTIFICATE: KeCase(certificate=lambda a: a.issue(days=(-2, -1))),
    C.ALPN: KeCase(alpn=no_alpn),
    C.KE_RESPONSE: KeCase(say(response(cookies=[]))),
    C.KE_ERROR_RECORD: KeCase(say(record(2, b"\0\2") + END)),
}
TIME_FAULTS: dict[ExitCode, Answer] = {
    C.OK: only(genuine),
    C.NO_ANSWER: nothing,
    C.NTS_NAK: lambda talk: [talk.kiss(b"NTSN")],
    C.NOT_AUTHENTIC: lambda talk: [talk.header()],
    C.MISMATCH: lambda talk: [talk.time(header=talk.header(origin=0))],
    C.UNUSABLE_SERVER: lambda talk: [talk.time(header=talk.header(leap=3))],
}
STAGES = {
    C.FAILURE: "local", C.USAGE: "local", C.NO_COOKIES: "local", C.RESOLVE: "name", C.CONNECT: "connect", C.TLS: "tls",
    C.CERTIFICATE: "tls", C.ALPN: "tls", C.KE_RESPONSE: "key exchange", C.KE_ERROR_RECORD: "key exchange",
}  # fmt: skip


def check(done: Completed, code: ExitCode) -> None:
    """The exit code; one error line; and one JSON object on stdout that says the same."""
    assert done.returncode == code, done.stderr
    shown = json.loads(done.stdout)
    if code:
        error, *hints = processes.error_lines(done, code)
        failure = shown["failure"]
        assert (failure["code"], failure["stage"]) == (code, STAGES.get(code, "time"))
        assert error.endswith(f"error: {failure['message']}")
        assert hints == [f"hint: {h}" for h in [failure["hint"]] if h]
    assert ("failure" in shown) == bool(code)


@pytest.mark.parametrize("code", KE_FAULTS, ids=lambda c: c.name)
def test_codes_of_the_key_exchange_client(authority: Authority, tmp_path: Path, code: ExitCode) -> None:
    with ke_server(KE_FAULTS[code], authority) as server:
        where = ("-c", authority.ca, "-o", tmp_path / "client.ini", "localhost", server.port)
        check(processes.run(KE, "--json", *where), code)


KE_LOCAL: dict[ExitCode, tuple[tuple[object, ...], dict[str, str]]] = {
    C.FAILURE: (("localhost",), NO_BACKEND),
    C.USAGE: (("localhost", "-c", "/nowhere/ca.pem"), {}),
    C.RESOLVE: ((NOWHERE,), QUICK_DNS),
    C.CONNECT: (("localhost", processes.free_port()), {}),
}


@pytest.mark.parametrize("code", KE_LOCAL, ids=lambda c: c.name)
def test_codes_of_the_key_exchange_client_before_tls(tmp_path: Path, code: ExitCode) -> None:
    arguments, env = KE_LOCAL[code]
    check(processes.run(KE, "--json", "-o", tmp_path / "client.ini", *arguments, env=env), code)


@pytest.mark.parametrize("code", TIME_FAULTS, ids=lambda c: c.name)
def test_codes_of_the_time_client(tmp_path: Path, code: ExitCode) -> None:
    keys, ini = some_keys(), tmp_path / "client.ini"
    with NtpPeer(NtpBehaviour(TIME_FAULTS[code], keys=keys)) as server:
        write_association(ini, keys, server.port, random_cookies(8))
        done = processes.run(TS, "--json", "-f", ini, "--timeout", 0.5)
    check(done, code)
    left = {C.OK: 8, C.UNUSABLE_SERVER: 8, C.NTS_NAK: 6}.get(code, 7)  # after a refusal it asks a second time
    assert json.loads(done.stdout)["cookies"]["stock"] == left


TIME_LOCAL: dict[ExitCode, tuple[tuple[object, ...], dict[str, str], int]] = {
    C.FAILURE: ((), NO_BACKEND, 8),
    C.USAGE: (("-f", "/nowhere/client.ini"), {}, 8),
    C.RESOLVE: ((NOWHERE,), QUICK_DNS, 8),
    C.NO_COOKIES: ((), {}, 0),
}


@pytest.mark.parametrize("code", TIME_LOCAL, ids=lambda c: c.name)
def test_codes_of_the_time_client_before_it_sends(tmp_path: Path, code: ExitCode) -> None:
    arguments, env, cookies = TIME_LOCAL[code]
    ini = tmp_path / "client.ini"
    write_association(ini, some_keys(), 4123, random_cookies(cookies))
    file = () if code is C.USAGE else ("-f", ini)  # which names another one
    check(processes.run(TS, "--json", *file, *arguments, env=env), code)


def test_every_code_is_here() -> None:
    assert {*KE_FAULTS, *KE_LOCAL, *TIME_FAULTS, *TIME_LOCAL} == set(ExitCode)


# --- 130 -------------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_key_exchange_with_130(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = ["-o", str(tmp_path / "client.ini"), "127.0.0.1", str(silent.getsockname()[1])]
        process = Process([sys.executable, str(ROOT / KE), *where], tmp_path / "log")
        silent.settimeout(10)
        with silent.accept()[0] as connection:
            assert connection.recv(1000), "it has begun"
            assert process.stop(signal.SIGINT) == 130
    assert process.output() == ""


def test_ctrl_c_ends_a_series_with_its_summary_and_130(tmp_path: Path) -> None:
    keys, ini = some_keys(), tmp_path / "client.ini"
    with NtpPeer(NtpBehaviour(only(genuine), keys=keys)) as server:
        write_association(ini, keys, server.port, random_cookies(8))
        process = Process([sys.executable, str(ROOT / TS), "-f", str(ini), "-n", "9", "-i", "60"], tmp_path / "log")
        process.wait_for("offset")
        assert process.stop(signal.SIGINT) == 130
    _sample, summary, statistics = process.output().splitlines()
    assert summary.startswith("1 query, 1 answer; filtered offset")
    assert statistics.startswith("loss 0%")


@pytest.mark.parametrize("script", [KE, TS])
@pytest.mark.parametrize("ms", [40, 60, 80, 100, 150, 250])
def test_ctrl_c_while_a_client_starts_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, ms: int
) -> None:
    """Python itself needs the first milliseconds, in which no script can help it; coverage's start swallows Ctrl-C."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    ini = tmp_path / "client.ini"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, socket.create_server(("127.0.0.1", 0)) as deaf:
        silent.bind(("127.0.0.1", 0))
        write_association(ini, some_keys(), silent.getsockname()[1], random_cookies(8))
        where = ["-o", str(ini), "127.0.0.1", str(deaf.getsockname()[1])] if script == KE else ["-f", str(ini)]
        for more in range(0, 1000, 50):
            process = Process([sys.executable, str(ROOT / script), *where], tmp_path / "log")
            time.sleep((ms + more) / 1000)
            code = process.stop(signal.SIGINT)
            if not re.search(r"^    import signal$", process.output(), re.MULTILINE):  # else it was too early
                break
    assert code in (130, -signal.SIGINT)
    assert "Traceback" not in process.output()


# --- a series --------------------------------------------------------------------------------------------------------


def series(tmp_path: Path, answer: Answer, *arguments: object) -> Completed:
    keys, ini = some_keys(), tmp_path / "client.ini"
    with NtpPeer(NtpBehaviour(answer, keys=keys)) as server:
        write_association(ini, keys, server.port, random_cookies(8))
        return processes.run(TS, "-f", ini, "-i", 0.001, "--timeout", 0.4, *arguments)


def genuine_then(then: Answer) -> Answer:
    return lambda talk: [genuine(talk)] if len(talk.requests) == 1 else then(talk)


@pytest.mark.parametrize("fault", [C.NO_ANSWER, C.NTS_NAK, C.UNUSABLE_SERVER], ids=lambda c: c.name)
def test_one_answer_makes_a_series_a_success_whatever_ends_it(tmp_path: Path, fault: ExitCode) -> None:
    done = series(tmp_path, genuine_then(TIME_FAULTS[fault]), "-n", 2)
    assert done.returncode == 0, done.stderr
    assert "2 queries, 1 answer; filtered offset" in done.stdout
    assert "loss 50%" in done.stdout
    assert done.stderr.startswith("ntsts_client.py: warning: ")


def test_a_series_without_an_answer_has_a_summary_and_the_last_code(tmp_path: Path) -> None:
    done = series(tmp_path, nothing, "-n", 2)
    assert done.returncode == C.NO_ANSWER
    assert done.stdout == "2 queries, no answers\n"
    one, two, _hint = done.stderr.splitlines()
    assert "warning: no NTP answer" in one
    assert "error: no NTP answer" in two


def test_a_series_in_json_has_an_object_for_each_query_and_nothing_else(tmp_path: Path) -> None:
    done = series(tmp_path, genuine_then(nothing), "-n", 2, "--json", "--dump")
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["authenticated"]
    assert second["failure"]["code"] == C.NO_ANSWER
    (attempt,) = first["dump"]
    assert [f["name"] for f in attempt["request"]["fields"]][:2] == ["Unique Identifier", "NTS Cookie"]
    (answer,) = attempt["answers"]
    assert (answer["kind"], answer["header"]["stratum"]) == ("time", 2)
    assert answer["cookies"] == ["<100 octets>"]
    assert second["dump"][0]["answers"] == []

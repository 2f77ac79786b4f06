# SPDX-License-Identifier: MIT
"""What people and servers give the clients that is odd: it is refused early and clearly, or shown in part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from nts.base.text import clipped, counted, harmless, place_hint
from nts.check.peer import Authority, NtpBehaviour, NtpPeer
from nts.check.peer.craft import field as ef
from nts.check.peer.craft import random_cookies, response
from nts.client.state import ClientState
from testkit import processes
from testkit.client_runs import (
    KE,
    TS,
    Completed,
    KeCase,
    check_failure,
    ke_server,
    only,
    say,
    some_keys,
    write_association,
)
from testkit.processes import ROOT, Suite
from testkit.raw_ke import END, record

# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        *((KE, ["h", option, ""]) for option in ("-c", "-n", "-o", "--keylog", "--aead", "--timeout")),
        *((TS, [option, ""]) for option in ("-f", "-n", "-i")),
        (KE, [""]),
        (TS, [""]),
        (KE, ["h", "1", ""]),
    ],
)
def test_an_empty_argument_is_an_error(script: str, arguments: list[str]) -> None:
    done = processes.run(script, *arguments)
    assert done.returncode == 2
    assert "error: an argument is empty" in done.stderr.splitlines()[-1]


def test_options_may_stand_between_the_other_arguments(suite: Suite, tmp_path: Path) -> None:
    ini = tmp_path / "client.ini"
    done = processes.run(KE, "localhost", "-o", ini, suite.ke_port, "--json", suite.ca)
    assert done.returncode == 0, done.stderr
    done = processes.run(TS, "localhost", "-f", ini, suite.ntp_port, "-4")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [*sorted(p.name for p in ROOT.glob("*.py")), "nts_check.py server"])
def test_every_script_tells_its_version(command: str) -> None:
    script, *words = command.split()
    done = processes.run(script, *words, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{script} ")
    assert done.stdout.split()[1][0].isdigit()


@pytest.mark.parametrize(
    ("host", "hint"),
    [
        ("[::1]", "write HOST PORT without brackets, here ::1"),
        ("[::1]:4460", "write HOST PORT, here ::1 4460"),
        ("localhost:4460", "write HOST PORT, here localhost 4460"),
        ("192.0.2.1:123", "write HOST PORT, here 192.0.2.1 123"),
    ],
)
def test_other_ways_to_write_host_and_port_get_a_hint(tmp_path: Path, host: str, hint: str) -> None:
    ini = tmp_path / "client.ini"
    write_association(ini, some_keys(), 4123, random_cookies(1))
    for script, option, code in ((KE, "-o", 2), (TS, "-f", 10)):
        assert processes.error_lines(processes.run(script, option, ini, host), code)[1:] == [f"hint: {hint}"]


@pytest.mark.parametrize("host", ["::1", "time.example", "host:", ":123", "a:b", "[", ""])
def test_other_names_get_none(host: str) -> None:
    assert place_hint(host) is None


def test_a_link_local_address_without_a_zone_is_explained(tmp_path: Path) -> None:
    ini = tmp_path / "client.ini"
    write_association(ini, some_keys(), 4123, random_cookies(1), server="fe80::1")
    for done in (processes.run(KE, "-v", "fe80::1", "-o", tmp_path / "c.ini"), processes.run(TS, "-f", ini)):
        check_failure(done, 10, "fe80::1 is a link-local address without a zone")
        assert "such as fe80::1%eth0" in done.stderr
    assert len(ClientState(ini).load().cookies) == 1


@pytest.mark.parametrize(
    "name", [b"caf\xe9.pem", b"a\rb.pem", b"a\nb.pem", b"a\x1b.pem", b"a\xc2\x85b.pem", b"ca.pem "]
)
def test_a_ca_path_that_client_ini_cannot_hold_is_refused_before_anything_is_sent(
    authority: Authority, tmp_path: Path, name: bytes
) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(path)).write_bytes(authority.ca.read_bytes())
    with ke_server(KeCase(), authority) as server:
        command: list[str | bytes] = [sys.executable, str(ROOT / KE), "-c", path, "-o", str(tmp_path / "client.ini")]
        command += ["localhost", str(server.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    processes.one_error(done, 2, "client.ini cannot hold the path")
    assert server.sessions == []
    assert sorted(p.name for p in tmp_path.iterdir() if "client" in p.name) == []


def test_a_path_with_spaces_and_letters_of_any_kind_is_kept(authority: Authority, tmp_path: Path) -> None:
    path = tmp_path / "mein \u00f6ffentliches %(CA)s = ;#.pem"
    path.write_bytes(authority.ca.read_bytes())
    with ke_server(KeCase(), authority) as server:
        done = processes.run(KE, "-c", path, "-o", tmp_path / "client.ini", "localhost", server.port)
    assert done.returncode == 0, done.stderr
    assert ClientState(tmp_path / "client.ini").load().ca == str(path)


@pytest.mark.parametrize("length", [1105, 65530, 65531, 70000])
def test_a_cookie_too_long_for_a_packet_is_refused(tmp_path: Path, length: int) -> None:
    ini = tmp_path / "client.ini"
    write_association(ini, some_keys(), 4123, random_cookies(1, length))
    before = ini.read_text()
    check_failure(processes.run(TS, "-f", ini), 2, f"[cookies] 0 has {length} octets, which is the wrong length")
    assert ini.read_text() == before


# --- output ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "form"), [(KE, "-v localhost {ke} -o {ini}"), (TS, "-f {ini}"), (TS, "-f {ini} --json")]
)
def test_a_full_standard_output_is_said_in_a_sentence(suite: Suite, tmp_path: Path, script: str, form: str) -> None:
    ini = tmp_path / "client.ini"
    assert suite.fetch(output=ini).returncode == 0
    command = f"{sys.executable} {ROOT / script} {form.format(ke=suite.ke_port, ini=ini)} > /dev/full"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    processes.one_error(done, 1, "cannot write to standard output: No space left on device$")


def test_a_key_log_that_cannot_be_written_ends_the_exchange_before_the_request(
    authority: Authority, tmp_path: Path
) -> None:
    with ke_server(KeCase(), authority) as server:
        where = ("-c", authority.ca, "-o", tmp_path / "client.ini", "localhost", server.port)
        done = processes.run(KE, "--keylog", "/dev/full", *where)
    processes.one_error(done, 2, "cannot write the key log /dev/full: No space left on device")
    assert [s.received for s in server.sessions] == [b""]


def fetched(authority: Authority, folder: Path, answer: bytes, *arguments: str) -> Completed:
    with ke_server(KeCase(say(answer)), authority) as server:
        where = ("-c", authority.ca, "-o", folder / "client.ini", "localhost", server.port)
        return processes.run(KE, *where, *arguments)


def test_a_response_of_many_records_is_shown_in_part(authority: Authority, tmp_path: Path) -> None:
    many = response(more=record(0x3FFF, critical=False) * 30_000)
    done = fetched(authority, tmp_path, many)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) < 10_000
    assert "more records" in done.stdout
    shown = json.loads(fetched(authority, tmp_path, many, "--json").stdout)
    assert len(shown["records"]) == 64
    assert shown["records_left_out"] == 30_011 - 64


def test_a_response_of_many_numbers_is_shown_in_part(authority: Authority, tmp_path: Path) -> None:
    numbers = b"".join(n.to_bytes(2, "big") for n in range(30_000))
    for kind in (1, 4):
        done = fetched(authority, tmp_path, record(kind, numbers) + response())
        assert done.returncode == 15
        assert len(done.stdout + done.stderr) < 10_000
        assert "and 29900 more" in done.stdout
    failed = json.loads(fetched(authority, tmp_path, record(1, numbers) + END, "--json").stdout)
    assert failed["failure"]["code"] == 15
    assert [r["type"] for r in failed["records"]] == [1, 0]


@pytest.mark.parametrize("option", ["--dump", "--json"])
def test_an_answer_of_many_fields_and_a_long_one_are_shown_in_part(tmp_path: Path, option: str) -> None:
    keys, ini = some_keys(), tmp_path / "client.ini"
    long, many = ef(0xF000, os.urandom(30_000)), ef(0xF001, bytes(12)) * 2000
    answer = only(lambda talk: talk.time(clear=long + many))
    with NtpPeer(NtpBehaviour(answer, keys=keys)) as server:
        write_association(ini, keys, server.port, random_cookies(8))
        done = processes.run(TS, "-f", ini, "--dump", option)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) < 40_000
    assert "more characters)" in done.stdout
    if option == "--json":
        (answered,) = json.loads(done.stdout)["dump"][0]["answers"]
        assert (len(answered["fields"]), answered["fields_left_out"]) == (64, 2003 - 64)
    else:
        assert "more lines" in done.stdout


def test_both_pairs_of_keys_are_in_the_json(authority: Authority, tmp_path: Path) -> None:
    answer = response(aeads=b"\0\x1e")  # without record 1024
    shown = json.loads(fetched(authority, tmp_path, answer, "--aead", "30", "--json", "--show-secrets").stdout)["keys"]
    stored = ClientState(tmp_path / "client.ini").load()
    assert stored.other_keys is not None
    assert shown == {
        "c2s": stored.keys.c2s.hex(), "s2c": stored.keys.s2c.hex(), "c2s_context_15": stored.other_keys.c2s.hex(),
        "s2c_context_15": stored.other_keys.s2c.hex(),
    }  # fmt: skip


# --- certificates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "names"), [((-2, -1), ("localhost", "x.example")), ((-1, 1), ("x.example", "192.0.2.1"))]
)
def test_a_refused_certificate_is_described(
    authority: Authority, tmp_path: Path, days: tuple[int, int], names: tuple[str, ...]
) -> None:
    made = authority.issue(days=days, names=names)
    certificate = x509.load_pem_x509_certificate(made[0].read_bytes())
    with ke_server(KeCase(certificate=lambda a: made), authority) as server:
        where = ("-c", authority.ca, "-o", tmp_path / "client.ini", "localhost", server.port)
        done = processes.run(KE, *where)
    check_failure(done, 13, f"(for {', '.join(names)}; issued by {certificate.issuer.rfc4514_string()}; valid from")
    assert f"{certificate.not_valid_after_utc:%Y-%m-%d}" in done.stderr


def test_what_a_certificate_says_does_not_reach_the_terminal_as_it_is(authority: Authority, tmp_path: Path) -> None:
    name = "\x1b[2J\u202e" + "x" * 50
    made = authority.issue(names=(), common_name=name)
    with ke_server(KeCase(certificate=lambda a: made), authority) as server:
        where = ("-c", authority.ca, "-o", tmp_path / "client.ini", "localhost", server.port)
        done = processes.run(KE, *where)
    check_failure(done, 13, "of CN=?[2J?xxx")


def test_words() -> None:
    assert [counted(n, "octet") for n in (0, 1, 2)] == ["0 octets", "1 octet", "2 octets"]
    assert clipped("abc", 3) == "abc"
    assert clipped("abcd", 3) == "abc... (1 more character)"
    assert harmless("a\nb" * 100, 3) == "a?b... (297 more characters)"

# SPDX-License-Identifier: MIT
"""C01 to C26: each case passes the clients of this suite and fails a client with the flaw it is there to find."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from nts.check import runner
from nts.check.client import CASES, chronyd, judge
from nts.check.client.probe import ClientProbe, Seen
from nts.check.client.recipes import (
    Client,
    ClientResult,
    CommandClient,
    Enough,
    ManualClient,
    Place,
    UnknownPlaceholder,
    ours,
)
from nts.check.model import Check, Grade, Result, Severity
from nts.check.peer import Authority
from nts.check.peer.faults import FAULTS, find
from nts.check.peer.ke import KeSession
from testkit import processes
from testkit.flawed_client import FlawedClient
from testkit.outcomes import Outcomes

SCRIPTS = "ntske_client.py", "ntsts_client.py"
PARALLEL = 8  # most of it is waiting
NUMBERS = [f"C{n:02}" for n in range(1, 27)]

LIAR, CARELESS, HASTY = FlawedClient(any_reply=True), FlawedClient(any_response=True), FlawedClient(hasty=True)
FLAWS: tuple[tuple[str, FlawedClient, str], ...] = (  # case, client, evidence
    ("C01", LIAR, "plain-reply: takes the time; crypto-nak: takes the time"),
    ("C02", LIAR, "stripped-authenticator: takes the time"),
    ("C03", LIAR, "stripped-uid: takes the time"),
    ("C04", LIAR, "wrong-uid: takes the time; uid-prefix: takes the time; older-uid: takes the time"),
    ("C05", LIAR, "bad-tag: takes the time; c2s-key: takes the time; bit-flip: takes the time"),
    ("C06", LIAR, "bad-origin: takes the time"),
    ("C06", FlawedClient(reads_on=True, hoards=True), ".*twice: the cookies of a replayed reply are stored again .*"),
    ("C07", FlawedClient(hoards=True), "clear-cookies: .* stored and spent; trailing-cookies: .* stored and spent"),
    ("C08", HASTY, "forged-nak: runs another key exchange; forged-nak, then a genuine reply: takes no time.*"),
    ("C09", HASTY, "nak-then-time: takes no time.*; nak-then-time: runs another key exchange"),
    ("C10", HASTY, r"nak: \d+ key exchanges within .*"),
    ("C10", FlawedClient(forgets=True), r"nak: the client gives up its old cookies \(0 NTP requests\)"),
    ("C10", FlawedClient(falls_back=True), "nak: falls back to plain NTP .*"),
    ("C11", LIAR, "kiss-rate: takes the time; kiss-deny: takes the time; kiss-rstr: takes the time"),
    (
        "C11", FlawedClient(resident=True),
        r"kiss-rate after .*: \d\d requests.*; kiss-deny after .*: \d\d more .*; kiss-rstr after .*: \d\d more .*",
    ),
    ("C12", FlawedClient(falls_back=True), "ntp-silence: falls back to plain NTP .*"),
    ("C12", FlawedClient(greedy=True), "ntp-silence: 9 placeholders in a request"),
    ("C13", FlawedClient(hoards=True), r"silence after nine cookies a reply: \d\d cookies in stock"),
    ("C13", FlawedClient(greedy=True), "cookie-length-change: sends packets of .*"),
    ("C14", CARELESS, "error-in-good-response: goes on .*; warning: goes on .*"),
    ("C15", CARELESS, "unknown-critical: goes on .*"),
    ("C16", CARELESS, "missing-eom: goes on .*; duplicate-aead: goes on .*"),
    ("C17", CARELESS, "no-aead: goes on .*; unoffered-aead: goes on .*; unoffered-protocol: goes on .*"),
    ("C18", FlawedClient(response_limit=4096), "oversize-response: takes no time .*"),
    ("C18", CARELESS, "slow-drip: goes on without a complete response.*"),
    ("C19", CARELESS, "IPv4 address .*: takes no time .*; server-zone: goes on .*; duplicate-server: goes on .*"),
    ("C20", CARELESS, "port-zero: goes on .*; port-three-octets: goes on .*"),
    ("C21", FlawedClient(any_handshake=True), "tls12-only: goes on .*; self-signed: goes on .*"),
    ("C22", FlawedClient(forgets=True), "a restart without NTS-KE: takes no time .*"),
    ("C23", FlawedClient(repeats=True), "identifiers come more than once.*"),
    ("C23", FlawedClient(counts=True), "identifiers are not random: .*"),
    ("C25", FlawedClient(strict_end=True), "no-close-notify: takes no time .*"),
    ("C26", FlawedClient(stubborn=True), "NTS NAKs: 8 requests before the next key exchange, so all .*"),
    ("C24", FlawedClient(gcm_context=15), "AEAD 30 with record 1024: keys with 15 in the context"),
)  # fmt: skip
UNSEEN = {  # what a client that does not poll cannot show
    "C11": {"whether the client polls less after a kiss: it does not poll by itself"},
    "C19": {"a name without dots: we cannot see what the client asks the DNS"},
}


def run_case(client: Client, case: Check[ClientProbe], authority: Authority) -> Result[ClientProbe]:
    (result,) = runner.run([case], ClientProbe(client, authority))
    return result


Results = Outcomes[tuple[str, str], Result[ClientProbe]]


@pytest.fixture(scope="module")
def results(authority: Authority) -> Iterator[Results]:
    """The result of each case with a right client, with ours and with those that have a flaw."""
    jobs: dict[tuple[str, str], tuple[Client, Check[ClientProbe]]] = {}
    cases = {case.id: case for case in CASES}
    for case in CASES:
        jobs["right", case.id] = FlawedClient(), case
        jobs["ours", case.id] = ours(), case
    for i, (number, flawed, _) in enumerate(FLAWS):
        jobs["flawed", str(i)] = flawed, cases[number]
    runs = {key: partial(run_case, client, case, authority) for key, (client, case) in jobs.items()}
    with Outcomes(runs, parallel=PARALLEL, timeout=300) as outcomes:
        yield outcomes


def test_the_cases_have_the_numbers_c01_to_c26() -> None:
    assert [case.id for case in CASES] == NUMBERS
    assert len({case.name for case in CASES}) == 26
    for case in CASES:
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", case.name)
        assert all(text.endswith(".") and len(text) > 20 for text in (case.sends, case.expects, case.rule)), case.id


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("client", ["ours", "right"])
def test_case_passes_a_right_client(results: Results, client: str, number: str) -> None:
    """No warning either; and what could not be judged is what a one-shot client cannot show."""
    result = results[client, number]
    assert result.grade is Grade.PASS, result.evidence
    skipped = {f.text for f in result.findings if f.grade is Grade.SKIP and "cannot listen" not in f.text}
    assert skipped == UNSEEN.get(number, set())
    assert result.exhibits


def test_every_case_has_a_client_that_fails_it() -> None:
    assert {number for number, _, _ in FLAWS} == set(NUMBERS)


@pytest.mark.parametrize("index", range(len(FLAWS)), ids=[number for number, _, _ in FLAWS])
def test_case_fails_a_client_with_the_flaw(results: Results, index: int) -> None:
    _, _, evidence = FLAWS[index]
    result = results["flawed", str(index)]
    findings = [(f.grade.value, f.text) for f in result.findings]
    assert result.grade is Grade.FAIL, findings
    for part in evidence.split("; "):
        assert any(re.fullmatch(part, f.text) for f in result.findings if f.grade is Grade.FAIL), (part, findings)


def test_the_retry_case_measures_something_of_a_client_that_renews_itself(results: Results) -> None:
    texts = [f.text for f in results["ours", "C10"].findings]
    assert any(re.match(r"nak: [23] key exchanges within", text) for text in texts), texts


def test_plain_ntp_is_critical_whatever_the_case_is(results: Results) -> None:
    """A80."""
    plain = str(next(i for i, (number, client, _) in enumerate(FLAWS) if number == "C12" and client.falls_back))
    assert any("plain NTP" in f.text and f.severity is Severity.CRIT for f in results["flawed", plain].findings)


def test_no_exhibit_of_text_holds_a_secret(results: Results) -> None:
    result = results["ours", "C01"]
    assert not [e.text for e in result.exhibits if re.search(r"[0-9a-f]{24}", e.text)]


@dataclass
class Dead:
    """A client that does nothing."""

    name: str = "dead"
    resident: bool = False
    keeps: bool = False

    def meet(self, place: Place, enough: Enough) -> ClientResult:
        return ClientResult(False, code=127)


def test_client_that_never_works_is_not_judged(authority: Authority) -> None:
    probe = ClientProbe(Dead(), authority)
    for result in runner.run(runner.select(CASES, ["C01", "C14", "C21", "C22"], []), probe):
        assert result.grade is Grade.SKIP
        assert "never came" in result.evidence or "key exchange" in result.evidence


def test_what_a_client_says_when_it_fails_is_shown(authority: Authority) -> None:
    python, ke = shlex.quote(sys.executable), shlex.quote(str(processes.ROOT / SCRIPTS[0]))
    trusting_nobody = CommandClient("x", f"{python} {ke} -o {{state}} {{host}} {{ke_port}}")
    result = run_case(trusting_nobody, CASES[0], authority)
    assert result.grade is Grade.SKIP
    assert 'sound servers either (exit code 13): it says "' in result.evidence
    liar = f"{python} {ke} -c {{ca}} -o {{state}} {{host}} {{ke_port}} >/dev/null; echo it is noon"
    done = processes.run("nts_check.py", "client", "--only", "C14", "--command", liar)
    assert done.returncode == 1
    assert "the client says: it is noon" in done.stdout + done.stderr


@dataclass
class Impatient:
    """A client that gives up its association when nothing comes."""

    name: str = "impatient"
    resident: bool = False
    keeps: bool = False

    def meet(self, place: Place, enough: Enough) -> ClientResult:
        outcome = FlawedClient().meet(place, enough)
        return outcome if outcome.accepted else FlawedClient().meet(place, enough)


def test_a_key_exchange_because_of_silence_is_not_held_against_a_client(authority: Authority) -> None:
    result = run_case(Impatient(), CASES[NUMBERS.index("C08")], authority)
    assert result.grade is Grade.PASS, result.evidence


@pytest.mark.parametrize("name", ["nak", "ntp-silence", "plain-reply", "tls12-only", "nine-cookies", "error-1"])
def test_key_exchanges_in_quick_succession_are_seen_whatever_causes_them(name: str) -> None:
    sessions = [KeSession("127.0.0.1:4000", received=b"x") for _ in range(judge.MAX_CONNECTIONS + 1)]
    for runs, expected in ((1, True), (2, False)):
        seen = Seen("x", False, sessions=sessions, accepted=False, seconds=2, runs=runs)
        found = [f for f in judge.meeting(seen, find(name)) if "4 connections within 2 s" in f.text]
        assert bool(found) is expected
        assert all((f.grade, f.severity) == (Grade.FAIL, Severity.MUST) for f in found)


def test_a_port_that_no_record_names_cannot_be_judged(authority: Authority) -> None:
    finding = next(iter(CASES[NUMBERS.index("C20")].run(ClientProbe(FlawedClient(), authority, ntp_port=123))))
    assert (finding.grade, "which no record names" in finding.text) == (Grade.SKIP, True)


def test_client_whose_every_run_begins_with_a_key_exchange(authority: Authority) -> None:
    """What it might keep cannot be seen, and is not held against it."""
    probe = ClientProbe(FlawedClient(forgets=True, keeps=False), authority)
    results = list(runner.run(runner.select(CASES, ["C10", "C13", "C22"], []), probe))
    assert [r.grade for r in results] == [Grade.PASS, Grade.PASS, Grade.SKIP]
    python, ke, ts = (shlex.quote(str(p)) for p in (sys.executable, *(processes.ROOT / n for n in SCRIPTS)))
    once = CommandClient(
        "once",
        f"{python} {ke} -c {{ca}} -o {{state}} {{host}} {{ke_port}} && {python} {ts} -f {{state}} --timeout {{wait}}",
    )
    results += runner.run(runner.select(CASES, ["C12"], []), ClientProbe(once, authority))
    assert results[-1].grade is Grade.PASS
    for result in results:
        assert any(f.grade is Grade.SKIP and "begins with a key exchange" in f.text for f in result.findings)


def test_aead_30_with_the_right_keys_passes(authority: Authority) -> None:
    result = run_case(FlawedClient(gcm_context=30), CASES[NUMBERS.index("C24")], authority)
    assert [f.text for f in result.findings] == [
        f"AEAD 30 {how} record 1024: keys with 30 in the context" for how in ("with", "without")
    ]


def test_recipe_without_its_client_skips(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chronyd, "_PATH", "/nowhere")
    result = run_case(chronyd.ChronydClient(), CASES[0], authority)
    assert (result.grade, result.evidence) == (Grade.SKIP, "there are no chronyd and chronyc on this machine")


def test_ports_can_be_fixed(authority: Authority) -> None:
    """For a client whose configuration names them."""
    ke, ntp = processes.free_port(), processes.free_port(socket.SOCK_DGRAM)
    probe = ClientProbe(FlawedClient(), authority, ke_port=ke, ntp_port=ntp)
    for _ in range(2):
        with probe.scene(find("nak")) as scene:
            assert (scene.ke.port, scene.ntp.port) == (ke, ntp)


# --- every fault -----------------------------------------------------------------------------------------------------

NOT_IN_A_CASE = (
    "short-nonce", "unknown-fields", "wrong-exporter-context", "stale-cookie", "no-cookies", "no-close-notify",
    "unsynchronised", "another-port", "ke-silence",
)  # fmt: skip


@pytest.mark.parametrize("name", NOT_IN_A_CASE)
def test_right_client_does_what_the_fault_says(authority: Authority, name: str) -> None:
    findings = list(judge.meet(ClientProbe(FlawedClient(), authority), name))
    fault = find(name)
    expected = Grade.SKIP if name == "another-port" else Grade.PASS  # its requests go where we do not see them
    assert [f.grade for f in findings] == [expected], (fault.expected, [f.text for f in findings])


# --- recipes ---------------------------------------------------------------------------------------------------------


def place(folder: Path, **changes: float) -> Place:
    return Place("localhost", 1, 2, folder / "ca.pem", folder, seconds=changes.get("seconds", 10))


def test_command_is_filled_in_and_its_exit_code_counts(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    client = CommandClient("x", "echo {host} {ke_port} {ntp_port} {ca} {{}}; exit 3")
    outcome = client.meet(place(folder), lambda _accepted: False)
    assert outcome == ClientResult(False, 3, f"localhost 1 2 {folder}/ca.pem {{}}\n")
    assert CommandClient("x", "true").meet(place(folder), lambda _accepted: False).accepted


def test_command_with_a_state_runs_again_without_a_key_exchange(tmp_path: Path) -> None:
    client = CommandClient("x", "touch {state}; echo first", "echo again")
    outputs = [client.meet(place(tmp_path), lambda _accepted: False).output for _ in range(2)]
    assert outputs == ["first\n", "again\n"]
    assert client.keeps


def test_command_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    client = CommandClient("x", "sleep 60 & sleep 60")
    assert client.meet(place(tmp_path, seconds=0.3), lambda _accepted: False) == ClientResult(None, None, "")


@pytest.mark.parametrize("command", ["{nonsense}", "{", "{0}", "awk '{ print }'"])
def test_command_with_other_braces_is_refused_early(command: str) -> None:
    with pytest.raises(UnknownPlaceholder, match="ke_port"):
        CommandClient("x", command)


def test_person_is_told_what_to_start(tmp_path: Path) -> None:
    said: list[str] = []
    assert ManualClient(said.append).meet(place(tmp_path), lambda _accepted: True) == ClientResult(None)
    assert "port 1" in said[0]
    assert "ca.pem" in said[0]


# --- the command line ------------------------------------------------------------------------------------------------


def test_command_line_reports_in_json(tmp_path: Path) -> None:
    done = processes.run("nts_check.py", "client", "--recipe", "ours", "--only", "C02,ke-unknown-record", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {r["name"]: r["verdict"] for r in report["results"]} == {
        "reply-stripped-authenticator": "PASS", "ke-unknown-record": "PASS",
    }  # fmt: skip


def test_command_line_explains_its_cases() -> None:
    done = processes.run("nts_check.py", "client", "--list")
    assert done.returncode == 0
    assert all(case.name in done.stdout for case in CASES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--command", "client {port}"), "'port' is none of {ke_port}"),
        (("--recipe", "ours", "--again", "true"), "--again goes with --command"),
        (("--recipe", "ours", "--only", "nonsense"), "no check is called 'nonsense'"),
        (("--command", " "), "--command is empty"),
        (("--command", ""), "an argument is empty"),
    ],
)
def test_command_line_mistakes_are_told(arguments: tuple[str, ...], words: str) -> None:
    done = processes.run("nts_check.py", "client", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("option", "kind"), [("--ke-port", socket.SOCK_STREAM), ("--ntp-port", socket.SOCK_DGRAM)])
def test_a_port_that_is_in_use_is_told_at_once(option: str, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        done = processes.run("nts_check.py", "client", "--recipe", "ours", "--only", "C01", option, port)
    assert done.returncode == 2
    assert "cannot listen" in done.stderr
    assert "server.ini" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_client_ends_with_the_run(tmp_path: Path, number: int) -> None:
    """Also when it is not Ctrl-C that ends it: a chronyd would run on."""
    pid = tmp_path / "pid"
    command = [sys.executable, str(processes.ROOT / "nts_check.py"), "client", "--only", "C01", "--command"]
    process = processes.Process(
        [*command, f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 300"], tmp_path / "log"
    )
    try:
        assert processes.eventually(pid.exists, 20)
    finally:
        code = process.stop(number)
    assert code == 130
    assert processes.eventually(lambda: not processes.is_running(int(pid.read_text())))
    assert process.output().splitlines()[-1] == "Interrupted. Exit code 130."


def test_every_fault_is_fit_for_the_list() -> None:
    for fault in FAULTS.values():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", fault.name)
        assert fault.does
        assert fault.rule
        assert re.match(r"(RFC \d+ section )?[0-9.]+$", fault.section)

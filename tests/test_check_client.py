# SPDX-License-Identifier: MIT
"""C01 to C24: each case passes the clients of this suite and fails a client with the flaw it is there to find."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from nts.check import runner
from nts.check.client import CASES, judge
from nts.check.client.probe import ClientProbe, Seen
from nts.check.client.recipes import (
    Client,
    CommandClient,
    Enough,
    ManualClient,
    Outcome,
    Place,
    UnknownPlaceholder,
    ours,
)
from nts.check.model import Check, Result, Severity, Verdict
from nts.check.peer import Authority, NtpPeer
from nts.check.peer.faults import FAULTS, Side, find
from nts.check.peer.ke import KeSession
from nts.check.peer.ntp import NtpTalk
from tests import support
from tests.flawed_client import FlawedClient

PARALLEL = 6  # most of it is waiting
NUMBERS = [f"C{n:02}" for n in range(1, 25)]

FLAWS: dict[str, FlawedClient] = {
    **{number: FlawedClient(any_reply=True) for number in ("C01", "C02", "C03", "C04", "C05", "C06", "C11")},
    "C07": FlawedClient(hoards=True),
    "C08": FlawedClient(hasty=True),
    "C09": FlawedClient(hasty=True),
    "C10": FlawedClient(hasty=True, falls_back=True),
    "C12": FlawedClient(falls_back=True),
    "C13": FlawedClient(hoards=True),
    **{number: FlawedClient(any_response=True) for number in ("C14", "C15", "C16", "C17", "C19", "C20")},
    "C18": FlawedClient(response_limit=4096),
    "C21": FlawedClient(any_handshake=True),
    "C22": FlawedClient(forgets=True),
    "C23": FlawedClient(repeats=True),
    "C24": FlawedClient(context_of_15=True),
}
UNSEEN = {  # what a client that does not poll cannot show
    "C11": {"whether kisses make it poll less: the client does not poll by itself"},
    "C12": {"the key exchange that should follow is up to whoever starts the client"},
    "C19": {"a name without dots: what the client asks the DNS is not seen from here"},
}


class Pool:
    """Runs every case with every client, several at a time, from the first test on."""

    def __init__(self, pool: ThreadPoolExecutor, authority: Authority) -> None:
        jobs: dict[tuple[str, str], tuple[Client, Check[ClientProbe]]] = {}
        for case in CASES:
            jobs["flawed", case.id] = FLAWS[case.id], case
            jobs["right", case.id] = FlawedClient(), case
            jobs["ours", case.id] = ours(), case
        self._futures: dict[tuple[str, str], Future[Result[ClientProbe]]] = {
            key: pool.submit(run_case, client, case, authority) for key, (client, case) in jobs.items()
        }

    def __getitem__(self, key: tuple[str, str]) -> Result[ClientProbe]:
        return self._futures[key].result(300)


def run_case(client: Client, case: Check[ClientProbe], authority: Authority) -> Result[ClientProbe]:
    (result,) = runner.run([case], ClientProbe(client, authority))
    return result


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def results(authority: Authority) -> Iterator[Pool]:
    pool = ThreadPoolExecutor(PARALLEL)
    yield Pool(pool, authority)
    pool.shutdown(cancel_futures=True)


def test_the_cases_are_those_of_the_specification() -> None:
    assert [case.id for case in CASES] == NUMBERS
    assert len({case.name for case in CASES}) == 24
    for case in CASES:
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", case.name)
        assert all(text.endswith(".") and len(text) > 20 for text in (case.sends, case.expects, case.rule)), case.id


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("client", ["ours", "right"])
def test_case_passes_a_right_client(results: Pool, client: str, number: str) -> None:
    """No warning either; and what could not be judged is what a one-shot client cannot show."""
    result = results[client, number]
    assert result.verdict is Verdict.PASS, result.evidence
    skipped = {f.text for f in result.findings if f.verdict is Verdict.SKIP and "cannot listen" not in f.text}
    assert skipped == UNSEEN.get(number, set())
    assert result.exhibits


@pytest.mark.parametrize("number", NUMBERS)
def test_case_fails_a_client_with_the_flaw(results: Pool, number: str) -> None:
    result = results["flawed", number]
    assert result.verdict is Verdict.FAIL, [f.text for f in result.findings]


def test_plain_ntp_is_critical_whatever_the_case_is(results: Pool) -> None:
    """A80."""
    assert any("plain NTP" in f.text and f.severity is Severity.CRIT for f in results["flawed", "C12"].findings)


def test_no_exhibit_of_text_holds_a_secret(results: Pool) -> None:
    result = results["ours", "C01"]
    assert not [e.text for e in result.exhibits if re.search(r"[0-9a-f]{24}", e.text)]


@dataclass
class Dead:
    """A client that does nothing."""

    name: str = "dead"
    resident: bool = False
    keeps: bool = False

    def meet(self, place: Place, enough: Enough) -> Outcome:
        return Outcome(False)


def test_client_that_never_works_is_not_judged(authority: Authority) -> None:
    probe = ClientProbe(Dead(), authority)
    for result in runner.run(runner.select(CASES, ["C01", "C14", "C21", "C22"], []), probe):
        assert result.verdict is Verdict.SKIP
        assert "sound servers" in result.evidence or "key exchange" in result.evidence


# --- judgements, where no client would show them --------------------------------------------------------------------


@pytest.fixture
def request_seen() -> Iterator[NtpTalk]:
    """An NTS request by its form."""
    packet = bytes([0x23]) + bytes(47)
    packet += b"".join(bytes([kind, 4, 0, 36]) + bytes(32) for kind in (1, 2, 4))
    with NtpPeer() as peer:
        yield NtpTalk(packet, ("127.0.0.1", 4000), peer)


def test_client_that_does_not_say_is_judged_by_what_it_sends(request_seen: NtpTalk) -> None:
    silent = Seen("x", False, accepted=None)
    asked = Seen("x", False, requests=[request_seen], accepted=None)
    assert judge.used(asked, Side.KE).verdict is Verdict.PASS
    assert judge.used(asked).verdict is Verdict.SKIP
    assert judge.used(silent).verdict is Verdict.FAIL
    assert judge.not_taken(asked).verdict is Verdict.SKIP
    assert judge.not_taken(silent).verdict is Verdict.SKIP
    assert judge.sent_nothing(silent).verdict is Verdict.SKIP
    assert [f.verdict for f in judge.aborted(silent)] == [Verdict.SKIP]
    assert judge.spent_once(asked).verdict is Verdict.PASS
    assert judge.spent_once(Seen("x", False, requests=[request_seen] * 2)).verdict is Verdict.WARN


def test_hammering_and_crashing_are_seen() -> None:
    sessions = [KeSession("127.0.0.1:4000", received=b"x") for _ in range(judge.MAX_CONNECTIONS + 1)]
    assert [f.verdict for f in judge.aborted(Seen("x", False, sessions=sessions))] == [Verdict.FAIL]
    assert [f.verdict for f in judge.aborted(Seen("x", False, sessions=sessions[1:]))] == [Verdict.PASS]
    for code in (-11, 139):
        (finding,) = judge.protected(Seen("x", False, code=code))
        assert finding.verdict is Verdict.FAIL
        assert "signal 11" in finding.text


# --- every fault -----------------------------------------------------------------------------------------------------

NOT_IN_A_CASE = (
    "short-nonce", "unknown-fields", "wrong-exporter-context", "stale-cookie", "no-cookies", "no-close-notify",
    "unsynchronised", "another-port", "ke-silence",
)  # fmt: skip


@pytest.mark.parametrize("name", NOT_IN_A_CASE)
def test_right_client_does_what_the_fault_says(authority: Authority, name: str) -> None:
    findings = list(judge.meet(ClientProbe(FlawedClient(), authority), (name,)))
    fault = find(name)
    expected = Verdict.SKIP if name == "another-port" else Verdict.PASS  # its requests go where we do not see them
    assert [f.verdict for f in findings] == [expected], (fault.then, [f.text for f in findings])


# --- recipes ---------------------------------------------------------------------------------------------------------


def place(folder: Path, **changes: float) -> Place:
    return Place("localhost", 1, 2, folder / "ca.pem", folder, seconds=changes.get("seconds", 10))


def test_command_is_filled_in_and_its_exit_code_counts(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    client = CommandClient("x", "echo {host} {ke_port} {ntp_port} {ca} {{}}; exit 3")
    outcome = client.meet(place(folder), lambda _accepted: False)
    assert outcome == Outcome(False, 3, f"localhost 1 2 {folder}/ca.pem {{}}\n")
    assert CommandClient("x", "true").meet(place(folder), lambda _accepted: False).accepted


def test_command_with_a_state_runs_again_without_a_key_exchange(tmp_path: Path) -> None:
    client = CommandClient("x", "touch {state}; echo first", "echo again")
    outputs = [client.meet(place(tmp_path), lambda _accepted: False).output for _ in range(2)]
    assert outputs == ["first\n", "again\n"]
    assert client.keeps


def test_command_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    client = CommandClient("x", "sleep 60 & sleep 60")
    assert client.meet(place(tmp_path, seconds=0.3), lambda _accepted: False) == Outcome(None, None, "")


@pytest.mark.parametrize("command", ["{nonsense}", "{", "{0}", "awk '{ print }'"])
def test_command_with_other_braces_is_refused_early(command: str) -> None:
    with pytest.raises(UnknownPlaceholder, match="ke_port"):
        CommandClient("x", command)


def test_person_is_told_what_to_start(tmp_path: Path) -> None:
    said: list[str] = []
    assert ManualClient(said.append).meet(place(tmp_path), lambda _accepted: True) == Outcome(None)
    assert "port 1" in said[0]
    assert "ca.pem" in said[0]


# --- the command line ------------------------------------------------------------------------------------------------


def test_command_line_reports_in_json(tmp_path: Path) -> None:
    done = support.run("nts_check.py", "client", "--recipe", "ours", "--only", "C02,ke-unknown-record", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {r["name"]: r["verdict"] for r in report["results"]} == {
        "reply-stripped-authenticator": "PASS", "ke-unknown-record": "PASS",
    }  # fmt: skip


def test_command_line_explains_its_cases() -> None:
    done = support.run("nts_check.py", "client", "--list")
    assert done.returncode == 0
    assert all(case.name in done.stdout for case in CASES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--command", "client {port}"), "'port' is none of {ke_port}"),
        (("--recipe", "ours", "--again", "true"), "--again goes with --command"),
        (("--recipe", "ours", "--only", "nonsense"), "no check is called 'nonsense'"),
    ],
)
def test_command_line_mistakes_are_told(arguments: tuple[str, ...], words: str) -> None:
    done = support.run("nts_check.py", "client", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_every_fault_is_fit_for_the_list() -> None:
    for fault in FAULTS.values():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", fault.name)
        assert fault.does
        assert fault.rule
        assert re.match(r"(RFC \d+ section )?[0-9.]+$", fault.section)

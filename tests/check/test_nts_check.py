# SPDX-License-Identifier: MIT
"""nts_check.py as a user meets it: forms, exit codes, one clear line for every mistake, reports that can be read."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from nts.base.errors import ExitCode
from nts.check.client import CASES
from nts.check.model import Check
from nts.check.server import CHECKS
from testkit.processes import ROOT, Process, Suite, free_port, one_error, run
from testkit.sample_checks import SCHEMA
from tools import checks_doc

SCRIPT = "nts_check.py"
QUICK = ("--fast", "--only", "tls13-only,alpn-select,cert-chain,ke-basic,33")


def check(suite: Suite, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`nts_check.py server` against the servers of this suite."""
    return run(SCRIPT, "server", "-c", suite.ca, "localhost", suite.ke_port, *arguments)


# --- what is asked for wrongly ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--nothing",), ("frobnicate",)])
def test_without_a_command_it_says_which_there_are(arguments: tuple[str, ...]) -> None:
    done = run(SCRIPT, *arguments)
    assert done.returncode == ExitCode.USAGE
    assert done.stdout == ""
    assert re.search(r"error: .*(COMMAND|frobnicate)", done.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: host"),
        (["h", "0"], "not a port"),
        (["h", "1", "2"], "unrecognized arguments: 2"),
        (["h", "--pace=-1"], "not a number of seconds from 0"),
        (["h", "--pace", "nan"], "not a number of seconds from 0"),
        (["h", "--pace", "1", "--fast"], "not allowed with"),
        (["h", "-4", "-6"], "not allowed with"),
        (["h", "--seed", "x"], "not a number from 0"),
        (["h", "--timeout", "0"], "not a number of seconds over 0"),
        (["h", "--facts", "--only", "ke-basic"], "--facts judges nothing, so --only and --skip mean nothing"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], complaint: str) -> None:
    done = run(SCRIPT, "server", *arguments)
    assert done.returncode == ExitCode.USAGE
    assert complaint in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "ke-basic,ke-nothing"], "no check is called 'ke-nothing'"),
        (["--skip", "zz*"], "no check is called 'zz\\*'"),
        (["--only", "ke-basic", "--skip", "6"], "no check is left to run"),
        (["--ca", "/none.pem"], "/none.pem does not exist"),
        (["--ca", "/dev/null"], "/dev/null does not exist"),
        (["--ca", __file__], "holds no usable PEM certificate"),
        (["--html", "/none/r.html"], "cannot write /none/r.html: there is no folder"),
        (["--junit", "/"], "cannot write /: it exists and is not a file"),
        (["--junit", "r", "--html", "./r"], "two reports cannot be one file"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_sent(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    one_error(run(SCRIPT, "server", "localhost", free_port(), *arguments, cwd=tmp_path), 2, complaint)


# --- servers that cannot be reached ----------------------------------------------------------------------------------


def test_a_server_that_cannot_be_reached_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    one_error(run(SCRIPT, "server", "nothing.invalid"), ExitCode.RESOLVE, "nothing.invalid")
    one_error(run(SCRIPT, "server", "localhost", free_port(), "--html", report), ExitCode.CONNECT, "cannot connect")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_cannot_be_reached_is_told_of_in_json_too() -> None:
    done = run(SCRIPT, "server", "localhost", free_port(), "--json")
    assert done.returncode == ExitCode.CONNECT
    jsonschema.validate(json.loads(done.stdout), SCHEMA)
    failure = json.loads(done.stdout)["failure"]
    assert (failure["code"], failure["stage"]) == (ExitCode.CONNECT, "connect")
    assert failure["message"] in done.stderr


def test_what_speaks_no_tls_has_exit_code_12() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / SCRIPT), "server", "127.0.0.1", str(server.getsockname()[1]), "--timeout", "5"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        server.settimeout(20)
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"220 mail.example.net ESMTP\r\n")
            out, err = process.communicate(timeout=30)
    one_error(subprocess.CompletedProcess([], process.returncode, out, err), ExitCode.TLS, "")


# --- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_of_some_checks(suite: Suite) -> None:
    done = check(suite, *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert re.findall(r"^PASS +\d+ (\S+)", done.stdout, re.MULTILINE) == [
        "tls13-only", "alpn-select", "cert-chain", "ke-basic", "ntp-basic",
    ]  # fmt: skip
    assert done.stdout.splitlines()[-1] == "Every check passes. Exit code 0."


def test_a_failure_at_crit_gives_exit_code_1_and_all_reports_say_so(suite: Suite, tmp_path: Path) -> None:
    """The certificate is for localhost, and another name is asked for."""
    html, junit = tmp_path / "r.html", tmp_path / "r.xml"
    done = check(suite, *QUICK, "-n", "time.example.net", "--json", "--html", html, "--junit", junit)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    values = json.loads(done.stdout)
    jsonschema.validate(values, SCHEMA)
    assert {r["name"]: r["verdict"] for r in values["results"]}["cert-chain"] == "FAIL"
    assert values["summary"]["conforms"] is False
    assert ET.parse(junit).getroot().get("failures") == "1"
    assert "The server does not conform: cert-chain" in html.read_text()


def test_a_seed_and_a_pace_are_kept_and_reported(suite: Suite) -> None:
    done = check(suite, "--only", "alpn-select,ke-basic", "--pace", "0.3", "--seed", "7", "--json")
    values = json.loads(done.stdout)
    assert (values["seed"], values["pace"]) == (7, 0.3)
    assert values["seconds"] >= 0.3, "one connection to reach it, one for each check"


def test_no_secret_is_shown(suite: Suite, tmp_path: Path) -> None:
    """Cookies hold the keys, and a cookie is sealed with a master key: its identifier starts each one."""
    html, junit = tmp_path / "r.html", tmp_path / "r.xml"
    arguments = ("--fast", "--only", "ke-basic,ntp-*", "--skip", "ntp-malformed-sweep", "--verbose")
    outputs = [check(suite, *arguments, "--html", html, "--junit", junit).stdout, html.read_text(), junit.read_text()]
    outputs.append(check(suite, *arguments, "--json").stdout)
    identifiers = [p.stem for p in suite.keys.glob("*.key")]
    assert identifiers
    for output in outputs[:2] + outputs[3:]:
        assert "NTS Cookie" in output
        assert "100 octets" in output
    for output in outputs:
        for identifier in identifiers:
            assert not re.search(rf"(?<![0-9a-f]){identifier}[0-9a-f]{{100,}}", output)


@pytest.mark.parametrize(
    ("names", "code", "conforms", "meaning"),
    [
        (
            "ke-basic,ntp-answers,ntp-basic",
            1,
            False,
            "The server does not conform: ntp-answers; 1 could not be judged.",
        ),
        ("ke-basic,ntp-basic", 3, None, "Nobody can say whether the server conforms: "),
    ],
)
def test_a_server_without_its_time_server_does_not_conform(
    tmp_path: Path, names: str, code: int, conforms: bool | None, meaning: str
) -> None:
    suite, page = Suite(tmp_path), tmp_path / "r.html"
    suite.start_ke()
    try:
        done = check(suite, "--fast", "--only", names, "--json", "--html", page)
    finally:
        suite.stop()
    assert done.returncode == code, done.stderr
    values = json.loads(done.stdout)
    jsonschema.validate(values, SCHEMA)
    assert values["summary"]["conforms"] is conforms
    assert meaning in page.read_text()


def test_ctrl_c_reports_what_was_done(suite: Suite, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / SCRIPT), "server", "-c", str(suite.ca), "localhost", str(suite.ke_port)]
    names = ["--only", "tls13-only,ke-silence", "--pace", "0", "--html", str(tmp_path / "r.html")]
    process = Process([*command, *names], tmp_path / "log")
    process.wait_for("tls13-only ")
    assert process.stop(signal.SIGINT) == 130
    counts, meaning = process.output().splitlines()[-2:]
    assert counts.startswith("1 of 2 checks: 1 PASS; ")
    assert meaning == "Interrupted. Exit code 130."
    assert "Traceback" not in process.output()
    assert "1 of 2" in (tmp_path / "r.html").read_text()


def test_ctrl_c_while_the_facts_are_gathered_is_no_traceback(suite: Suite, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / SCRIPT), "server", "-c", str(suite.ca), "localhost", str(suite.ke_port)]
    process = Process([*command, "--facts", "--pace", "5", "--html", str(tmp_path / "r.html")], tmp_path / "log")
    process.wait_for("only facts, ")
    assert process.stop(signal.SIGINT) == 130
    assert process.output().splitlines()[-1] == "Interrupted. Exit code 130."
    assert "Traceback" not in process.output()
    assert "Interrupted." in (tmp_path / "r.html").read_text()


def test_a_reader_that_goes_away_is_no_traceback(suite: Suite) -> None:
    command = [sys.executable, str(ROOT / SCRIPT), "server", "-c", str(suite.ca), "localhost", str(suite.ke_port)]
    with subprocess.Popen([*command, *QUICK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(30) == 1


# --- documentation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["server", "client"])
def test_list_explains_every_check(command: str) -> None:
    checks: list[Check[Any]] = [*(CHECKS if command == "server" else CASES)]
    done = run(SCRIPT, command, "--list", env={"COLUMNS": "80"})
    assert done.returncode == 0
    found = re.findall(r"^(\w+) ([a-z0-9-]+)  (?:CRIT|MUST|SHOULD|INFO), ", done.stdout, re.MULTILINE)
    assert sorted(found) == sorted((c.id, c.name) for c in checks)
    for label in ("sends", "passes", "rule"):
        assert len(re.findall(rf"^  {label} +\S", done.stdout, re.MULTILINE)) == len(checks)


def test_list_shows_what_would_be_run() -> None:
    done = run(SCRIPT, "server", "--list", "--only", "ke-*", "--skip", "ke-silence,14")
    names = re.findall(r"^\d+ ([a-z0-9-]+)  ", done.stdout, re.MULTILINE)
    assert "ke-basic" in names
    assert not {"ke-silence", "ke-crit-unknown", "ntp-basic"} & set(names)


@pytest.mark.parametrize(
    ("command", "arguments", "numbers"),
    [
        ("server", ("--only", "2-4", "--only", "7"), ["2", "3", "4", "7"]),
        ("server", ("--only", "1-9", "--skip", "1-3,5", "--skip", "7-9"), ["4", "6"]),
        ("client", ("--only", "C01-C03,5-5"), ["C01", "C02", "C03", "C05"]),
    ],
)
def test_ranges_are_chosen_and_what_is_repeated_adds_up(
    command: str, arguments: tuple[str, ...], numbers: list[str]
) -> None:
    done = run(SCRIPT, command, "--list", *arguments)
    assert re.findall(r"^(C?\d+) [a-z0-9-]+  ", done.stdout, re.MULTILINE) == numbers


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ke-basics", "hint: did you mean ke-basic"), ("900-999", "no check is called '900-999'"),
        ("5-1", "no check is called '5-1'"), ("xyzzy", "--list shows them all"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_told_and_the_like_suggested(name: str, words: str) -> None:
    done = run(SCRIPT, "server", "--only", name, "localhost")
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert words in done.stderr


@pytest.mark.parametrize(("more", "code"), [((), 3), (("--strict",), 1)], ids=["usual", "strict"])
def test_a_mistyped_command_does_not_look_like_a_good_client(more: tuple[str, ...], code: int) -> None:
    done = run(SCRIPT, "client", "--command", "/none/client {host}", "--only", "C14", *more)
    assert done.returncode == code
    assert re.search(r'SKIP +C14 .* the client never came \(exit code 127\): it says ".*not found"', done.stdout)
    assert done.stderr == f"{SCRIPT}: warning: nothing was judged: every check ended in SKIP or PATH?\n"


def test_all_checks_of_the_lists_are_there_once() -> None:
    assert [int(c.id) for c in CHECKS] == list(range(1, len(CHECKS) + 1))
    assert [c.id for c in CASES] == [f"C{n:02}" for n in range(1, 27)]
    names = [c.name for c in CHECKS] + [c.name for c in CASES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("check", [*CHECKS, *CASES], ids=lambda c: str(c.name))
def test_a_check_says_what_a_person_needs(check: Check[Any]) -> None:
    for words in (check.sends, check.expects, check.rule):
        assert len(words) > 10
        assert words[0].isupper() or words[0].isdigit()
        assert words.endswith((".", ")"))
    assert re.fullmatch(r"[AB]\d\d([ -][AB]\d\d)*", check.ref)


def test_the_document_of_the_checks_is_up_to_date() -> None:
    assert checks_doc.PATH.read_text() == checks_doc.text(), "run python -m tools.checks_doc"


@pytest.mark.parametrize("command", ["server", "client"])
def test_every_option_is_documented(command: str) -> None:
    documented = (ROOT / "docs/nts_check.md").read_text()
    help_text = run(SCRIPT, command, "--help").stdout.partition("examples:")[0]
    for option in set(re.findall(r"(?<![\w-])--?[a-z0-9][\w-]*", help_text)) - {"-h", "--help"}:
        assert re.search(rf"`[^`]*{re.escape(option)}\b", documented), f"{command} {option}"

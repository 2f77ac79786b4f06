# SPDX-License-Identifier: MIT
"""nts_check's output: its lines, with and without a terminal; nothing hostile or secret gets into any form of it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from nts.base.registry import FieldType
from nts.check.model import Direction, Exhibit, Grade, Protocol, Severity, conclude, failed, passed, skipped, warned
from nts.check.output import catalogue, summary, text
from nts.check.output.render import Options, Reporter
from testkit import sample_checks
from testkit.processes import ROOT
from testkit.sample_checks import SCHEMA, show

FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")  # all but the line end


def all_outputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Every form of the same run, at the highest verbosity."""
    junit, html = folder / "r.xml", folder / "r.html"
    assert show(Options(verbose=True, junit=junit, html=html)) == 1
    outputs = {"text": capsys.readouterr().out, "junit": junit.read_text(), "html": html.read_text()}
    assert show(Options(json=True, verbose=True)) == 1
    return {**outputs, "json": capsys.readouterr().out}


# --- lines -----------------------------------------------------------------------------------------------------------


def test_without_a_terminal_each_check_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(Options()) == 1
    out = capsys.readouterr().out
    assert not FORBIDDEN.search(out)
    for name, verdict in sample_checks.verdicts().items():
        (line,) = re.findall(rf"^{re.escape(verdict.value)} +\d+ {name} .*$", out, re.MULTILINE)
        assert len(line.split(maxsplit=4)) == 5
    assert [x for x in out.splitlines() if x in ("TLS and ALPN", "NTS-KE messages", "NTP packets")] == [
        "TLS and ALPN", "NTS-KE messages", "NTP packets",
    ]  # fmt: skip


def test_the_summary_counts_and_says_what_it_means(capsys: pytest.CaptureFixture[str]) -> None:
    show(Options())
    counts, meaning = capsys.readouterr().out.splitlines()[-2:]
    assert counts.startswith("8 checks: 2 PASS, 2 WARN, 2 FAIL (1 MUST, 1 SHOULD), 1 PATH?, 1 SKIP; ")
    assert meaning == "The server does not conform: alpn-absent; 2 could not be judged. Exit code 1."


@pytest.mark.parametrize(
    ("names", "code", "meaning"),
    [
        (["tls13-only", "ke-crit-unknown"], 0, "Every check passes. Exit code 0."),
        (["ke-aead-15-last"], 0, "The server conforms: no failure at MUST or CRIT. Exit code 0."),
        (["ke-aead-menu"], 3, "Nothing could be judged about the server. Exit code 3."),
        (
            ["tls13-only", "ntp-placeholder-encrypted"],
            3,
            "Nobody can say whether the server conforms: a rule at MUST or CRIT is open in ntp-placeholder-encrypted."
            " Exit code 3.",
        ),
        (["alpn-absent"], 1, "The server does not conform: alpn-absent. Exit code 1."),
    ],
)
def test_the_exit_code_says_whether_the_server_conforms(
    names: list[str], code: int, meaning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(Options(), *names) == code
    assert capsys.readouterr().out.endswith(f"{meaning}\n")


@pytest.mark.parametrize("form", [Options(), Options(json=True)], ids=["lines", "JSON"])
@pytest.mark.parametrize(
    ("names", "code", "conforms", "warned"),
    [
        (["ke-aead-menu", "ntp-placeholder-encrypted"], 3, None, True),
        (["ntp-placeholder-encrypted", "tls13-only"], 3, None, False),
        (["ke-aead-menu", "tls13-only"], 0, True, False),
        (["ntp-placeholder-encrypted", "alpn-absent"], 1, False, False),
    ],
    ids=["nothing", "an open MUST", "an open INFO", "a failure"],
)
def test_what_was_not_judged_does_not_go_unnoticed(
    form: Options, names: list[str], code: int, conforms: bool | None, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(form, *names) == code
    output = capsys.readouterr()
    assert ("warning: nothing was judged" in (output.err.splitlines() or [""])[-1]) is warned
    assert show(replace(form, strict=True), *names) == (1 if code == 3 else code)
    if form.json:
        values = json.loads(output.out)
        jsonschema.validate(values, SCHEMA)
        assert (values["summary"]["exit_code"], values["summary"]["conforms"]) == (code, conforms)


def test_what_was_judged_in_part_is_not_passed() -> None:
    check = sample_checks.CHECKS[0]
    result = conclude(check, [passed("good"), skipped("half of it")])
    assert (result.grade, result.open) == (Grade.SKIP, Severity.CRIT)
    result = conclude(check, [passed("good"), warned("hm"), skipped("half of it")])
    assert (result.grade, result.evidence, result.open) == (Grade.WARN, "hm; half of it", Severity.CRIT)
    result = conclude(check, [passed("good"), skipped("a detail", Severity.INFO)])
    assert (result.grade, result.evidence, result.open) == (Grade.PASS, "good", None)


def test_a_run_that_was_interrupted_before_anything_was_judged_is_just_that(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert show(Options(strict=True), interrupt_at="tls13-only") == 130
    assert "nothing was judged" not in capsys.readouterr().err


def test_findings_come_worst_first_with_what_the_rfc_says(capsys: pytest.CaptureFixture[str]) -> None:
    show(Options())
    out = capsys.readouterr().out
    heads = re.findall(r"^\S+ +(\S+)  \w+, RFC 8915 section", out, re.MULTILINE)
    assert heads == [
        "alpn-absent", "ke-aead-15-last", "ntp-placeholder-encrypted", "ke-truncated", "ntp-ef-placement",
    ]  # fmt: skip
    assert "  rule    ALPN is required, and the protocol is ntske/1.\n" in out
    assert "New Cookie for NTPv4" not in out
    show(Options(verbose=True), "alpn-absent")
    assert "New Cookie for NTPv4          <100 octets>" in capsys.readouterr().out


def test_an_interrupted_run_is_reported_as_far_as_it_went(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = Options(junit=tmp_path / "r.xml", html=tmp_path / "r.html")
    assert show(options, interrupt_at="ke-truncated") == 130
    counts, meaning = capsys.readouterr().out.splitlines()[-2:]
    assert counts.startswith("3 of 8 checks: 2 PASS, 1 FAIL (1 MUST); ")
    assert meaning == "Interrupted, with a failure at MUST or CRIT in alpn-absent. Exit code 130."
    assert ET.parse(tmp_path / "r.xml").getroot().get("tests") == "3"
    assert "3 of 8" in (tmp_path / "r.html").read_text()
    assert show(Options(json=True), interrupt_at="ke-truncated") == 130
    values = json.loads(capsys.readouterr().out)
    jsonschema.validate(values, SCHEMA)
    assert values["summary"]["interrupted"] is True
    assert values["summary"]["conforms"] is False  # for something had failed by then
    assert (values["summary"]["planned"], values["summary"]["checks"]) == (8, 3)


def test_another_error_inside_a_run_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError), Reporter("server", "h", [], Options(), intro=""):
        raise ZeroDivisionError


# --- a terminal ------------------------------------------------------------------------------------------------------

PROGRAM = """
from nts.check.output.render import Options
from testkit.sample_checks import show
raise SystemExit(show(Options()))
"""


def on_terminal(columns: int, program: str = PROGRAM, **env: str) -> str:
    """What a program writes to a pseudo-terminal of this width."""
    master, slave = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "40", "PYTHONUTF8": "1", **env}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=slave, stderr=slave, stdin=slave, cwd=ROOT, env=environment
    ) as process:
        os.close(slave)
        data, end = b"", time.monotonic() + 30
        try:
            while time.monotonic() < end and select.select([master], [], [], end - time.monotonic())[0]:
                data += os.read(master, 65536)
        except OSError:
            pass  # the other side is closed
        finally:
            os.close(master)
            process.kill() if time.monotonic() >= end else process.wait(10)
    return data.decode()


ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_on_a_terminal_evidence_is_wrapped_and_never_cut(columns: int) -> None:
    shown = on_terminal(columns)
    assert "\x1b[32mPASS" in shown
    assert "\x1b[1;31mFAIL" in shown
    lines = [re.sub(r".*\r", "", ESCAPES.sub("", x).rstrip("\r")) for x in shown.split("\n")]
    assert max(map(len, lines)) <= columns
    words = " ".join(" ".join(lines).split())
    assert "packets over 228 octets vanish" in words
    assert ("MUST: served 8 cookies" in words) == (columns <= 80), "a column of its own if there is room"


def test_a_terminal_is_told_what_is_being_done_and_left_in_order() -> None:
    slow = PROGRAM.replace("raise", "import time\nfrom testkit import sample_checks\n"
        "sample_checks.CHECKS[:] = sample_checks.CHECKS[:2]\n"
        "start = show.__globals__['Reporter'].start\n"
        "show.__globals__['Reporter'].start = lambda s, c: (start(s, c), time.sleep(0.3))\nraise", 1)  # fmt: skip
    shown = on_terminal(100, slow)
    assert "alpn-absent: a handshake without ALPN" in shown
    assert "1/2" in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") >= 0, "the cursor is back"


def test_no_color_and_a_dumb_terminal_are_respected() -> None:
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", on_terminal(80, NO_COLOR="1"))
    assert "\x1b" not in on_terminal(80, TERM="dumb")


# --- hostile peers and secrets ---------------------------------------------------------------------------------------


def test_what_a_hostile_peer_says_is_text_in_every_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Control codes, markup of three kinds, marks of writing direction, half a surrogate pair."""
    outputs = all_outputs(tmp_path, capsys)
    for name, output in outputs.items():
        assert not FORBIDDEN.search(output), name
        assert "owned" in output, "it is shown, though"
    assert "<script" not in outputs["html"]
    assert "[bold]x[/bold] $name" in outputs["text"]
    assert r"\x1b[31m\x1b]0;owned\x07<script>" in json.loads(outputs["json"])["results"][-1]["evidence"]
    ET.fromstring(outputs["junit"])
    shown = on_terminal(120)
    assert "\x1b]0;" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown


def test_a_hostile_target_is_text_too(tmp_path: Path) -> None:
    options = Options(json=True, html=tmp_path / "r.html", junit=tmp_path / "r.xml")
    session = Reporter("client", "<b>\x1b[1m&", [], options, intro="\x1b[1m")
    with session:
        pass
    session.finish()
    assert "<b>\\x1b" not in (tmp_path / "r.html").read_text()
    assert r"&lt;b&gt;\x1b[1m&amp;" in (tmp_path / "r.html").read_text()
    assert ET.parse(tmp_path / "r.xml").getroot().get("name") == r"nts_check client <b>\x1b[1m&"


def test_no_output_shows_a_cookie(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, output in all_outputs(tmp_path, capsys).items():
        for start in (0, 30, 60):
            assert sample_checks.COOKIE[start : start + 16].hex() not in output, name
        assert "100 octets" in output, name


def test_a_long_text_of_a_peer_is_cut_and_says_so() -> None:
    shown = text.printable("x" * 100_000)
    assert len(shown) < 1100
    assert shown.endswith("... (99000 more characters)")
    many = Exhibit(Direction.RECEIVED, "many", Protocol.NTS_KE, b"\0\x09\0\0" * 5000)
    lines = text.decoded(many)
    assert len(lines) == text.MAX_LINES + 1
    assert lines[-1].endswith("... 4801 more lines")


@pytest.mark.parametrize(
    ("octets", "last"),
    [
        (sample_checks.request(15), "   12  critical      0 End of Message"),
        (sample_checks.request(15)[:9], "    6            3 octets that are not a complete record"),
        (sample_checks.request(15)[:-4], "   12            no End of Message record"),
        (sample_checks.request(15) * 2, "   28  critical      0 End of Message"),
        (sample_checks.request(15) + b"\xff", "   16            1 octets that are not a complete record"),
    ],
)
def test_a_broken_message_is_decoded_as_far_as_it_goes(octets: bytes, last: str) -> None:
    assert text.decoded(Exhibit(Direction.SENT, "", Protocol.NTS_KE, octets))[-1] == last


def test_octets_of_no_protocol_are_only_counted() -> None:
    assert text.decoded(Exhibit(Direction.SENT, "", Protocol.NONE, b"secret")) == ["       6 octets"]
    assert text.decoded(Exhibit(Direction.NOTE, "")) == []


def test_a_packet_is_decoded_field_by_field() -> None:
    lines = text.decoded(Exhibit(Direction.SENT, "", Protocol.NTP, sample_checks.packet()))
    assert any(f"{FieldType.COOKIE:#06x} NTS Cookie" in line for line in lines)


# --- order and documentation -----------------------------------------------------------------------------------------


def test_groups_stay_together_in_the_order_of_their_first_check() -> None:
    mixed = [sample_checks.CHECKS[i] for i in (0, 2, 1, 6, 3)]
    assert [c.group for c in summary.in_groups(mixed)] == [
        "TLS and ALPN", "TLS and ALPN", "NTS-KE messages", "NTS-KE messages", "NTP packets",
    ]  # fmt: skip


def test_a_finding_of_its_own_severity_decides_by_that_one() -> None:
    check = sample_checks.CHECKS[0]
    result = conclude(check, [passed("fine"), failed("not so fine", Severity.INFO)])
    report = summary.Report("server", "h", 0, None, None, planned=1, results=(result,))
    assert report.exit_code == 0
    assert report.failures[Severity.INFO] == 1
    assert result.grade is Grade.FAIL


def test_markdown_escapes_what_is_markup_there() -> None:
    words = catalogue.markdown("Title", sample_checks.CHECKS)
    assert "ntp-ef-placement" in words
    assert catalogue._escaped("a|b <c> [d]*") == r"a\|b \<c\> \[d\]\*"


@pytest.mark.parametrize(("seconds", "words"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (192, "3 min 12 s")])
def test_durations_are_for_people(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words

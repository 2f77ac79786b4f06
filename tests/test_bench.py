# SPDX-License-Identifier: MIT
"""The benchmark runs, and its tables are sane. How fast anything is, is no matter of a test."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support import ROOT
from tools.bench import tables


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_one_short_round_without_chrony() -> None:
    done = bench("nts", "nak", "--no-chrony", "--rounds", "1", "--seconds", "0.1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no chrony beside it: --no-chrony was given" in done.stdout
    rows = {
        name: columns.split() for name, columns in re.findall(r"^  (\S.*?)  +([\d., ]+)$", done.stdout, re.MULTILINE)
    }
    assert list(rows) == ["native engine", "Python reference", "floor (echo)", "native engine, good cookies"]
    for median, lowest, highest, _ in rows.values():
        assert median == lowest == highest  # of one round
        assert int(median.replace(",", "")) > 0
    assert rows["floor (echo)"][-1] == "1.00"
    assert re.search(
        r"^  goal: NTS NAK / good cookies at least 1\.00: \d+\.\d\d, (NOT )?met$", done.stdout, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["speed"], "no case 'speed'; the cases are nts, "), (["--rounds", "0"], "a number above 0 is needed")],
)
def test_what_it_cannot_do_is_said(arguments: list[str], says: str) -> None:
    done = bench(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    assert tables.ratio({"a": [1, 4, 9], "b": [1, 2, 3]}, "a", "b") == 2


def test_a_table_leaves_out_rivals_that_did_not_take_part(capsys: pytest.CaptureFixture[str]) -> None:
    tables.compare("title", {"ours": [3000.4, 1000, 2000], "theirs": [1000, 500, 2000]}, ["absent", "theirs"], ["note"])
    assert capsys.readouterr().out.splitlines() == [
        "",
        "title",
        "          median  lowest  highest  x theirs",
        "  ours     2,000   1,000    3,000      2.00",
        "  theirs   1,000     500    2,000      1.00",
        "  note",
    ]


def test_a_goal_is_met_or_not() -> None:
    assert tables.goal("speed", 2, 2).endswith("speed at least 2.00: 2.00, met")
    assert tables.goal("speed", 2, 1.9).endswith("1.90, NOT met")

# SPDX-License-Identifier: MIT
"""ntsts_client.py --check: the line and the exit code that monitoring systems expect of a plugin."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.client_runs import TS, Completed, genuine, nothing, only
from testkit.processes import ROOT, Suite, run
from testkit.time_servers import ahead, time_servers

OK, WARNING, CRITICAL, UNKNOWN = range(4)
VALUE = re.compile(r"(?:'([^']+)'|(\w+))=(-?[\d.]+)(s?);([\d.:]*);([\d.:]*);([\d.]*);([\d.]*)")


def check(folder: Path, *arguments: object) -> Completed:
    return run(TS, "--check", *arguments, cwd=folder)


def told(done: Completed, code: int) -> tuple[str, dict[str, tuple[float, str, str]]]:
    """The text, and each value with its unit and limits. stdout is one line, and stderr is empty."""
    assert (done.returncode, done.stderr) == (code, "")
    (line,) = done.stdout.splitlines()
    text, _, performance = line.partition(" | ")
    assert text.startswith(f"NTS {['OK', 'WARNING', 'CRITICAL', 'UNKNOWN'][code]} - ")
    found = list(VALUE.finditer(performance))
    assert " ".join(m[0] for m in found) == performance
    return text, {m[1] or m[2]: (float(m[3]), m[4], f"{m[5]};{m[6]}") for m in found}


def test_a_good_server_is_ok(tmp_path: Path) -> None:
    with time_servers(tmp_path, only(genuine)):
        text, values = told(check(tmp_path, "-f", "a.ini", "-n", 3, "-i", 0.01), OK)
    assert re.fullmatch(r"NTS OK - offset [+-].* \+/- .*s; delay .*s; 8 cookies left", text)
    assert list(values) == ["offset", "error", "delay", "jitter", "cookies"]
    assert values["offset"][1:] == ("s", "0.05;1")
    assert abs(values["offset"][0]) <= values["error"][0] < 0.5
    assert values["cookies"] == (8.0, "", ";")


@pytest.mark.parametrize(
    ("seconds", "limits", "code"),
    [
        (2, "", CRITICAL),
        (-2, "", CRITICAL),
        (0.3, "", WARNING),
        (-0.3, "--warn 5s --crit 200ms", CRITICAL),
        (2, "--warn 1m --crit 1h", OK),
        (2, "--crit 1d,cookies=2", WARNING),
    ],
)
def test_the_offset_has_limits_in_both_directions(tmp_path: Path, seconds: float, limits: str, code: int) -> None:
    with time_servers(tmp_path, ahead(seconds)):
        told(check(tmp_path, "-f", "a.ini", *limits.split()), code)


def test_cookies_have_a_lower_limit(tmp_path: Path) -> None:
    with time_servers(tmp_path, only(lambda talk: talk.time(cookies=[]))):
        text, values = told(check(tmp_path, "-f", "a.ini", "--warn", "cookies=7", "--crit", "cookies=6"), OK)
        assert values["cookies"] == (7.0, "", "7:;6:")
        text, _ = told(check(tmp_path, "-f", "a.ini", "--warn", "cookies=7", "--crit", "cookies=6"), WARNING)
        assert text == "NTS WARNING - 6 cookies left"
        told(check(tmp_path, "-f", "a.ini", "--warn", "cookies=7", "--crit", "cookies=6"), CRITICAL)


def test_a_key_exchange_leaves_its_time_and_the_certificates_end(suite: Suite, tmp_path: Path) -> None:
    ini = tmp_path / "client.ini"
    assert suite.fetch(output=ini).returncode == 0
    text, values = told(check(tmp_path, "-f", ini, "--warn", "age=1h,certificate=1h"), OK)
    assert "key exchange 0.0 days ago; certificate expires in " in text
    assert 0 <= values["age"][0] < 600
    assert values["age"][1:] == ("s", "3600;")
    assert values["certificate"][0] > 86400
    assert values["certificate"][1:] == ("s", "3600:;")
    text, _ = told(check(tmp_path, "-f", ini, "--warn", "certificate=9999999d"), WARNING)
    assert re.fullmatch(r"NTS WARNING - certificate expires in [\d.]+ days", text)
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ini)
    parser["ntske"]["exchanged"] = "2020-02-29T00:00:00Z"
    with ini.open("w") as f:
        parser.write(f)
    text, _ = told(check(tmp_path, "-f", ini, "--warn", "age=30d", "--crit", "age=365d"), CRITICAL)
    assert re.fullmatch(r"NTS CRITICAL - key exchange [\d.]+ days ago", text)


def test_a_limit_for_what_is_not_known_is_unknown(tmp_path: Path) -> None:
    with time_servers(tmp_path, only(genuine)):
        text, _ = told(check(tmp_path, "-f", "a.ini", "--warn", "age=1d"), UNKNOWN)
    assert text == "NTS UNKNOWN - age unknown"


def test_the_servers_failures_are_critical_and_our_own_unknown(tmp_path: Path) -> None:
    with time_servers(tmp_path, nothing, only(lambda talk: talk.kiss())):
        text, _ = told(check(tmp_path, "-f", "a.ini", "--timeout", 0.2), CRITICAL)
        assert text.startswith("NTS CRITICAL - no NTP answer from 127.0.0.1")
        assert "NTS NAK" in told(check(tmp_path, "-f", "b.ini"), CRITICAL)[0]
    assert "none.ini does not exist" in told(check(tmp_path, "-f", "none.ini"), UNKNOWN)[0]


def test_of_several_servers_the_worst_counts_and_the_falseticker_is_named(tmp_path: Path) -> None:
    with time_servers(tmp_path, only(genuine), ahead(0.02), only(genuine)):
        three = [word for letter in "abc" for word in ("-f", f"{letter}.ini")]
        text, values = told(check(tmp_path, *three), CRITICAL)
        assert text == "NTS CRITICAL - b.ini is a falseticker"
        assert 0.01 < values["b.ini offset"][0] < 0.03
        text, _ = told(check(tmp_path, *three[:4]), WARNING)
        assert text == "NTS WARNING - no majority of the servers agrees"
        told(check(tmp_path, *three[:2], *three[4:]), OK)


@pytest.mark.parametrize(
    "arguments",
    ["--warn 50", "--warn tea=3", "--crit cookies=9", "--crit -1s", "--json", "--monitor", "--plot x.svg", "-n 0"],
)
def test_wrong_usage_is_unknown_and_not_critical(tmp_path: Path, arguments: str) -> None:
    done = check(tmp_path, *arguments.split())
    assert done.returncode == UNKNOWN
    assert "error: " in done.stderr.splitlines()[-1]


def test_missing_packages_are_unknown(tmp_path: Path) -> None:
    """As far as `--check` has come by then: what every query needs is missed before."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules['cryptography'] = None;"
        "from nts.codec import aes_siv; aes_siv.is_built = lambda: False"
    )
    with time_servers(tmp_path, only(genuine)):
        text = (tmp_path / "a.ini").read_text()
        (tmp_path / "a.ini").write_text(text.replace("[keys]", "[keys]\naead = 30"))
        text = re.sub(r"([cs]2[cs] = \w{32})\w+", r"\1", (tmp_path / "a.ini").read_text())
        (tmp_path / "a.ini").write_text(text)
        done = subprocess.run(
            [sys.executable, str(ROOT / TS), "--check", "-f", "a.ini"],
            cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout.partition(" - ")[0]) == (UNKNOWN, "NTS UNKNOWN"), done.stderr

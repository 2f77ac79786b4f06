# SPDX-License-Identifier: MIT
"""Man pages and shell completion are made from the parsers, and are what man and the shells understand."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nts.system.console import COMMANDS
from testkit.command_lines import parser_of
from testkit.processes import ROOT
from tools import manuals

SYNTAX = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "-n"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("share"))


def make(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "tools.manuals", str(folder)], cwd=ROOT, check=True, timeout=60)
    return folder


def option_strings(parser: argparse.ArgumentParser) -> set[str]:
    """Of the parser and its subcommands."""
    found: set[str] = set()
    for action in parser._actions:
        found.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            found = found.union(*map(option_strings, action.choices.values()))
    return found


@pytest.mark.parametrize("script", COMMANDS)
def test_a_man_page_has_all_options_and_no_name_of_a_script(made: Path, script: str) -> None:
    text = (made / manuals.MAN.format(COMMANDS[script])).read_text()
    plain = text.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "")
    assert re.search(rf"\.SH NAME\n{COMMANDS[script]} - \w", plain)
    assert ".SH EXAMPLES\n" in text
    assert not re.search(r"_\w+\.py\b", text)
    for option in option_strings(parser_of(ROOT / f"{script}.py")) - {"--help"}:  # which led the reader here
        assert re.search(rf"(?<![\w-]){option}\b", plain), option


@pytest.mark.parametrize("command", COMMANDS.values())
def test_man_understands_the_page(made: Path, command: str) -> None:
    if shutil.which("groff") is None:
        pytest.skip("no groff here (Debian: groff-base)")
    line = ["groff", "-man", "-Tutf8", "-ww", "-z", str(made / manuals.MAN.format(command))]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", SYNTAX)
def test_the_shell_understands_its_completion(made: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    for command in COMMANDS.values():
        done = subprocess.run([*SYNTAX[shell], made / manuals.SHELLS[shell].format(command)], check=False)
        assert done.returncode == 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ntsts-client --no-re", {"--no-rekey"}),
        ("ntske-client --ver", {"--verify-name", "--version", "--verbose"}),
        ("nts-check mis", {"misbehave"}),
        ("nts-check server --fa", {"--facts", "--fast"}),
        ("nts-server-helper st", {"status"}),
        ("nts-fleet-helper rot", {"rotate"}),
        ("nts-fleet-helper leave --f", {"--force"}),
        ("ntske-server --log-format j", {"json"}),
        ("ntske-client --ca pypro", {"pyproject.toml"}),
        ("ntsts-server pypro", {"pyproject.toml"}),
    ],
)
def test_bash_completes(made: Path, line: str, expected: set[str]) -> None:
    command, *_ = words = line.split()
    function = f"_shtab_{command.replace('-', '_')}"
    code = (
        f'source "$1"; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; {function}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    file = str(made / manuals.SHELLS["bash"].format(command))
    done = subprocess.run(["bash", "-c", code, "bash", file], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected


def test_they_are_the_same_in_every_run_and_name_no_path_of_the_machine(made: Path, tmp_path: Path) -> None:
    def contents(folder: Path) -> dict[str, str]:
        return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}

    first = contents(made)
    assert first == contents(make(tmp_path))
    assert not [name for name, text in first.items() if str(ROOT) in text or str(Path.home()) in text]

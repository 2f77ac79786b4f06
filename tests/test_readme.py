# SPDX-License-Identifier: MIT
"""README.md is true: its walk runs as it stands, and it names every option there is."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nts.base.errors import ExitCode
from nts.server import config
from testkit.processes import ROOT, free_port, run, unmeasured

README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """The text under a heading, up to the next one of the same or a higher level."""
    found = re.search(rf"^(#+) {re.escape(title)}.*?\n(.*?)(?=^#{{1,2}} |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[2]


def commands(title: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)


def test_the_walk_through_the_five_scripts_runs_as_it_stands(tmp_path: Path) -> None:
    """Typed into a shell, in a copy of the checkout, with only the port numbers changed."""
    (walk,) = commands("A walk through the five scripts")
    here = tmp_path / "a checkout"
    here.mkdir()
    for script in ROOT.glob("*.py"):
        shutil.copy(script, here)
    shutil.copytree(ROOT / "nts", here / "nts", ignore=shutil.ignore_patterns("__pycache__"))
    (here / "libaes_siv").symlink_to(ROOT / "libaes_siv")
    (here / ".venv").symlink_to(Path(sys.prefix))
    ports = {"4446": str(free_port()), "4123": str(free_port(socket.SOCK_DGRAM))}
    ini = (ROOT / "server.ini").read_text()
    for shipped, free in ports.items():
        ini, walk = ini.replace(f"port = {shipped}", f"port = {free}"), walk.replace(shipped, free)
    (here / "server.ini").write_text(ini)
    with subprocess.Popen(
        ["bash", "-e", "-c", walk], cwd=here, env=unmeasured(), text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as shell:  # fmt: skip
        try:
            output, _ = shell.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # the servers, if it got stuck before it ended them
    assert shell.returncode == 0, output
    assert "Traceback" not in output
    assert "error:" not in output
    for text in ("THROWAWAY", "New Cookie for NTPv4", "stored in", "new master key", "answer: time", "current"):
        assert text in output
    assert len(re.findall(r"^\d{4}-\d\d-\d\dT.* offset ", output, re.MULTILINE)) == 2
    assert "datagrams: answered nts 2" in output
    assert "sessions: agreed 1" in output


def test_the_two_commands_exist() -> None:
    (two,) = commands("Two commands")
    assert two.split("\n") == ["./bootstrap demo", "./bootstrap test", ""]
    for target in ("demo", "check"):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert os.access(ROOT / "bootstrap", os.X_OK)


@pytest.mark.parametrize(
    "script", ["ntske_server.py", "ntsts_server.py", "ntske_client.py", "ntsts_client.py", "server_helper.py"]
)
def test_every_option_is_documented(script: str) -> None:
    text = section("A walk through the five scripts")
    for option in set(re.findall(r"(?<![\w-])--?[a-z0-9][\w-]*", run(script, "--help").stdout)) - {"-h", "--help"}:
        assert re.search(rf"`[^`]*{re.escape(option)}\b", text), f"{script} {option}"


def test_every_configuration_option_is_documented_with_its_default() -> None:
    text = section("Configuration")
    for option in itertools.chain(*map(dataclasses.fields, config.SECTIONS.values())):
        name = config.option_name(option)
        assert f"`{name}`" in text
        rows = [line for line in text.splitlines() if line.startswith("|") and f"`{name}`" in line]
        assert any(option.metadata["default"] in row for row in rows), (name, rows)


def test_every_exit_code_is_documented() -> None:
    text = section("A walk through the five scripts")
    for code in ExitCode:
        assert re.search(rf"\b{int(code)} ", text), code


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://www.rfc-editor.org/") or (ROOT / target).exists(), target

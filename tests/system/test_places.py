# SPDX-License-Identifier: MIT
"""Where files are looked for that no argument names."""

from __future__ import annotations

from pathlib import Path

import pytest

from nts.system import console, places
from testkit.processes import ROOT


def test_in_a_checkout_all_is_beside_the_scripts_whatever_the_current_folder() -> None:
    assert places.server_ini() == ROOT / "server.ini"
    assert places.client_ini() == ROOT / "client.ini"
    assert places.client_ini("time.example") == ROOT / "client.time.example.ini"
    assert places.client_ini("../x").parent == ROOT


def test_installed_it_is_in_the_folders_of_system_and_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "IS_CHECKOUT", False)
    monkeypatch.setenv("HOME", "/home/you")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert places.server_ini() == Path("/etc/nts/server.ini")
    assert places.client_ini() == Path("/home/you/.local/state/nts/client.ini")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # which the specification says to ignore
    assert places.client_ini() == Path("/home/you/.local/state/nts/client.ini")
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    assert places.client_ini("time.example") == Path("/elsewhere/nts/client.time.example.ini")


@pytest.mark.parametrize(("name", "hint"), [("ntsts-client", "ntske-client"), ("ntsts_client.py", "ntske_client.py")])
def test_messages_name_the_commands_as_the_user_has_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, hint: str
) -> None:
    monkeypatch.setattr("sys.argv", [f"/somewhere/{name}"])
    console.fail("no cookies", "run ntske_client.py first")
    assert capsys.readouterr().err == f"{name}: error: no cookies\nhint: run {hint} first\n"

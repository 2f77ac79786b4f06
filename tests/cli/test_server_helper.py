# SPDX-License-Identifier: MIT
"""What server_helper.py says of master keys before and after it changes them, and what check finds about them."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nts.server import config, keystore, preflight
from testkit.key_files import NOBODY, as_nobody, ids, key_names, put
from testkit.processes import ROOT, Suite, error_lines, free_port, one_error, run, write_ini

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for another user")
DAY = 86400


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """With a certificate and no keys; nothing runs."""
    return Suite(tmp_path)


def helper(suite: Suite, *words: object) -> subprocess.CompletedProcess[str]:
    return run("server_helper.py", suite.ini, *words)


def configured(suite: Suite, **options: dict[str, object]) -> Suite:
    """The same with these options."""
    return Suite(suite.folder, suite.ke_port, suite.ntp_port, options)


def findings(suite: Suite) -> list[tuple[str, str]]:
    return [(f["level"], f["text"]) for f in json.loads(helper(suite, "check", "--json").stdout)]


def found(suite: Suite, level: str, pattern: str) -> bool:
    return any(lvl == level and re.search(pattern, text) for lvl, text in findings(suite))


# --- rotation --------------------------------------------------------------------------------------------------------


def test_a_rotation_says_what_it_removes_before_it_does(suite: Suite) -> None:
    for name, age in (("0001.key", 30), ("0002.key", 20)):
        put(suite.keys, name, age=age)
    assert helper(suite).stderr == ""
    done = helper(suite)
    assert done.stderr == "server_helper.py: removes 0001, the oldest: its cookies become invalid\n"
    assert done.stdout.endswith(", removed 0001\n")
    configured(suite, keys={"max_keys": 2})
    assert re.search(r"removes 0002, \w{4}, the oldest: their cookies become invalid\n", helper(suite).stderr)


def test_the_removal_is_said_while_the_key_is_still_there(tmp_path: Path) -> None:
    put(tmp_path, "0001.key", age=9)
    put(tmp_path, "0002.key")
    said = []
    keystore.rotate(tmp_path, 2, os.urandom, lambda files: said.append([f.path.exists() for f in files]))
    assert said == [[True]]


def test_a_dry_run_says_all_that_and_does_nothing(suite: Suite) -> None:
    assert helper(suite, "--dry-run").stdout == f"would add a master key in {suite.keys}\n"
    assert not suite.keys.exists()
    for number in range(3):
        put(suite.keys, f"000{number}.key", age=30 - number)
    before = {p: p.stat().st_ctime_ns for p in suite.keys.iterdir()}
    removal = "would remove 0000, the oldest: its cookies become invalid\n"
    assert helper(suite, "rotate", "--dry-run").stdout == f"would add a master key in {suite.keys}\n{removal}"
    assert helper(suite, "--stage", "--dry-run").stdout == f"would stage a master key in {suite.keys}\n"
    one_error(helper(suite, "--activate", "--dry-run"), 2, "no key is staged")
    assert {p: p.stat().st_ctime_ns for p in suite.keys.iterdir()} == before
    put(suite.keys, "abcd.staged")
    done = helper(suite, "--activate", "--dry-run")
    assert done.stdout == f"would make the staged master key abcd current in {suite.keys}\n{removal}"
    one_error(helper(suite, "--stage", "--dry-run"), 2, "abcd.staged is staged already")


def test_a_key_is_staged_shown_and_activated(suite: Suite) -> None:
    put(suite.keys, "0001.key", age=3 * DAY)
    put(suite.keys, "0002.key", age=2 * DAY)
    staged = helper(suite, "rotate", "--stage").stdout.split()[3]
    assert key_names(suite.keys) == {"0001.key", "0002.key"}
    one_error(helper(suite, "rotate", "--stage"), 2, "is staged already")
    keys = json.loads(helper(suite, "status", "--json").stdout)["keys"]
    assert keys["current"] == "0002"
    assert [k["id"] for k in keys["oldest_first"]] == ["0001", "0002"]
    assert [k["id"] for k in keys["staged"]] == [staged]
    text = helper(suite, "status").stdout
    assert "  0001  previous, 3 days old\n  0002  current, 2 days old\n" in text
    assert re.search(rf"  {staged}  staged, \d seconds? old\n", text)
    done = helper(suite, "rotate", "--activate")
    assert done.stdout == f"master key {staged} in {suite.keys} is current now\n"
    assert ids(suite.keys) == [1, 2, int(staged, 16)]
    one_error(helper(suite, "rotate", "--activate"), 2, "no key is staged")


@needs_root
def test_a_folder_that_root_makes_is_for_the_user_of_the_server(suite: Suite) -> None:
    configured(suite, server={"user": pwd.getpwuid(NOBODY).pw_name})
    helper(suite)
    assert {p.stat().st_uid for p in (suite.keys, *suite.keys.iterdir())} == {NOBODY}


def test_no_umask_opens_files_to_others(tmp_path: Path) -> None:
    """All that the helper and a first key exchange make."""
    ini = write_ini(tmp_path / "server.ini", ntske={"server_cert": "x/c.pem", "server_key": "x/c.key"})
    for words in (["make-cert", "localhost"], [], ["--stage"]):
        subprocess.run(
            [sys.executable, str(ROOT / "server_helper.py"), str(ini), *words],
            preexec_fn=lambda: os.umask(0), check=True, timeout=60, capture_output=True,
        )  # fmt: skip
    modes = {p: p.stat().st_mode & 0o777 for p in tmp_path.rglob("*") if p != ini}
    assert len(modes) == 11
    assert not any(mode & 0o022 for mode in modes.values()), modes
    secret = {mode for p, mode in modes.items() if p.suffix in (".key", ".staged") or p.name == "master_keys"}
    assert secret == {0o600, 0o700}


# --- status and check ------------------------------------------------------------------------------------------------


def test_a_key_from_the_future_is_said_plainly(suite: Suite) -> None:
    put(suite.keys, "0001.key", age=-30 * DAY - 9)
    put(suite.keys, "0002.staged", age=-3)
    text = helper(suite, "status").stdout
    assert "  0001  current, dated 30 days in the future\n" in text
    assert re.search(r"  0002  staged, dated [123] seconds in the future\n", text)
    assert found(suite, "warning", "0001.key is dated 30 days in the future: was the clock wrong, or is it wrong now")
    assert not found(suite, "ok", "in the future.*old")


def test_a_label_that_no_client_uses_is_said(suite: Suite) -> None:
    problem = "key_label = EXPORTER-nts/1: clients that follow RFC 8915 use another, so all their time requests fail"
    configured(suite, keys={"key_label": "EXPORTER-nts/1"})
    assert f"  problem: {problem}\n" in helper(suite, "status").stdout
    assert found(suite, "error", problem)
    assert helper(suite, "check").returncode == 1
    try:
        for server in (suite.start_ke(), suite.start_ts()):
            assert server.output().count(f"warning: {problem}\n") == 1
    finally:
        suite.stop()


def test_a_key_that_is_not_rotated_as_often_as_configured_is_said(suite: Suite) -> None:
    put(suite.keys, "0001.key", age=DAY)
    assert found(suite, "ok", "the current one, 0001, is 24 hours old")
    configured(suite, keys={"rotate_every": "6h"})
    assert found(suite, "warning", "the current one, 0001, is 24 hours old")
    assert "(at most 3, rotated every 6 hours):" in helper(suite, "status").stdout


@needs_root
@pytest.mark.parametrize(
    ("folder_mode", "name", "owner", "mode", "level"),
    [
        (0o700, "0001.key", (NOBODY, NOBODY), 0o600, None),
        (0o700, "0001.key", (0, 0), 0o600, "error"),
        (0o700, "0001.staged", (0, 0), 0o600, "error"),
        (0o700, ".lock", (0, 0), 0o600, "error"),
        (0o700, ".lock", (NOBODY, 0), 0o600, None),
        (0o700, "0001.key", (NOBODY, NOBODY), 0o200, "error"),
        (0o700, "0001.key", (0, NOBODY), 0o640, "warning"),  # works, but the group is not meant to
        (0o700, "0001.key", (0, 0), 0o644, "warning"),
        (0o750, "0001.key", (0, NOBODY), 0o640, None),
        (0o750, "0001.key", (NOBODY, NOBODY), 0o600, "error"),  # the group is locked out
        (0o600, "0001.key", (NOBODY, NOBODY), 0o600, "error"),  # the folder itself
    ],
)
def test_check_fails_if_the_server_would_be_locked_out(
    suite: Suite, folder_mode: int, name: str, owner: tuple[int, int], mode: int, level: str | None
) -> None:
    path = put(suite.keys, name)
    os.chown(path, *owner)
    path.chmod(mode)
    os.chown(suite.keys, NOBODY, NOBODY)
    suite.keys.chmod(folder_mode)
    user, group = pwd.getpwuid(owner[0]).pw_name, grp.getgrgid(owner[1]).gr_name
    said = {(lvl, text) for lvl, text in findings(suite) if " belongs to " in text}
    assert {lvl for lvl, _ in said} - {"ok"} == ({level} if level else set()), said
    if level and folder_mode != 0o600:
        assert all(f"{path} belongs to {user}:{group} and has mode {mode:04o}: " in text for _, text in said)


@needs_root
def test_a_folder_that_its_group_may_read_has_files_that_the_group_may_read(suite: Suite) -> None:
    suite.keys.mkdir()
    os.chown(suite.keys, 0, NOBODY)
    suite.keys.chmod(0o750)
    helper(suite)
    helper(suite, "--stage")
    files = [p.stat() for p in keystore.key_paths(suite.keys)]
    assert [(s.st_mode & 0o777, s.st_gid) for s in files] == [(0o640, NOBODY)] * 2
    assert not any(" belongs to " in text for _, text in findings(suite))


# --- where the servers would listen ----------------------------------------------------------------------------------


def test_each_address_is_tried(tmp_path: Path) -> None:
    """One that is in use does not hide one that this machine lacks."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        suite = Suite(tmp_path, ntp_port=port, options={"ntpv4": {"listen": "127.0.0.1, 203.0.113.1, 127.0.0.2"}})
        said = [(level, text) for level, text in findings(suite) if "UDP" in text]
    by_whom = "by ntsts_server.py if that runs, else by a program that keeps it from starting"
    missing = (
        "Cannot assign requested address (this machine does not have that address; choose another one to listen on)"
    )
    assert said[:3] == [
        ("warning", f"UDP port {port} of 127.0.0.1 is in use: {by_whom}"),
        ("error", f"cannot listen on UDP 203.0.113.1:{port}: {missing}"),
        ("ok", f"UDP port {port} of 127.0.0.2 is free"),
    ]


def test_a_port_that_only_root_may_use_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    suite = Suite(tmp_path, ke_port=port)
    settings = config.load(suite.ini)
    monkeypatch.setattr(preflight, "_first_free_port", lambda: port + 1)
    assert f"TCP port {port} is free, for root or with CAP_NET_BIND_SERVICE" in [
        f.text for f in preflight._check_ports(settings)
    ]


def test_a_port_that_is_not_for_us_is_an_error(tmp_path: Path) -> None:
    lowest = preflight._first_free_port()
    if lowest < 2:
        pytest.skip("everyone may listen on every port here")
    settings = config.load(write_ini(tmp_path / "server.ini", ntske={"port": lowest - 1}))
    with as_nobody():
        tcp = next(preflight._check_ports(settings))
    assert tcp.level == "error"
    assert "Permission denied (ports below 1024 need root or CAP_NET_BIND_SERVICE)" in tcp.text


def test_addresses_that_overlap_are_refused_by_the_servers_and_by_check(suite: Suite) -> None:
    configured(suite, ntske={"listen": "0.0.0.0, 127.0.0.1"})
    for done in (run("ntske_server.py", suite.ini), helper(suite, "check")):
        assert "must not have other addresses beside 0.0.0.0" in error_lines(done, 2)[0]

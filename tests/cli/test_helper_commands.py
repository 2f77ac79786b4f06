# SPDX-License-Identifier: MIT
"""The commands of server_helper.py as an operator meets them: rotate, status, check, make-cert."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from pathlib import Path

from nts.system import certs
from testkit.processes import one_error, run, server_ini, write_ini


def test_helper_rotates_with_and_without_the_word(tmp_path: Path) -> None:
    ini = server_ini(tmp_path)
    keys = tmp_path / "master_keys"
    forms: list[list[object]] = [[ini], [ini, "rotate"], ["rotate", ini]]
    for count, form in enumerate(forms, start=1):
        done = run("server_helper.py", *form)
        assert re.fullmatch(r"new master key [0-9a-f]{4} in .*master_keys\n", done.stdout)
        assert len(list(keys.glob("*.key"))) == count
    (keys / "oops.key").write_text("x")
    done = run("server_helper.py", ini)
    assert re.search(r"removed [0-9a-f]{4}\n", done.stdout)
    assert "warning: " in done.stderr
    assert "oops.key" in done.stderr


def test_helper_shows_the_status(tmp_path: Path) -> None:
    ini = server_ini(tmp_path)
    assert "none yet" in run("server_helper.py", ini, "status").stdout
    run("server_helper.py", ini)
    run("server_helper.py", ini)
    (tmp_path / "master_keys/zz.key").write_text("x")
    os.utime(next((tmp_path / "master_keys").glob("[0-9a-f]*.key")), (0, time.time() - 3 * 86400))
    status = json.loads(run("server_helper.py", ini, "status", "--json").stdout)
    newest = max((tmp_path / "master_keys").glob("[0-9a-f]*.key"), key=lambda p: p.stat().st_mtime_ns)
    assert status["keys"]["current"] == newest.stem == status["keys"]["oldest_first"][-1]["id"]
    assert len(status["keys"]["problems"]) == 1
    assert status["certificate"]["days_left"] == 364
    text = run("server_helper.py", ini, "status").stdout
    assert f"  {newest.stem}  " in text
    assert "3 days old" in text
    assert "problem: " in text
    (tmp_path / "cert.pem").unlink()
    assert "certificate: cannot read" in run("server_helper.py", ini, "status").stdout


def test_check_passes_a_sound_configuration(tmp_path: Path) -> None:
    ini = server_ini(tmp_path)
    run("server_helper.py", ini)
    (tmp_path / "server.ini").write_text(ini.read_text() + "clock = local\nserver = localhost\n")
    done = run("server_helper.py", ini, "check")
    # The section that the lines were added to is [ntpv4].
    assert done.returncode == 0, done.stdout
    assert "error" not in done.stdout
    for text in ("belong together", "it leads to", "TCP port", "UDP port", "1 master key;", "which is 127.0.0.1"):
        assert text in done.stdout


def test_check_finds_mistakes(tmp_path: Path) -> None:
    ini = server_ini(tmp_path)
    (tmp_path / "server.ini").write_text(ini.read_text() + "server = no-such-host.invalid\nlisten = 192.0.2.1\n")
    certs.make(("x",), cert=tmp_path / "o/x.pem", key=tmp_path / "o/x.key", ca=tmp_path / "o/ca.pem")
    (tmp_path / "ca.pem").write_bytes((tmp_path / "o/ca.pem").read_bytes())
    (tmp_path / "cert.key").chmod(0o644)
    run("server_helper.py", ini)
    next((tmp_path / "master_keys").glob("*.key")).chmod(0o640)
    os.utime(next((tmp_path / "master_keys").glob("*.key")), (0, time.time() - 30 * 86400))
    (tmp_path / "master_keys/bad.key").write_text("x")
    with socket.socket() as taken:
        port = int(re.search(r"port = (\d+)", ini.read_text())[1])  # type: ignore[index]
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = run("server_helper.py", ini, "check", "--json")
    assert done.returncode == 1
    findings = {(f["level"], f["text"]) for f in json.loads(done.stdout)}
    for level, pattern in (
        ("error", "does not lead to .*ca.pem"),
        ("error", "cannot resolve no-such-host.invalid"),
        ("warning", "cert.key has mode 0644"),
        ("warning", r"\.key belongs to .* and has mode 0640: others can use it"),
        ("warning", "bad.key: not named"),
        ("warning", "30 days old"),
        ("warning", f"TCP port {port} is in use: by ntske_server.py if that runs, else by a program that keeps it"),
        ("error", r"cannot listen on UDP 192\.0\.2\.1:.*this machine does not have that address"),
    ):
        assert any(lvl == level and re.search(pattern, text) for lvl, text in findings), (pattern, findings)


def test_make_cert_makes_what_the_configuration_names(tmp_path: Path) -> None:
    files = {"server_cert": "a/c.pem", "server_key": "a/c.key", "root_ca": "a/ca.pem"}
    ini = write_ini(tmp_path / "server.ini", ntske=files)
    done = run("server_helper.py", ini, "make-cert", "time.example", "192.0.2.7", "*.example")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("made ") == 4
    assert certs.describe(tmp_path / "a/c.pem").names == ("time.example", "*.example", "192.0.2.7")
    one_error(run("server_helper.py", ini, "make-cert", "again.example"), 2, "exists and is not overwritten")
    one_error(run("server_helper.py", ini, "make-cert", "not a name"), 2, "neither an IP address nor a domain name")
    write_ini(ini, ntske={"root_ca": ""})
    one_error(run("server_helper.py", ini, "make-cert", "x"), 2, "root_ca names no file")

# SPDX-License-Identifier: MIT
"""server_helper.py and servers of another kind: rotation gives them each key in time; status and check tell of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nts.base.errors import ExitCode
from nts.codec.keyring import CookieFormat
from nts.server import keystore, peer_file
from nts.server.config import ForeignFile
from testkit.foreign_cookies import CHRONY_KEYS, NTPSEC_KEYS
from testkit.processes import Suite, error_lines, one_error, run

LOOK = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
with (folder / "seen").open("a") as f:
    print(*sorted(p.suffix for p in (folder / "master_keys").glob("*.*") if not p.name.startswith(".")), file=f)
"""


def shared(folder: Path, command: str = "", **keys: object) -> Suite:
    """With a chronyd beside it that reads its keys as the command says."""
    options = {"cookie_format": "chrony", "export": "ntskeys", "export_command": command, **keys}
    return Suite(folder, options={"ntske": {"aeads": "15"}, "keys": options})


def helper(suite: Suite, *words: object) -> subprocess.CompletedProcess[str]:
    return run("server_helper.py", suite.ini, *words)


def is_shared(suite: Suite) -> bool:
    return peer_file.holds(ForeignFile(CookieFormat.CHRONY, suite.folder / "ntskeys"), keystore.load(suite.keys).ring)


def test_the_other_server_reads_a_key_before_it_is_current(tmp_path: Path) -> None:
    (tmp_path / "look.py").write_text(LOOK)
    suite = shared(tmp_path, f"{sys.executable} {tmp_path}/look.py {tmp_path}")
    for _ in range(2):
        done = helper(suite)
        assert (done.returncode, done.stderr) == (ExitCode.OK, "")
        assert is_shared(suite)
    assert (tmp_path / "seen").read_text().split("\n") == [".key", ".key .staged", ".key .key", ""]
    assert f"wrote {tmp_path}/ntskeys and run {sys.executable}" in done.stdout
    assert helper(suite, "rotate", "--stage").returncode == ExitCode.OK
    assert (tmp_path / "seen").read_text().endswith("\n.key .key .staged\n")
    assert is_shared(suite)
    (staged,) = keystore.load(suite.keys).staged
    assert helper(suite, "rotate").returncode == ExitCode.OK  # goes on with the staged one
    assert keystore.load(suite.keys).files[-1].key == staged.key
    assert is_shared(suite)


def test_a_key_that_was_removed_leaves_the_other_servers_file_with_the_next_rotation(tmp_path: Path) -> None:
    suite, file = shared(tmp_path), ForeignFile(CookieFormat.CHRONY, tmp_path / "ntskeys")
    for _ in range(2):
        assert helper(suite).returncode == ExitCode.OK
    leaked = keystore.load(suite.keys).files[0]
    assert leaked.key.foreign(CookieFormat.CHRONY) in peer_file.read(file)
    leaked.path.unlink()
    assert helper(suite).returncode == ExitCode.OK
    assert leaked.key.key not in {k.key for k in peer_file.read(file)}


def test_a_dry_run_says_what_would_be_written_and_run(tmp_path: Path) -> None:
    suite = shared(tmp_path, "chronyc rekey")
    done = helper(suite, "--dry-run")
    assert f"would write {tmp_path}/ntskeys and run chronyc rekey\n" in done.stdout
    assert not (tmp_path / "ntskeys").exists()


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("sh -c 'echo no such socket; echo bad; exit 3'", "failed: no such socket bad\n"),
        ("sh -c 'exit 3'", "failed: exit code 3\n"),
        ("/nonexistent/chronyc rekey", "failed: No such file or directory\n"),
    ],
)
def test_a_command_that_fails_is_one_error_and_the_key_stays_staged(tmp_path: Path, command: str, problem: str) -> None:
    suite = shared(tmp_path, "true")
    assert helper(suite).returncode == ExitCode.OK
    suite = shared(tmp_path, command)
    done = helper(suite)
    error, hint = error_lines(done, ExitCode.USAGE)
    assert "error: export_command = " in error
    assert problem in error + "\n"
    assert "try again, which goes on from here" in hint
    assert len(keystore.load(suite.keys).staged) == 1
    assert helper(shared(tmp_path, "true")).returncode == ExitCode.OK
    assert keystore.load(suite.keys).staged == ()


def test_a_file_that_is_none_of_chronys_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ntskeys").write_text("precious\n")
    one_error(helper(shared(tmp_path)), ExitCode.USAGE, "ntskeys: not a file of chrony's")
    assert (tmp_path / "ntskeys").read_text() == "precious\n"


def test_status_and_check_tell_of_other_servers(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text(CHRONY_KEYS)
    (tmp_path / "others").write_text(NTPSEC_KEYS)
    suite = shared(tmp_path, **{"import": "chrony:theirs, ntpsec:others, chrony:missing"})
    texts = helper(suite, "check").stdout
    assert f"ok:      {tmp_path}/theirs has 2 keys of chrony's\n" in texts
    assert f"ok:      {tmp_path}/others has 1 key of ntpsec's\n" in texts
    assert f"error:   {tmp_path}/missing does not exist: cookies of chrony's are refused\n" in texts
    assert f"error:   {tmp_path}/ntskeys: the current key is not current there" in texts
    assert helper(suite).returncode == ExitCode.OK
    assert f"ok:      {tmp_path}/ntskeys has the current key\n" in helper(suite, "check").stdout
    shown = helper(suite, "status").stdout
    assert "  2 imported keys of chrony's\n" in shown
    assert "  1 imported key of ntpsec's\n" in shown
    assert f"  cookies have the format of chrony, which reads these keys in {tmp_path}/ntskeys\n" in shown
    keys = json.loads(helper(suite, "status", "--json").stdout)["keys"]
    assert keys["imported"][-1] == {"format": "ntpsec", "id": f"{3429087841:08x}"}
    assert (keys["cookie_format"], keys["exported"]) == ("chrony", f"{tmp_path}/ntskeys")
    secrets = [word for word in (CHRONY_KEYS + NTPSEC_KEYS).split() if len(word) > 30]
    secrets += [f.key.key.hex() for f in keystore.load(suite.keys).files]
    assert not any(secret.lower() in (texts + shown + json.dumps(keys)).lower() for secret in secrets)

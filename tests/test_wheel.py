# SPDX-License-Identifier: MIT
"""`pip wheel .` makes a wheel with the C code in it, which works in a new environment, far from the checkout."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.system.console import COMMANDS
from testkit.processes import ROOT, Process, Suite

Completed = subprocess.CompletedProcess[str]


def run(*command: object, cwd: Path, env: dict[str, str] | None = None) -> Completed:
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


def pip(*arguments: object, cwd: Path) -> None:
    done = run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from a source distribution of what git knows or would add, with the setuptools of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    code = "import setuptools.build_meta as b; print(b.build_sdist('..'))"
    done = run(sys.executable, "-c", code, cwd=folder / "source")
    assert done.returncode == 0, done.stderr
    (source,) = folder.glob("*.tar.gz")
    pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", source, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel. What the suite depends on is that of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    assert run(sys.executable, "-m", "venv", "--without-pip", ".", cwd=folder).returncode == 0
    pip("--python", folder / "bin/python", "install", "--no-index", "--no-deps", wheel, cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder


def of_checkout(folder: str, *kinds: str) -> set[str]:
    return {str(p.relative_to(ROOT)) for kind in kinds for p in (ROOT / folder).rglob(f"*.{kind}")}


def test_the_wheel_has_all_modules_and_the_c_code(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = of_checkout("nts", "py", "cnf", "css", "typed")
    scripts = {f"nts/commands/{path.name}" for path in ROOT.glob("*.py")}
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    expected = modules | scripts | {f"nts/_engine{suffix}", f"nts/_engine_ke{suffix}", "nts/libaes_siv.so"}
    assert {n for n in names if n.startswith("nts/") and not n.endswith(".pyi")} == expected
    assert set(COMMANDS) == {path.stem for path in ROOT.glob("*.py")}


def test_no_test_or_tool_is_in_the_wheel(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {re.sub(r"-.*", "", top) for top in tops} == {"nts", "nts_suite"}


@pytest.mark.parametrize("command", COMMANDS.values())
def test_a_command_explains_itself_by_its_own_name(installed: Path, tmp_path: Path, command: str) -> None:
    done = run(installed / "bin" / command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {command} ")
    assert f"\n  {command} " in done.stdout, "an example"
    assert not re.search(r"\w\.py", done.stdout)


def test_the_clients_keep_their_state_in_the_users_folder(installed: Path, suite: Suite, tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    early = run(installed / "bin/ntsts-client", cwd=tmp_path, env=env)
    assert early.returncode == 2
    assert early.stderr.splitlines()[1] == "hint: run ntske-client first"
    fetched = run(installed / "bin/ntske-client", "-c", suite.ca, "localhost", suite.ke_port, cwd=tmp_path, env=env)
    assert (fetched.returncode, fetched.stderr) == (0, "")
    asked = run(installed / "bin/ntsts-client", "--json", "--verbose", cwd=tmp_path, env=env)
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["authenticated"]
    assert "the package cryptography" not in asked.stderr, "libaes_siv is there"
    where = ("--ke", "localhost", "--ke-port", suite.ke_port, "-c", suite.ca)
    other = run(installed / "bin/ntsts-client", *where, cwd=tmp_path, env=env)
    assert other.returncode == 0, other.stderr
    made = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.ini")}
    assert made == {"state/nts/client.ini", "state/nts/client.localhost.ini"}


def test_a_folder_that_cannot_be_made_is_one_line(installed: Path, suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = {"XDG_STATE_HOME": str(tmp_path / "file")}
    done = run(installed / "bin/ntske-client", "-c", suite.ca, "localhost", suite.ke_port, cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert done.stderr == f"ntske-client: error: {tmp_path / 'file'}: File exists\n"


@pytest.fixture
def servers(installed: Path, tmp_path: Path) -> Iterator[Suite]:
    """Both servers of the wheel."""
    suite = Suite(tmp_path)
    started = []
    try:
        for command, sign in (("ntske-server", "sends clients to"), ("ntsts-server", "engine:")):
            line = [str(installed / "bin" / command), str(suite.ini)]
            started.append(Process(line, tmp_path / f"{command}.log"))
            started[-1].wait_for(sign)
        assert "engine: native" in started[1].output()
        yield suite
    finally:
        assert [p.stop() for p in started] == [0, 0]


def test_the_servers_serve_and_the_library_asks(installed: Path, servers: Suite) -> None:
    code = f"import nts; print(nts.Client('localhost', {servers.ke_port}, ca={str(servers.ca)!r}).query().stratum)"
    done = run(installed / "bin/python", "-c", code, cwd=servers.folder)
    assert (done.returncode, done.stdout) == (0, "10\n"), done.stderr
    rotated = run(installed / "bin/nts-server-helper", servers.ini, cwd=servers.folder)
    assert rotated.returncode == 0, rotated.stderr
    where = ("-c", servers.ca, "localhost", servers.ke_port)
    checked = run(installed / "bin/nts-check", "server", "--fast", "--only", "ntp-basic", *where, cwd=servers.folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    judged = run(installed / "bin/nts-check", "client", "--recipe", "ours", "--only", "C15", cwd=servers.folder)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_the_servers_look_for_their_configuration_in_etc(installed: Path, tmp_path: Path) -> None:
    if Path("/etc/nts/server.ini").exists():
        pytest.skip("this machine has an /etc/nts/server.ini")
    done = run(installed / "bin/nts-server-helper", "status", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("nts-server-helper: error: /etc/nts/server.ini does not exist\n")


@pytest.mark.skipif(
    importlib.util.find_spec("auditwheel") is None, reason="no auditwheel here (pip install auditwheel)"
)
def test_the_wheel_needs_nothing_but_openssl_beside_the_c_library(wheel: Path, tmp_path: Path) -> None:
    """tools/wheel.sh puts that into the wheel, which then runs on any Linux with as new a C library."""
    done = run(sys.executable, "-m", "auditwheel", "show", wheel, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    needed = set(re.findall(r"\blib[\w-]+\.so\.\d+", done.stdout))
    assert needed <= {"libcrypto.so.3", "libc.so.6"}, done.stdout

# SPDX-License-Identifier: MIT
"""./bootstrap and the build in a folder that they cannot write: one line that says what, whose it is, and what to do.

In a copy of the scripts alone, with stand-ins for all programs that they would run: nothing is installed or built.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testkit.chrony import short_folder
from testkit.processes import ROOT

IS_ROOT = os.geteuid() == 0
NOBODY = 65534  # whoever that is here
FAILS = ("chronyd", "cmake")
SUCCEEDS = (
    *("cc", "make", "openssl", "valgrind", "shellcheck", "tcpdump", "unshare", "ip", "nft", "systemd-analyze"),
    *("apt-get", "sudo"),
)
PYTHON = """\
#!/bin/sh
case $2 in *sysconfig.get_config_var*) echo .so ;; *version_info*) echo 3.12 ;; esac
"""
Command = tuple[str, ...]

BUILD: Command = ("./bootstrap", "build")
TEST: Command = ("./bootstrap", "test")
CMAKE: Command = ("tools/cmake_build.sh", "libaes_siv", "libaes_siv")
ENGINE: Command = ("tools/engine_build.sh", "python3")
CHECK: Command = ("tools/stages.sh", "make", "lint")


@pytest.fixture
def tree() -> Iterator[Path]:
    """The scripts, the folders that they write, and the stand-ins; the user below may write it all."""
    with short_folder() as folder:
        folder.chmod(0o755)  # for that user
        root = folder / "a tree"
        for name in (
            "bootstrap",
            "requirements.txt",
            "requirements-dev.txt",
            *(str(p.relative_to(ROOT)) for p in (ROOT / "tools").glob("*.sh")),
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        for name in ("build/log", ".venv", ".tools", "libaes_siv", "nts", "stand-ins"):
            (root / name).mkdir(parents=True)
        for names, text in ((FAILS, "#!/bin/sh\nexit 1\n"), (SUCCEEDS, "#!/bin/sh\n"), (("python3",), PYTHON)):
            for name in names:
                (root / "stand-ins" / name).write_text(text)
                (root / "stand-ins" / name).chmod(0o755)
        (root / "build/probe.c").touch()
        if IS_ROOT:
            for path in (root, *root.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        yield root
        for path in (root, *root.rglob("*")):
            path.chmod(0o755)


def run(tree: Path, command: Command, *prefix: str) -> subprocess.CompletedProcess[str]:
    """The command as a user who is not root; after a prefix, as this one."""
    user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if IS_ROOT and not prefix else {}
    return subprocess.run(
        [*prefix, *command],
        cwd=tree,
        env={"PATH": f"{tree}/stand-ins:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **user,
    )


def complaint(tree: Path, command: Command, *prefix: str) -> str:
    """The one line that the command says before it fails."""
    done = run(tree, command, *prefix)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{Path(command[0]).name}: error: cannot write "), line
    return line


def make_venv(tree: Path) -> None:
    """One that ./bootstrap takes for whole."""
    (tree / ".venv/bin").mkdir()
    shutil.copy(tree / "stand-ins/python3", tree / ".venv/bin/python")
    (tree / ".venv/bin/pip").write_text(f"#!{tree}/.venv/bin/python\n")


def remove_all(tree: Path) -> None:
    shutil.rmtree(tree / "build")


CASES: dict[str, tuple[Command, str, Callable[[Path], None] | None]] = {
    "the whole, before the first build": (BUILD, ".", remove_all),
    "build": (TEST, "build", None),
    "build/log": (BUILD, "build/log", None),
    "a file in build": (BUILD, "build/probe.c", None),
    ".venv": (BUILD, ".venv", None),
    ".venv, not there": (BUILD, ".", lambda tree: (tree / ".venv").rmdir()),
    ".tools": (TEST, ".tools", make_venv),
    "the library": (CMAKE, "libaes_siv", None),
    "the library, with make alone": (CMAKE, "build/log", None),
    "the engine": (ENGINE, "nts", None),
    "make check": (CHECK, "build", None),
    "make check, its caches": (CHECK, ".", None),
}


@pytest.mark.parametrize("case", CASES)
def test_what_one_has_but_may_not_write(tree: Path, case: str) -> None:
    command, name, prepare = CASES[case]
    if prepare:
        prepare(tree)
    (tree / name).chmod(0o555)
    line = complaint(tree, command)
    shown = str(tree) if name == "." else name
    mode = "-r-xr-xr-x" if (tree / name).is_file() else "dr-xr-xr-x"
    assert line.endswith(f'cannot write {shown}: it is yours, but its mode is {mode}. Type: chmod -R u+w "{tree}"')


@pytest.mark.skipif(not IS_ROOT, reason="only root can give files to another user")
@pytest.mark.parametrize("case", CASES)
def test_what_belongs_to_root(tree: Path, case: str) -> None:
    command, name, prepare = CASES[case]
    if prepare:
        prepare(tree)
    os.chown(tree / name, 0, 0)
    line = complaint(tree, command)
    assert f"cannot write {tree if name == '.' else name}: it belongs to root, and you are " in line
    assert line.endswith(f'"{tree}"')
    assert "As root, type: chown -R " in line


@pytest.mark.parametrize("name", [".", "build"])
def test_a_read_only_file_system(tree: Path, name: str) -> None:
    """Root included."""
    mount = f'set -e; mount --bind {name} {name}; mount -o remount,bind,ro {name}; cd "$PWD"; exec "$@"'
    prefix = (
        "/usr/bin/unshare",
        *(() if IS_ROOT else ("--user", "--map-root-user")),
        "--mount",
        "sh",
        "-c",
        mount,
        "sh",
    )
    if subprocess.run([*prefix, "true"], cwd=tree, capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mount namespaces")
    assert complaint(tree, BUILD, *prefix).endswith(
        f"cannot write build: its file system is read-only. Copy {tree} to a folder of yours"
    )


def test_what_is_complete_need_not_be_writable(tree: Path) -> None:
    """A .venv, for one, that root has made for all."""
    make_venv(tree)
    wanted = (tree / "requirements.txt").read_bytes()
    (tree / ".venv/.installed").write_text(f"{hashlib.sha256(wanted).hexdigest()}  -\n")
    for path in (tree / ".venv/bin", tree / ".venv", tree / "libaes_siv", tree):
        path.chmod(0o555)
    assert run(tree, BUILD).returncode == 0

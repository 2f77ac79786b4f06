# SPDX-License-Identifier: MIT
"""Whose the files are, who may read them, and what a server does when it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nts.base.errors import ConfigError
from nts.server import key_watcher, keystore
from nts.server.key_watcher import KeyWatcher
from nts.system import files
from testkit.key_files import NOBODY, as_nobody, ids, put

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for another user")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "master_keys"


@needs_root
def test_what_root_makes_belongs_to_the_owner_of_the_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY - 1)
    keystore.ensure_key(folder, 3, os.urandom)
    keystore.rotate(folder, 3, os.urandom)
    keystore.stage(folder, os.urandom)
    keystore.activate(folder, 3)
    keystore.stage(folder, os.urandom)
    found = {p: p.stat() for p in folder.iterdir()}
    assert len(found) == 5  # with the lock
    assert {(s.st_uid, s.st_gid) for s in found.values()} == {(NOBODY, NOBODY - 1)}
    assert {s.st_mode & 0o777 for s in found.values()} == {0o600}


@needs_root
def test_root_follows_no_link_that_the_owner_of_the_folder_laid(folder: Path, tmp_path: Path) -> None:
    """Opening it would create a file of root's, anywhere."""
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    (folder / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot write master keys in"):
        keystore.rotate(folder, 3, os.urandom)
    assert not (tmp_path / "elsewhere").exists()


@needs_root
def test_a_file_that_cannot_be_given_away_is_an_error_and_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    os.chown(tmp_path, NOBODY, NOBODY)
    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(PermissionError):
        files.write_new((tmp_path / "a", b"", 0o600))
    assert list(tmp_path.iterdir()) == []


def test_no_umask_opens_the_folder_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keystore.rotate(tmp_path / "a/b/master_keys", 3, os.urandom)
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.rglob("*") if p.suffix != ".key"}
    assert modes == {"a": 0o755, "b": 0o755, "master_keys": 0o700, ".lock": 0o600}


# --- files that cannot be read ---------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder named relative to the current one: nobody may not look into those above."""
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return Path("keys")


def test_a_key_that_was_read_stays_in_use_while_its_file_cannot_be_read(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when root writes a file anew that a server of another user must read. Deleting it still revokes the key."""
    monkeypatch.setattr(key_watcher, "_RESCAN", 0.0)
    paths = {name: put(here, name, age=age) for name, age in (("0001.key", 9), ("0002.key", 5), ("0003.staged", 1))}
    reports: list[str] = []
    watcher = KeyWatcher(here, reports.append)
    before = watcher.ring()
    for path in paths.values():
        path.chmod(0)
    put(here, "0004.key").chmod(0)
    with as_nobody():
        assert [watcher.ring() for _ in range(3)] == [before] * 3
    assert reports == [
        *(f"{path}: Permission denied; the key read earlier stays in use" for path in paths.values()),
        f"{here / '0004.key'}: Permission denied",
    ]
    paths["0002.key"].unlink()
    with as_nobody():
        assert [k.id for k in watcher.ring().openers] == [3, 1]
    for path in here.iterdir():
        path.chmod(0o644)
    with as_nobody():
        assert [k.id for k in watcher.ring().openers] == [3, 1, 4]
    assert len(reports) == 4


def test_a_folder_that_can_be_listed_and_not_entered_costs_no_key(here: Path) -> None:
    put(here, "0001.key")
    watcher = KeyWatcher(here, lambda _: None)
    before = watcher.ring()
    here.chmod(0o744)
    try:
        with as_nobody():
            assert watcher.ring() == before
    finally:
        here.chmod(0o755)


def test_a_file_that_is_damaged_costs_its_key(here: Path) -> None:
    """It can be read, and holds no key."""
    put(here, "0001.key", age=5)
    path = put(here, "0002.key")
    watcher = KeyWatcher(here, lambda _: None)
    assert [k.id for k in watcher.ring().keys] == [1, 2]
    put(here, path.name, "")
    assert ids(here) == [1]
    watcher._next_scan = 0.0
    assert [k.id for k in watcher.ring().keys] == [1]

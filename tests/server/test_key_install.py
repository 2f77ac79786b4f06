# SPDX-License-Identifier: MIT
"""Keys that somebody else decides on: a fleet's plan that is installed, and a volume that is replaced by a link."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from nts.base.errors import ConfigError
from nts.codec.keyring import KeyRing, MasterKey
from nts.server import keystore
from nts.server.key_watcher import KeyWatcher
from nts.system import files
from testkit.key_files import put

A, B, C, D = (MasterKey(n, bytes([n]) * 32) for n in range(1, 5))


def parts(ring: KeyRing) -> tuple[MasterKey, set[MasterKey], tuple[MasterKey, ...]]:
    """The key that seals, those that seal or have sealed, and the staged ones."""
    return ring.keys[-1], set(ring.keys), ring.openers[: -len(ring.keys)]


def holds(folder: Path, ring: KeyRing) -> bool:
    return parts(keystore.load(folder).ring) == parts(ring)


@pytest.mark.parametrize("shift", [0, -60, 3600], ids=["", "slowly", "the clock was an hour ahead"])
def test_the_folder_holds_what_the_ring_holds(tmp_path: Path, shift: float) -> None:
    for ring in (
        KeyRing((B, A)),
        KeyRing((B, A), (C,)),
        KeyRing((B, A, C)),
        KeyRing((A, C)),
        KeyRing((B, A, C)),
        KeyRing((A, C)),
        KeyRing((C, A)),
        KeyRing((D,), (B,)),
    ):
        assert keystore.install(tmp_path, ring) != []
        assert holds(tmp_path, ring)
        assert keystore.install(tmp_path, ring) == [], "nothing is left to do"
        for file in keystore.load(tmp_path).files:
            os.utime(file.path, ns=(0, file.mtime_ns + int(shift * 1e9)))


def test_foreign_and_damaged_files_go_and_an_identifier_gets_its_own_key(tmp_path: Path) -> None:
    put(tmp_path, "0001.key", bytes([9]).hex() * 32)
    put(tmp_path, "0002.staged", "damaged")
    put(tmp_path, "0007.key")
    (tmp_path / "notes").touch()
    assert keystore.install(tmp_path, KeyRing((A,), (B,))) == [
        "wrote 0001.key",
        "wrote 0002.staged",
        "removed 0007.key",
    ]
    assert holds(tmp_path, KeyRing((A,), (B,)))
    assert (tmp_path / "notes").exists()


def test_at_no_instant_does_another_key_seal(tmp_path: Path) -> None:
    """Not when an old key is written into an empty folder either, or the order changes."""
    keystore.install(tmp_path, KeyRing((A,)))
    stop, seen = threading.Event(), set[MasterKey]()

    def look() -> None:
        while not stop.is_set():
            current = keystore.load(tmp_path).ring.current
            assert current is not None
            seen.add(current)

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(30):
        keystore.install(tmp_path, KeyRing((A,), (B,)))
        keystore.install(tmp_path, KeyRing((C, A, B)))
        keystore.install(tmp_path, KeyRing((B, A)))
    stop.set()
    watcher.join()
    assert seen == {A, B}


def test_a_disk_that_is_full_costs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keystore.install(tmp_path, KeyRing((A,)))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_private", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        keystore.install(tmp_path, KeyRing((A, B)))
    assert holds(tmp_path, KeyRing((A,)))


def volume(folder: Path, number: int, *keys: MasterKey) -> None:
    """What Kubernetes makes of a Secret: files are links through ..data, which a rename moves to a new folder."""
    behind = folder / f"..{number}"
    behind.mkdir(parents=True)
    for place, key in enumerate(keys):
        put(behind, f"{key.id:04x}.key", key.key.hex(), age=100 - place - 10 * number)
        if not (link := folder / f"{key.id:04x}.key").is_symlink():
            link.symlink_to(f"..data/{link.name}")
    (folder / "..data_tmp").symlink_to(behind.name)
    (folder / "..data_tmp").rename(folder / "..data")
    for link in folder.glob("*.key"):
        if not link.exists():
            link.unlink()


def test_a_watcher_follows_a_volume_that_is_replaced_by_a_link(tmp_path: Path) -> None:
    volume(tmp_path, 1, A, B)
    problems: list[str] = []
    watcher = KeyWatcher(tmp_path, problems.append)
    assert watcher.ring().keys == (A, B)
    volume(tmp_path, 2, B, C)
    assert watcher.ring().keys == (B, C), "at once"
    volume(tmp_path, 3, C, D)
    assert watcher.ring().keys == (C, D)
    assert problems == []


def test_a_watcher_follows_a_link_to_the_folder_itself(tmp_path: Path) -> None:
    for name, key in (("one", A), ("two", B)):
        keystore.install(tmp_path / name, KeyRing((key,)))
    (tmp_path / "current").symlink_to("one")
    watcher = KeyWatcher(tmp_path / "current", pytest.fail)
    assert watcher.ring().keys == (A,)
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "current")
    assert watcher.ring().keys == (B,)

# SPDX-License-Identifier: MIT
"""master_keys/: what is read, what is reported, how rotation keeps its promises, how changes are noticed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nts.base.errors import ConfigError
from nts.server import key_watcher, keystore
from nts.server.key_watcher import KeyWatcher
from testkit.key_files import HEX, ids, key_names, put
from testkit.processes import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "master_keys"


def test_a_missing_folder_is_an_empty_ring(folder: Path) -> None:
    assert keystore.load(folder) == keystore.Snapshot((), ())
    assert keystore.load(folder).ring.current is None


def test_the_newest_by_time_then_by_name_is_current(folder: Path) -> None:
    put(folder, "0001.key", HEX + "\n", age=10)
    put(folder, "ffff.key", HEX + "\n", age=30)
    second = put(folder, "0002.key", HEX, age=20)  # without the newline, as some tools leave it
    assert ids(folder) == [0xFFFF, 2, 1]
    for path in folder.iterdir():
        os.utime(path, ns=(0, second.stat().st_mtime_ns))
    assert ids(folder) == [1, 2, 0xFFFF]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("foo.key", HEX, "not named"),
        ("00A1.key", HEX, "not named"),
        ("12345.key", HEX, "not named"),
        ("0001.key", "", "does not hold 64"),
        ("0001.key", HEX[:-1], "does not hold 64"),
        ("0001.key", HEX + "00", "does not hold 64"),
        ("0001.key", HEX + "\nmore", "does not hold 64"),
        ("0001.key", "g" * 64, "does not hold 64"),
        ("0001.key", "\u00e9" * 64, "does not hold 64"),
    ],
)
def test_a_damaged_file_is_reported_skipped_and_kept(folder: Path, name: str, content: str, complaint: str) -> None:
    path = put(folder, name, content)
    good = put(folder, "abcd.key", HEX)
    snapshot = keystore.load(folder)
    assert [f.path for f in snapshot.files] == [good]
    (problem,) = snapshot.problems
    assert str(path) in problem
    assert complaint in problem
    for _ in range(5):
        keystore.rotate(folder, 2, os.urandom)
    assert path.read_text() == content, "never deleted, never overwritten"


def test_folders_pipes_and_dangling_links_named_like_keys_are_reported(folder: Path) -> None:
    folder.mkdir()
    (folder / "0001.key").mkdir()
    (folder / "0003.key").symlink_to("nowhere")
    os.mkfifo(folder / "0004.key")  # opening it must not wait for somebody to write
    first, link, pipe = keystore.load(folder).problems
    assert "0001.key: not a regular file" in first
    assert "0003.key: a symbolic link to a file that does not exist" in link
    assert "0004.key: not a regular file" in pipe


def test_a_file_that_goes_while_the_folder_is_read_is_no_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, "0001.key")
    monkeypatch.setattr(os, "listdir", lambda _: ["0000.key", "0001.key"])
    snapshot = keystore.load(folder)
    assert (len(snapshot.files), snapshot.problems) == (1, ())


def test_other_names_are_nobodys_business(folder: Path) -> None:
    for name in ("0001.key+", ".lock", ".new", "README", "0001.key.bak"):
        put(folder, name, "whatever")
    assert keystore.load(folder) == keystore.Snapshot((), ())


def test_a_folder_that_is_a_file_is_one_clear_error(folder: Path) -> None:
    folder.write_text("")
    with pytest.raises(ConfigError, match=r"cannot read the master keys in .*Not a directory"):
        keystore.load(folder)
    with pytest.raises(ConfigError, match=r"cannot write master keys in .*File exists"):
        keystore.rotate(folder, 3, os.urandom)


def test_rotation_adds_one_and_keeps_the_newest(folder: Path) -> None:
    """A91."""
    made = []
    for _ in range(6):
        new, removed = keystore.rotate(folder, 3, os.urandom)
        made.append(new.key.id)
        assert ids(folder) == made[-3:]
        assert list(removed) == made[-4:-3]


def test_files_and_folder_are_private_and_in_the_shared_format(folder: Path) -> None:
    new, _ = keystore.rotate(folder, 3, os.urandom)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(new.path.stat().st_mode) == 0o600
    assert new.path.name == f"{new.key.id:04x}.key"
    assert new.path.read_text() == new.key.key.hex() + "\n"
    assert new.key.key.hex() not in repr(new)


def test_a_clock_that_went_back_does_not_make_an_old_key_current(folder: Path) -> None:
    put(folder, "0001.key", HEX, age=-3600)
    new, _ = keystore.rotate(folder, 3, os.urandom)
    assert ids(folder)[-1] == new.key.id


def test_an_identifier_that_is_taken_is_drawn_again(folder: Path) -> None:
    """And its two lowest bits are those of the last one plus one, as chronyd has it."""
    put(folder, "0003.key", "damaged")
    put(folder, "0107.key", HEX, age=1)
    put(folder, "0102.key", HEX)
    draws = iter([b"\0\0", b"k" * 32, b"\1\4", b"l" * 32, b"\2\2", b"m" * 32])
    new, _ = keystore.rotate(folder, 3, lambda _n: next(draws))
    assert new.key.id == 0x0203
    assert (folder / "0003.key").read_text() == "damaged"
    assert (folder / "0107.key").read_text() == HEX


def test_lowering_max_keys_removes_the_oldest(folder: Path) -> None:
    for i in range(5):
        put(folder, f"000{i}.key", HEX, age=100 - i)
    new, removed = keystore.rotate(folder, 2, os.urandom)
    assert removed == (0, 1, 2, 3)
    assert ids(folder) == [4, new.key.id]


def test_ensure_key_makes_just_the_first(folder: Path) -> None:
    first = keystore.ensure_key(folder, 3, os.urandom)
    assert first is not None
    assert keystore.ensure_key(folder, 3, os.urandom) is None
    assert ids(folder) == [first.key.id]


def observe(folder: Path, stop: threading.Event, seen: list[tuple[int, bool]], current: list[str]) -> None:
    while not stop.is_set():
        held = current[-1]
        names = key_names(folder)
        seen.append((len(names), held in names or current[-1] != held))


@pytest.mark.parametrize("max_keys", [2, 3])
def test_never_more_than_max_keys_and_never_without_the_current_one(folder: Path, max_keys: int) -> None:
    current = [keystore.rotate(folder, max_keys, os.urandom)[0].path.name]
    stop, seen = threading.Event(), list[tuple[int, bool]]()
    watcher = threading.Thread(target=observe, args=(folder, stop, seen, current))
    watcher.start()
    for _ in range(60):
        current.append(keystore.rotate(folder, max_keys, os.urandom)[0].path.name)
    stop.set()
    watcher.join()
    assert len(seen) > 60
    assert max(count for count, _ in seen) <= max_keys
    assert all(has_current for _, has_current in seen)


ROTATE = """
import os, sys
from pathlib import Path
from nts.server import key_watcher, keystore
for _ in range(10):
    keystore.rotate(Path(sys.argv[1]), 3, os.urandom)
"""


def test_processes_that_rotate_at_once_take_turns(folder: Path) -> None:
    racers = [subprocess.Popen([sys.executable, "-c", ROTATE, str(folder)], cwd=ROOT) for _ in range(4)]
    while any(r.poll() is None for r in racers):
        assert not folder.exists() or len(key_names(folder)) <= 3
    assert [r.returncode for r in racers] == [0, 0, 0, 0]
    assert len(ids(folder)) == 3


def test_a_leftover_of_a_crash_does_not_stop_the_next_rotation(folder: Path) -> None:
    put(folder, ".new", "half a k")
    new, _ = keystore.rotate(folder, 3, os.urandom)
    assert ids(folder) == [new.key.id]
    assert not (folder / ".new").exists()


# --- watching --------------------------------------------------------------------------------------------------------


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def watcher(folder: Path, reports: list[str]) -> KeyWatcher:
    keystore.rotate(folder, 3, os.urandom)
    watcher = KeyWatcher(folder, reports.append)
    assert watcher.ring().current is not None
    return watcher


def test_a_rotation_is_seen_at_the_very_next_look(folder: Path, watcher: KeyWatcher) -> None:
    for _ in range(20):
        new, _ = keystore.rotate(folder, 3, os.urandom)
        current = watcher.ring().current
        assert current is not None
        assert current.id == new.key.id


def test_a_rotation_is_seen_though_the_kernel_tells_time_in_steps(
    folder: Path, watcher: KeyWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look in the middle of a rotation must not take its end for seen, where file times are coarse."""
    coarse = time.time_ns()
    monkeypatch.setattr(watcher, "_signature", lambda: (coarse, 1))  # the same before and after
    monkeypatch.setattr(key_watcher, "_TICK_NS", 10**12)  # and the step is not over yet
    for _ in range(10):
        watcher.ring()
        assert watcher.seen == (0, 0)
        new, _ = keystore.rotate(folder, 3, os.urandom)
        current = watcher.ring().current
        assert current is not None
        assert current.id == new.key.id


def test_a_rotation_that_cannot_be_written_costs_no_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        keystore.rotate(folder, 3, os.urandom)
    before = ids(folder)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        keystore.rotate(folder, 3, os.urandom)
    assert ids(folder) == before


def test_nothing_is_read_while_nothing_changes(
    folder: Path, watcher: KeyWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = (time.time() - 5,) * 2
    os.utime(folder, past)
    monkeypatch.setattr(key_watcher, "_TICK_NS", -(10**18))  # its change time cannot be set back
    before = watcher.ring()
    loads: list[Path] = []
    monkeypatch.setattr(key_watcher, "_RESCAN", 3600.0)
    monkeypatch.setattr(watcher, "_next_scan", time.monotonic() + 3600)
    monkeypatch.setattr(keystore, "reload", loads.append)
    assert all(watcher.ring() is before for _ in range(1000))
    assert loads == []


def test_what_was_seen_can_be_compared_with_the_folder_once_it_is_settled(folder: Path, watcher: KeyWatcher) -> None:
    assert watcher.seen == (0, 0)  # it has just been made
    time.sleep(0.03)  # longer than a step of the file times
    watcher.ring()
    assert watcher.seen == (folder.stat().st_ctime_ns, folder.stat().st_ino)
    keystore.rotate(folder, 3, os.urandom)
    assert watcher.seen != (folder.stat().st_ctime_ns, folder.stat().st_ino)


def test_a_folder_from_before_the_clock_was_set_back_is_read_once(
    folder: Path, watcher: KeyWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its times lie in the future, which must not make every look a reading of all files."""
    loads: list[Path] = []
    earlier = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr("nts.server.keystore.time.time_ns", lambda: earlier)
    monkeypatch.setattr(key_watcher, "_RESCAN", 3600.0)
    monkeypatch.setattr(watcher, "_reload", lambda: loads.append(folder))
    monkeypatch.setattr(watcher, "_seen", None)  # on a slow machine the fixture's look was late enough to be settled
    for _ in range(10):
        watcher.ring()
    assert loads == [folder]
    assert watcher.seen == (folder.stat().st_ctime_ns, folder.stat().st_ino)


def test_a_file_edited_in_place_is_seen_at_the_next_rescan(
    folder: Path, watcher: KeyWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = folder.glob("*.key")
    path.write_text("ab" * 32)
    monkeypatch.setattr(watcher, "_next_scan", time.monotonic())
    current = watcher.ring().current
    assert current is not None
    assert current.key == bytes.fromhex("ab" * 32)


def test_a_removed_key_is_gone_at_once(folder: Path, watcher: KeyWatcher, reports: list[str]) -> None:
    """A83: a compromised key is removed by deleting its file."""
    for path in folder.glob("*.key"):
        path.unlink()
    assert watcher.ring().current is None
    assert reports == [f"no master key in {folder}: cookies cannot be made or opened"]


def test_the_last_good_ring_stays_while_the_folder_has_gone(
    folder: Path, watcher: KeyWatcher, reports: list[str]
) -> None:
    """A mount that comes and goes must not disconnect every client."""
    before = watcher.ring().current
    away = folder.rename(folder.with_name("away"))
    assert watcher.ring().current == before
    assert reports == [f"{folder} is missing: its last keys stay in use"]
    away.rename(folder)
    assert watcher.ring().current == before


def test_the_ring_stays_when_the_folder_goes_in_the_middle_of_a_reading(
    folder: Path, watcher: KeyWatcher, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between listing the folder and opening its files: that is not a revocation of every key."""
    before = watcher.ring().current
    listdir = os.listdir

    def list_and_move(opened: int) -> list[str]:
        names = listdir(opened)
        folder.rename(folder.with_name("away"))
        return names

    monkeypatch.setattr(watcher, "_next_scan", 0.0)
    monkeypatch.setattr(os, "listdir", list_and_move)
    assert watcher.ring().current == before
    assert reports == []


def test_problems_are_said_once_and_again_when_they_come_back(
    folder: Path, watcher: KeyWatcher, reports: list[str]
) -> None:
    path = put(folder, "zzzz.key", "x")
    for _ in range(3):
        keystore.rotate(folder, 3, os.urandom)
        watcher.ring()
    assert len(reports) == 1
    assert "zzzz.key" in reports[0]
    path.unlink()
    watcher.ring()
    put(folder, "zzzz.key", "x")
    watcher.ring()
    assert len(reports) == 2


def test_the_last_good_ring_stays_while_the_folder_cannot_be_read(
    folder: Path, watcher: KeyWatcher, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = watcher.ring().current

    def refuse(*_: object) -> keystore.Snapshot:
        raise ConfigError("cannot read the master keys: Permission denied")

    monkeypatch.setattr(keystore, "reload", refuse)
    monkeypatch.setattr(watcher, "_next_scan", 0.0)
    assert watcher.ring().current == before
    assert reports == ["cannot read the master keys: Permission denied"]

# SPDX-License-Identifier: MIT
"""Keys that are replaced by age, and keys that are staged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nts.base.errors import AuthError, ConfigError
from nts.codec import cookies
from nts.codec.aead import Aead, SessionKeys
from nts.codec.keyring import KeyRing, MasterKey
from nts.protocol import ts_client
from nts.server import keystore
from nts.server.key_watcher import KeyWatcher
from nts.server.keystore import KeyFile
from testkit.key_files import HEX, ids, key_names, put
from testkit.processes import HAS_ENGINE, NO_ENGINE, ROOT, Suite, ask_udp

DAY = 86400
KEYS = (SessionKeys(Aead.AES_SIV_CMAC_256, bytes(32), bytes(32)),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "master_keys"


def if_due(folder: Path, every: int = DAY) -> KeyFile | None:
    return keystore.rotate_if_due(folder, 3, every, os.urandom)


def make_older(folder: Path, seconds: float) -> None:
    for file in keystore.load(folder).files:
        os.utime(file.path, ns=(0, file.mtime_ns - int(seconds * 1e9)))


# --- by age ----------------------------------------------------------------------------------------------------------


def test_a_key_is_replaced_once_it_is_old_enough(folder: Path) -> None:
    put(folder, "0001.key", age=DAY - 30)
    assert if_due(folder) is None
    put(folder, "0001.key", age=DAY)
    new = if_due(folder)
    assert new is not None
    assert ids(folder) == [1, new.key.id]
    assert if_due(folder) is None
    make_older(folder, DAY - 30)
    assert if_due(folder) is None


def test_an_old_cookie_stays_good_for_all_but_one_of_max_keys_rotations(folder: Path) -> None:
    """A91."""
    first = keystore.ensure_key(folder, 3, os.urandom)
    assert first is not None
    cookie = cookies.seal(first.key, KEYS, bytes(16))
    for _ in range(2):
        make_older(folder, DAY)
        assert if_due(folder) is not None
        assert cookies.open_cookie(keystore.load(folder).ring, cookie) == KEYS
    make_older(folder, DAY)
    assert if_due(folder) is not None
    with pytest.raises(AuthError, match="unknown master key"):
        cookies.open_cookie(keystore.load(folder).ring, cookie)


def test_a_rotation_by_hand_counts(folder: Path) -> None:
    put(folder, "0001.key", age=DAY - 1)
    keystore.rotate(folder, 3, os.urandom)
    assert if_due(folder) is None


RACE = """
import os, sys
from pathlib import Path
from nts.server import keystore
sys.stdin.readline()
print(keystore.rotate_if_due(Path(sys.argv[1]), 3, 3600, os.urandom))
"""


def test_of_many_processes_one_rotates(folder: Path) -> None:
    put(folder, "0001.key", age=DAY)
    command = [sys.executable, "-c", RACE, str(folder)]
    racers = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(5)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert said.count("None") == 4, said
    assert len(ids(folder)) == 2


def test_a_second_look_is_taken_under_the_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process rotates between the first look and the lock."""
    put(folder, "0001.key", age=DAY)
    is_due = keystore._is_due

    def look(snapshot: keystore.Snapshot, every: int) -> bool:
        if snapshot.files[-1].key.id == 1:
            keystore.rotate(folder, 3, os.urandom)
        return is_due(snapshot, every)

    monkeypatch.setattr(keystore, "_is_due", look)
    assert if_due(folder) is None
    assert len(ids(folder)) == 2


def test_keys_from_before_the_clock_was_set_back_count_as_made_now(folder: Path) -> None:
    """Neither does rotation stop until the clock is there again, nor does every look rotate."""
    put(folder, "0003.key", age=100)
    put(folder, "0002.key", age=-30 * DAY)
    put(folder, "0001.key", age=-40 * DAY)
    for _ in range(3):
        assert if_due(folder) is None
    assert ids(folder) == [3, 2, 1], "in the same order"
    make_older(folder, DAY - 30)
    assert if_due(folder) is None
    make_older(folder, 30)
    new = if_due(folder)
    assert new is not None
    assert ids(folder) == [2, 1, new.key.id]


def test_an_emptied_folder_gets_a_key_and_a_missing_one_does_not(folder: Path) -> None:
    """A mount that comes back must not find its keys replaced."""
    assert if_due(folder) is None
    assert not folder.exists()
    folder.mkdir()
    assert if_due(folder) is not None


# --- staged ----------------------------------------------------------------------------------------------------------


def test_a_staged_key_opens_cookies_and_seals_none(folder: Path) -> None:
    first, _ = keystore.rotate(folder, 2, os.urandom)
    staged = keystore.stage(folder, os.urandom)
    assert staged.path.name == f"{staged.key.id:04x}.staged"
    assert staged.path.stat().st_mode & 0o777 == 0o600
    ring = keystore.load(folder).ring
    assert ring.current == first.key
    assert ring.keys == (first.key,)
    assert ring.openers == (staged.key, first.key)
    assert cookies.open_cookie(ring, cookies.seal(staged.key, KEYS, bytes(16))) == KEYS


def test_a_ring_without_a_current_key_opens_nothing(folder: Path) -> None:
    """Its replies would need fresh cookies. The engine takes the last key that it gets for the current one."""
    staged = keystore.stage(folder, os.urandom)
    ring = keystore.load(folder).ring
    assert (ring.current, ring.get(staged.key.id), ring.openers) == (None, None, ())


def test_of_two_keys_with_one_identifier_the_one_that_seals_opens() -> None:
    current, staged = MasterKey(1, bytes(32)), MasterKey(1, bytes(range(32)))
    assert KeyRing((current,), (staged,)).get(1) == current


def test_activation_is_a_rotation_to_the_staged_key(folder: Path) -> None:
    keystore.rotate(folder, 2, os.urandom)
    second, _ = keystore.rotate(folder, 2, os.urandom)
    staged = keystore.stage(folder, os.urandom)
    os.utime(staged.path, (0, 0))
    announced: list[tuple[KeyFile, ...]] = []
    new, removed = keystore.activate(folder, 2, announced.append)
    assert new.key == staged.key
    assert ids(folder) == [second.key.id, staged.key.id]
    assert [tuple(f.key.id for f in files) for files in announced] == [removed]
    assert not staged.path.exists()
    assert time.time() - new.mtime_ns / 1e9 < 30, "its time is that of the activation"
    assert new.path.stat().st_mode & 0o777 == 0o600


def test_at_no_instant_does_activation_leave_too_many_keys_or_none(folder: Path) -> None:
    held = keystore.rotate(folder, 2, os.urandom)[0].path.name
    stop, counts = threading.Event(), list[int]()

    def count() -> None:
        while not stop.is_set():
            counts.append(len(key_names(folder)))

    watcher = threading.Thread(target=count)
    watcher.start()
    for _ in range(40):
        keystore.stage(folder, os.urandom)
        new, _ = keystore.activate(folder, 2)
        assert held in key_names(folder)
        held = new.path.name
    stop.set()
    watcher.join()
    assert len(counts) > 40
    assert 1 <= min(counts) <= max(counts) <= 2


def test_one_key_is_staged_at_a_time(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no key is staged"):
        keystore.activate(folder, 3)
    staged = keystore.stage(folder, os.urandom)
    with pytest.raises(ConfigError, match=re.escape(f"{staged.path} is staged already")):
        keystore.stage(folder, os.urandom)
    other = put(folder, "0001.staged" if staged.key.id != 1 else "0002.staged")
    with pytest.raises(ConfigError, match="more than one key is staged: "):
        keystore.activate(folder, 3)
    other.unlink()
    put(folder, staged.path.with_suffix(".key").name, "damaged")
    with pytest.raises(ConfigError, match="exists already"):
        keystore.activate(folder, 3)
    assert staged.path.exists()


def test_a_rotation_leaves_a_staged_key_alone_and_its_identifier_too(folder: Path) -> None:
    put(folder, "0000.staged")
    draws = iter([b"\0\0", b"k" * 32, b"\1\1", b"l" * 32])
    new, _ = keystore.rotate(folder, 2, lambda _n: next(draws))
    assert new.key.id == 0x0101
    for _ in range(3):
        keystore.rotate(folder, 2, os.urandom)
    assert [f.key.id for f in keystore.load(folder).staged] == [0]


@pytest.mark.parametrize(("name", "content"), [("foo.staged", HEX), ("0001.staged", "x")])
def test_a_damaged_staged_file_is_a_problem(folder: Path, name: str, content: str) -> None:
    put(folder, name, content)
    snapshot = keystore.load(folder)
    assert snapshot.staged == ()
    assert name in snapshot.problems[0]


def test_a_server_notices_staging_and_activation_at_once(folder: Path) -> None:
    first, _ = keystore.rotate(folder, 3, os.urandom)
    watcher = KeyWatcher(folder, pytest.fail)
    assert watcher.ring().openers == (first.key,)
    for _ in range(10):
        staged = keystore.stage(folder, os.urandom)
        assert watcher.ring().openers[0] == staged.key
        assert watcher.ring().current != staged.key
        keystore.activate(folder, 3)
        assert watcher.ring().current == staged.key
        time.sleep(0.03)  # longer than a step of the file times


NATIVE = pytest.param("native", marks=pytest.mark.skipif(not HAS_ENGINE, reason=NO_ENGINE))


@pytest.mark.parametrize("engine", [NATIVE, "python"])
def test_a_time_server_takes_cookies_of_a_key_exchange_server_that_is_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """There the key has been activated. The fresh cookies are under the key that is current here."""
    monkeypatch.setattr(Suite, "engine", engine)
    suite = Suite(tmp_path)
    current, _ = keystore.rotate(suite.keys, 3, os.urandom)
    suite.start_ts()
    try:
        staged = keystore.stage(suite.keys, os.urandom)
        query = ts_client.build_query(KEYS[0], cookies.seal(staged.key, KEYS, os.urandom(16)), 7, os.urandom)
        reply = ask_udp(suite.ntp_port, query.packet)
        assert reply is not None
        fresh = ts_client.judge(reply, query).cookies
        assert [int.from_bytes(cookie[:2], "big") for cookie in fresh] == [current.key.id] * 8
    finally:
        suite.stop()

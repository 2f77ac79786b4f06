# SPDX-License-Identifier: MIT
"""Key files of other servers, imported and exported: what is read and kept, and how they are written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nts.base.errors import ConfigError
from nts.codec import foreign_keys
from nts.codec.keyring import CookieFormat, KeyRing, MasterKey
from nts.server import key_watcher, keystore, peer_file
from nts.server.config import ForeignFile
from nts.server.imported_keys import ImportedKeys
from nts.server.key_watcher import KeyWatcher
from testkit.engine_packets import ABSENT
from testkit.foreign_cookies import CHRONY_KEYS, NTPSEC_KEYS
from testkit.key_files import put
from testkit.packets import CURRENT_KEY, OLD_KEY

CHRONY, NTPSEC = CookieFormat.CHRONY, CookieFormat.NTPSEC
RING = KeyRing((OLD_KEY, CURRENT_KEY))
FOUR = "NKS0\n15 0.0\n" + "".join(f"BE8B9FF{i} {f'{i:02X}' * 32}\n" for i in range(4))


def test_imported_files_are_read_together(tmp_path: Path) -> None:
    files = ForeignFile(CHRONY, tmp_path / "ntskeys"), ForeignFile(NTPSEC, tmp_path / "nts-keys")
    imported = ImportedKeys(files)
    keys, problems = imported.read()
    assert (keys, len(problems)) == ((), 2)
    (tmp_path / "ntskeys").write_text(CHRONY_KEYS)
    (tmp_path / "nts-keys").write_text(NTPSEC_KEYS)
    keys, problems = imported.read()
    assert [k.id for k in keys] == [0xBE8B9FF9, 0x30CBFC9B, 3429087841]
    assert problems == []


@pytest.mark.parametrize("damage", ["NKS0\n15 0.0\n", "", CHRONY_KEYS[:100], None])
def test_a_file_that_cannot_be_understood_or_read_costs_no_key(tmp_path: Path, damage: str | None) -> None:
    path = tmp_path / "ntskeys"
    path.write_text(CHRONY_KEYS)
    imported = ImportedKeys([ForeignFile(CHRONY, path)])
    keys, _ = imported.read()
    path.unlink()
    if damage is None:
        path.mkdir()  # what even root cannot read
    else:
        path.write_text(damage)
    kept, (problem,) = imported.read()
    assert kept == keys
    assert "; the keys read earlier stay in use" in problem
    assert not any(word in problem for word in CHRONY_KEYS.split() if len(word) > 10)
    if damage is not None:
        path.unlink()
        gone, (problem,) = imported.read()
        assert (gone, problem) == ((), f"{path} does not exist: cookies of chrony's are refused")


def test_the_watcher_follows_imported_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_watcher, "_RESCAN", 0.0)
    put(tmp_path / "keys", "0001.key")
    path, reports = tmp_path / "ntskeys", list[str]()
    imported = ImportedKeys([ForeignFile(CHRONY, path)])
    watcher = KeyWatcher(tmp_path / "keys", reports.append, imported, CookieFormat.NTPSEC)
    ring = watcher.ring()
    assert (ring.format, ring.imported) == (CookieFormat.NTPSEC, ())
    assert watcher.ring() is ring
    path.write_text(CHRONY_KEYS)
    assert [k.id for k in watcher.ring().imported] == [0xBE8B9FF9, 0x30CBFC9B]
    assert len(reports) == 1
    path.unlink()
    assert watcher.ring().imported == ()
    assert len(reports) == 2


# --- the file of another server --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cookie_format", [CHRONY, NTPSEC], ids=lambda f: f.value)
def test_a_new_file_is_for_its_owner_alone(tmp_path: Path, cookie_format: CookieFormat) -> None:
    file = ForeignFile(cookie_format, tmp_path / "keys")
    assert not peer_file.holds(file, RING)
    previous = os.umask(0)
    try:
        peer_file.write(file, RING, os.urandom)
    finally:
        os.umask(previous)
    assert peer_file.holds(file, RING)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert not peer_file.holds(file, KeyRing((CURRENT_KEY, OLD_KEY)))
    assert not peer_file.holds(file, KeyRing((CURRENT_KEY,), (ABSENT,)))
    assert not peer_file.holds(file, KeyRing())
    assert list(tmp_path.iterdir()) == [file.path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to others")
def test_owner_and_mode_stay_but_never_become_everyones(tmp_path: Path) -> None:
    file = ForeignFile(CHRONY, tmp_path / "ntskeys")
    for mode, expected in ((0o640, 0o640), (0o600, 0o600), (0o644, 0o640), (0o6777, 0o660)):
        file.path.write_text(FOUR)
        os.chown(file.path, 4321, 1234)
        file.path.chmod(mode)
        peer_file.write(file, RING, os.urandom)
        status = file.path.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (4321, 1234, expected)


def test_the_file_is_replaced_and_what_reads_it_sees_the_old_or_the_new_one(tmp_path: Path) -> None:
    file = ForeignFile(CHRONY, tmp_path / "ntskeys")
    file.path.write_text(FOUR)
    with file.path.open() as old:
        peer_file.write(file, RING, os.urandom)
        assert old.read() == FOUR
    assert peer_file.read(file) != foreign_keys.read_chrony(FOUR)


def test_what_is_no_such_file_is_left_alone(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text(FOUR)
    link.symlink_to(target)
    other = tmp_path / "other"
    other.write_text("precious\n")
    for path, problem in ((link, "is not a regular file"), (tmp_path, "is not a regular file"), (other, "begin with")):
        with pytest.raises(ConfigError, match=problem):
            peer_file.write(ForeignFile(CHRONY, path), RING, os.urandom)
    assert (target.read_text(), other.read_text()) == (FOUR, "precious\n")
    with pytest.raises(ConfigError, match="cannot write"):
        peer_file.write(ForeignFile(CHRONY, tmp_path / "missing" / "ntskeys"), RING, os.urandom)


def test_the_first_key_of_ours_takes_the_place_of_chronyds_next_one(tmp_path: Path) -> None:
    file = ForeignFile(CHRONY, tmp_path / "ntskeys")
    assert peer_file.next_place(file) is None
    file.path.write_text(FOUR)
    place = peer_file.next_place(file)
    assert place is not None
    assert place % 4 == 3
    keystore.ensure_key(tmp_path / "keys", 3, os.urandom)
    staged = keystore.stage(tmp_path / "keys", os.urandom, place)
    assert staged.key.id % 4 == 3
    peer_file.write(file, keystore.load(tmp_path / "keys").ring, os.urandom)
    assert [k.id for k in peer_file.read(file)] == [0xBE8B9FF0, 0xBE8B9FF1, 0xBE8B9FF2, staged.key.id]
    keystore.activate(tmp_path / "keys", 3)
    peer_file.write(file, keystore.load(tmp_path / "keys").ring, os.urandom)
    assert peer_file.next_place(file) is None  # the current key is ours
    assert peer_file.next_place(ForeignFile(NTPSEC, tmp_path / "none")) is None


def test_all_keys_of_a_ring_go_before_chronyds_own(tmp_path: Path) -> None:
    """For a fleet, whose members all must open what any of them seals."""
    file = ForeignFile(CHRONY, tmp_path / "ntskeys")
    file.path.write_text(FOUR)
    ring = KeyRing((MasterKey(0x10, b"a" * 32), MasterKey(0x21, b"b" * 32)), (MasterKey(0x32, b"c" * 32),))
    assert peer_file.write(file, ring, os.urandom, whole=True)
    assert [k.id for k in peer_file.read(file)] == [0xBE8B9FF3, 0x10, 0x21, 0x32]
    assert not peer_file.write(file, ring, os.urandom, whole=True)
    clashing = KeyRing((MasterKey(0x10, b"a" * 32), MasterKey(0x20, b"b" * 32)))
    with pytest.raises(ConfigError, match="has no room for all keys until the oldest has gone"):
        peer_file.write(file, clashing, os.urandom, whole=True)

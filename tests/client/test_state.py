# SPDX-License-Identifier: MIT
"""client.ini: whole at every instant, private, and no cookie ever handed out twice - with real processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nts.base.errors import ConfigError, NoCookies
from nts.client.state import Association, ClientState
from nts.codec.aead import Aead, SessionKeys
from nts.system import files
from testkit.processes import ROOT

KEYS = SessionKeys(Aead.AES_SIV_CMAC_256, bytes(range(32)), bytes(range(32, 64)))
COOKIES = tuple(bytes([i]) * 100 for i in range(1, 9))
ASSOCIATION = Association("nts.example", 4460, "/ca.pem", True, "192.0.2.1", 4123, KEYS, COOKIES)


@pytest.fixture
def store(tmp_path: Path) -> ClientState:
    store = ClientState(tmp_path / "client.ini")
    store.save(ASSOCIATION)
    return store


def test_what_is_saved_is_loaded(store: ClientState) -> None:
    assert store.load() == ASSOCIATION


def test_both_pairs_of_keys_are_kept_until_one_is_proven(store: ClientState) -> None:
    """A40: the exporter context of AEAD 30 may be in doubt."""
    first, second = (SessionKeys(Aead.AES_128_GCM_SIV, bytes([n]) * 16, bytes([n + 1]) * 16) for n in (1, 3))
    in_doubt = replace(ASSOCIATION, keys=first, other_keys=second)
    store.save(in_doubt)
    assert store.load() == in_doubt
    assert store.take_cookie()[0].other_keys == second
    assert store.add_cookies(KEYS, (b"foreign",)) == 7
    assert store.load().other_keys == second
    assert store.add_cookies(second, ()) == 7
    assert (store.load().keys, store.load().other_keys) == (second, None)
    assert "context_15" not in store.path.read_text()


@pytest.mark.parametrize("aead", Aead)
def test_all_algorithms_are_kept(store: ClientState, aead: Aead) -> None:
    keys = SessionKeys(aead, os.urandom(aead.key_length), os.urandom(aead.key_length))
    store.save(replace(ASSOCIATION, keys=keys, verify=False, ca=""))
    assert store.load() == replace(ASSOCIATION, keys=keys, verify=False, ca="")


def test_the_file_is_private_and_leaves_no_litter(store: ClientState) -> None:
    store.path.chmod(0o644)
    store.take_cookie()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert {p.name for p in store.path.parent.iterdir()} == {"client.ini", ".client.ini.lock"}


def test_cookies_go_oldest_first_and_are_gone_before_they_are_returned(store: ClientState) -> None:
    """A63."""
    for i, expected in enumerate(COOKIES):
        association, cookie = store.take_cookie()
        assert cookie == expected
        assert association.cookies == COOKIES[i + 1 :] == store.load().cookies
    with pytest.raises(NoCookies):
        store.take_cookie()


def test_fresh_cookies_join_at_the_end_and_never_exceed_eight(store: ClientState) -> None:
    """A79."""
    store.take_cookie()
    assert store.add_cookies(KEYS, (b"a" * 100, b"b" * 100)) == 8
    assert store.load().cookies == (*COOKIES[2:], b"a" * 100, b"b" * 100)


def test_fresh_cookies_of_an_old_association_are_dropped(store: ClientState) -> None:
    """A77: after a key exchange old cookies must not come back."""
    other = SessionKeys(Aead.AES_SIV_CMAC_256, bytes(32), bytes(32))
    assert store.add_cookies(other, (b"a" * 100,)) == 8
    assert store.load().cookies == COOKIES


def test_a_new_association_replaces_all_of_the_old_one(store: ClientState) -> None:
    """A77."""
    store.save(replace(ASSOCIATION, cookies=(b"n" * 132,)))
    assert store.load().cookies == (b"n" * 132,)
    assert COOKIES[0].hex() not in store.path.read_text()


def test_unknown_sections_and_options_and_links_survive(tmp_path: Path) -> None:
    mine = "# my notes\n[mine]\nx = %(y)s\n\n[ntpv4]\n; the server\nserver = old\nExtra = 1\nextra = 2\n"
    mine += f"\n[cookies]\n0 = ab\n8 = cd\nNote = 3\n\n[Mine]\n{'X' * 20} = Y\n"
    (tmp_path / "real.ini").write_text(mine)
    (tmp_path / "client.ini").symlink_to("real.ini")
    store = ClientState(tmp_path / "client.ini")
    store.save(ASSOCIATION)
    store.take_cookie()
    text = (tmp_path / "real.ini").read_text()
    assert "0 = ab\n" not in text
    for kept in ("[mine]\nx = %(y)s", "Extra = 1\nextra = 2\n", "server = 192.0.2.1", "8 = cd\nNote = 3\n", "X = Y\n"):
        assert kept in text
    assert (tmp_path / "client.ini").is_symlink()


GOOD = "[ntpv4]\nserver = h\nport = 123\n[keys]\nc2s = {k}\ns2c = {k}\n[cookies]\n0 = {c}\n".format(
    k="00" * 32, c="ab" * 100
)


def test_the_ancestors_file_is_enough(tmp_path: Path) -> None:
    (tmp_path / "client.ini").write_text(GOOD)
    loaded = ClientState(tmp_path / "client.ini").load()
    assert (loaded.server, loaded.port, loaded.keys.aead) == ("h", 123, Aead.AES_SIV_CMAC_256)
    assert loaded.cookies == (b"\xab" * 100,)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("c2s = 00", "c2s = zz", "[keys] c2s is not hexadecimal"),
        ("c2s = 00", "c2s = ", "[keys] c2s has 31 octets"),
        ("c2s", "nothing", "[keys] c2s is missing"),
        ("[keys]", "[keys]\naead = 17", "[keys] c2s has 32 octets"),
        ("[keys]", "[keys]\naead = 99", "[keys] aead is not one of 15, 16, 17, 30"),
        ("[keys]", "[keys]\naead = x", "[keys] aead is not a number"),
        ("server = h", "", "[ntpv4] server is missing"),
        ("port = 123", "port = 0", "[ntpv4] port is not a number from 1 to 65535"),
        ("0 = ab", "0 = a", "[cookies] 0 is not hexadecimal"),
        ("[cookies]", "cookies", "line 7: not a [section]"),
    ],
)
def test_a_damaged_file_is_one_clear_error_and_is_left_alone(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    path = tmp_path / "client.ini"
    path.write_text(GOOD.replace(old, new, 1))
    before = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        ClientState(path).take_cookie()
    assert complaint in str(caught.value)
    assert "abab" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_file_that_is_no_ini_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "client.ini"
    path.write_text("precious\n")
    with pytest.raises(ConfigError, match="line 1"):
        ClientState(path).check_writable()
    with pytest.raises(ConfigError, match="line 1"):
        ClientState(path).save(ASSOCIATION)
    assert path.read_text() == "precious\n"


def test_a_folder_that_is_missing_is_said_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*No such file or directory"):
        ClientState(tmp_path / "none" / "client.ini").check_writable()


def test_a_full_disk_keeps_the_cookie(store: ClientState, monkeypatch: pytest.MonkeyPatch) -> None:
    before = store.path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        store.take_cookie()
    assert store.path.read_bytes() == before


def test_a_lock_that_is_never_freed_is_an_error(store: ClientState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK_TIMEOUT", 0.05)
    with files.locked(store.path.with_name(".client.ini.lock")), pytest.raises(ConfigError, match="is locked"):
        store.take_cookie()


def test_secrets_are_not_in_repr(store: ClientState) -> None:
    shown = repr(store.load()) + repr(KEYS)
    assert KEYS.c2s.hex() not in shown
    assert repr(KEYS.c2s)[2:-1] not in shown
    assert "\\x01" not in shown


# --- with real processes ---------------------------------------------------------------------------------------------

TAKE = """
import sys
from pathlib import Path
from nts.base.errors import NoCookies
from nts.client.state import ClientState
store = ClientState(Path(sys.argv[1]))
while True:
    try:
        association, cookie = store.take_cookie()
    except NoCookies:
        break
    print(cookie.hex(), flush=True)
"""

REFILL = """
import os, sys
from pathlib import Path
from nts.client.state import ClientState
store = ClientState(Path(sys.argv[1]))
while True:
    association, cookie = store.take_cookie()
    print(cookie.hex(), flush=True)
    store.add_cookies(association.keys, (os.urandom(100),))
"""


def start(code: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_processes_at_once_never_get_the_same_cookie(store: ClientState) -> None:
    for _ in range(3):
        store.save(ASSOCIATION)
        takers = [start(TAKE, store.path) for _ in range(4)]
        taken = [line for t in takers for line in t.communicate(timeout=30)[0].split()]
        assert sorted(taken) == sorted(c.hex() for c in COOKIES)


def test_kill_at_any_point_never_damages_the_file_nor_repeats_a_cookie(store: ClientState) -> None:
    """kill -9 at many instants of taking and storing; two processes at a time on one file."""
    handed_out: list[str] = []
    for i in range(12):
        store.save(replace(store.load(), cookies=tuple(os.urandom(100) for _ in range(8))))
        workers = [start(REFILL, store.path) for _ in range(2)]
        assert all(w.stdout is not None and w.stdout.readline() for w in workers), "both are at work"
        time.sleep(0.001 + 0.0037 * i)
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
        for worker in workers:
            handed_out += [line for line in worker.communicate()[0].split() if len(line) == 200]
        left = {c.hex() for c in store.load().cookies}
        assert not left & set(handed_out), "a cookie that was handed out is still in the file"
        assert store.path.stat().st_size > 0
    assert len(handed_out) == len(set(handed_out)), "a cookie was handed out twice"
    assert len(handed_out) > 24

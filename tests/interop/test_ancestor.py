# SPDX-License-Identifier: MIT
"""The formats shared with the ancestor, nts-poc-python, in both directions and without its code.

`Ancestor` is a reader and writer of its own, after the ancestor's documented formats: cookies of 100 octets, key
files `%04x.key`, client.ini. It has nothing in common with `nts` but the numbers: its cryptography is OpenSSL's.
"""

from __future__ import annotations

import configparser
import ctypes
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from nts.base.errors import ExitCode
from nts.client.state import ClientState
from nts.codec import cookies
from nts.codec.aead import Aead, SessionKeys
from nts.codec.keyring import KeyRing, MasterKey
from nts.protocol import ts_client
from nts.protocol.ts_client import AnswerKind, Judgement
from nts.server import keystore
from testkit.processes import Suite, ask_udp, run, running_suite

MAX_KEYS = 3  # the ancestor's constant, and our default
C2S, S2C = bytes([0xB0] * 32), bytes([0xA0] * 32)
VECTOR = bytes.fromhex(
    "1234404142434445464748494a4b4c4d4e4fa9c653f38f5f617a81512385d49069b848ddad61ed49add29b10409cf3623ca687bd4d961a5d"
    "61593e00fe3f8a88242b6d3aeb9c6ad818fea22d6eb21f3d11fdca524adfbe233c8699e0a9c74f406c31b39a"
)
VECTOR_ID, VECTOR_KEY, VECTOR_NONCE = 0x1234, bytes(range(32)), bytes(range(0x40, 0x50))


class Refused(Exception):
    """The ancestor would not take it."""


class Ancestor:
    """What the ancestor's server and client read and write."""

    @staticmethod
    def seal(key_id: int, key: bytes, s2c: bytes, c2s: bytes, nonce: bytes | None = None) -> bytes:
        nonce = nonce or os.urandom(16)
        return (
            struct.pack(">H", key_id) + nonce + AESSIV(key).encrypt(struct.pack(">H32s32s", 15, s2c, c2s), [b"", nonce])
        )

    @staticmethod
    def open(keys: dict[int, bytes], cookie: bytes) -> tuple[bytes, bytes]:
        """The S2C and the C2S key."""
        if len(cookie) != 100:
            raise Refused("not 100 octets")
        key_id, nonce = struct.unpack(">H16s", cookie[:18])
        if key_id not in keys:
            raise Refused("unknown key")
        try:
            aead, s2c, c2s = struct.unpack(">H32s32s", AESSIV(keys[key_id]).decrypt(cookie[18:], [b"", nonce]))
        except InvalidTag:
            raise Refused("not authentic") from None
        if aead != 15:
            raise Refused("not AEAD 15")
        return s2c, c2s

    @staticmethod
    def read_keys(folder: Path) -> dict[int, bytes]:
        """All keys of a folder. Stricter than the ancestor's server, which a name or content it cannot use kills."""
        keys = {}
        for name in os.listdir(folder):  # noqa: PTH208 - names are what it looks at
            if name.endswith(".key"):
                key = bytes.fromhex((folder / name).read_text("ascii").strip())
                assert name == f"{int(name[:-4], 16):04x}.key"
                assert len(key) == 32
                keys[int(name[:-4], 16)] = key
        return keys

    @staticmethod
    def write_key(folder: Path, key_id: int, key: bytes, end: str = "\n") -> Path:
        folder.mkdir(exist_ok=True)
        temporary = folder / f"{key_id:04x}.key+"
        temporary.write_text(key.hex() + end, "ascii")
        return temporary.rename(folder / f"{key_id:04x}.key")

    @staticmethod
    def write_client_ini(path: Path, port: int, keys: SessionKeys, stock: dict[int, bytes]) -> None:
        ini = configparser.RawConfigParser()
        ini["ntpv4"] = {"server": "localhost", "port": str(port)}
        ini["keys"] = {"c2s": keys.c2s.hex(), "s2c": keys.s2c.hex()}
        ini["cookies"] = {str(i): cookie.hex() for i, cookie in stock.items()}
        with path.open("w") as f:
            ini.write(f)

    @staticmethod
    def read_client_ini(path: Path) -> tuple[str, int, bytes, bytes, list[bytes]]:
        """Server, port, C2S key, S2C key, cookies."""
        ini = configparser.RawConfigParser()
        with path.open() as f:
            ini.read_file(f)
        assert all(name in "01234567" and len(name) == 1 for name in ini["cookies"])
        stock = [bytes.fromhex(value) for _, value in sorted(ini.items("cookies"))]
        c2s, s2c = (bytes.fromhex(ini.get("keys", name)) for name in ("c2s", "s2c"))
        return ini.get("ntpv4", "server"), ini.getint("ntpv4", "port"), c2s, s2c, stock


def query(port: int, keys: SessionKeys, cookie: bytes, placeholders: int = 0) -> Judgement:
    """What our server answers to a request with this cookie."""
    request = ts_client.build_query(keys, cookie, placeholders, os.urandom)
    datagram = ask_udp(port, request.packet, timeout=10)
    assert datagram is not None
    return ts_client.judge(datagram, request)


def random_keys() -> SessionKeys:
    return SessionKeys(Aead.AES_SIV_CMAC_256, os.urandom(32), os.urandom(32))


# --- cookies ---------------------------------------------------------------------------------------------------------


def test_the_documented_vector_is_what_both_sides_make_and_read() -> None:
    keys = SessionKeys(Aead.AES_SIV_CMAC_256, c2s=C2S, s2c=S2C)
    master = MasterKey(VECTOR_ID, VECTOR_KEY)
    assert Ancestor.seal(VECTOR_ID, VECTOR_KEY, S2C, C2S, VECTOR_NONCE) == VECTOR
    assert cookies.seal(master, (keys,), VECTOR_NONCE) == VECTOR
    assert Ancestor.open({VECTOR_ID: VECTOR_KEY}, VECTOR) == (S2C, C2S)
    assert cookies.open_cookie(KeyRing((master,)), VECTOR) == (keys,)


def test_cookies_of_our_key_exchange_are_read_by_the_ancestor(suite: Suite, tmp_path: Path) -> None:
    ini = tmp_path / "client.ini"
    assert suite.fetch(output=ini).returncode == ExitCode.OK
    server, port, c2s, s2c, stock = Ancestor.read_client_ini(ini)
    assert (server, port) in {("127.0.0.1", suite.ntp_port), ("::1", suite.ntp_port)}
    assert (len(stock), len(set(stock))) == (8, 8)
    keys = Ancestor.read_keys(suite.keys)
    assert [Ancestor.open(keys, cookie) for cookie in stock] == [(s2c, c2s)] * 8


def test_cookies_of_our_time_server_are_read_by_the_ancestor(suite: Suite, tmp_path: Path) -> None:
    ini = tmp_path / "client.ini"
    assert suite.fetch(output=ini).returncode == ExitCode.OK
    _, port, c2s, s2c, (first, *_) = Ancestor.read_client_ini(ini)
    answer = query(port, SessionKeys(Aead.AES_SIV_CMAC_256, c2s, s2c), first, placeholders=7)
    assert answer.kind is AnswerKind.TIME
    keys = Ancestor.read_keys(suite.keys)
    assert [Ancestor.open(keys, cookie) for cookie in answer.cookies] == [(s2c, c2s)] * 8


def test_cookies_for_other_algorithms_have_lengths_that_the_ancestor_drops(suite: Suite, tmp_path: Path) -> None:
    ini = tmp_path / "client.ini"
    for aead, length in ((16, 132), (17, 164)):
        assert suite.fetch("--aead", aead, output=ini).returncode == ExitCode.OK
        *_, stock = Ancestor.read_client_ini(ini)
        assert {len(cookie) for cookie in stock} == {length}
        with pytest.raises(Refused, match="100 octets"):
            Ancestor.open(Ancestor.read_keys(suite.keys), stock[0])


@pytest.mark.parametrize("placeholders", [0, 7])
def test_cookies_of_the_ancestor_are_accepted_by_our_time_server(suite: Suite, placeholders: int) -> None:
    key_id, key = next(iter(Ancestor.read_keys(suite.keys).items()))
    keys = random_keys()
    answer = query(suite.ntp_port, keys, Ancestor.seal(key_id, key, keys.s2c, keys.c2s), placeholders)
    assert (answer.kind, len(answer.cookies)) == (AnswerKind.TIME, 1 + placeholders)
    for cookie in answer.cookies:
        assert Ancestor.open({key_id: key}, cookie) == (keys.s2c, keys.c2s)
        assert query(suite.ntp_port, keys, cookie).kind is AnswerKind.TIME


def test_the_order_of_the_keys_in_a_cookie_matters(suite: Suite) -> None:
    key_id, key = next(iter(Ancestor.read_keys(suite.keys).items()))
    keys = random_keys()
    swapped = Ancestor.seal(key_id, key, s2c=keys.c2s, c2s=keys.s2c)
    assert query(suite.ntp_port, keys, swapped).kind is AnswerKind.NAK


@pytest.mark.parametrize("change", ["identifier", "key"])
def test_cookies_under_foreign_keys_get_a_nak(suite: Suite, change: str) -> None:
    known = Ancestor.read_keys(suite.keys)
    key_id, key = next(iter(known.items()))
    if change == "identifier":
        key_id = next(i for i in range(len(known) + 1) if i not in known)
    else:
        key = os.urandom(32)
    keys = random_keys()
    cookie = Ancestor.seal(key_id, key, keys.s2c, keys.c2s)
    assert query(suite.ntp_port, keys, cookie).kind is AnswerKind.NAK


# --- key files -------------------------------------------------------------------------------------------------------


def test_key_files_of_ours_are_read_by_the_ancestor(own_suite: Suite) -> None:
    for expected in (2, 3, 3, 3):
        assert run("server_helper.py", own_suite.ini).returncode == 0
        assert len(Ancestor.read_keys(own_suite.keys)) == expected  # it looks at all that ends in .key, and only that
        for path in own_suite.keys.glob("*.key"):
            text = path.read_bytes()
            assert (len(text), text[64:]) == (65, b"\n")
            assert text[:64].decode() == text[:64].decode().lower()
    assert not list(own_suite.keys.glob("*.key+"))


def test_the_newest_key_file_of_ours_is_the_ancestors_newest_too(tmp_path: Path) -> None:
    for _ in range(5):
        new, _ = keystore.rotate(tmp_path, MAX_KEYS, os.urandom)
        newest = max(tmp_path.glob("*.key"), key=lambda p: (p.stat().st_mtime_ns, p.name))
        assert newest == new.path


@pytest.fixture
def ancestral(tmp_path: Path) -> Iterator[tuple[Suite, dict[int, bytes]]]:
    """Both servers of ours on a folder of keys that the ancestor has made, and the keys by age."""
    folder = tmp_path / "master_keys"
    keys = {0xFFFE: os.urandom(32), 0x0001: os.urandom(32)}
    for (key_id, key), end, mtime in zip(keys.items(), ("\n", ""), (1_700_000_000, 1_700_000_010), strict=True):
        path = Ancestor.write_key(folder, key_id, key, end)
        path.chmod(0o644)  # it never sets a mode
        os.utime(path, (mtime, mtime))
    (folder / "abcd.key+").write_text("0123")  # of a rotation that did not end
    with running_suite(tmp_path) as suite:
        yield suite, keys


def minted_under(suite: Suite) -> set[int]:
    """The key identifiers of the cookies that a key exchange brings now."""
    assert suite.fetch().returncode == ExitCode.OK
    *_, stock = Ancestor.read_client_ini(suite.client_ini)
    return {struct.unpack(">H", cookie[:2])[0] for cookie in stock}


def test_our_servers_use_key_files_of_the_ancestor(ancestral: tuple[Suite, dict[int, bytes]]) -> None:
    suite, keys = ancestral
    assert Ancestor.read_keys(suite.keys) == keys  # nothing was added
    assert minted_under(suite) == {0x0001}
    for key_id, key in keys.items():  # the one without a newline, and the old one
        session = random_keys()
        answer = query(suite.ntp_port, session, Ancestor.seal(key_id, key, session.s2c, session.c2s))
        assert answer.kind is AnswerKind.TIME
        assert Ancestor.open({1: keys[1]}, answer.cookies[0]) == (session.s2c, session.c2s)


def test_our_servers_use_a_key_that_the_ancestor_adds_while_they_run(
    ancestral: tuple[Suite, dict[int, bytes]],
) -> None:
    suite, keys = ancestral
    added = os.urandom(32)
    Ancestor.write_key(suite.keys, 0x0ABC, added)
    session = random_keys()
    answer = query(suite.ntp_port, session, Ancestor.seal(0x0ABC, added, session.s2c, session.c2s))
    assert answer.kind is AnswerKind.TIME
    assert Ancestor.open({0x0ABC: added}, answer.cookies[0]) == (session.s2c, session.c2s)
    assert minted_under(suite) == {0x0ABC}
    (suite.keys / "fffe.key").unlink()
    gone = Ancestor.seal(0xFFFE, keys[0xFFFE], session.s2c, session.c2s)
    assert query(suite.ntp_port, session, gone).kind is AnswerKind.NAK


def test_our_rotation_goes_on_from_key_files_of_the_ancestor(ancestral: tuple[Suite, dict[int, bytes]]) -> None:
    suite, keys = ancestral
    assert run("server_helper.py", suite.ini).returncode == 0
    (new,) = set(Ancestor.read_keys(suite.keys)) - set(keys)
    assert minted_under(suite) == {new}
    assert run("server_helper.py", suite.ini).returncode == 0
    assert 0xFFFE not in Ancestor.read_keys(suite.keys)  # the oldest
    assert 0x0001 in Ancestor.read_keys(suite.keys)
    assert (suite.keys / "abcd.key+").read_text() == "0123"  # not ours


class FolderWatch:
    """Every change of a folder's names in the order the kernel made them (inotify), so that no instant is missed."""

    _CREATED, _DELETED, _MOVED_IN, _MOVED_OUT, _OVERFLOW = 0x100, 0x200, 0x80, 0x40, 0x4000
    _EVENT = struct.Struct("@iIII")

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        mask = self._CREATED | self._DELETED | self._MOVED_IN | self._MOVED_OUT
        if self._descriptor < 0 or self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), mask) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def __enter__(self) -> FolderWatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._descriptor)

    def changes(self) -> Iterator[tuple[bool, str]]:
        """(whether it appeared, the name) of each change since the last call."""
        while True:
            try:
                data = os.read(self._descriptor, 1 << 20)
            except BlockingIOError:
                return
            while data:
                _, mask, _, length = self._EVENT.unpack_from(data)
                assert not mask & self._OVERFLOW
                yield bool(mask & (self._CREATED | self._MOVED_IN)), data[16 : 16 + length].rstrip(b"\0").decode()
                data = data[16 + length :]


@dataclass
class Reader:
    """The ancestor as it reads the folder again and again, in a thread."""

    folder: Path
    rounds: int = 0
    most: int = 0
    least: int = 1 << 16
    problem: str = ""

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set() and not self.problem:
            try:
                count = len(Ancestor.read_keys(self.folder))
            except FileNotFoundError:
                continue  # removed since it was listed: the one thing a reader must expect
            except (AssertionError, ValueError) as e:
                self.problem = f"{type(e).__name__}: {e}"
                return
            self.rounds, self.most, self.least = self.rounds + 1, max(self.most, count), min(self.least, count)


def test_fifty_rotations_never_leave_too_many_keys_nor_take_the_current_one_away(tmp_path: Path) -> None:
    folder = tmp_path / "master_keys"
    ini = tmp_path / "server.ini"
    ini.write_text("[keys]\nmaster_keys_dir = master_keys\n")
    Ancestor.write_key(folder, 0x8000, os.urandom(32))
    present, current = {"8000.key"}, "8000.key"
    reader, stop = Reader(folder), threading.Event()
    thread = threading.Thread(target=reader.run, args=(stop,))
    thread.start()
    try:
        with FolderWatch(folder) as watch:
            for i in range(50):
                if i % 10 == 0:
                    assert run("server_helper.py", ini).returncode == 0
                else:
                    keystore.rotate(folder, MAX_KEYS, os.urandom)
                appeared = []
                for there, name in watch.changes():
                    if not name.endswith(".key"):
                        continue
                    if there:
                        present.add(name)
                        appeared.append(name)
                        current = name
                    else:
                        assert name != current
                        present.remove(name)
                    assert 1 <= len(present) <= MAX_KEYS
                assert len(appeared) == 1
    finally:
        stop.set()
        thread.join()
    assert {p.name for p in folder.glob("*.key")} == present
    assert not reader.problem
    assert reader.rounds > 0
    assert 1 <= reader.least <= reader.most <= MAX_KEYS


# --- client.ini ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [range(8), (2, 5)], ids=["all cookies", "cookies 2 and 5 alone"])
def test_a_client_ini_of_the_ancestor_works_with_our_time_client(
    suite: Suite, tmp_path: Path, slots: tuple[int, ...]
) -> None:
    key_id, key = next(iter(Ancestor.read_keys(suite.keys).items()))
    keys, ini = random_keys(), tmp_path / "client.ini"
    stock = {i: Ancestor.seal(key_id, key, keys.s2c, keys.c2s) for i in slots}
    Ancestor.write_client_ini(ini, suite.ntp_port, keys, stock)
    result = run("ntsts_client.py", "-f", ini, "-n", 3, "-i", 0.05)
    assert (result.returncode, result.stderr) == (ExitCode.OK, "")
    assert "3 queries, 3 answers" in result.stdout
    # And back: what our client has made of the file is the ancestor's to read.
    server, port, c2s, s2c, left = Ancestor.read_client_ini(ini)
    assert (server, port, c2s, s2c) == ("localhost", suite.ntp_port, keys.c2s, keys.s2c)
    assert (len(left), len(set(left))) == (8, 8)
    assert {Ancestor.open({key_id: key}, cookie) for cookie in left} == {(keys.s2c, keys.c2s)}
    assert len(set(left) & set(stock.values())) == max(0, len(stock) - 3)  # the spent ones are gone


def test_a_client_ini_of_ours_goes_on_working_after_the_ancestor_has_rewritten_it(suite: Suite, tmp_path: Path) -> None:
    ini = tmp_path / "client.ini"
    assert suite.fetch(output=ini).returncode == ExitCode.OK
    _, port, c2s, s2c, stock = Ancestor.read_client_ini(ini)
    keys = SessionKeys(Aead.AES_SIV_CMAC_256, c2s, s2c)
    Ancestor.write_client_ini(ini, port, keys, dict(enumerate(stock[1:])))  # it took one, and knows no more sections
    assert ClientState(ini).load().cookies == tuple(stock[1:])
    result = run("ntsts_client.py", "-f", ini)
    assert (result.returncode, result.stderr) == (ExitCode.OK, "")
    assert len(Ancestor.read_client_ini(ini)[-1]) == 8

# SPDX-License-Identifier: MIT
"""The real time server process in operation: its master keys, workers, signals and log."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import pytest

from nts.server import keystore
from testkit import processes
from testkit.packets import raw_field
from testkit.processes import Suite, children, eventually, kill_orphans, workers_of
from testkit.ts_requests import KEYS, UID_FIELD, Asker, Request, last_line, mint, own_server, plain, process_of

# --- master keys -----------------------------------------------------------------------------------------------------


def test_very_next_request_after_a_rotation_gets_the_new_key(tmp_path: Path) -> None:
    """A91: cookies of older keys stay good as long as their key is there, then they get a NAK (A83)."""
    with own_server(tmp_path) as own, Asker(own.ntp_port) as asker:
        old = mint(own)
        for _ in range(2):
            new, removed = keystore.rotate(own.keys, 3, os.urandom)
            assert not removed
            (fresh,) = asker.time(Request(old))
            assert fresh[:2] == new.key.id.to_bytes(2, "big")
        _, removed = keystore.rotate(own.keys, 3, os.urandom)
        assert removed == (int.from_bytes(old[:2], "big"),)
        asker.nak(Request(old))
        assert len(asker.time(Request(fresh))) == 1


def test_removed_key_gets_naks_from_the_next_request_on(tmp_path: Path) -> None:
    """A83, one key and then all of them; and a key that is put in place works at once."""
    with own_server(tmp_path) as own, Asker(own.ntp_port) as asker:
        old = mint(own)
        new, _ = keystore.rotate(own.keys, 3, os.urandom)
        assert len(asker.time(Request(old))) == 1
        (own.keys / f"{int.from_bytes(old[:2], 'big'):04x}.key").unlink()
        asker.nak(Request(old))
        current = mint(own)
        assert len(asker.time(Request(current))) == 1
        content = new.path.read_bytes()
        new.path.unlink()
        asker.nak(Request(current))
        process_of(own).wait_for("no master key in")
        new.path.write_bytes(content)
        assert len(asker.time(Request(current))) == 1


def test_bad_key_files_are_reported_once_and_change_nothing(tmp_path: Path) -> None:
    with own_server(tmp_path) as own, Asker(own.ntp_port) as asker:
        cookie = mint(own)
        (own.keys / "dead.key").write_text("not hexadecimal\n")
        (own.keys / "beef.key").write_bytes(b"")
        (own.keys / "backup.key").write_text("0" * 64)
        (own.keys / "0bad.key").mkdir()
        (own.keys / "notes.txt").write_text("not a key, and nobody says so")
        reported = ("dead.key", "beef.key", "backup.key", "0bad.key")
        for _ in range(2):
            assert len(asker.time(Request(cookie))) == 1
            time.sleep(1.1)  # the folder is scanned anew after a second
        assert len(asker.time(Request(cookie))) == 1
        log = process_of(own).output()
        assert [log.count(f"{name}:") for name in reported] == [1, 1, 1, 1], log
        assert "notes.txt" not in log
        assert process_of(own).stop() == 0


def test_unreadable_folder_keeps_the_last_keys(tmp_path: Path) -> None:
    """A file in the folder's place cannot be read as a folder, not even by root."""
    with own_server(tmp_path) as own, Asker(own.ntp_port) as asker:
        cookie = mint(own)
        assert len(asker.time(Request(cookie))) == 1  # so the worker has read the keys
        own.keys.rename(tmp_path / "away")
        own.keys.write_text("not a folder")
        assert len(asker.time(Request(cookie))) == 1
        process_of(own).wait_for("cannot read the master keys")
        own.keys.unlink()
        (tmp_path / "away").rename(own.keys)
        new, _ = keystore.rotate(own.keys, 3, os.urandom)
        (fresh,) = asker.time(Request(cookie))
        assert fresh[:2] == new.key.id.to_bytes(2, "big")


def test_starts_without_a_key_and_takes_the_first_one(tmp_path: Path) -> None:
    suite = Suite(tmp_path)
    suite.start_ts()
    try:
        process_of(suite).wait_for("no master key in")
        with Asker(suite.ntp_port) as asker:
            asker.nak(Request(bytes(100)))
            assert keystore.ensure_key(suite.keys, 3, os.urandom) is not None
            assert len(asker.time(Request(mint(suite)))) == 1
    finally:
        suite.stop()


# --- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_stops_within_two_seconds_and_counts_what_came(tmp_path: Path, number: signal.Signals) -> None:
    with own_server(tmp_path, "--verbose") as own:
        process = process_of(own)
        quiet = process.output()
        with Asker(own.ntp_port) as asker:  # a control request goes with each call of `replies`
            cookie = mint(own)
            assert len(asker.replies(*(Request(cookie).encode() for _ in range(3)))) == 3
            assert len(asker.replies(plain(), plain(3), plain(more=UID_FIELD))) == 3
            asker.nak(Request(bytes(100)))
            asker.nak(Request(cookie, key=bytes(32)))
            drops = [b"", plain(5), plain(mode=4), plain() + bytes(4), plain(more=2 * UID_FIELD)]
            assert asker.replies(*drops, *drops) == []
            assert asker.replies(Request(cookie, head=UID_FIELD).encode(), Request(cookie, nonce=b"8").encode()) == []
            malformed = plain() + raw_field(0xF000, bytes(32), 0)
            assert asker.replies(Request(cookie, inside=cookie).encode(), malformed) == []
        started = time.monotonic()
        assert process.stop(number) == 0
        assert time.monotonic() - started < 2
        assert process.output().startswith(quiet)
        said = [line for line in process.output().splitlines() if "runs as " not in line]
        assert len(said) == 4, "no line for any datagram"
        assert last_line(process) == (
            "stopped; datagrams: answered plain 17, answered nts 3, nak cookie 1, nak auth 1, drop length 2, "
            "drop version 2, drop mode 2, drop mac 2, drop fields 1, drop unique id 2, drop incomplete 1, "
            "drop padding 1, drop encrypted 1"
        )


def test_killed_worker_is_replaced_and_said_so(tmp_path: Path) -> None:
    """Requests that come meanwhile wait in the socket, and counters are kept."""
    with own_server(tmp_path) as own, Asker(own.ntp_port) as asker:
        process = process_of(own)
        (first,) = workers_of(process, 1)
        assert len(asker.reply(plain())) == 48
        os.kill(first, signal.SIGKILL)
        assert len(asker.reply(plain())) == 48
        assert children(process.popen.pid) != [first]
        process.wait_for(f"warning: worker process {first} ended with signal 9; starting another")
        assert process.stop() == 0
        assert last_line(process) == "stopped; datagrams: answered plain 6"


def test_killed_parent_leaves_no_worker_and_the_port_free(tmp_path: Path) -> None:
    with own_server(tmp_path, ntpv4={"workers": 2}) as own:
        process = process_of(own)
        workers = workers_of(process, 2)
        process.popen.kill()
        process.popen.wait()

        def port_is_free() -> bool:
            with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", own.ntp_port))
                return True
            return False

        assert eventually(port_is_free, 5) or not kill_orphans(workers)


def test_two_workers_share_the_clients(tmp_path: Path) -> None:
    """Of many source ports each worker has some: those of a stopped one wait, and are answered when it goes on."""
    with own_server(tmp_path, "--verbose", ntpv4={"workers": 2}) as own, contextlib.ExitStack() as stack:
        process = process_of(own)
        for index in range(2):
            process.wait_for(f"worker {index} runs as process")
        workers = workers_of(process, 2)
        askers = [stack.enter_context(Asker(own.ntp_port)) for _ in range(64)]
        waiting = []
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
            try:
                for asker in askers:
                    asker.sock.send(plain())
                answered = set(_answered(askers, 0.5))
            finally:
                os.kill(pid, signal.SIGCONT)
            waiting.append(set(askers) - answered)
            assert set(_answered(list(waiting[-1]), 5, len(waiting[-1]))) == waiting[-1]
        assert waiting[0]
        assert waiting[1]
        assert waiting[0] | waiting[1] == set(askers)
        assert not waiting[0] & waiting[1]
        assert process.stop() == 0
        assert last_line(process) == "stopped; datagrams: answered plain 128"


def _answered(askers: list[Asker], timeout: float, enough: int | None = None) -> list[Asker]:
    """Those that get a reply before no more have come for `timeout` seconds."""
    by_socket = {a.sock: a for a in askers}
    found: list[Asker] = []
    while len(found) != enough and (ready := select.select(list(by_socket), [], [], timeout)[0]):
        for sock in ready:
            assert len(sock.recv(100)) == 48
            found.append(by_socket.pop(sock))
    return found


def test_second_server_on_the_port_is_refused(tmp_path: Path) -> None:
    """Though the workers share their sockets, another server must not join in."""
    with own_server(tmp_path) as own, Asker(own.ntp_port) as asker:
        second = processes.run("ntsts_server.py", own.ini)
        assert second.returncode == 2
        assert "error: cannot listen on UDP" in second.stderr
        assert "hint: another server (or this one already) is running there" in second.stderr
        assert Counter(len(asker.reply(plain())) for _ in range(10)) == {48: 10}


def test_nothing_secret_is_printed(tmp_path: Path) -> None:
    with own_server(tmp_path, "--verbose") as own, Asker(own.ntp_port) as asker:
        cookie = mint(own)
        fresh = asker.time(Request(cookie))
        asker.nak(Request(cookie, key=bytes(32)))
        assert process_of(own).stop() == 0
        keys = [f.read_text() for f in own.keys.glob("*.key")]
        for secret in [*keys, cookie.hex(), fresh[0].hex(), KEYS.c2s.hex(), KEYS.s2c.hex()]:
            assert secret[:16] not in process_of(own).output().lower()

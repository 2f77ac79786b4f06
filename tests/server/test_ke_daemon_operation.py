# SPDX-License-Identifier: MIT
"""The real NTS-KE server process in operation: its keys, workers, signals, options and log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from OpenSSL import SSL

from nts.codec import aes_siv
from nts.codec.aead import Aead
from nts.server import ke_worker, keystore
from testkit import processes
from testkit.ke_sessions import (
    AEAD,
    AEAD_EMPTY,
    BAD_REQUEST,
    INTERNAL_ERROR,
    NEXT_PROTOCOL,
    NPN_EMPTY,
    UNKNOWN_CRITICAL,
    ask,
    check_agreement,
    garbage,
    own_server,
    server_of,
    silent_connections,
    works,
)
from testkit.processes import (
    ROOT,
    Process,
    Suite,
    children,
    eventually,
    is_running,
    kill_orphans,
    running,
    stat_of,
    workers_of,
)
from testkit.raw_ke import END, GOOD_REQUEST, NEXT_PROTOCOL_NTPV4, RawKe, record

pytestmark = pytest.mark.usefixtures("ke_engine")

# --- keys -------------------------------------------------------------------------------------------------------------


def test_new_master_key_seals_the_cookies_of_the_next_session(tmp_path: Path) -> None:
    """A91: no restart, no pause; the cookie's first two octets are the key's identifier."""
    with own_server(tmp_path) as own:
        for _ in range(3):
            new, _removed = keystore.rotate(own.keys, 3, os.urandom)
            cookies = check_agreement(ask(own.ke_port, GOOD_REQUEST), own.ntp_port)
            assert {c[:2] for c in cookies} == {new.key.id.to_bytes(2, "big")}


def test_error_2_without_a_master_key_and_recovery(tmp_path: Path) -> None:
    """A22, A83: the folder is emptied while the server runs; requests that need no key are answered as ever."""
    with own_server(tmp_path) as own:
        for file in own.keys.glob("*.key"):
            file.unlink()
        assert ask(own.ke_port, GOOD_REQUEST) == INTERNAL_ERROR
        assert ask(own.ke_port, END) == BAD_REQUEST
        assert ask(own.ke_port, record(NEXT_PROTOCOL, b"\x77\x77") + END) == NPN_EMPTY + END
        server_of(own).wait_for("no master key")
        keystore.rotate(own.keys, 3, os.urandom)
        assert works(own)
        assert server_of(own).stop() == 0
        assert "no master key 1" in server_of(own).output().splitlines()[-1]


def test_unreadable_key_folder_keeps_the_last_keys(tmp_path: Path) -> None:
    """A file in the folder's place cannot be read as a folder, not even by root."""
    with own_server(tmp_path) as own:
        before = check_agreement(ask(own.ke_port, GOOD_REQUEST), own.ntp_port)
        own.keys.rename(tmp_path / "away")
        own.keys.write_text("not a folder")
        time.sleep(1.1)  # past the scan that finds it
        after = check_agreement(ask(own.ke_port, GOOD_REQUEST), own.ntp_port)
        assert {c[:2] for c in before} == {c[:2] for c in after}
        server_of(own).wait_for("cannot read the master keys")


# --- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_stops_in_time_with_clients_connected(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0, no worker left, and what became of the sessions in the last line."""
    with own_server(tmp_path, ntske={"workers": 2}) as own, silent_connections(own.ke_port, 20):
        process = server_of(own)
        workers = workers_of(process, 2)
        assert works(own)
        assert ask(own.ke_port, END) == BAD_REQUEST
        with RawKe(own.ke_port) as half_way:
            half_way.handshake().send(GOOD_REQUEST[:5])
            started = time.monotonic()
            assert process.stop(number) == 0
            assert time.monotonic() - started < ke_worker.DRAIN_TIME + 1
            assert half_way.receive() == BAD_REQUEST
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        last = process.output().splitlines()[-1]
        assert last.startswith("ntske_server.py: stopped; sessions: agreed 1, bad request 1, timed out 1")


def test_sessions_in_hand_are_answered_while_the_next_instance_serves(tmp_path: Path) -> None:
    """The stopping server listens no more, so that another can take over at once."""
    with own_server(tmp_path, ntske={"workers": 2}) as own, RawKe(own.ke_port) as slow, RawKe(own.ke_port) as slower:
        first = server_of(own)
        slow.handshake().send(GOOD_REQUEST[:5])
        slower.sock.send(b"\x16")  # the first octet of a ClientHello
        assert works(own)
        started = time.monotonic()
        running(first).send_signal(signal.SIGTERM)
        assert eventually(lambda: not listens(own.ke_port), 1)
        own.start_ke()
        assert works(own)
        slow.send(GOOD_REQUEST[5:])
        check_agreement(slow.receive(), own.ntp_port)
        assert first.popen.wait(5) == 0
        assert time.monotonic() - started < ke_worker.DRAIN_TIME + 1
        assert "stopped; sessions: agreed 2, tls timed out 1" in first.output()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


def test_interrupt_from_the_terminal_reaches_all_processes_and_stops_cleanly(tmp_path: Path) -> None:
    """Ctrl-C goes to the whole process group at once: no traceback, exit code 0."""
    own = Suite(tmp_path, options={"ntske": {"workers": 2}})
    command = ["setsid", sys.executable, str(ROOT / "ntske_server.py"), str(own.ini)]
    own.ke = Process(command, tmp_path / "ke.log")
    try:
        own.ke.wait_for("sends clients to")
        assert len(workers_of(own.ke, 2)) == 2
        assert works(own)
        os.killpg(own.ke.popen.pid, signal.SIGINT)
        assert own.ke.popen.wait(5) == 0
        assert "Traceback" not in own.ke.output()
        assert "agreed 1" in own.ke.output()
    finally:
        own.stop()


def test_killed_worker_is_replaced_and_said_so(tmp_path: Path) -> None:
    """Clients notice at most a connection that breaks; counters of the killed worker are kept."""
    with own_server(tmp_path, ntske={"workers": 2}) as own:
        process = server_of(own)
        parent = running(process).pid
        assert works(own)
        first = workers_of(process, 2)
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: len(children(parent)) == 2 and not set(first) & set(children(parent)))
        assert works(own)
        for pid in first:
            process.wait_for(f"warning: worker process {pid} ended with signal 9; starting another")
        assert process.stop() == 0
        assert process.output().splitlines()[-1] == "ntske_server.py: stopped; sessions: agreed 2"


def test_killed_parent_leaves_no_worker_and_the_port_free(tmp_path: Path) -> None:
    with own_server(tmp_path, ntske={"workers": 2}) as own:
        process = server_of(own)
        workers = workers_of(process, 2)
        with silent_connections(own.ke_port, 3):
            process.popen.kill()
            process.popen.wait()
            assert eventually(lambda: not any(map(is_running, workers)), 5) or not kill_orphans(workers)
        process.log.unlink()
        own.start_ke()  # binds the same port
        assert works(own)


def test_running_out_of_descriptors_evicts_the_oldest(tmp_path: Path) -> None:
    """With few descriptors and many silent clients, a good one is still served, and the worker does not spin."""
    with own_server(tmp_path, ntpv4={"server": "localhost"}) as own:
        (worker,) = workers_of(server_of(own), 1)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (40, 40))
        silent = [socket.create_connection(("127.0.0.1", own.ke_port)) for _ in range(60)]
        try:
            time.sleep(0.3)
            before = stat_of(worker)
            time.sleep(0.5)
            after = stat_of(worker)
            ticks = sum(int(after[i]) - int(before[i]) for i in (11, 12))
            assert ticks < 0.4 * os.sysconf("SC_CLK_TCK"), "busy though nothing happens"
            with RawKe(own.ke_port, own.ca, timeout=3) as peer:
                peer.handshake().send(GOOD_REQUEST)
                assert peer.receive().endswith(END)
        finally:
            for sock in silent:
                sock.close()


def test_each_of_two_workers_serves(tmp_path: Path) -> None:
    """With either one stopped dead, the other takes all clients."""
    with own_server(tmp_path, ntske={"workers": 2}, ntpv4={"server": "localhost"}) as own:
        process = server_of(own)
        workers = workers_of(process, 2)
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
            try:
                for _ in range(3):
                    response = ask(own.ke_port, GOOD_REQUEST, timeout=5)
                    check_agreement(response, own.ntp_port, server=b"localhost")  # check 31: as configured
            finally:
                os.kill(pid, signal.SIGCONT)
        assert process.stop() == 0
        assert process.output().splitlines()[-1] == "ntske_server.py: stopped; sessions: agreed 6"


def test_two_servers_on_one_port_are_refused(tmp_path: Path) -> None:
    with own_server(tmp_path) as own:
        second = processes.run("ntske_server.py", own.ini)
        assert second.returncode == 2
        assert "error: cannot listen on TCP" in second.stderr
        assert "hint: another server (or this one already) is running there" in second.stderr
        assert works(own)


def group(engine: str) -> str:
    """What pyOpenSSL's clients agree on with the servers of these tests."""
    return "x25519" if engine == "native" else "X25519MLKEM768"


def test_verbose_prints_a_line_for_each_session_and_no_secret(tmp_path: Path, ke_engine: str) -> None:
    with own_server(tmp_path, "--verbose", "--log-addresses") as own:
        process = server_of(own)
        before = len(process.output().splitlines())
        with RawKe(own.ke_port, own.ca) as peer:
            peer.handshake().send(GOOD_REQUEST)
            cookies = check_agreement(peer.receive(), own.ntp_port)
            keys = peer.export(Aead.AES_SIV_CMAC_256)
        assert ask(own.ke_port, END) == BAD_REQUEST
        assert ask(own.ke_port, record(0x3FFF) + GOOD_REQUEST) == UNKNOWN_CRITICAL
        with RawKe(own.ke_port, alpn=[b"h2"]) as peer, pytest.raises(SSL.Error):
            peer.handshake()
        garbage(own.ke_port, b"GET / HTTP/1.0\r\n\r\n")
        process.wait_for("tls failed")
        lines = process.output().splitlines()[before:]
        peer_name = r"ntske_server\.py: 127\.0\.0\.1:\d+: "
        expected = [
            rf"agreed \(AEAD 15, {group(ke_engine)}\)",
            "bad request",
            "unknown critical",
            "no alpn",
            r"tls failed \(.+\)",
        ]
        assert len(lines) == len(expected), lines
        for line, pattern in zip(lines, expected, strict=True):
            assert re.fullmatch(peer_name + pattern, line)
        assert process.stop() == 0
        master = [f.read_text().strip() for f in own.keys.glob("*.key")]
        for secret in [*master, keys.c2s.hex(), keys.s2c.hex(), *(c.hex() for c in cookies)]:
            assert secret[:16] not in process.output().lower()


def test_no_line_has_a_clients_address_unless_asked_for(tmp_path: Path, ke_engine: str) -> None:
    with own_server(tmp_path, "--verbose", "--log-format", "json", ntske={"listen": "127.0.0.9"}) as own:
        check_agreement(ask(own.ke_port, GOOD_REQUEST, host="127.0.0.9"), own.ntp_port)
        garbage(own.ke_port, b"GET / HTTP/1.0\r\n\r\n", host="127.0.0.9")
        server_of(own).wait_for("tls failed")
        lines = [json.loads(line) for line in server_of(own).output().splitlines()]
    assert [(x["verdict"], x["detail"]) for x in lines if "verdict" in x] == [
        ("agreed", f"AEAD 15, {group(ke_engine)}"), ("tls_failed", "http request"),
    ]  # fmt: skip
    sessions = [x["message"] for x in lines if "verdict" in x]
    assert [m for m in sessions if "127.0.0." in m] == []


def test_aead_preference_is_the_servers(tmp_path: Path) -> None:
    """4.1.5: the server chooses, by the order in server.ini, whatever the client's order is."""
    with own_server(tmp_path, ntske={"aeads": "17, 15"}) as own:
        for offer, chosen in ((b"\0\x0f\0\x10\0\x11", 17), (b"\0\x10\0\x0f", 15)):
            response = ask(own.ke_port, NEXT_PROTOCOL_NTPV4 + record(AEAD, offer) + END)
            check_agreement(response, own.ntp_port, aead_id=chosen)
        refused = ask(own.ke_port, NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\0\x10") + END)
        assert refused == NEXT_PROTOCOL_NTPV4 + AEAD_EMPTY + END


def test_listens_only_where_told(tmp_path: Path) -> None:
    with own_server(tmp_path, ntske={"listen": "127.0.0.1"}) as own:
        assert works(own)
        for host in ("127.0.0.2", *processes.V6_IF_ANY):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, own.ke_port), 5)


def test_the_shared_library_in_use_is_ours() -> None:
    """The servers of these tests seal their cookies with it."""
    assert aes_siv.LIBRARY == ROOT / "libaes_siv" / "libaes_siv.so"
    assert aes_siv.backend()

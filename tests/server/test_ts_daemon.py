# SPDX-License-Identifier: MIT
"""The real time server process over UDP: what checks 33 to 52 of nts_check send, its clock, keys, log and workers.

What a packet means is tested with `ts_server.respond`; here it is the wiring: what arrives on a socket gets the
answer, from the right address, with the kernel's timestamp, and nothing that arrives stops the server.

No test waits for a silence: each packet is followed by a control request on the same socket, which a single worker
answers later than anything it has to say of the packet.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import select
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from nts.base.registry import NTS_FIELDS, Leap, Mode, Stratum
from nts.codec import cookies, extensions, ntp
from nts.codec.aead import Aead, SessionKeys
from nts.codec.aes_siv import AesSiv
from nts.codec.keyring import KeyRing
from nts.codec.ntp import Header
from nts.protocol import ts_client, ts_server
from nts.protocol.ts_client import Query
from nts.server import keystore, listen
from nts.system import clock
from nts.system.addresses import family_of
from testkit import processes
from testkit.processes import ROOT, Process, Suite, children, eventually, kill_orphans, workers_of

UID, COOKIE, PLACEHOLDER, AUTH = NTS_FIELDS
UNKNOWN = extensions.encode(0xF000, bytes(24))  # 28 octets, of a type for experiments
KEYS = SessionKeys(Aead.AES_SIV_CMAC_256, os.urandom(32), os.urandom(32))
HOSTS = ("127.0.0.1", processes.V6_PARAM)
_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["native", "python"], autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Everything here holds for both engines."""
    Suite.engine = request.param
    yield request.param
    Suite.engine = "native"


@pytest.fixture(scope="module")
def suite(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """The session's `suite`, once with each engine."""
    with processes.running_suite(tmp_path_factory.mktemp(engine)) as running:
        yield running


def raw_field(kind: int, length: int, body: bytes) -> bytes:
    """An extension field that lies about its length."""
    return kind.to_bytes(2, "big") + length.to_bytes(2, "big") + body


@dataclass(frozen=True)
class Request:
    """An NTS request in parts, each of which a test can spoil. Its defaults make a good one."""

    cookie: bytes
    unique_id: bytes = field(default_factory=lambda: os.urandom(32))
    transmit: int = field(default_factory=lambda: int.from_bytes(os.urandom(8), "big"))
    header: Header = field(default_factory=lambda: Header(mode=Mode.CLIENT))
    head: bytes | None = None
    """all fields before the authenticator, instead of identifier, cookie and `more`"""
    more: bytes = b""
    """fields between the cookie and the authenticator"""
    inside: bytes = b""
    nonce: bytes = bytes(range(16))
    padding: int = 0
    key: bytes = KEYS.c2s
    after: bytes = b""

    def fields(self) -> bytes:
        head = extensions.encode(UID, self.unique_id) + extensions.encode(COOKIE, self.cookie)
        return (head if self.head is None else self.head) + self.more

    def encode(self) -> bytes:
        packet = replace(self.header, transmit=self.transmit).encode() + self.fields()
        body = extensions.encode_authenticator(self.nonce, AesSiv(self.key).seal(self.nonce, self.inside, packet))
        return packet + extensions.encode(AUTH, body + bytes(self.padding)) + self.after

    def judge(self, reply: bytes) -> ts_client.Judgement:
        return ts_client.judge(reply, Query(b"", self.unique_id, self.transmit, KEYS))


def plain(version: int = 4, mode: int = Mode.CLIENT, more: bytes = b"", transmit: int | None = None) -> bytes:
    return Header(version=version, mode=mode, transmit=transmit or next(_numbers)).encode() + more


class Asker:
    """A UDP socket of one's own, connected to a server."""

    def __init__(self, port: int, host: str = "127.0.0.1", source: str | None = None) -> None:
        self.sock = socket.socket(family_of(host), socket.SOCK_DGRAM)
        self.sock.settimeout(10)
        if source:
            self.sock.bind((source, 0))
        self.sock.connect((host, port))

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def replies(self, *packets: bytes) -> list[bytes]:
        """All that the server says to these datagrams, and that it is alive thereafter; never more than it got.

        Two control requests follow, since the native engine answers the packets of a batch before it hands others over.
        """
        common, other = (int.from_bytes(os.urandom(8), "big") for _ in range(2))
        for packet in packets:
            self.sock.send(packet)
        self.sock.send(plain(transmit=common))
        self.sock.send(plain(transmit=other, more=UID_FIELD))
        found, waiting = [], {common, other}
        while waiting:
            reply = self.sock.recv(65535)
            origin = Header.decode(reply).origin
            if origin in waiting:
                waiting.remove(origin)
            else:
                found.append(reply)
        assert sum(map(len, found)) <= sum(map(len, packets))  # A71, check 34
        return found

    def reply(self, packet: bytes) -> bytes:
        """The one reply to a packet."""
        (reply,) = self.replies(packet)
        return reply

    def time(self, request: Request) -> tuple[bytes, ...]:
        """Send a request that must be answered with authentic time; the fresh cookies."""
        judgement = request.judge(self.reply(request.encode()))
        assert judgement.kind is ts_client.AnswerKind.TIME, judgement.reason
        return judgement.cookies

    def nak(self, request: Request) -> None:
        """Send a request that must be answered with an NTS NAK (A73, A74)."""
        check_nak(request, self.reply(request.encode()))


def check_nak(request: Request, reply: bytes) -> None:
    header = Header.decode(reply)
    assert (header.mode, header.stratum, header.reference_id) == (Mode.SERVER, 0, b"NTSN")
    assert header.origin == request.transmit
    assert reply[48:] == extensions.encode(UID, request.unique_id)


def ring_of(suite: Suite) -> KeyRing:
    return keystore.load(suite.keys).ring


def mint(suite: Suite, keys: SessionKeys = KEYS) -> bytes:
    """A cookie as the key exchange would make it."""
    master = ring_of(suite).current
    assert master is not None
    return cookies.seal(master, (keys,), os.urandom(16))


@contextlib.contextmanager
def own_server(folder: Path, *arguments: str, **options: dict[str, object]) -> Iterator[Suite]:
    """The time server alone, with a configuration and a master key of its own."""
    suite = Suite(folder, options=options)
    keystore.ensure_key(suite.keys, 3, os.urandom)
    command = [sys.executable, str(ROOT / "ntsts_server.py"), str(suite.ini), *arguments]
    suite.ts = Process(command, folder / "ts.log")
    try:
        suite.ts.wait_for("clock")  # of an unsynchronised clock it says something else than of a good one
        yield suite
    finally:
        suite.stop()


def process_of(suite: Suite) -> Process:
    assert suite.ts is not None
    return suite.ts


def last_line(process: Process) -> str:
    return process.output().splitlines()[-1].removeprefix("ntsts_server.py: ")


# --- NTS requests (A50 to A74) ---------------------------------------------------------------------------------------

Spoil = Callable[[Request], Request]
UID_FIELD = extensions.encode(UID, bytes(range(32)))


def spoil(**changes: object) -> Spoil:
    return lambda request: replace(request, **changes)  # type: ignore[arg-type] # the table below is checked by use


def placeholders(count: int, *, longer: int = 0, octet: bytes = b"\0") -> bytes:
    return count * extensions.encode(PLACEHOLDER, octet * (100 + longer))


TIME: dict[str, tuple[Spoil, int]] = {
    "check 33: basic": (spoil(), 1),
    "check 35: 1 placeholder": (spoil(more=placeholders(1)), 2),
    "check 35: 3 placeholders": (spoil(more=placeholders(3)), 4),
    "check 35: 7 placeholders": (spoil(more=placeholders(7)), 8),
    "A69 8 placeholders": (spoil(more=placeholders(8)), 8),
    "A69 10 placeholders": (spoil(more=placeholders(10)), 8),
    "check 36: placeholder too long": (spoil(more=placeholders(1, longer=4)), 1),
    "check 36: placeholder too short": (spoil(more=placeholders(1, longer=-4)), 1),
    "check 36: placeholder of 12 octets": (spoil(more=extensions.encode(PLACEHOLDER, b"")), 1),
    "check 37: placeholder of 0xff": (spoil(more=placeholders(1, octet=b"\xff")), 2),
    "check 38: placeholder encrypted": (spoil(inside=placeholders(1)), 2),
    "check 45: nonce of 15": (spoil(nonce=bytes(15)), 1),
    "check 45: nonce of 24": (spoil(nonce=bytes(24)), 1),
    "check 45: nonce of 32": (spoil(nonce=bytes(32)), 1),
    "check 45: nonce of 8 with padding": (spoil(nonce=bytes(8), padding=8), 1),
    "check 45: more padding": (spoil(padding=64), 1),
    "check 47: unknown field before": (spoil(more=UNKNOWN), 1),
    "check 47: unknown field inside": (spoil(inside=UNKNOWN), 1),
    "A59 field of 4 octets inside": (spoil(inside=raw_field(0xF000, 4, b"")), 1),
    "check 47: unknown field after": (spoil(after=UNKNOWN), 1),
    "A66 placeholder after the authenticator does not count": (spoil(after=placeholders(1)), 1),
    **{f"check 49: identifier of {n}": (spoil(unique_id=bytes(range(n))), 1) for n in (32, 36, 64, 128, 200)},
}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(("change", "count"), TIME.values(), ids=TIME.keys())
def test_request_gets_time_and_cookies(suite: Suite, host: str, change: Spoil, count: int) -> None:
    """The reply is authentic, echoes the identifier (A51), and its cookies are distinct and good (A68 to A71)."""
    request = change(Request(mint(suite)))
    with Asker(suite.ntp_port, host) as asker:
        fresh = asker.time(request)
        assert len(fresh) == len({request.cookie, *fresh}) - 1 == count
        assert all(cookies.open_cookie(ring_of(suite), c) == (KEYS,) for c in fresh)


NAKED: dict[str, Spoil] = {
    "check 41: wrong key": spoil(key=bytes(32)),
    "check 44: S2C key": spoil(key=KEYS.s2c),
    "check 42: random cookie": spoil(cookie=os.urandom(100)),
    "check 42: cookie of 12 octets": spoil(cookie=bytes(12)),
    "check 42: cookie that is altered": lambda r: replace(r, cookie=r.cookie[:-1] + bytes([r.cookie[-1] ^ 1])),
    "check 42: cookie under an unknown key": lambda r: replace(r, cookie=bytes([r.cookie[0] ^ 1]) + r.cookie[1:]),
    "A68 placeholders with a bad tag": spoil(key=bytes(32), more=placeholders(7)),
}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("change", NAKED.values(), ids=NAKED.keys())
def test_request_gets_a_nak(suite: Suite, host: str, change: Spoil) -> None:
    with Asker(suite.ntp_port, host) as asker:
        asker.nak(change(Request(mint(suite))))


def rebuilt(build: Callable[[Request], bytes]) -> Spoil:
    """The fields before the authenticator, put together anew."""
    return lambda request: replace(request, head=build(request))


def uid_of(request: Request) -> bytes:
    return extensions.encode(UID, request.unique_id)


def cookie_of(request: Request) -> bytes:
    return extensions.encode(COOKIE, request.cookie)


DROPPED: dict[str, Spoil] = {
    "check 46: nonce of 8, no padding": spoil(nonce=bytes(8)),
    "check 48: no identifier": rebuilt(cookie_of),
    "check 48: two identifiers": rebuilt(lambda r: uid_of(r) + UID_FIELD + cookie_of(r)),
    "check 48: identifier encrypted": lambda r: replace(r, head=cookie_of(r), inside=uid_of(r)),
    "check 48: identifier after the authenticator": lambda r: replace(r, head=cookie_of(r), after=uid_of(r)),
    "check 48: no cookie": rebuilt(uid_of),
    "check 48: two cookies": rebuilt(lambda r: uid_of(r) + 2 * cookie_of(r)),
    "check 48: cookie encrypted too": lambda r: replace(r, inside=cookie_of(r)),
    "check 48: cookie encrypted only": lambda r: replace(r, head=uid_of(r), inside=cookie_of(r)),
    "check 48: cookie after the authenticator": lambda r: replace(r, head=uid_of(r), after=cookie_of(r)),
    "check 48: two authenticators": lambda r: replace(r, after=r.encode()[-40:]),
    "check 49: identifier of 28": spoil(unique_id=bytes(28)),
    "check 51: malformed field inside": spoil(inside=raw_field(0xF000, 3, b"")),
    "check 51: field inside longer than all": spoil(inside=raw_field(0xF000, 400, bytes(8))),
    "B04 20 octets of MAC": spoil(after=bytes(20)),
    "B04 24 octets of MAC": spoil(after=bytes(24)),
    **{f"check 50: mode {m}": spoil(header=Header(mode=m)) for m in (0, 1, 2, 4, 5, 6, 7)},
    **{f"check 50: version {v}": spoil(header=Header(mode=3, version=v)) for v in (0, 1, 2, 3, 5, 6, 7)},
}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("change", DROPPED.values(), ids=DROPPED.keys())
def test_request_gets_nothing(suite: Suite, host: str, change: Spoil) -> None:
    with Asker(suite.ntp_port, host) as asker:
        assert asker.replies(change(Request(mint(suite))).encode()) == []


GOOD_HEAD = Header(mode=Mode.CLIENT).encode() + UID_FIELD + extensions.encode(COOKIE, bytes(100))
DATAGRAMS: dict[str, bytes] = {
    "no octets": b"",
    "one octet": b"\x23",
    "B05 47 octets": plain()[:47],
    "B05 51 octets": plain() + bytes(3),
    "B05 50 octets": plain() + bytes(2),
    "B06 crypto-NAK": plain() + bytes(4),
    "B04 plain with a MAC of 20": plain() + bytes(20),
    "B07 NTPv3 with a MAC of 24": plain(3) + bytes(24),
    "B07 NTPv3 with a field": plain(3) + UID_FIELD,
    "check 51: length 0": plain() + raw_field(0xF000, 0, bytes(32)),
    "check 51: field of length 3": plain() + raw_field(0xF000, 3, bytes(32)),
    "check 51: field of length 12": plain() + raw_field(0xF000, 12, bytes(32)),
    "check 51: field of length 35": plain() + raw_field(0xF000, 35, bytes(32)),
    "check 51: field longer than the packet": plain() + raw_field(0xF000, 400, bytes(32)),
    "check 51: field of length 65532": plain() + raw_field(0xF000, 65532, bytes(32)),
    "check 51: nonce overruns": GOOD_HEAD + extensions.encode(AUTH, raw_field(400, 16, bytes(32))),
    "check 51: ciphertext overruns": GOOD_HEAD + extensions.encode(AUTH, raw_field(16, 400, bytes(32))),
    "check 51: both overrun": GOOD_HEAD + extensions.encode(AUTH, b"\xff" * 36),
    "check 51: empty nonce": GOOD_HEAD + extensions.encode(AUTH, raw_field(0, 16, bytes(32))),
    "check 51: authenticator of 16": GOOD_HEAD + extensions.encode(AUTH, b"") + UNKNOWN,
    "A51 identifier of 28": plain(more=extensions.encode(UID, bytes(28))),
    "A51 two identifiers": plain(more=2 * UID_FIELD),
    **{f"plain mode {m}": plain(mode=m) for m in (0, 1, 2, 4, 5, 6, 7)},
    **{f"plain version {v}": plain(v) for v in (0, 1, 2, 5, 6, 7)},
    "B10 mode 6 readvar": bytes([0x16, 2, 0, 1, *bytes(8)]),
    "B10 mode 7 monlist": bytes([0x17, 0, 3, 42, *bytes(188)]),
    "2052 octets": plain(more=extensions.encode(0xF000, bytes(2000))),
    "2076 octets, of which 2048 would be good": plain(more=extensions.encode(0xF000, bytes(1996)) + UNKNOWN),
    "3000 octets": plain(more=extensions.encode(0xF000, bytes(2948))),
    "60000 octets": plain(more=extensions.encode(0xF000, bytes(59948))),
    "random": b"\x23" + random.Random(8915).randbytes(227),
}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("datagram", DATAGRAMS.values(), ids=DATAGRAMS.keys())
def test_datagram_gets_nothing(suite: Suite, host: str, datagram: bytes) -> None:
    """Checks 50 to 52, B01 to B10: dropped, and the server goes on."""
    with Asker(suite.ntp_port, host) as asker:
        assert asker.replies(datagram) == []


def test_no_single_flipped_bit_gets_time(suite: Suite) -> None:
    """A57, check 43: in each octet of header, identifier field, cookie field and authenticator; and still alive."""
    request = Request(mint(suite))
    packet = request.encode()
    with Asker(suite.ntp_port) as asker:
        for i in range(len(packet)):
            flipped = bytearray(packet)
            flipped[i] ^= 1 << i % 8
            for reply in asker.replies(bytes(flipped)):
                header = Header.decode(reply)
                assert (header.stratum, header.reference_id) == (0, b"NTSN"), f"octet {i}"
        assert len(asker.time(request)) == 1


def test_no_truncated_request_gets_nts_time(suite: Suite) -> None:
    """Check 51: cut at every offset. What remains may be a good request without NTS, and only that is answered."""
    packet = Request(mint(suite)).encode()
    answered = {}
    with Asker(suite.ntp_port) as asker:
        for end in range(len(packet)):
            for reply in asker.replies(packet[:end]):
                answered[end] = reply[48:]
    assert answered == {48: b"", 84: packet[48:84]}  # header alone; header and Unique Identifier


def test_each_fresh_cookie_is_good(suite: Suite) -> None:
    """A70, check 39: a chain from one cookie to the next."""
    with Asker(suite.ntp_port) as asker:
        spent = [mint(suite)]
        for _ in range(10):
            spent += asker.time(Request(spent[-1]))
    assert len(set(spent)) == len(spent) == 11


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
def test_same_packet_from_elsewhere_is_answered(suite: Suite, source: str) -> None:
    """A67, check 40: no state of the client's is kept; another port, another address."""
    request = Request(mint(suite))
    with Asker(suite.ntp_port) as first, Asker(suite.ntp_port, source=source) as second:
        assert len({*first.time(request), *second.time(request), *second.time(request)}) == 3


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("version", [3, 4])
def test_plain_request_is_answered_in_its_version(suite: Suite, host: str, version: int) -> None:
    """B08, check 52."""
    with Asker(suite.ntp_port, host) as asker:
        reply = asker.reply(plain(version, transmit=0x0123456789ABCDEF))
    header = Header.decode(reply)
    assert len(reply) == 48
    assert (header.version, header.mode, header.origin) == (version, Mode.SERVER, 0x0123456789ABCDEF)
    assert (header.leap, header.stratum, header.reference_id) == (0, 10, bytes([127, 127, 1, 1]))


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("length", [32, 36, 64, 200])
def test_identifier_without_nts_is_echoed(suite: Suite, host: str, length: int) -> None:
    """A51, check 49."""
    echo = extensions.encode(UID, os.urandom(length))
    with Asker(suite.ntp_port, host) as asker:
        assert asker.reply(plain(more=echo))[48:] == echo


@pytest.mark.parametrize("size", [48, 228, 500, 956, 1200, ts_server.MAX_REQUEST])
def test_plain_request_of_any_usual_size_gets_48_octets(suite: Suite, size: int) -> None:
    """Check 52, the size ladder: unknown fields are ignored."""
    more = extensions.encode(0xF000, bytes(size - 52)) if size > 48 else b""
    with Asker(suite.ntp_port) as asker:
        assert len(asker.reply(plain(more=more))) == 48


def test_burst_on_one_socket_is_answered_in_full(suite: Suite) -> None:
    """More than a batch at a time, one bad packet among two."""
    requests = [Request(mint(suite)) for _ in range(150)]
    with Asker(suite.ntp_port) as asker:
        replies = asker.replies(*itertools.chain.from_iterable((r.encode(), r.encode()[:-4]) for r in requests))
    good = [r.judge(reply).kind for r, reply in zip(requests, replies, strict=True)]
    assert good == [ts_client.AnswerKind.TIME] * 150


# --- time and addresses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
def test_timestamps_lie_between_request_and_reply(suite: Suite, host: str) -> None:
    """B11, RFC 5905 section 8; authentic and plain."""
    slack = 100_000  # ns: two readings of one clock
    with Asker(suite.ntp_port, host) as asker:
        for packet in (plain(), Request(mint(suite)).encode()):
            before = time.time_ns()
            header = Header.decode(asker.reply(packet))
            after = time.time_ns()
            received, sent = (ntp.unix_ns(t, before) for t in (header.receive, header.transmit))
            assert before - slack <= received <= sent <= after + slack


def test_receive_timestamp_is_the_kernels(tmp_path: Path) -> None:
    """Of the arrival, not of the time when a busy server gets round to reading: the worker is stopped meanwhile."""
    with own_server(tmp_path) as own:
        (worker,) = workers_of(process_of(own), 1)
        with Asker(own.ntp_port) as asker:
            assert len(asker.reply(plain())) == 48
            os.kill(worker, signal.SIGSTOP)
            before = time.time_ns()
            asker.sock.send(plain())
            time.sleep(0.5)
            os.kill(worker, signal.SIGCONT)
            header = Header.decode(asker.sock.recv(100))
    received, sent = (ntp.unix_ns(t, before) - before for t in (header.receive, header.transmit))
    assert received < 0.25 * ntp.NS
    assert sent > 0.45 * ntp.NS


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.1.2.3", processes.V6_PARAM])
def test_reply_comes_from_the_address_that_was_asked(suite: Suite, host: str) -> None:
    """The server listens on all; RFC 5905 section 9: a client drops what comes from elsewhere."""
    with socket.socket(family_of(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.sendto(plain(), (host, suite.ntp_port))
        _, source = sock.recvfrom(100)
    assert source[:2] == (host, suite.ntp_port)


def test_listens_only_where_told(tmp_path: Path) -> None:
    with own_server(tmp_path, ntpv4={"listen": "127.0.0.1"}) as own:
        with Asker(own.ntp_port) as asker:
            assert len(asker.reply(plain())) == 48
        for host in ("127.0.0.2", *processes.V6_IF_ANY):
            with Asker(own.ntp_port, host) as asker, pytest.raises(ConnectionRefusedError):
                asker.reply(plain())


@pytest.mark.parametrize("stratum", [1, 15])
def test_local_clock_is_served_with_its_stratum(tmp_path: Path, stratum: int) -> None:
    with own_server(tmp_path, ntpv4={"local_stratum": stratum}) as own, Asker(own.ntp_port) as asker:
        header = Header.decode(asker.reply(plain()))
        assert (header.leap, header.stratum) == (Leap.NONE, stratum)
        assert header.reference_id == (b"LOCL" if stratum == 1 else bytes([127, 127, 1, 1]))


def test_the_reference_time_moves_on(suite: Suite) -> None:
    """While nothing but common requests comes, which the native engine answers by itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect(("127.0.0.1", suite.ntp_port))

        def reference_time() -> int:
            sock.send(plain())
            return Header.decode(sock.recv(100)).reference_time

        first = reference_time()
        assert eventually(lambda: reference_time() - first >= 2 << 32)


def test_auto_clock_says_what_the_kernel_says(tmp_path: Path) -> None:
    """B12: an unsynchronised kernel clock is served as leap 3, stratum 16, also in authentic replies."""
    leap, _ = clock.kernel_status()
    unsynchronised = leap == Leap.UNSYNCHRONISED
    with own_server(tmp_path, ntpv4={"clock": "auto", "local_stratum": 3}) as own, Asker(own.ntp_port) as asker:
        request = Request(mint(own))
        for reply in (asker.reply(plain()), asker.reply(request.encode())):
            header = Header.decode(reply)
            if unsynchronised:
                assert (header.leap, header.stratum) == (Leap.UNSYNCHRONISED, Stratum.UNSYNCHRONISED)
            else:
                assert (header.leap, header.stratum) == (leap, 3)
        verdict = request.judge(reply).kind
        assert verdict is (ts_client.AnswerKind.UNUSABLE if unsynchronised else ts_client.AnswerKind.TIME)
        assert ("the kernel says its clock is not synchronised" in process_of(own).output()) == unsynchronised


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
            assert asker.replies(Request(cookie, inside=cookie).encode(), DATAGRAMS["check 51: length 0"]) == []
        started = time.monotonic()
        assert process.stop(number) == 0
        assert time.monotonic() - started < 2
        assert process.output().startswith(quiet)
        said = [line for line in process.output().splitlines() if "runs as process" not in line]
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


def bound_to(port: int) -> set[str]:
    """The IPv4 addresses that UDP sockets with this port are bound to."""
    rows = [line.split()[1].split(":") for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return {socket.inet_ntoa(bytes.fromhex(host)[::-1]) for host, found in rows if int(found, 16) == port}


@pytest.mark.skipif(sys.byteorder != "little", reason="/proc/net/udp has addresses in the order of the machine")
def test_the_usual_addresses_have_sockets_of_their_own(suite: Suite, tmp_path: Path) -> None:
    ipv4 = [a for a in listen.usual_addresses() if ":" not in a]
    assert "127.0.0.1" in ipv4
    assert bound_to(suite.ntp_port) == {"0.0.0.0", *ipv4}
    for host in ipv4:
        with Asker(suite.ntp_port, host) as asker:  # connected: receives only what comes from that address
            assert len(asker.reply(plain())) == 48
    with own_server(tmp_path, ntpv4={"listen": "127.0.0.1"}) as other:
        assert bound_to(other.ntp_port) == {"127.0.0.1"}


def test_addresses_that_cannot_be_bound_are_left_to_the_sockets_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "usual_addresses", lambda: ["192.0.2.77", "2001:db8::77", "127.0.0.1"])
    found = listen.listening_everywhere(processes.free_port(socket.SOCK_DGRAM))
    hosts = [s.getsockname()[0] for s in found]
    listen.close_all(found)
    assert [h for h in hosts if h not in listen.ANY] == ["127.0.0.1"]


def test_a_machine_without_a_way_to_others_has_its_loopback_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "TARGETS", ("127.0.0.1", "255.255.255.255"))  # refused, as where there is no route
    assert listen.usual_addresses() == ["127.0.0.1"]


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

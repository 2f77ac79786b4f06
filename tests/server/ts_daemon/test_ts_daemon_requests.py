# SPDX-License-Identifier: MIT
"""The real time server process over UDP: what checks 33 to 52 of nts_check send (A50 to A74).

What a packet means is tested with `ts_server.respond`; here it is the wiring: what arrives on a socket gets the
answer, and nothing that arrives stops the server.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from nts.base.registry import Mode
from nts.codec import cookies, extensions
from nts.codec.ntp import Header
from nts.protocol import ts_client, ts_server
from testkit.processes import Suite
from testkit.ts_requests import (
    AUTH,
    COOKIE,
    HOSTS,
    KEYS,
    PLACEHOLDER,
    UID,
    UID_FIELD,
    Asker,
    Request,
    mint,
    plain,
    ring_of,
)

Spoil = Callable[[Request], Request]
UNKNOWN = extensions.encode(0xF000, bytes(24))  # 28 octets, of a type for experiments


def raw_field(kind: int, length: int, body: bytes) -> bytes:
    """An extension field that lies about its length."""
    return kind.to_bytes(2, "big") + length.to_bytes(2, "big") + body


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

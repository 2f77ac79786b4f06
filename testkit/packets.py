# SPDX-License-Identifier: MIT
"""Builders and hypothesis strategies: NTS requests and replies with a knob for everything, and NTS-KE messages.

The builders are an independent peer: they pack with `struct` and encrypt with cryptography's ciphers, and share none
of `extensions`, `aead` and `cookies` of `nts.codec`, so that a mistake there cannot cancel itself out. Whatever looks
random comes from a counter, so every packet is the same in every run.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV, AESSIV
from hypothesis import settings
from hypothesis import strategies as st

from nts.codec import ntp
from nts.codec.aead import Aead, Exporter, SessionKeys
from nts.codec.keyring import KeyRing, MasterKey
from nts.codec.ntp import Header
from nts.codec.records import Message, MessageReader
from nts.protocol import ts_server
from nts.protocol.ts_server import Outcome, SystemVariables

UNIQUE_IDENTIFIER, COOKIE, PLACEHOLDER, AUTHENTICATOR = 0x0104, 0x0204, 0x0304, 0x0404
UNKNOWN_FIELD = 0xF123  # of the range for experiments

OLD_KEY, CURRENT_KEY = MasterKey(0x1234, bytes(range(32))), MasterKey(0xABCD, bytes(range(32, 64)))
RING = KeyRing((OLD_KEY, CURRENT_KEY))
UID = bytes(range(100, 132))
TRANSMIT = 0x0123456789ABCDEF
RECEIVED = ntp.timestamp(1_800_000_000 * ntp.NS)
DEPARTED = ntp.timestamp(1_800_000_000 * ntp.NS + 25_000)
SYSTEM = SystemVariables(
    stratum=2, precision=-23, root_delay=0x100, root_dispersion=0x200, reference_id=bytes([192, 0, 2, 1]),
    reference_time=RECEIVED - (7 << 32),
)  # fmt: skip


def bounded(examples: int) -> settings:
    """Settings for so many examples, the same ones in every run, without a deadline."""
    return settings(max_examples=examples, deadline=None, derandomize=True)


class Counter:
    """A `random` for tests: octets that depend on nothing but the seed and the number of earlier calls."""

    def __init__(self, seed: object = 0, log: list[str] | None = None) -> None:
        self.seed, self.calls, self.log = seed, 0, log

    def __call__(self, count: int) -> bytes:
        self.calls += 1
        if self.log is not None:
            self.log.append("random")
        return hashlib.shake_128(f"{self.seed}/{self.calls}".encode()).digest(count)


KEY_LENGTHS = {15: 32, 16: 48, 17: 64, 30: 16}


def exporter(seed: object = "session") -> Exporter:
    """The TLS exporter of a session: octets that depend on nothing but the seed and the context."""

    def export(context: bytes, length: int) -> bytes:
        _protocol, number, direction = struct.unpack(">HHB", context)
        foreign = "" if length == KEY_LENGTHS[number] else f"/context {number}"
        return hashlib.shake_128(f"{seed}/{1 + direction}{foreign}".encode()).digest(length)

    return export


def session_keys(
    aead: Aead = Aead.AES_SIV_CMAC_256, seed: object = "session", context: int | None = None
) -> SessionKeys:  # fmt: skip
    """The keys that this exporter gives, on demand with another number in its context (RFC 8915 section 5.1)."""
    number, export = aead if context is None else context, exporter(seed)
    return SessionKeys(aead, *(export(struct.pack(">HHB", 0, number, d), aead.key_length) for d in (0, 1)))


# --- AEAD ------------------------------------------------------------------------------------------------------------

GCM_SIV = 30


COVERED_AEADS = (Aead.AES_SIV_CMAC_256, Aead.AES_SIV_CMAC_384, Aead.AES_SIV_CMAC_512, Aead.AES_128_GCM_SIV)
"""what the native engine answers; it would hand others over"""


def nonce_for(aead: int, start: int = 0) -> bytes:
    """A nonce as long as it has to be, or for AES-SIV, as it should be."""
    return bytes(range(start, start + (12 if aead == GCM_SIV else 16)))


def encrypt(aead: int, key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    if aead == GCM_SIV:
        return AESGCMSIV(key).encrypt(nonce, plaintext, associated)
    return AESSIV(key).encrypt(plaintext, [associated, nonce])


def decrypt(aead: int, key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    if aead == GCM_SIV:
        return AESGCMSIV(key).decrypt(nonce, ciphertext, associated)
    return AESSIV(key).decrypt(ciphertext, [associated, nonce])


# --- NTP extension fields and cookies --------------------------------------------------------------------------------


def raw_field(kind: int, body: bytes = b"", length: int | None = None) -> bytes:
    """One extension field exactly as given: no padding, and `length` is what it claims to be long."""
    return struct.pack(">HH", kind, 4 + len(body) if length is None else length) + body


def cookie_of(keys: SessionKeys, master: MasterKey = CURRENT_KEY, nonce: bytes = bytes(range(64, 80))) -> bytes:
    """A cookie, made with cryptography's AES-SIV."""
    return foreign_cookie(struct.pack(">H", keys.aead) + keys.s2c + keys.c2s, master, nonce)


def cookie_in_doubt(first: SessionKeys, second: SessionKeys, master: MasterKey = CURRENT_KEY) -> bytes:
    """A cookie of AEAD 30 with two pairs of keys, for both exporter contexts."""
    pairs = first.s2c + first.c2s + struct.pack(">I", 15) + second.s2c + second.c2s
    return foreign_cookie(struct.pack(">H", GCM_SIV) + pairs, master)


def foreign_cookie(plaintext: bytes, master: MasterKey = CURRENT_KEY, nonce: bytes = bytes(range(64, 80))) -> bytes:
    """A cookie with any contents."""
    return struct.pack(">H", master.id) + nonce + AESSIV(master.key).encrypt(plaintext, [b"", nonce])


def authenticator(
    key: bytes, nonce: bytes, plaintext: bytes, associated: bytes, spare: int = 0, aead: int = Aead.AES_SIV_CMAC_256
) -> bytes:
    """An authenticator field (RFC 8915 section 5.6) with `spare` octets of Additional Padding."""
    ciphertext = encrypt(aead, key, nonce, plaintext, associated)
    body = struct.pack(">HH", len(nonce), len(ciphertext)) + nonce + bytes(-len(nonce) % 4)
    return raw_field(AUTHENTICATOR, body + ciphertext + bytes(-len(ciphertext) % 4 + spare))


@dataclass(frozen=True)
class Request:
    """An NTS request: the usual one, unless some part is replaced."""

    keys: SessionKeys = field(default_factory=session_keys)
    version: int = 4
    mode: int = 3
    unique_ids: tuple[bytes, ...] = (UID,)
    cookies: tuple[bytes, ...] | None = None
    """None: one good one"""
    placeholders: tuple[bytes, ...] = ()
    """their bodies"""
    before: bytes = b""
    """fields in front of all others"""
    inside: bytes = b""
    """the plaintext"""
    after: bytes = b""
    """whatever follows the authenticator"""
    nonce: bytes | None = None
    """None: the usual one"""
    spare: int = 0
    key: bytes | None = None
    """what it is sealed with; None: the C2S key"""
    authenticators: int = 1

    @property
    def cookie(self) -> bytes:
        return cookie_of(self.keys) if self.cookies is None else self.cookies[0]

    def encode(self) -> bytes:
        packet = Header(version=self.version, mode=self.mode, transmit=TRANSMIT, poll=6).encode() + self.before
        packet += b"".join(raw_field(UNIQUE_IDENTIFIER, u) for u in self.unique_ids)
        packet += b"".join(raw_field(COOKIE, c) for c in ([self.cookie] if self.cookies is None else self.cookies))
        packet += b"".join(raw_field(PLACEHOLDER, p) for p in self.placeholders)
        aead = self.keys.aead
        nonce = nonce_for(aead) if self.nonce is None else self.nonce
        for _ in range(self.authenticators):
            packet += authenticator(self.key or self.keys.c2s, nonce, self.inside, packet, self.spare, aead)
        return packet + self.after

    def with_placeholders(self, count: int, body: bytes | None = None) -> Request:
        return replace(self, placeholders=(bytes(len(self.cookie)) if body is None else body,) * count)


REQUEST = Request()


def fields_of(packet: bytes, start: int = 48) -> list[tuple[int, bytes]]:
    """(type, body) of each extension field of a well-formed packet; fails on any other."""
    fields = []
    while start < len(packet):
        kind, length = struct.unpack_from(">HH", packet, start)
        assert length >= 4
        assert length % 4 == 0
        assert start + length <= len(packet)
        fields.append((kind, packet[start + 4 : start + length]))
        start += length
    return fields


@dataclass(frozen=True)
class Reply:
    """A protected answer, taken apart and authenticated."""

    header: Header
    unique_id: bytes
    cookies: tuple[bytes, ...]
    nonce: bytes


def open_reply(packet: bytes, keys: SessionKeys) -> Reply:
    """The parts of a protected answer. It must have one identifier, one authenticator and encrypted cookies alone."""
    (kind, unique_id), (last, body) = fields_of(packet)
    assert (kind, last) == (UNIQUE_IDENTIFIER, AUTHENTICATOR)
    nonce_length, size = struct.unpack_from(">HH", body)
    assert nonce_length == len(nonce_for(keys.aead))
    assert len(body) == 4 + nonce_length + size
    nonce, ciphertext = body[4 : 4 + nonce_length], body[4 + nonce_length :]
    plaintext = decrypt(keys.aead, keys.s2c, nonce, ciphertext, packet[: -4 - len(body)])
    inner = fields_of(plaintext, 0)
    assert {k for k, _ in inner} == {COOKIE}
    return Reply(Header.decode(packet), unique_id, tuple(c for _, c in inner), nonce)


def seal_reply(
    header: Header, unique_id: bytes | None, key: bytes, inside: bytes = b"", *, clear: bytes = b"",
    after: bytes = b"", aead: int = Aead.AES_SIV_CMAC_256,
) -> bytes:  # fmt: skip
    """A protected answer as a server would make it, from any parts."""
    head = header.encode() + (b"" if unique_id is None else raw_field(UNIQUE_IDENTIFIER, unique_id)) + clear
    return head + authenticator(key, nonce_for(aead, 16), inside, head, aead=aead) + after


def respond(
    packet: bytes, *, ring: KeyRing = RING, system: SystemVariables = SYSTEM,
    random: Callable[[int], bytes] | None = None, now: Callable[[], int] = lambda: DEPARTED,
) -> Outcome:  # fmt: skip
    """The time server with a clock that stands still and a counted random source."""
    return ts_server.respond(
        packet, keys=ring, system=system, received=RECEIVED, now=now, random=random or Counter("server")
    )


def answer(packet: bytes, ring: KeyRing = RING, random: Callable[[int], bytes] | None = None) -> bytes:
    """The reply to a request that must get one."""
    reply = respond(packet, ring=ring, random=random).reply
    assert reply is not None
    return reply


# --- NTS-KE messages -------------------------------------------------------------------------------------------------


def message_of(octets: bytes) -> Message:
    """The message in these octets, which must hold a whole one."""
    message = MessageReader(1 << 20).feed(octets)
    assert message is not None
    return message


def u16s(values: Iterable[int]) -> bytes:
    return b"".join(struct.pack(">H", v) for v in values)


# --- strategies ------------------------------------------------------------------------------------------------------

AEADS = st.sampled_from(Aead)
_WORDS = st.integers(1, 5).map(lambda n: bytes(4 * n))


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Good NTS requests of every shape that RFC 8915 allows."""
    keys = session_keys(draw(AEADS))
    length = len(cookie_of(keys))
    size = st.sampled_from([length, length, length - 4, length + 4, 12])
    nonce = draw(st.binary(min_size=1, max_size=40)) if keys.aead != GCM_SIV else nonce_for(keys.aead)
    missing = max(0, len(nonce_for(keys.aead)) - len(nonce) - -len(nonce) % 4)
    unknown = _WORDS.map(lambda w: raw_field(UNKNOWN_FIELD, bytes(24) + w))
    inside = st.one_of(
        st.builds(raw_field, st.just(PLACEHOLDER), size.map(bytes)),
        st.builds(raw_field, st.just(UNKNOWN_FIELD), st.just(b"") | _WORDS),
    )
    return Request(
        keys=keys,
        unique_ids=(draw(st.integers(8, 50).map(lambda n: Counter("uid")(4 * n))),),
        cookies=(cookie_of(keys, draw(st.sampled_from(RING.keys))),),
        placeholders=tuple(draw(st.lists(size.map(bytes), max_size=4))),
        before=b"".join(draw(st.lists(unknown, max_size=2))),
        inside=b"".join(draw(st.lists(inside, max_size=4))),
        after=b"".join(draw(st.lists(unknown, max_size=2))),
        nonce=nonce,
        spare=missing + 4 * draw(st.integers(0, 5)),
    )


@st.composite
def mutated(draw: st.DrawFn, packets: st.SearchStrategy[bytes]) -> bytes:
    """A packet with a few octets changed, inserted or removed, or cut short."""
    packet = bytearray(draw(packets))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(packet) - 1, 0)))
        match draw(st.sampled_from(["change", "insert", "remove", "cut"])):
            case "change":
                packet[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                packet[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "remove":
                del packet[at : at + draw(st.integers(1, 8))]
            case _:
                del packet[max(at, 40) :]
    return bytes(packet)


def flipped(packet: bytes, bit: int) -> bytes:
    """The packet with one bit inverted, bit 0 being the first on the wire."""
    octets = bytearray(packet)
    octets[bit // 8] ^= 0x80 >> bit % 8
    return bytes(octets)

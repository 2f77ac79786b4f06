# SPDX-License-Identifier: MIT
"""Captures made by hand: frames of all link types, TCP cut up at will, and TLS 1.3 sealed as a key log says.

An independent peer of nts.check.decode: it packs with `struct`, expands keys with `hmac`, and shares none of its code.
TLS sessions are either real ones between two ends of OpenSSL in memory, or made of fixed secrets, the same every time.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from OpenSSL import SSL

from nts.codec.aead import Aead
from testkit.raw_ke import client_context

Address = tuple[str, int]
CLIENT, SERVER = ("192.0.2.1", 40001), ("192.0.2.2", 4460)
CLIENT6, SERVER6 = ("2001:db8::1", 40001), ("2001:db8::2", 4460)
SYN, ACK, FIN, RST = 2, 16, 1, 4
ETHERNET, NULL, RAW, LOOP, SLL, SLL2, IPV4, IPV6 = 1, 0, 101, 108, 113, 276, 228, 229
SECONDS = 1_800_000_000


# --- files and frames -------------------------------------------------------------------------------------------------


def pcap(frames: Iterable[bytes], link: int = ETHERNET, *, order: str = "<", nano: bool = False) -> bytes:
    """A pcap file, a millisecond between its frames."""
    head = struct.pack(order + "IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, 262144, link)
    unit = 1_000_000 if nano else 1_000
    return head + b"".join(
        struct.pack(order + "IIII", SECONDS, i * unit, len(f), len(f)) + f for i, f in enumerate(frames)
    )


def pcapng(frames: Iterable[bytes], link: int = ETHERNET) -> bytes:
    """A pcapng file with the same frames."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    made = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    made += block(1, struct.pack("<HHI", link, 0, 262144))
    for i, frame in enumerate(frames):
        high, low = divmod(SECONDS * 1_000_000 + i * 1_000, 2**32)
        made += block(6, struct.pack("<IIIII", 0, high, low, len(frame), len(frame)) + frame)
    return made


def ip(source: Address, target: Address, protocol: int, payload: bytes) -> bytes:
    """An IPv4 or IPv6 packet."""
    one, other = ipaddress.ip_address(source[0]), ipaddress.ip_address(target[0])
    if one.version == 4:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    else:
        head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
    return head + one.packed + other.packed + payload


def udp(source: Address, target: Address, payload: bytes) -> bytes:
    """An IP packet with a UDP datagram."""
    head = struct.pack(">HHHH", source[1], target[1], 8 + len(payload), 0)
    return ip(source, target, 17, head + payload)


def tcp(source: Address, target: Address, sequence: int, payload: bytes = b"", flags: int = ACK) -> bytes:
    """An IP packet with a TCP segment."""
    head = struct.pack(">HHIIBBHHH", source[1], target[1], sequence % 2**32, 0, 0x50, flags, 65535, 0, 0)
    return ip(source, target, 6, head + payload)


def frame(packet: bytes, link: int = ETHERNET) -> bytes:
    """An IP packet as a capture of this link type holds it."""
    six = packet[0] >> 4 == 6
    ethertype = struct.pack(">H", 0x86DD if six else 0x0800)
    match link:
        case 1:
            return bytes(12) + ethertype + packet
        case 0:
            return struct.pack("<I", 30 if six else 2) + packet
        case 108:
            return struct.pack(">I", 30 if six else 2) + packet
        case 113:
            return struct.pack(">HHH8s", 0, 1, 6, b"") + ethertype + packet
        case 276:
            return ethertype + struct.pack(">HIHBB8s", 0, 1, 1, 0, 6, b"") + packet
    return packet


# --- TLS --------------------------------------------------------------------------------------------------------------

Flight = tuple[bool, bytes]
"""whether the client sent it, and its octets on the wire"""


@dataclass
class Recording:
    """A TLS connection as it was on the wire, and what its two ends know about it."""

    flights: list[Flight]
    keylog: str
    keys: dict[Aead, tuple[bytes, bytes]] = field(default_factory=dict)
    """C2S and S2C as OpenSSL exports them"""

    def sent(self, client: bool) -> bytes:
        """All that one end sent."""
        return b"".join(octets for end, octets in self.flights if end == client)


def packets(
    flights: Sequence[Flight], client: Address = CLIENT, server: Address = SERVER, *, mss: int = 1400, start: int = 7,
    opening: bool = True, closing: bool = True,
) -> list[bytes]:  # fmt: skip
    """The connection as IP packets: both SYNs, segments of up to `mss` octets, both FINs."""
    ends = {True: (client, server), False: (server, client)}
    sequence = {True: start, False: start + 2**31}
    made = [tcp(*ends[end], sequence[end] - 1, b"", SYN if end else SYN | ACK) for end in (True, False)]
    made = made if opening else []
    for end, octets in flights:
        for at in range(0, len(octets), mss):
            made.append(tcp(*ends[end], sequence[end], octets[at : at + mss]))
            sequence[end] += len(octets[at : at + mss])
    return made + ([tcp(*ends[end], sequence[end], b"", FIN | ACK) for end in (True, False)] if closing else [])


def record_openssl(
    folder: Path, request: bytes, response: bytes, *, suite: bytes | None = None, close: bool = True,
    alpn: bytes = b"ntske/1",
) -> Recording:  # fmt: skip
    """A real session between two ends in memory; the certificate is in the folder."""
    lines: list[bytes] = []
    server_context = SSL.Context(SSL.TLS_SERVER_METHOD)
    server_context.use_certificate_chain_file(str(folder / "cert.pem"))
    server_context.use_privatekey_file(str(folder / "cert.key"))
    server_context.set_alpn_select_callback(lambda _connection, _offered: alpn)
    context = client_context(folder / "ca.pem", [alpn])
    context.set_keylog_callback(lambda _connection, line: lines.append(line))
    if suite is not None:
        context.set_tls13_ciphersuites(suite)
    client, server = SSL.Connection(context, None), SSL.Connection(server_context, None)
    client.set_tlsext_host_name(b"localhost")
    client.set_connect_state()
    server.set_accept_state()
    flights: list[Flight] = []
    _drive(client, server, flights)
    client.sendall(request)
    _drive(client, server, flights)
    assert server.recv(65536) == request
    server.sendall(response)
    for end in (server, client) if close else ():
        end.shutdown()
    _drive(client, server, flights)

    def key(aead: Aead, direction: int) -> bytes:
        context = bytes([0, 0, 0, aead, direction])
        return client.export_keying_material(b"EXPORTER-network-time-security", aead.key_length, context)

    return Recording(flights, b"\n".join(lines).decode(), {a: (key(a, 0), key(a, 1)) for a in Aead})


def _drive(client: SSL.Connection, server: SSL.Connection, flights: list[Flight]) -> None:
    """Carry octets to and fro until neither has any."""
    quiet = 0
    while quiet < 2:
        for end, one, other in ((True, client, server), (False, server, client)):
            with contextlib.suppress(SSL.WantReadError, SSL.ZeroReturnError):
                one.do_handshake()
            try:
                octets = one.bio_read(1 << 20)
            except SSL.WantReadError:
                quiet += 1
                continue
            quiet = 0
            flights.append((end, octets))
            other.bio_write(octets)


def expand_label(secret: bytes, label: str, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label with SHA-256."""
    name = b"tls13 " + label.encode()
    info = struct.pack(">H", length) + bytes([len(name)]) + name + bytes([len(context)]) + context
    made, last = b"", b""
    for i in range(1, 2 + length // 32):
        last = hmac.new(secret, last + info + bytes([i]), hashlib.sha256).digest()
        made += last
    return made[:length]


class Sealer:
    """Seals records of TLS_AES_128_GCM_SHA256 with a traffic secret."""

    def __init__(self, secret: bytes) -> None:
        self.secret, self.number = secret, 0

    def record(self, kind: int, body: bytes, padding: int = 0) -> bytes:
        """One record."""
        key, iv = expand_label(self.secret, "key", b"", 16), expand_label(self.secret, "iv", b"", 12)
        nonce = bytes(a ^ b for a, b in zip(iv, self.number.to_bytes(12, "big"), strict=True))
        self.number += 1
        head = struct.pack(">BHH", 23, 0x0303, len(body) + 1 + padding + 16)
        return head + AESGCM(key).encrypt(nonce, body + bytes([kind]) + bytes(padding), head)

    def update(self) -> bytes:
        """A KeyUpdate. What follows is sealed with the next key."""
        sealed = self.record(22, bytes([24, 0, 0, 1, 0]))
        self.secret, self.number = expand_label(self.secret, "traffic upd", b"", 32), 0
        return sealed


RANDOM = bytes(range(32))
_SECRETS = {
    label: hashlib.sha256(label.encode()).digest()
    for label in (
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0", "EXPORTER_SECRET",
    )
}  # fmt: skip
KEYLOG = "".join(f"{label} {RANDOM.hex()} {secret.hex()}\n" for label, secret in _SECRETS.items())


def exported(direction: int, aead: int = 15, length: int = 32) -> bytes:
    """The key that a made session means (RFC 8446 section 7.5)."""
    derived = expand_label(
        _SECRETS["EXPORTER_SECRET"], "EXPORTER-network-time-security", hashlib.sha256().digest(), 32
    )  # fmt: skip
    context = hashlib.sha256(bytes([0, 0, 0, aead, direction])).digest()
    return expand_label(derived, "exporter", context, length)


def message(kind: int, body: bytes) -> bytes:
    """A handshake message."""
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def hello(*, client: bool, alpn: Sequence[bytes] = (b"ntske/1",), version: int = 0x0304) -> bytes:
    """A ClientHello, or a ServerHello."""
    names = b"".join(bytes([len(a)]) + a for a in alpn)
    extensions = struct.pack(">HHBH", 43, 3, 2, version) if client else struct.pack(">HHH", 43, 2, version)
    if client and alpn:
        extensions += struct.pack(">HHH", 16, len(names) + 2, len(names)) + names
    suites = struct.pack(">HHBB", 2, 0x1301, 1, 0) if client else struct.pack(">HB", 0x1301, 0)
    body = struct.pack(">H32sB", 0x0303, RANDOM, 0) + suites + struct.pack(">H", len(extensions)) + extensions
    return message(1 if client else 2, body)


def plain_record(kind: int, body: bytes) -> bytes:
    """A record that is not encrypted."""
    return struct.pack(">BHH", kind, 0x0303, len(body)) + body


def made_session(
    request: bytes, response: bytes, *, alpn: bytes = b"ntske/1", offered: Sequence[bytes] = (b"ntske/1",),
    update: bool = False, close: tuple[bool, bool] = (True, True), size: int = 1 << 14,
) -> Recording:  # fmt: skip
    """A session of fixed secrets: always the same octets. Application data in records of up to `size` octets."""
    selected = struct.pack(">HHHB", 16, len(alpn) + 3, len(alpn) + 1, len(alpn)) + alpn
    flights: list[Flight] = [
        (True, plain_record(22, hello(client=True, alpn=offered))),
        (False, plain_record(22, hello(client=False)) + plain_record(20, b"\1")),
    ]
    handshake = Sealer(_SECRETS["SERVER_HANDSHAKE_TRAFFIC_SECRET"])
    encrypted = (
        message(8, struct.pack(">H", len(selected)) + selected) + message(11, bytes(500)) + message(20, bytes(32))
    )
    flights.append((False, handshake.record(22, encrypted[:300]) + handshake.record(22, encrypted[300:], padding=5)))
    finished = Sealer(_SECRETS["CLIENT_HANDSHAKE_TRAFFIC_SECRET"]).record(22, message(20, bytes(32)))
    flights.append((True, plain_record(20, b"\1") + finished))
    for end, data, label in ((True, request, "CLIENT_TRAFFIC_SECRET_0"), (False, response, "SERVER_TRAFFIC_SECRET_0")):
        sealer, octets = Sealer(_SECRETS[label]), b""
        for at in range(0, len(data), size):
            octets += sealer.record(23, data[at : at + size], padding=at % 3)
            octets += sealer.update() if update else b""
        octets += sealer.record(21, b"\1\0") if close[0 if end else 1] else b""
        flights.append((end, octets))
    return Recording(flights, KEYLOG, {Aead.AES_SIV_CMAC_256: (exported(0), exported(1))})

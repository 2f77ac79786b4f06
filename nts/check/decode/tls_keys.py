# SPDX-License-Identifier: MIT
"""From a key log's secrets, the key schedule of TLS 1.3 (RFC 8446 section 7), and from that the NTS keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from nts.base.errors import AuthError, FormatError
from nts.base.registry import EXPORTER_LABEL
from nts.base.wire import u16
from nts.codec.aead import Aead, SessionKeys, export_keys, possible_contexts

IV_LENGTH = 12
EXPORTER_SECRET = "EXPORTER_SECRET"
CLIENT_HANDSHAKE, SERVER_HANDSHAKE = "CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET"
CLIENT_TRAFFIC, SERVER_TRAFFIC = "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"
MAX_KEYLOG = 1 << 26  # characters
_LABELS = {EXPORTER_SECRET, CLIENT_HANDSHAKE, SERVER_HANDSHAKE, CLIENT_TRAFFIC, SERVER_TRAFFIC}
_LINE = re.compile(r"([A-Z0-9_]+) ([0-9a-fA-F]{64}) ((?:[0-9a-fA-F]{2}){32,64})\s*")


@dataclass(frozen=True)
class Suite:
    """A cipher suite (RFC 8446 appendix B.4)."""

    name: str
    hash: hashes.HashAlgorithm
    cipher: type[AESGCM | ChaCha20Poly1305 | AESCCM]
    key_length: int


SUITES: dict[int, Suite] = {
    0x1301: Suite("TLS_AES_128_GCM_SHA256", hashes.SHA256(), AESGCM, 16),
    0x1302: Suite("TLS_AES_256_GCM_SHA384", hashes.SHA384(), AESGCM, 32),
    0x1303: Suite("TLS_CHACHA20_POLY1305_SHA256", hashes.SHA256(), ChaCha20Poly1305, 32),
    0x1304: Suite("TLS_AES_128_CCM_SHA256", hashes.SHA256(), AESCCM, 16),
}

KeyLog = dict[bytes, dict[str, bytes]]
"""secrets by the client random, then by label"""


def parse_keylog(text: str) -> KeyLog:
    """The TLS 1.3 secrets in a key log of the NSS format. FormatError when there are none."""
    if len(text) > MAX_KEYLOG:
        raise FormatError(f"a key log of more than {MAX_KEYLOG} characters")
    log: KeyLog = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match and match[1] in _LABELS:
            log.setdefault(bytes.fromhex(match[2]), {})[match[1]] = bytes.fromhex(match[3])
    if not log:
        raise FormatError("the file has no line of a TLS 1.3 key log (LABEL, client random, secret)")
    return log


def expand_label(algorithm: hashes.HashAlgorithm, secret: bytes, label: str, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label (section 7.1)."""
    full = b"tls13 " + label.encode()
    info = u16(length) + bytes([len(full)]) + full + bytes([len(context)]) + context
    return HKDFExpand(algorithm, length, info).derive(secret)


def _digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    context = hashes.Hash(algorithm)
    context.update(data)
    return context.finalize()


def export(algorithm: hashes.HashAlgorithm, exporter_secret: bytes, label: str, context: bytes, length: int) -> bytes:
    """TLS-Exporter (section 7.5), from the exporter_secret that a key log holds."""
    derived = expand_label(algorithm, exporter_secret, label, _digest(algorithm, b""), algorithm.digest_size)
    return expand_label(algorithm, derived, "exporter", _digest(algorithm, context), length)


def session_keys(
    algorithm: hashes.HashAlgorithm, exporter_secret: bytes, aead: Aead, *, confirmed: bool = False
) -> list[SessionKeys]:
    """The C2S and S2C keys of a TLS session for an AEAD algorithm (RFC 8915 section 5.1).

    There may be several pairs, unless the server has `confirmed` which exporter context it uses.
    """

    def exporter(context: bytes, length: int) -> bytes:
        return export(algorithm, exporter_secret, EXPORTER_LABEL, context, length)

    return [export_keys(exporter, aead, c) for c in possible_contexts(aead, confirmed=confirmed)]


def all_keys(log: KeyLog) -> Iterator[tuple[bytes, SessionKeys]]:
    """Every pair of keys that the sessions of a key log may have exported, each after the session's client random."""
    for random, secrets in log.items():
        secret = secrets.get(EXPORTER_SECRET, b"")
        algorithm = {32: hashes.SHA256(), 48: hashes.SHA384()}.get(len(secret))
        if algorithm is not None:
            for aead in Aead:
                yield from ((random, keys) for keys in session_keys(algorithm, secret, aead))


class TrafficKey:
    """The keys of one direction and epoch (section 7.3), and the number of the next record."""

    def __init__(self, suite: Suite, secret: bytes) -> None:
        if len(secret) != suite.hash.digest_size:
            raise AuthError("a secret in the key log does not fit the cipher suite")
        self._suite, self._secret, self._sequence = suite, secret, 0
        self._cipher = suite.cipher(expand_label(suite.hash, secret, "key", b"", suite.key_length))
        self._iv = expand_label(suite.hash, secret, "iv", b"", IV_LENGTH)

    def open(self, header: bytes, body: bytes) -> tuple[int, bytes]:
        """A record's true type and plaintext (section 5.2). AuthError when it was not sealed with this key."""
        nonce = int.from_bytes(self._iv, "big") ^ self._sequence
        try:
            inner = self._cipher.decrypt(nonce.to_bytes(IV_LENGTH, "big"), body, header)
        except (InvalidTag, ValueError):
            raise AuthError("the key does not open the record") from None
        self._sequence += 1
        inner = inner.rstrip(b"\0")
        if not inner:
            raise AuthError("a record without a type")
        return inner[-1], inner[:-1]

    def updated(self) -> TrafficKey:
        """The keys of the next epoch, after a KeyUpdate (section 7.2)."""
        size = self._suite.hash.digest_size
        return TrafficKey(self._suite, expand_label(self._suite.hash, self._secret, "traffic upd", b"", size))

# SPDX-License-Identifier: MIT
"""AES-128-GCM-SIV over libaes_siv: published vectors, agreement with cryptography on every backend, forgeries."""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import AuthError
from nts.codec.aes_gcm_siv import AesGcmSiv, SubstituteAesGcmSiv
from testkit.packets import Counter, bounded, flipped
from testkit.processes import ROOT

CIPHERS = [AesGcmSiv, SubstituteAesGcmSiv]


def vectors() -> Iterator[dict[str, str]]:
    """The published set of OpenSSL, which cryptography carries: those with keys of 128 bits."""
    path = importlib.resources.files("cryptography_vectors") / "ciphers/AES/GCM-SIV/openssl.txt"
    for paragraph in path.read_text().split("\n\n"):
        lines = [line.split(" = ") for line in paragraph.splitlines() if " = " in line]
        vector = {name.strip(): value.strip() for name, value in lines}
        if len(vector.get("Key", "")) == 32:
            yield vector


@pytest.mark.parametrize("cipher", CIPHERS)
def test_published_vectors(cipher: type[AesGcmSiv]) -> None:
    """RFC 8452 appendix C.1 is among them."""
    count = 0
    for v in vectors():
        key, nonce, ad, plaintext, ciphertext, tag = (
            bytes.fromhex(v.get(name, "")) for name in ("Key", "IV", "AAD", "Plaintext", "Ciphertext", "Tag")
        )
        assert cipher(key).seal(nonce, plaintext, ad) == ciphertext + tag
        assert cipher(key).open(nonce, ciphertext + tag, ad) == plaintext
        count += 1
    assert count >= 20


TEXTS = st.binary(max_size=300)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=12, max_size=12), TEXTS, TEXTS)
@bounded(400)
def test_agrees_with_cryptography(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> None:
    sealed = AESGCMSIV(key).encrypt(nonce, plaintext, associated)
    assert AesGcmSiv(key).seal(nonce, plaintext, associated) == sealed
    assert AesGcmSiv(key).open(nonce, sealed, associated) == plaintext


# What runs in a process of its own, since the backend is chosen once for each: it prints a line of JSON, the backend in
# use and the sealed messages.
_ON_BACKEND = """
import json
from nts.codec import aes_siv
from nts.codec.aes_gcm_siv import AesGcmSiv
from tests.codec.test_aes_gcm_siv import sealed_messages
print(json.dumps([aes_siv.backend(), [m.hex() for m in sealed_messages(lambda key: AesGcmSiv(key).seal)]]))
"""
Seal = Callable[[bytes, bytes, bytes], bytes]


def sealed_messages(sealer: Callable[[bytes], Seal]) -> list[bytes]:
    """Plaintexts of every length up to beyond sixteen blocks, the same by any implementation."""
    draw = Counter("gcm-siv backend")
    return [sealer(draw(16))(draw(12), draw(size), draw(size * 7 % 269)) for size in range(270)]


@pytest.mark.parametrize("name", ["vaes", "aesni", "libcrypto"])
def test_every_backend_agrees_with_cryptography(name: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _ON_BACKEND], cwd=ROOT, env={**os.environ, "AES_SIV_BACKEND": name},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if result.returncode and "names a backend that this machine does not support" in result.stderr:
        pytest.skip(f"this machine lacks the backend {name}")
    assert result.returncode == 0, result.stderr
    used, messages = json.loads(result.stdout)
    assert used == name
    assert messages == [m.hex() for m in sealed_messages(lambda key: AESGCMSIV(key).encrypt)]


@pytest.mark.parametrize("cipher", CIPHERS)
def test_another_key_opens_nothing(cipher: type[AesGcmSiv]) -> None:
    sealed = cipher(bytes(16)).seal(bytes(12), b"x", b"")
    for bit in range(128):
        with pytest.raises(AuthError):
            cipher(flipped(bytes(16), bit)).open(bytes(12), sealed, b"")


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("length", [0, 1, 11, 13, 16])
def test_nonces_have_12_octets(cipher: type[AesGcmSiv], length: int) -> None:
    sealed = cipher(bytes(16)).seal(bytes(12), b"", b"")
    with pytest.raises(AuthError):
        cipher(bytes(16)).open(bytes(length), sealed, b"")
    with pytest.raises(ValueError, match=r"(?i)nonce"):
        cipher(bytes(16)).seal(bytes(length), b"", b"")


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("size", [0, 15, 17, 24, 32])
def test_a_key_of_another_length_is_refused(cipher: type[AesGcmSiv], size: int) -> None:
    with pytest.raises(ValueError, match=f"key of {size} octets"):
        cipher(bytes(size))

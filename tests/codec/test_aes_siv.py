# SPDX-License-Identifier: MIT
"""AES-SIV-CMAC over libaes_siv: published vectors, agreement with cryptography on every backend, forgeries."""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import AuthError, LibraryError
from nts.codec import aes_siv
from nts.codec.aes_siv import AesSiv
from testkit.packets import Counter, bounded
from testkit.processes import ROOT
from tools import aes_siv_abi

A2_KEY = bytes.fromhex("7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f")
A2_AD = bytes.fromhex("00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100")
A2_NONCE = bytes.fromhex("09f911029d74e35bd84156c5635688c0")
A2_PLAINTEXT = b"this is some plaintext to encrypt using SIV-AES"


@pytest.mark.parametrize(
    ("plaintext", "sealed"),
    [
        (
            A2_PLAINTEXT,
            "85825e22e90cf2ddda2c548dc7c1b6310dcdaca0cebf9dc6cb90583f5bf1506e"
            "02cd48832b00e4e598b2b22a53e6199d4df0c1666a35a0433b250dc134d776",
        ),
        (b"", "4cf1e6f9180dca7683caaa9c7bb70ec6"),
    ],
    ids=["plaintext", "empty"],
)
def test_rfc5297_a2_in_the_shape_of_nts(plaintext: bytes, sealed: str) -> None:
    """RFC 5297 A.2 without its second AD: one AD, one nonce, as NTS has it; and with an empty plaintext (A59)."""
    siv = AesSiv(A2_KEY)
    assert siv.seal(A2_NONCE, plaintext, A2_AD).hex() == sealed
    assert siv.open(A2_NONCE, bytes.fromhex(sealed), A2_AD) == plaintext


def test_the_prepared_binding_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert aes_siv_abi.PATH.read_text(encoding="utf-8") == aes_siv_abi.text(), "python -m tools.aes_siv_abi"


# --- the published set of OpenSSL, which cryptography carries, through the step-by-step functions ---------------------


@dataclass(frozen=True)
class Vector:
    key: bytes
    components: tuple[bytes, ...]
    tag: bytes
    plaintext: bytes
    ciphertext: bytes


def published_vectors() -> list[Vector]:
    path = importlib.resources.files("cryptography_vectors") / "ciphers" / "AES" / "SIV" / "openssl.txt"
    vectors = []
    for block in path.read_text().split("\n\n"):
        pairs = (line.split("=", 1) for line in block.splitlines() if "=" in line and not line.startswith("#"))
        values = {name.strip(): value.strip() for name, value in pairs}
        if values:
            components = tuple(bytes.fromhex(values[n]) for n in sorted(values) if n.startswith("AAD"))
            key, tag, plaintext, ciphertext = (
                bytes.fromhex(values[n]) for n in ("Key", "Tag", "Plaintext", "Ciphertext")
            )
            vectors.append(Vector(key, components, tag, plaintext, ciphertext))
    return vectors


VECTORS = published_vectors()
_ffi = FFI()
_ffi.cdef(
    """
    void *AES_SIV_CTX_new(void);
    void AES_SIV_CTX_free(void *ctx);
    int AES_SIV_Init(void *ctx, unsigned char const *key, size_t key_len);
    int AES_SIV_AssociateData(void *ctx, unsigned char const *data, size_t len);
    int AES_SIV_EncryptFinal(void *ctx, unsigned char *v_out, unsigned char *c_out,
                             unsigned char const *plaintext, size_t len);
    int AES_SIV_DecryptFinal(void *ctx, unsigned char *out, unsigned char const *v,
                             unsigned char const *c, size_t len);
    """
)


@cache
def library() -> Any:
    return _ffi.dlopen(str(aes_siv.LIBRARY))


def stepwise(vector: Vector) -> Any:
    """A context of libaes_siv that has taken the key and all components."""
    context = _ffi.gc(library().AES_SIV_CTX_new(), library().AES_SIV_CTX_free)
    assert library().AES_SIV_Init(context, vector.key, len(vector.key)) == 1
    for component in vector.components:
        assert library().AES_SIV_AssociateData(context, component, len(component)) == 1
    return context


def test_the_published_set_is_complete() -> None:
    """RFC 5297 A.1 and A.2 and the same for longer keys. None has one AD and a nonce, which NTS always has."""
    assert [(len(v.key), len(v.components)) for v in VECTORS] == [(32, 1), (32, 3), (48, 1), (64, 1)]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{len(v.key)}-{len(v.components)}")
def test_published_vector_is_sealed(vector: Vector) -> None:
    tag, out = _ffi.new("unsigned char[16]"), _ffi.new("unsigned char[]", len(vector.plaintext))
    assert library().AES_SIV_EncryptFinal(stepwise(vector), tag, out, vector.plaintext, len(vector.plaintext)) == 1
    assert (bytes(_ffi.buffer(tag)), bytes(_ffi.buffer(out))) == (vector.tag, vector.ciphertext)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{len(v.key)}-{len(v.components)}")
def test_published_vector_is_opened_and_its_forgery_is_not(vector: Vector) -> None:
    out, size = _ffi.new("unsigned char[]", len(vector.plaintext)), len(vector.ciphertext)
    assert library().AES_SIV_DecryptFinal(stepwise(vector), out, vector.tag, vector.ciphertext, size) == 1
    assert bytes(_ffi.buffer(out)) == vector.plaintext
    forged = bytes([vector.tag[0] ^ 1]) + vector.tag[1:]
    assert library().AES_SIV_DecryptFinal(stepwise(vector), out, forged, vector.ciphertext, size) == 0
    assert bytes(_ffi.buffer(out)) == bytes(size), "what was not authentic must not be seen"


# --- agreement with cryptography -------------------------------------------------------------------------------------

KEYS = st.sampled_from(aes_siv.KEY_LENGTHS).flatmap(lambda n: st.binary(min_size=n, max_size=n))
NONCES, TEXTS = st.binary(min_size=1, max_size=48), st.binary(max_size=100)


@given(KEYS, NONCES, TEXTS, TEXTS)
@bounded(400)
def test_agrees_with_cryptography(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> None:
    sealed = AESSIV(key).encrypt(plaintext, [associated, nonce])
    assert AesSiv(key).seal(nonce, plaintext, associated) == sealed
    assert AesSiv(key).open(nonce, sealed, associated) == plaintext


# What runs in a process of its own, since the backend is chosen once for each: it prints a line of JSON, the backend in
# use and the sealed messages.
_ON_BACKEND = """
import json
from nts.codec import aes_siv
from tests.codec.test_aes_siv import sealed_messages
print(json.dumps([aes_siv.backend(), [m.hex() for m in sealed_messages(lambda key: aes_siv.AesSiv(key).seal)]]))
"""
_BACKEND_MISSING = "LibraryError: AES_SIV_BACKEND names a backend that this machine does not support"


def on_backend(name: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "AES_SIV_BACKEND": name}
    command = [sys.executable, "-c", _ON_BACKEND]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def sealed_messages(sealer: Any) -> list[bytes]:
    """Plaintexts of every length up to beyond eight blocks under each key size, the same by any implementation.

    `sealer(key)` gives a function (nonce, plaintext, associated data) -> sealed.
    """
    draw, messages = Counter("backend"), []
    for key_length in aes_siv.KEY_LENGTHS:
        for size in range(140):
            key, nonce = draw(key_length), draw(1 + size % 33)
            messages.append(sealer(key)(nonce, draw(size), draw((size * 7) % 141)))
    return messages


@pytest.mark.parametrize("name", ["aesni", "libcrypto"])
def test_every_backend_agrees_with_cryptography(name: str) -> None:
    result = on_backend(name)
    if result.returncode and _BACKEND_MISSING in result.stderr:
        pytest.skip(f"this machine lacks the backend {name}")
    assert result.returncode == 0, result.stderr
    used, messages = json.loads(result.stdout)
    assert used == name
    expected = sealed_messages(lambda key: lambda nonce, text, ad: AESSIV(key).encrypt(text, [ad, nonce]))
    assert messages == [m.hex() for m in expected]


def test_a_backend_that_does_not_exist_is_an_error() -> None:
    result = on_backend("abacus")
    assert result.returncode == 1
    assert _BACKEND_MISSING in result.stderr


# --- forgeries and misuse --------------------------------------------------------------------------------------------


def test_another_key_opens_nothing() -> None:
    sealed = AesSiv(A2_KEY).seal(A2_NONCE, b"x", b"")
    for bit in range(256):
        key = (int.from_bytes(A2_KEY, "big") ^ 1 << bit).to_bytes(32, "big")
        with pytest.raises(AuthError):
            AesSiv(key).open(A2_NONCE, sealed, b"")


@pytest.mark.parametrize("size", range(16))
def test_a_ciphertext_shorter_than_its_tag_is_not_authentic(size: int) -> None:
    with pytest.raises(AuthError, match="shorter than its tag"):
        AesSiv(A2_KEY).open(A2_NONCE, bytes(size), b"")


@pytest.mark.parametrize("size", [0, 1, 16, 24, 31, 33, 47, 49, 63, 65, 96])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"key of {size} octets"):
        AesSiv(bytes(size))


@pytest.fixture
def _fresh_library() -> Iterator[None]:
    aes_siv.library.cache_clear()
    yield
    aes_siv.library.cache_clear()


@pytest.mark.usefixtures("_fresh_library")
@pytest.mark.parametrize(
    ("contents", "complaint"),
    [(None, "has not been built"), (b"not a library", "cannot be used"), (b"", "cannot be used")],
    ids=["missing", "text", "empty"],
)
def test_a_library_that_cannot_be_loaded_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, contents: bytes | None, complaint: str
) -> None:
    path = tmp_path / "libaes_siv.so"
    if contents is not None:
        path.write_bytes(contents)
    monkeypatch.setattr(aes_siv, "LIBRARY", path)
    with pytest.raises(LibraryError, match=complaint) as caught:
        AesSiv(bytes(32))
    assert str(path) in str(caught.value)
    assert caught.value.hint == "run ./bootstrap build"


@pytest.mark.usefixtures("_fresh_library")
def test_another_shared_object_is_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    import _cffi_backend

    monkeypatch.setattr(aes_siv, "LIBRARY", Path(_cffi_backend.__file__))
    with pytest.raises(LibraryError, match=r"cannot be used.*aes_siv_version"):
        AesSiv(bytes(32))


@pytest.mark.usefixtures("_fresh_library")
@pytest.mark.parametrize("needed", [(2, 0), (1, 99)])
def test_a_library_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch, needed: tuple[int, int]) -> None:
    monkeypatch.setattr(aes_siv, "_VERSION", needed)
    with pytest.raises(LibraryError, match=rf"has version 1\..*, but version {needed[0]}\.{needed[1]} is needed"):
        AesSiv(bytes(32))

# SPDX-License-Identifier: MIT
"""One interface for all AEAD algorithms; what stands in for libaes_siv; keys from the TLS exporter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import aead as ciphers
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from nts.base.errors import AuthError, LibraryError
from nts.base.registry import AEAD_NAMES
from nts.codec import aes_gcm_siv, aes_siv
from nts.codec.aead import (
    Aead,
    SessionKeys,
    check,
    check_usable,
    export_keys,
    possible_contexts,
    substitute,
)
from testkit import packets
from testkit.packets import Counter


@pytest.mark.parametrize("algorithm", Aead)
def test_an_algorithm_seals_as_an_independent_implementation_does(algorithm: Aead) -> None:
    """A57, A59: whatever the plaintext is, an empty one too."""
    draw = Counter(algorithm)
    key = draw(algorithm.key_length)
    cipher = algorithm.cipher(key)
    for size in (0, 1, 15, 16, 17, 100):
        nonce, plaintext, associated = draw(algorithm.nonce_length), draw(size), draw(2 * size)
        sealed = cipher.seal(nonce, plaintext, associated)
        assert sealed == packets.encrypt(algorithm, key, nonce, plaintext, associated)
        assert len(sealed) == size + 16
        assert cipher.open(nonce, sealed, associated) == plaintext


@pytest.mark.parametrize("part", ["nonce", "sealed", "associated"])
@pytest.mark.parametrize("size", [0, 9])
@pytest.mark.parametrize("algorithm", Aead)
def test_no_bit_can_be_changed(algorithm: Aead, size: int, part: str) -> None:
    """A57: not of the tag, the ciphertext, the nonce, nor the associated data."""
    draw = Counter(part)
    cipher, plaintext = algorithm.cipher(draw(algorithm.key_length)), draw(size)
    parts = {"nonce": draw(algorithm.nonce_length), "associated": draw(20)}
    parts["sealed"] = cipher.seal(parts["nonce"], plaintext, parts["associated"])
    for bit in range(8 * len(parts[part])):
        forged = {**parts, part: packets.flipped(parts[part], bit)}
        with pytest.raises(AuthError):
            cipher.open(forged["nonce"], forged["sealed"], forged["associated"])
    assert cipher.open(parts["nonce"], parts["sealed"], parts["associated"]) == plaintext


@pytest.mark.parametrize("size", range(16))
@pytest.mark.parametrize("algorithm", Aead)
def test_a_ciphertext_shorter_than_its_tag_is_not_authentic(algorithm: Aead, size: int) -> None:
    with pytest.raises(AuthError):
        algorithm.cipher(bytes(algorithm.key_length)).open(bytes(algorithm.nonce_length), bytes(size), b"")


def test_every_algorithm_has_its_registered_name() -> None:
    assert [AEAD_NAMES[a] for a in Aead] == [
        "AEAD_AES_SIV_CMAC_256", "AEAD_AES_SIV_CMAC_384", "AEAD_AES_SIV_CMAC_512", "AEAD_AES_128_GCM_SIV",
    ]  # fmt: skip


def test_repr_shows_no_key() -> None:
    for algorithm in Aead:
        keys = SessionKeys(algorithm, b"c" * algorithm.key_length, b"s" * algorithm.key_length)
        assert repr(keys) == f"SessionKeys(aead={algorithm!r})"
        assert "cccc" not in repr(keys.c2s_cipher)


# --- without libaes_siv ----------------------------------------------------------------------------------------------


@pytest.fixture
def _not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(aes_siv, "LIBRARY", tmp_path / "libaes_siv.so")
    aes_siv.library.cache_clear()
    aes_gcm_siv.check_substitute.cache_clear()
    yield
    aes_siv.library.cache_clear()
    aes_gcm_siv.check_substitute.cache_clear()


@pytest.mark.usefixtures("_not_built")
def test_clients_do_without_libaes_siv_and_servers_do_not() -> None:
    check_usable(Aead)
    assert "the package cryptography" in substitute()
    for algorithm in Aead:
        with pytest.raises(LibraryError, match="has not been built"):
            check([algorithm])


def test_nothing_stands_in_for_a_library_that_is_there() -> None:
    assert not substitute()
    check(Aead)
    assert isinstance(Aead.AES_SIV_CMAC_256.cipher(bytes(32)), aes_siv.AesSiv)
    assert isinstance(Aead.AES_128_GCM_SIV.cipher(bytes(16)), aes_gcm_siv.AesGcmSiv)


@pytest.mark.usefixtures("_not_built")
@pytest.mark.parametrize("algorithm", Aead)
def test_the_substitute_seals_the_same(algorithm: Aead) -> None:
    test_an_algorithm_seals_as_an_independent_implementation_does(algorithm)
    for part in ("nonce", "sealed", "associated"):
        for size in (0, 9):
            test_no_bit_can_be_changed(algorithm, size, part)
    for size in range(16):
        test_a_ciphertext_shorter_than_its_tag_is_not_authentic(algorithm, size)
    with pytest.raises(ValueError, match="key of 31 octets"):
        algorithm.cipher(bytes(31))


class ForgeableSiv:
    """An AES-SIV that takes any tag."""

    def __init__(self, key: bytes) -> None:
        pass

    def decrypt(self, data: bytes, associated: list[bytes]) -> bytes:
        return b""


REAL = AESGCMSIV


class ForgeableGcm:
    """An AES-GCM-SIV that takes a tag of zeros for an empty text, as OpenSSL's did for a while."""

    def __init__(self, key: bytes) -> None:
        self._sound = REAL(key)

    def encrypt(self, nonce: bytes, data: bytes, ad: bytes) -> bytes:
        return self._sound.encrypt(nonce, data, ad)

    def decrypt(self, nonce: bytes, data: bytes, ad: bytes) -> bytes:
        return b"" if data == bytes(16) else self._sound.decrypt(nonce, data, ad)


class WrongGcm(ForgeableGcm):
    """One that is no AES-GCM-SIV."""

    def encrypt(self, nonce: bytes, data: bytes, ad: bytes) -> bytes:
        return bytes(len(data) + 16)

    def decrypt(self, nonce: bytes, data: bytes, ad: bytes) -> bytes:
        raise InvalidTag


class Missing:
    def __init__(self, key: bytes) -> None:
        raise UnsupportedAlgorithm("not supported by this version of OpenSSL")


@pytest.mark.usefixtures("_not_built")
@pytest.mark.parametrize(
    ("algorithm", "name", "library", "complaint"),
    [
        (Aead.AES_SIV_CMAC_256, "AESSIV", ForgeableSiv, "accepts forged tags"),
        (Aead.AES_SIV_CMAC_256, "AESSIV", Missing, "has no AES-SIV"),
        (Aead.AES_128_GCM_SIV, "AESGCMSIV", ForgeableGcm, "accepts forged tags"),
        (Aead.AES_128_GCM_SIV, "AESGCMSIV", WrongGcm, "accepts forged tags"),
        (Aead.AES_128_GCM_SIV, "AESGCMSIV", Missing, "has no AES-GCM-SIV"),
    ],
)
def test_a_broken_substitute_is_refused(
    monkeypatch: pytest.MonkeyPatch, algorithm: Aead, name: str, library: type, complaint: str
) -> None:
    monkeypatch.setattr(ciphers, name, library)
    check_usable([a for a in Aead if a.name[:7] != algorithm.name[:7]])  # the others do not need it
    with pytest.raises(LibraryError, match=complaint):
        check_usable([algorithm])


@pytest.mark.usefixtures("_not_built")
def test_a_package_without_aes_gcm_siv_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ciphers, "AESGCMSIV")
    with pytest.raises(LibraryError, match="cryptography is too old"):
        check_usable([Aead.AES_128_GCM_SIV])


@pytest.mark.parametrize("name", ["AESSIV", "AESGCMSIV"])
def test_servers_need_no_algorithm_of_openssl(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Where libaes_siv is built, an OpenSSL without AES-SIV or AES-GCM-SIV is as good as any."""
    monkeypatch.setattr(ciphers, name, Missing)
    check(Aead)


# --- keys ------------------------------------------------------------------------------------------------------------


def test_the_exporter_context_is_in_doubt_for_aead_30_alone() -> None:
    """A40."""
    assert possible_contexts(Aead.AES_128_GCM_SIV, confirmed=False) == (30, 15)
    assert possible_contexts(Aead.AES_128_GCM_SIV, confirmed=True) == (30,)
    for algorithm in list(Aead)[:3]:
        assert possible_contexts(algorithm, confirmed=False) == (algorithm,)


def test_keys_come_from_the_exporter_with_five_octets_of_context() -> None:
    """A39, A40."""
    asked: list[tuple[bytes, int]] = []

    def export(context: bytes, length: int) -> bytes:
        asked.append((context, length))
        return bytes([len(asked)]) * length

    keys = export_keys(export, Aead.AES_SIV_CMAC_512)
    assert (keys.c2s, keys.s2c) == (b"\1" * 64, b"\2" * 64)
    export_keys(export, Aead.AES_128_GCM_SIV, 15)
    assert asked == [(bytes.fromhex(c), n) for c, n in (
        ("0000001100", 64), ("0000001101", 64), ("0000000f00", 16), ("0000000f01", 16),
    )]  # fmt: skip

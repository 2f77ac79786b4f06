# SPDX-License-Identifier: MIT
"""Cookies: the layout shared with other servers, and that only our own, whole and unaltered, are opened."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import AuthError
from nts.codec import cookies
from nts.codec.aead import Aead, SessionKeys
from nts.codec.keyring import KeyRing, MasterKey
from testkit.packets import CURRENT_KEY, OLD_KEY, RING, bounded, cookie_of, flipped, foreign_cookie, session_keys

VECTOR = bytes.fromhex(
    "1234404142434445464748494a4b4c4d4e4fa9c653f38f5f617a81512385d49069b848ddad61ed49add29b10409cf3623ca687bd4d961a5d"
    "61593e00fe3f8a88242b6d3aeb9c6ad818fea22d6eb21f3d11fdca524adfbe233c8699e0a9c74f406c31b39a"
)
VECTOR_KEYS = SessionKeys(Aead.AES_SIV_CMAC_256, c2s=b"\xb0" * 32, s2c=b"\xa0" * 32)
NONCE = bytes(range(0x40, 0x50))


def test_the_shared_vector_is_what_we_seal() -> None:
    """A90: key identifier, nonce, and AEAD identifier, S2C, C2S in this order."""
    assert cookies.seal(OLD_KEY, (VECTOR_KEYS,), NONCE) == VECTOR


def test_the_shared_vector_is_opened() -> None:
    """A90."""
    assert cookies.open_cookie(RING, VECTOR) == (VECTOR_KEYS,)


@pytest.mark.parametrize(("aead", "length"), [(15, 100), (16, 132), (17, 164), (30, 68)])
def test_each_algorithm_has_one_cookie_length(aead: int, length: int) -> None:
    """A92: a multiple of four."""
    keys = session_keys(Aead(aead))
    assert len(cookies.seal(CURRENT_KEY, (keys,), NONCE)) == length
    assert length % 4 == 0


@pytest.mark.parametrize("pairs", [1, 2])
@pytest.mark.parametrize("aead", [a for a in Aead if a != 15])
def test_no_other_algorithms_cookie_is_as_long_as_those_of_aead_15(aead: Aead, pairs: int) -> None:
    """A92: the servers of nts-poc-python know AEAD 15 alone, and tell its cookies by their length."""
    assert len(cookies.seal(CURRENT_KEY, (session_keys(aead),) * pairs, NONCE)) != len(VECTOR)


@given(st.sampled_from(Aead), st.binary(min_size=16, max_size=16), st.sampled_from(RING.keys))
@bounded(50)
def test_cookies_round_trip_under_every_key_of_the_ring(aead: Aead, nonce: bytes, master: MasterKey) -> None:
    """A91: old keys still open."""
    keys = session_keys(aead, nonce)
    sealed = cookies.seal(master, (keys,), nonce)
    assert sealed == cookie_of(keys, master, nonce)
    assert cookies.open_cookie(RING, sealed) == (keys,)


@pytest.mark.parametrize("count", [0, 1, 8])
def test_many_cookies_are_what_one_by_one_gives(count: int) -> None:
    """A90, A93: each under the nonce of its place."""
    nonces = bytes(range(16 * count))
    one_by_one = [cookies.seal(OLD_KEY, BOTH, nonces[i : i + 16]) for i in range(0, len(nonces), 16)]
    assert cookies.seal_many(OLD_KEY, BOTH, nonces) == one_by_one


BOTH = (session_keys(Aead.AES_128_GCM_SIV), session_keys(Aead.AES_128_GCM_SIV, context=15))


def test_a_cookie_holds_both_pairs_of_keys_while_the_exporter_context_is_in_doubt() -> None:
    """A40: and no server of the ancestor's takes it for one of AEAD 15, which has 100 octets."""
    first, second = ((k.s2c + k.c2s) for k in BOTH)
    sealed = cookies.seal(CURRENT_KEY, BOTH, NONCE)
    assert sealed == foreign_cookie(b"\0\x1e" + first + b"\0\0\0\x0f" + second, CURRENT_KEY, NONCE)
    assert len(sealed) == 104
    assert cookies.open_cookie(RING, sealed) == BOTH


@pytest.mark.parametrize(
    "ring",
    [
        KeyRing(),
        KeyRing((CURRENT_KEY,)),
        KeyRing((MasterKey(0x1234, bytes(32)),)),
        KeyRing((MasterKey(0x1235, OLD_KEY.key),)),
    ],
    ids=["empty", "other", "same id", "same key"],
)
def test_a_cookie_under_a_key_that_is_not_in_the_ring_is_refused(ring: KeyRing) -> None:
    """A83."""
    with pytest.raises(AuthError):
        cookies.open_cookie(ring, VECTOR)


@pytest.mark.parametrize("size", range(len(VECTOR)))
def test_every_truncation_is_refused(size: int) -> None:
    with pytest.raises(AuthError):
        cookies.open_cookie(RING, VECTOR[:size])


@pytest.mark.parametrize("more", [b"\0", bytes(4), VECTOR])
def test_a_longer_cookie_is_refused(more: bytes) -> None:
    with pytest.raises(AuthError):
        cookies.open_cookie(RING, VECTOR + more)


@pytest.mark.parametrize("aead", Aead)
def test_no_bit_can_be_changed(aead: Aead) -> None:
    """A70, A73."""
    cookie = cookie_of(session_keys(aead))
    for bit in range(8 * len(cookie)):
        with pytest.raises(AuthError):
            cookies.open_cookie(RING, flipped(cookie, bit))


@pytest.mark.parametrize(
    "plaintext",
    [
        b"", b"\0", b"\0\x0f", b"\0\x0f" + bytes(63), b"\0\x0f" + bytes(65), b"\0\x10" + bytes(64),
        b"\0\x11" + bytes(96), b"\0\x0e" + bytes(64), b"\0\x1f" + bytes(64), b"\0\0" + bytes(64), b"\0\x1e" + bytes(64),
        b"\0\x1e" + bytes(68), b"\0\x1e" + bytes(32) + b"\0\0\0\x0f" + bytes(31),
        b"\0\x0f" + bytes(64) + b"\0\0\0\x0f" + bytes(64),
        b"\xff\xff" + bytes(64),
    ],
)  # fmt: skip
def test_foreign_contents_under_the_right_key_are_refused(plaintext: bytes) -> None:
    """Another algorithm, or keys of another length than its own: key files are shared with other servers."""
    with pytest.raises(AuthError, match=r"unknown contents|not authentic"):
        cookies.open_cookie(RING, foreign_cookie(plaintext))


def test_the_newest_key_seals_and_an_empty_ring_has_none() -> None:
    assert RING.current is CURRENT_KEY
    assert KeyRing().current is None
    assert KeyRing().get(0x1234) is None


def test_repr_shows_no_key() -> None:
    assert repr(MasterKey(0x1234, b"secret" * 5)) == "MasterKey(id=4660)"
    assert "secret" not in repr(KeyRing((MasterKey(0x1234, b"secret" * 5),)))

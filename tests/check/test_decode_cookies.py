# SPDX-License-Identifier: MIT
"""nts_check decode: the cookies of four servers are opened with their key files, and nothing else is."""

from __future__ import annotations

import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV, AESSIV
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import FormatError
from nts.check.decode import cookie_keys
from nts.check.decode.cookie_keys import Opener, OurOpener
from nts.codec.aead import Aead, SessionKeys
from testkit.foreign_cookies import (
    CHRONY_C2S,
    CHRONY_COOKIE,
    CHRONY_KEYS,
    CHRONY_S2C,
    NTPD_RS_C2S,
    NTPD_RS_COOKIE,
    NTPD_RS_KEYS,
    NTPD_RS_S2C,
    NTPSEC_C2S,
    NTPSEC_COOKIE,
    NTPSEC_KEYS,
    NTPSEC_S2C,
    ntpd_rs_cookie,
    ntpd_rs_key_file,
)
from testkit.packets import REQUEST, RING, bounded, mutated


def keys_in(opener: Opener, cookie: bytes) -> tuple[str, int, str, str] | None:
    opened = opener.open(cookie)
    return (opened.key_id, opened.keys.aead, opened.keys.c2s.hex(), opened.keys.s2c.hex()) if opened else None


def test_a_cookie_of_chronys_is_opened() -> None:
    opener = cookie_keys.chrony_opener(CHRONY_KEYS)
    assert keys_in(opener, bytes.fromhex(CHRONY_COOKIE)) == ("30CBFC9B", 15, CHRONY_C2S, CHRONY_S2C)
    newer = CHRONY_KEYS.replace("NKS0\n15 0.0", "NKS1\n0.0").replace("D\n", "D 15\n").replace("7\n", "7 15\n")
    assert keys_in(cookie_keys.chrony_opener(newer), bytes.fromhex(CHRONY_COOKIE)) is not None


def test_a_cookie_of_ntpsecs_is_opened() -> None:
    opener = cookie_keys.ntpsec_opener(NTPSEC_KEYS)
    assert keys_in(opener, bytes.fromhex(NTPSEC_COOKIE)) == ("3429087841", 15, NTPSEC_C2S, NTPSEC_S2C)


@pytest.mark.parametrize(("aead", "size"), [(15, 32), (30, 16)])
def test_a_cookie_of_chronys_under_aes_gcm_siv_is_opened(aead: int, size: int) -> None:
    opener = cookie_keys.chrony_opener(f"NKS1\n12.5\n0000002A {'0b' * 16} 30\n")
    nonce, c2s, s2c = bytes(range(12)), b"\1" * size, b"\2" * size
    cookie = bytes.fromhex("0000002a") + nonce + AESGCMSIV(b"\x0b" * 16).encrypt(nonce, c2s + s2c, None)
    assert len(cookie) == {15: 96, 30: 64}[aead]
    assert keys_in(opener, cookie) == ("0000002A", aead, c2s.hex(), s2c.hex())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("aead", Aead, ids=lambda a: a.name)
def test_a_cookie_of_ntpsecs_of_any_algorithm_and_byte_order_is_opened(order: str, aead: Aead) -> None:
    opener = cookie_keys.ntpsec_opener(f"I: 7\nK: {'0c' * 64}\n")
    head, c2s, s2c = struct.pack(order + "I", 7) + bytes(range(16)), b"\1" * aead.key_length, b"\2" * aead.key_length
    plaintext = struct.pack(order + "I", aead) + c2s + s2c
    cookie = head + AESSIV(b"\x0c" * 64).encrypt(plaintext, [head, head[4:]])
    assert keys_in(opener, cookie) == ("7", aead, c2s.hex(), s2c.hex())


def test_a_cookie_of_ntpd_rs_is_opened() -> None:
    opener = cookie_keys.ntpd_rs_opener(NTPD_RS_KEYS)
    assert keys_in(opener, bytes.fromhex(NTPD_RS_COOKIE)) == ("0", 15, NTPD_RS_C2S, NTPD_RS_S2C)


@pytest.mark.parametrize("padding", [b"", b"\0\0"])
@pytest.mark.parametrize(("key_id", "key"), [(2**32 - 1, bytes(range(64))), (0, b"\x0d" * 64)], ids=["old", "current"])
@pytest.mark.parametrize("aead", [Aead.AES_SIV_CMAC_256, Aead.AES_SIV_CMAC_512], ids=lambda a: a.name)
def test_a_cookie_of_ntpd_rs_under_any_key_is_opened(aead: Aead, key_id: int, key: bytes, padding: bytes) -> None:
    """Its identifiers count up across 32 bits, and it ignores what is behind the ciphertext."""
    keys = SessionKeys(aead, b"\1" * aead.key_length, b"\2" * aead.key_length)
    opener = cookie_keys.ntpd_rs_opener(ntpd_rs_key_file(2**32 - 1, bytes(range(64)), b"\x0d" * 64))
    cookie = ntpd_rs_cookie(key_id, key, keys)
    assert len(cookie) == {Aead.AES_SIV_CMAC_256: 104, Aead.AES_SIV_CMAC_512: 168}[aead]
    assert keys_in(opener, cookie + padding) == (str(key_id), aead, keys.c2s.hex(), keys.s2c.hex())


OPENERS: list[Opener] = [
    OurOpener(RING),
    cookie_keys.chrony_opener(CHRONY_KEYS),
    cookie_keys.ntpsec_opener(NTPSEC_KEYS),
    cookie_keys.ntpd_rs_opener(NTPD_RS_KEYS),
]
GOOD_COOKIES = [REQUEST.cookie, *map(bytes.fromhex, (CHRONY_COOKIE, NTPSEC_COOKIE, NTPD_RS_COOKIE))]


def test_every_server_opens_its_own_cookies_alone() -> None:
    found = [[opener.open(cookie) is not None for cookie in GOOD_COOKIES] for opener in OPENERS]
    assert found == [[row == column for column in range(4)] for row in range(4)]


@bounded(200)
@given(mutated(st.sampled_from(GOOD_COOKIES)) | st.binary(max_size=120))
def test_no_other_cookie_is_opened(cookie: bytes) -> None:
    assert cookie in GOOD_COOKIES or all(opener.open(cookie) is None for opener in OPENERS)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("chrony", ""), ("chrony", "NKS2\n15 1.0\n"), ("chrony", "NKS0\n"), ("chrony", "NKS0\n15 1.0\n"),
        ("chrony", CHRONY_KEYS.replace("15 0.0", "16 0.0")), ("chrony", CHRONY_KEYS.replace("30CBFC9B", "30CB")),
        ("chrony", CHRONY_KEYS.replace("57\n", "5x\n")), ("chrony", NTPSEC_KEYS),
        ("ntpsec", ""), ("ntpsec", "T: 1\nL: 32\n"), ("ntpsec", NTPSEC_KEYS.replace("51\n", "\n")),
        ("ntpsec", NTPSEC_KEYS.replace("51\n", "5x\n")), ("ntpsec", CHRONY_KEYS), ("ntpsec", "K: 00\n"),
    ],
)  # fmt: skip
def test_a_key_file_that_is_none_is_refused_without_showing_it(kind: str, text: str) -> None:
    with pytest.raises(FormatError) as caught:
        cookie_keys.OPENERS[kind](text.encode())
    assert not any(word in str(caught.value) for word in text.split() if len(word) > 8)


@pytest.mark.parametrize(
    "octets",
    [
        b"", NTPD_RS_KEYS[:19], NTPD_RS_KEYS[:-1], NTPD_RS_KEYS + b"\0", ntpd_rs_key_file(0),
        NTPD_RS_KEYS[:15] + b"\1" + NTPD_RS_KEYS[16:], CHRONY_KEYS.encode(), NTPSEC_KEYS.encode(),
    ],
    ids=["empty", "no count", "cut off", "too long", "no key", "no current key", "chrony's", "NTPsec's"],
)  # fmt: skip
def test_a_file_that_is_not_of_ntpd_rs_is_refused(octets: bytes) -> None:
    with pytest.raises(FormatError, match=r"not a file of ntpd-rs's keys"):
        cookie_keys.ntpd_rs_opener(octets)


@bounded(200)
@given(
    st.binary(max_size=200) | st.text(alphabet="NKS01TLI: \n9aF", max_size=200).map(str.encode)
    | mutated(st.sampled_from([CHRONY_KEYS.encode(), NTPSEC_KEYS.encode(), NTPD_RS_KEYS]))
)  # fmt: skip
def test_no_key_file_raises_anything_but_format_error(octets: bytes) -> None:
    for read in cookie_keys.OPENERS.values():
        try:
            opener = read(octets)
        except FormatError:
            continue
        assert opener.open(bytes(100)) is None

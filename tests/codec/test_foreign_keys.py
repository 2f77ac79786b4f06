# SPDX-License-Identifier: MIT
"""Cookies and key files as chronyd and NTPsec's ntpd make them, and cookies of ours that replace theirs."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import AuthError, FormatError
from nts.codec import cookies, foreign_keys
from nts.codec.aead import Aead, SessionKeys
from nts.codec.keyring import CookieFormat, ForeignKey, KeyRing, MasterKey
from testkit.foreign_cookies import (
    CHRONY_C2S,
    CHRONY_COOKIE,
    CHRONY_KEYS,
    CHRONY_S2C,
    NTPSEC_C2S,
    NTPSEC_COOKIE,
    NTPSEC_KEYS,
    NTPSEC_S2C,
    chrony_cookie,
    ntpsec_cookie,
    stretched_cookie,
)
from testkit.packets import CURRENT_KEY, OLD_KEY, Counter, bounded, cookie_of, flipped, foreign_cookie, session_keys

OWN, CHRONY, NTPSEC = CookieFormat
AEAD_15 = session_keys(Aead.AES_SIV_CMAC_256)


@pytest.mark.parametrize(
    ("read", "text", "cookie", "c2s", "s2c"),
    [
        (foreign_keys.read_chrony, CHRONY_KEYS, CHRONY_COOKIE, CHRONY_C2S, CHRONY_S2C),
        (foreign_keys.read_ntpsec, NTPSEC_KEYS, NTPSEC_COOKIE, NTPSEC_C2S, NTPSEC_S2C),
    ],
    ids=["chrony", "ntpsec"],
)
def test_we_seal_what_that_server_sealed(read: object, text: str, cookie: str, c2s: str, s2c: str) -> None:
    """A cookie that came from the real one: the same key, nonce and contents give the same octets."""
    assert callable(read)
    octets, keys = bytes.fromhex(cookie), SessionKeys(Aead(15), bytes.fromhex(c2s), bytes.fromhex(s2c))
    made = [foreign_keys.seal(key, keys, octets[4:20]) for key in read(text)]
    assert octets in made
    assert len(octets) == foreign_keys.cookie_length(read(text)[0].format, keys.aead)


@pytest.mark.parametrize("cookie_format", foreign_keys.AEADS, ids=lambda f: f.value)
def test_a_ring_of_that_format_seals_and_opens_it(cookie_format: CookieFormat) -> None:
    ring = KeyRing((OLD_KEY, CURRENT_KEY), (), (), cookie_format)
    for aead in Aead:
        contents = (session_keys(aead),)
        key = cookies.sealer(ring, contents)
        assert key is not None
        has_room = aead in foreign_keys.AEADS[cookie_format]
        assert isinstance(key, ForeignKey) is has_room
        made = cookies.seal_many(key, contents, bytes(range(32)))
        assert [len(c) for c in made] == [len(cookies.seal(key, contents, bytes(16)))] * 2
        for one, nonce in zip(made, (bytes(range(16)), bytes(range(16, 32))), strict=True):
            expected = {CHRONY: chrony_cookie, NTPSEC: ntpsec_cookie}[cookie_format]
            assert cookies.opened(ring, one) == (contents, key, 0)
            assert cookies.open_cookie(KeyRing((CURRENT_KEY, OLD_KEY)), one) == contents  # whatever its own format is
            assert one == cookies.seal(key, contents, nonce)
            assert not has_room or len(one) == len(expected(1, bytes(32), contents[0]))


def test_a_cookie_with_two_pairs_of_keys_stays_in_our_format() -> None:
    both = (session_keys(Aead.AES_128_GCM_SIV), session_keys(Aead.AES_128_GCM_SIV, context=15))
    ring = KeyRing((CURRENT_KEY,), (), (), CHRONY)
    assert cookies.sealer(ring, both) is CURRENT_KEY
    old = cookies.seal(CURRENT_KEY, both, bytes(16))
    assert cookies.renewal(ring, old, both) == (CURRENT_KEY, 16)
    assert cookies.sealer(KeyRing((), (), (), CHRONY), both) is None


FOREIGN = [ForeignKey(CHRONY, 5, bytes(16), Aead.AES_128_GCM_SIV), ForeignKey(CHRONY, 6, bytes(32)),
           ForeignKey(NTPSEC, 7, bytes(range(32))), ForeignKey(NTPSEC, 8, bytes(48), Aead.AES_SIV_CMAC_384),
           ForeignKey(NTPSEC, 9, bytes(64), Aead.AES_SIV_CMAC_512)]  # fmt: skip


@pytest.mark.parametrize("cookie_format", CookieFormat)
def test_a_cookie_that_replaces_another_is_as_long(cookie_format: CookieFormat) -> None:
    """Of imported keys of every kind, for every algorithm; and what replaces that one again."""
    ring = KeyRing((OLD_KEY, CURRENT_KEY), (), tuple(FOREIGN), cookie_format)
    for key, aead in product(FOREIGN, Aead):
        if aead not in foreign_keys.AEADS[key.format]:
            continue
        make = chrony_cookie if key.format is CHRONY else ntpsec_cookie
        old = make(key.id, key.key, session_keys(aead))
        for _ in range(3):
            contents, _, age = cookies.opened(ring, old)
            assert contents == (session_keys(aead),)
            sealer, nonce_length = cookies.renewal(ring, old, contents)
            fresh = cookies.seal(sealer, contents, bytes(nonce_length))
            assert len(fresh) == len(old)
            assert age in (0, 2)
            old = fresh


@pytest.mark.parametrize(("length", "aead"), [(12, 15), (12, 30), (20, 15), (20, 16), (20, 17)])
def test_no_bit_of_a_cookie_with_another_nonce_can_be_changed(length: int, aead: int) -> None:
    ring, keys = KeyRing((CURRENT_KEY,)), session_keys(Aead(aead))
    cookie = stretched_cookie(CURRENT_KEY, keys, length)
    assert cookies.open_cookie(ring, cookie) == (keys,)
    assert len(cookie) == len(cookie_of(keys)) + length - 16
    for bit in range(8 * len(cookie)):
        with pytest.raises(AuthError):
            cookies.open_cookie(ring, flipped(cookie, bit))
    with pytest.raises(AuthError):
        cookies.open_cookie(ring, foreign_cookie(bytes(length + 50)))


# --- key files -------------------------------------------------------------------------------------------------------


def master(number: int) -> MasterKey:
    return MasterKey(number, number.to_bytes(2, "big") * 16)


THEIRS = tuple(ForeignKey(CHRONY, 0xBE8B9FF0 + i, bytes([i]) * 32) for i in range(4))
rings = st.builds(
    lambda first, count, staged: KeyRing(
        tuple(master((first + 4 * 97 * i + i) & 0xFFFF) for i in range(count)),
        (master((first + 4 * 97 * count + count) & 0xFFFF),) if staged else (),
    ),
    st.integers(0, 0xFFFF), st.integers(1, 6), st.booleans(),
)  # fmt: skip


@bounded(200)
@given(rings, st.booleans())
def test_chronyds_file_has_our_keys_in_their_places(ring: KeyRing, new: bool) -> None:
    """Four keys that count in their two lowest bits, the current one third and the staged one fourth."""
    text = foreign_keys.write_chrony(ring, () if new else THEIRS, Counter("fill"))
    assert text.startswith("NKS0\n15 0.0\n")
    keys = foreign_keys.read_chrony(text)
    assert len(keys) == 4
    assert all((b.id - a.id) % 4 == 1 for a, b in pairwise(keys))
    ours = {k.foreign(CHRONY) for k in (*ring.keys, *ring.staged)}
    assert not ring.staged or keys[3] == ring.staged[0].foreign(CHRONY)
    assert not new or keys[2] == ring.keys[-1].foreign(CHRONY)
    assert all(k in ours or k in THEIRS or k.id > 0xFFFF for k in keys)
    assert not new or sum(k in ours for k in keys) == min(len(ring.keys) + len(ring.staged), 4)
    assert foreign_keys.to_keep([k for k in keys if k in ours]) == ()


def test_chronyd_keeps_its_keys_until_ours_need_their_places() -> None:
    """It goes on to seal with its own current key until ours is current, and opens its old cookies for a while."""
    old, a, b, c = (master(i) for i in (0x7771, 0x0103, 0x0204, 0x0305))  # chronyd's next key has place 3
    stages = [KeyRing((old,), (a,)), KeyRing((old, a)), KeyRing((old, a), (b,)), KeyRing((a, b)), KeyRing((a, b, c))]
    keys: tuple[ForeignKey, ...] = THEIRS
    current = []
    for ring in stages:
        keys = foreign_keys.read_chrony(foreign_keys.write_chrony(ring, foreign_keys.to_keep(keys), Counter("fill")))
        current.append(keys[2])
    assert current == [THEIRS[2], *(k.foreign(CHRONY) for k in (a, a, b, c))]
    assert keys == (*(k.foreign(CHRONY) for k in (a, b, c)), THEIRS[2])


def test_a_staged_key_that_does_not_follow_the_current_one_is_refused() -> None:
    with pytest.raises(FormatError, match="does not follow"):
        foreign_keys.write_chrony(KeyRing((master(4),), (master(7),)), (), Counter())


@bounded(50)
@given(rings)
def test_ntpsecs_file_has_the_current_key_first_and_no_time(ring: KeyRing) -> None:
    text = foreign_keys.write_ntpsec(ring, tuple(ForeignKey(NTPSEC, 2**20 + i, bytes(32)) for i in range(9)), Counter())
    assert text.startswith("T: 0\nL: 32\n")
    keys = foreign_keys.read_ntpsec(text)
    assert len(keys) == 10
    assert keys[0] == ring.keys[-1].foreign(NTPSEC)
    assert {k.foreign(NTPSEC) for k in (*ring.keys, *ring.staged)} <= set(keys)


def test_only_keys_that_fit_beside_ours_are_kept() -> None:
    assert foreign_keys.to_keep(FOREIGN) == ()  # their identifiers might be ours
    gcm = ForeignKey(CHRONY, 2**31, bytes(16), Aead.AES_128_GCM_SIV)
    assert foreign_keys.to_keep((*THEIRS, gcm)) == THEIRS

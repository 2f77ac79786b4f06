# SPDX-License-Identifier: MIT
"""Engine and reference agree on cookies in other servers' formats: which they open, and what they give for them."""

from __future__ import annotations

import struct

import pytest

from nts.codec import cookies, foreign_keys
from nts.codec.aead import Aead, SessionKeys
from nts.codec.foreign_keys import AEADS
from nts.codec.keyring import CookieFormat, ForeignKey, KeyRing, MasterKey
from nts.protocol.ts_server import Outcome, Verdict
from nts.server import config
from testkit.engine import NATIVE
from testkit.engine_packets import ABSENT, SESSIONS, STRANGER, harmed, nts
from testkit.engine_parity import judged, judged_all, tally
from testkit.foreign_cookies import chrony_cookie, ntpsec_cookie, stretched_cookie
from testkit.packets import CURRENT_KEY, OLD_KEY, cookie_of, flipped, open_reply, session_keys

pytestmark = NATIVE
OWN, CHRONY, NTPSEC = CookieFormat
AEAD_15 = SESSIONS[Aead.AES_SIV_CMAC_256]
CHRONY_KEY = ForeignKey(CHRONY, 0xBE8B9FF9, bytes(range(200, 232)))
GCM_KEY = ForeignKey(CHRONY, 0x30CBFC9A, bytes(range(16)), Aead.AES_128_GCM_SIV)
NTPSEC_KEY = ForeignKey(NTPSEC, 3429087841, bytes(range(100, 132)))
LONG_KEY = ForeignKey(NTPSEC, 77, bytes(range(100, 164)), Aead.AES_SIV_CMAC_512)
IMPORTED = (CHRONY_KEY, GCM_KEY, NTPSEC_KEY, LONG_KEY)


def ring_of(cookie_format: CookieFormat = OWN, imported: tuple[ForeignKey, ...] = IMPORTED) -> KeyRing:
    return KeyRing((OLD_KEY, CURRENT_KEY), (ABSENT,), imported, cookie_format)


def foreign(key: ForeignKey, keys: SessionKeys, order: str = "<") -> bytes:
    make = chrony_cookie if key.format is CHRONY else lambda i, k, s: ntpsec_cookie(i, k, s, order)
    return make(key.id, key.key, keys)


def every_cookie(keys: SessionKeys) -> list[bytes]:
    """In each format that has room for these keys, of each key that there is."""
    masters = (OLD_KEY, CURRENT_KEY, ABSENT)
    ours = [cookie_of(keys, m) for m in masters]
    if keys.aead in AEADS[NTPSEC]:
        ours += [ntpsec_cookie(m.id, m.key, keys) for m in masters]
        ours += [stretched_cookie(m, keys, 20) for m in masters]
        ours += [foreign(NTPSEC_KEY, keys), foreign(NTPSEC_KEY, keys, ">")]
    if keys.aead in AEADS[CHRONY]:
        ours += [chrony_cookie(m.id, m.key, keys) for m in masters]
        ours += [stretched_cookie(m, keys, 12) for m in masters] + [foreign(CHRONY_KEY, keys)]
    return ours


def renewed(outcome: Outcome | None, keys: SessionKeys) -> tuple[bytes, ...]:
    assert outcome is not None
    assert outcome.verdict is Verdict.ANSWERED_NTS
    assert outcome.reply is not None
    return open_reply(outcome.reply, keys).cookies


@pytest.mark.parametrize("cookie_format", CookieFormat)
@pytest.mark.parametrize("aead", SESSIONS, ids=lambda a: a.name)
def test_every_cookie_is_renewed_by_the_engine_in_its_length(cookie_format: CookieFormat, aead: Aead) -> None:
    """And the new one can be opened, and has the format asked for if that is as long."""
    ring, keys = ring_of(cookie_format), SESSIONS[aead]
    made = every_cookie(keys)
    outcomes = judged_all([nts(keys, cookie=c, placeholders=2) for c in made], ring)
    for old, outcome in zip(made, outcomes, strict=True):
        if outcome is None:  # NTPsec's of a host of the other order, and none else
            assert old == foreign(NTPSEC_KEY, keys, ">")
            continue
        fresh = renewed(outcome, keys)
        assert [len(c) for c in fresh] == [len(old)] * 3
        for cookie in fresh:
            opened = cookies.opened(ring, cookie)
            assert (opened.contents, opened.key.key, opened.key_age) == ((keys,), CURRENT_KEY.key, 0)
            asked_for = {CHRONY: (aead, len(old)) in ((15, 100), (30, 68)), NTPSEC: len(old) in (104, 136, 168)}
            expected = cookie_format if asked_for.get(cookie_format) else OWN
            assert (opened.key.format if isinstance(opened.key, ForeignKey) else OWN) is expected


@pytest.mark.parametrize("cookie_format", CookieFormat)
def test_nothing_else_is_opened(cookie_format: CookieFormat) -> None:
    """Damaged cookies, those of keys that are absent, and those with a right identifier and a wrong key."""
    ring = ring_of(cookie_format, (CHRONY_KEY, NTPSEC_KEY))
    for keys in SESSIONS.values():
        strange = [chrony_cookie(STRANGER.id, STRANGER.key, keys), ntpsec_cookie(STRANGER.id, STRANGER.key, keys)]
        strange += [foreign(k, keys) for k in (GCM_KEY, LONG_KEY)] + [cookie_of(keys, MasterKey(7, bytes(32)))]
        strange += [flipped(c, 8 * at) for c in every_cookie(keys) for at in (0, 1, 2, 3, 4, 17, 20, 40, len(c) - 1)]
        seen = tally(judged_all([nts(keys, cookie=c) for c in strange], ring))
        assert set(seen) <= {"NAK_COOKIE", "HANDED_OVER"}
        assert seen["NAK_COOKIE"] > 3 * seen["HANDED_OVER"]
    judged_all(harmed([nts(AEAD_15, cookie=c) for c in every_cookie(AEAD_15)], cookie_format, 3000), ring)


def test_a_cookie_for_a_nonce_of_another_length_is_left_to_the_reference() -> None:
    other = session_keys(Aead.AES_128_GCM_SIV)
    made = [chrony_cookie(CURRENT_KEY.id, CURRENT_KEY.key, other), ntpsec_cookie(OLD_KEY.id, OLD_KEY.key, other)]
    assert judged([nts(AEAD_15, cookie=c) for c in made], ring_of()) == [None, None]


def test_keys_that_the_engine_lacks_are_left_to_the_reference() -> None:
    made = [foreign(k, AEAD_15) for k in (GCM_KEY, LONG_KEY)]
    assert judged([nts(AEAD_15, cookie=c) for c in made], ring_of()) == [None, None]
    assert tally(judged([nts(AEAD_15, cookie=c) for c in made], ring_of(imported=()))) == {"NAK_COOKIE": 2}


def test_of_two_keys_that_may_have_made_a_cookie_both_are_tried() -> None:
    """The identifier of a chronyd's key begins with that of one of ours."""
    lookalike = ForeignKey(CHRONY, CURRENT_KEY.id << 16 | 0x4041, bytes(range(1, 33)))
    ring = ring_of(imported=(lookalike,))
    for cookie in (cookie_of(AEAD_15), foreign(lookalike, AEAD_15)):
        assert cookie[:2] == struct.pack(">H", CURRENT_KEY.id)
        assert cookies.open_cookie(ring, cookie) == (AEAD_15,)
    assert cookie_of(AEAD_15)[:4] == lookalike.wire_id
    first, second = judged([nts(AEAD_15, cookie=c) for c in (cookie_of(AEAD_15), foreign(lookalike, AEAD_15))], ring)
    assert first is None
    assert renewed(second, AEAD_15)  # the foreign key is tried first, and was right


def test_imported_keys_open_nothing_without_a_key_of_ours() -> None:
    ring = KeyRing((), (), IMPORTED)
    packets = [nts(AEAD_15, cookie=foreign(k, AEAD_15)) for k in IMPORTED]
    assert tally(judged(packets, ring)) == {"NAK_COOKIE": len(packets)}


def test_key_ages() -> None:
    """A staged key counts as the oldest of ours, and an imported one as older."""
    made = [chrony_cookie(k.id, k.key, AEAD_15) for k in (CURRENT_KEY, OLD_KEY, ABSENT, CHRONY_KEY)]
    outcomes = judged([nts(AEAD_15, cookie=c) for c in made], ring_of())
    assert [o and o.key_age for o in outcomes] == [0, 1, 2, 3]


def test_the_engine_has_room_for_all_keys_that_can_be_imported() -> None:
    keys = tuple(ForeignKey(NTPSEC, i << 16 | 1, bytes(32)) for i in range(config.MAX_IMPORTS * foreign_keys.MAX_KEYS))
    ring = ring_of(imported=(NTPSEC_KEY, *keys[1:]))
    assert len(ring.imported) == 2 * len(keys)
    (outcome,) = judged([nts(AEAD_15, cookie=foreign(NTPSEC_KEY, AEAD_15))], ring)
    assert renewed(outcome, AEAD_15)

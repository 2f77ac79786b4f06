# SPDX-License-Identifier: MIT
"""Faults of the time server's replies (RFC 8915 section 5)."""

from __future__ import annotations

import os

from nts.base.registry import FieldType, Leap, Stratum
from nts.check.peer.craft import field, random_cookies
from nts.check.peer.faults.register import Expected, NtpHandler, Register
from nts.check.peer.ntp import NtpTalk

FAULTS = Register()
UID, COOKIE = FieldType.UNIQUE_IDENTIFIER, FieldType.COOKIE


def _other_uid(body: bytes | None = None) -> bytes:
    return field(UID, os.urandom(32) if body is None else body)


def _older_uid(talk: NtpTalk) -> bytes:
    older = [r for r in talk.requests[:-1] if r.is_nts]
    return older[-1].uid() if older else _other_uid()


def then_time(answer: NtpHandler) -> NtpHandler:
    """The same answer, and the genuine reply right after it."""
    return lambda t: [*answer(t), 0.05, t.time()]


def flipped(packet: bytes, index: int) -> bytes:
    """The packet with one bit of an octet inverted."""
    return packet[:index] + bytes([packet[index] ^ 1]) + packet[index + 1 :]


FAULTS.ntp(
    "5.7", "the client drops a reply without an authenticator and the request's Unique Identifier", Expected.DROP,
    ("plain-reply", "answers without NTS", lambda t: [t.header()]),
    ("crypto-nak", "answers with the four zero octets of a crypto-NAK", lambda t: [t.header() + bytes(4)]),
    ("stripped-authenticator", "answers with the right Unique Identifier and no authenticator",
     lambda t: [t.header() + t.uid()]),
    ("stripped-uid", "answers authentically without a Unique Identifier", lambda t: [t.time(uid=b"")]),
)  # fmt: skip
FAULTS.ntp(
    "5.7", "a reply holds the Unique Identifier of an outstanding request, unchanged", Expected.DROP,
    ("wrong-uid", "answers authentically with another Unique Identifier", lambda t: [t.time(uid=_other_uid())]),
    ("uid-prefix", "answers authentically with the first 28 octets of the identifier",
     lambda t: [t.time(uid=_other_uid(t.body(UID)[:28]))]),
    ("older-uid", "answers authentically with the Unique Identifier of an earlier request",
     lambda t: [t.time(uid=_older_uid(t))]),
)  # fmt: skip
FAULTS.ntp(
    "5.6", "the client drops a reply that is not authentic under the S2C key", Expected.DROP,
    ("bad-tag", "seals its reply with a random key", lambda t: [t.time(os.urandom(len(t.session_keys().s2c)))]),
    ("c2s-key", "seals its reply with the C2S key", lambda t: [t.time(t.session_keys().c2s)]),
    ("bit-flip", "changes one bit of the receive timestamp in a sealed reply", lambda t: [flipped(t.time(), 36)]),
)  # fmt: skip
FAULTS.ntp(
    "5.7", "the origin timestamp is the request's transmit timestamp (RFC 5905 section 8)", Expected.DROP,
    ("bad-origin", "answers authentically with another origin timestamp",
     lambda t: [t.time(header=t.header(origin=t.transmit ^ 1))]),
)  # fmt: skip
FAULTS.ntp(
    "5.6", "only requests need 16 octets or Additional Padding: a reply may have a shorter nonce", Expected.USE,
    ("short-nonce", "seals its reply with a nonce of 8 octets", lambda t: [t.time(nonce=os.urandom(8))]),
)  # fmt: skip
FAULTS.ntp(
    "5.7", "the client ignores unknown fields, and the packet stays valid", Expected.USE,
    ("unknown-fields", "adds unknown extension fields before, in and after the authenticator", lambda t: [
        t.time(clear=field(0xF000, bytes(24)), inside=field(0xF001, bytes(24)), after=field(0xF002, bytes(24)))]),
)  # fmt: skip

# --- kisses ----------------------------------------------------------------------------------------------------------

FAULTS.ntp(
    "5.7", "the client waits a while for a genuine reply, then runs a key exchange, not too often, and never tries"
    " plain NTP", Expected.GIVE_UP,
    ("nak", "answers every request with an NTS NAK", lambda t: [t.kiss()]),
)  # fmt: skip
FAULTS.ntp(
    "5.7", "an NTS NAK may be forged: the client uses the genuine reply, and needs no key exchange", Expected.USE,
    ("nak-then-time", "sends an NTS NAK, and the genuine reply right after it", then_time(lambda t: [t.kiss()])),
)  # fmt: skip
_KISS = "a kiss-o'-death without the Unique Identifier of an outstanding request has no effect"
FAULTS.ntp(
    "5.7", _KISS, Expected.DROP,
    ("forged-nak", "answers with an NTS NAK without a Unique Identifier", lambda t: [t.kiss(uid=b"")]),
    ("forged-nak-wrong-uid", "answers with an NTS NAK that has another Unique Identifier",
     lambda t: [t.kiss(uid=_other_uid())]),
)  # fmt: skip


def sealed_kiss(code: bytes) -> NtpHandler:
    """An authentic kiss-o'-death."""
    return lambda t: [t.time(header=t.header(leap=Leap.UNSYNCHRONISED, stratum=Stratum.KISS, reference=code))]


def forged_kiss(code: bytes) -> NtpHandler:
    """An unprotected kiss-o'-death, and the genuine reply right after it."""
    return then_time(lambda t: [t.kiss(code, uid=b"")])


for _code, _obey in (("RATE", "polls less often"), ("DENY", "stops polling"), ("RSTR", "stops polling")):
    FAULTS.ntp(
        "RFC 5905 section 7.4", f"a kiss-o'-death brings no time, and the client {_obey}", Expected.GIVE_UP,
        (f"kiss-{_code.lower()}", f"answers with an authentic kiss-o'-death {_code}", sealed_kiss(_code.encode())),
    )  # fmt: skip
    FAULTS.ntp(
        "5.7", _KISS, Expected.USE,
        (f"forged-{_code.lower()}", f"sends an unprotected kiss-o'-death {_code}, then the genuine reply",
         forged_kiss(_code.encode())),
    )  # fmt: skip

# --- cookies ---------------------------------------------------------------------------------------------------------


def clear_cookies(talk: NtpTalk) -> bytes:
    return b"".join(field(COOKIE, c) for c in random_cookies(2, len(talk.body(COOKIE))))


def of_lengths(*lengths: int) -> NtpHandler:
    """An answer that is a genuine reply with cookies of these lengths."""
    return lambda t: [t.time(cookies=t.odd_cookies(*lengths))]


FAULTS.ntp(
    "5.7", "the client keeps only encrypted cookies", Expected.USE,
    ("clear-cookies", "puts cookies in clear before the authenticator, in addition to the encrypted ones",
     lambda t: [t.time(clear=clear_cookies(t))]),
)  # fmt: skip
FAULTS.ntp(
    "5.7", "the client discards what comes after the authenticator, and the packet stays valid", Expected.USE,
    ("trailing-cookies", "puts cookies after the authenticator, in addition to the encrypted ones",
     lambda t: [t.time(after=clear_cookies(t))]),
)  # fmt: skip
_COOKIES = "a client keeps up to eight cookies of any length, and sends no packet over 1280 octets"
FAULTS.ntp(
    "5.7", _COOKIES, Expected.SURVIVE,
    ("reply-without-cookies", "sends no cookies with its replies", of_lengths()),
    ("twenty-cookies", "sends 20 cookies with each reply", lambda t: [t.time(cookies=t.fresh_cookies(20))]),
    ("cookie-length-change", "sends cookies of 1000 octets with its replies", of_lengths(1000)),
    ("mixed-cookie-lengths", "sends cookies of 15, 100, 101 and 256 octets with each reply",
     of_lengths(15, 100, 101, 256)),
)  # fmt: skip
FAULTS.ntp(
    "5.7", _COOKIES, Expected.SURVIVE,  # a server must not send more than are asked for
    ("nine-cookies", "sends nine cookies with each reply, one more than clients may keep",
     lambda t: [t.time(cookies=t.fresh_cookies(9))]),
)  # fmt: skip
FAULTS.ntp(
    "5.7", "the client uses a reply once, and only for the request it answers", Expected.USE,
    ("replay", "sends each genuine reply twice, and the eight before it again",
     lambda t: [*t.peer.sent[-8:], *[t.time()] * 2]),
)  # fmt: skip
FAULTS.ntp(
    "5.7", "the client spends each cookie once, asks for more with placeholders, and never falls back to plain NTP",
    Expected.GIVE_UP, ("ntp-silence", "never answers", lambda _t: []),
)  # fmt: skip
FAULTS.ntp(
    "RFC 5905 section 9.2", "such a server has no time to give", Expected.GIVE_UP,
    ("unsynchronised", "answers authentically that its clock is not synchronised",
     lambda t: [t.time(header=t.header(leap=Leap.UNSYNCHRONISED, stratum=Stratum.UNSYNCHRONISED))]),
)  # fmt: skip

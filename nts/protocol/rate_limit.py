# SPDX-License-Identifier: MIT
"""How many requests a prefix may send: a token bucket for each, in a table of fixed size.

A request that is to get a reply takes a token from the bucket of its prefix; a NAK costs one too. Authenticated
requests are exempt unless `Limit.nts` is set. Without a token there is no reply, except that every 8 seconds a prefix
gets a kiss-o'-death with code RATE (RFC 5905 section 7.4). There is none in place of a NAK.

A bucket is a time: when it will have all its tokens again, as far ahead as tokens are missing. The table keeps the
buckets in sets, and a new prefix takes the place of the fullest bucket of its set. engine/limit.c does the same.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from operator import mul

from nts.protocol.ts_server import Verdict

SETS_LOG2 = 13
WAYS = 4
KISS_INTERVAL = 8_000_000_000
NS = 1_000_000_000
_REPLIES = (Verdict.ANSWERED_PLAIN, Verdict.ANSWERED_NTS, Verdict.NAK_COOKIE, Verdict.NAK_AUTH)
_MULTIPLIERS = struct.Struct("=5Q")
_IPV4_MAPPED = 0xFFFF << 32


def prefix_of(address: bytes, prefix4: int, prefix6: int) -> int:
    """The first bits of an address of 4 or 16 octets, as an address in IPv6 with zeros behind them."""
    number, bits = int.from_bytes(address, "big"), prefix6
    if len(address) == 4:
        number, bits = _IPV4_MAPPED | number, 96 + prefix4
    return number >> (128 - bits) << (128 - bits)


@dataclass(frozen=True)
class Limit:
    """What a prefix may send."""

    rate: int
    """requests per second; 0: as many as it likes"""
    burst: int = 16
    """requests at once after a pause"""
    prefix4: int = 32
    """bits of an IPv4 address"""
    prefix6: int = 64
    nts: bool = False
    """whether authenticated requests count too"""


@dataclass
class _Bucket:
    prefix: int
    full_at: int = 0
    next_kiss: int = 0


class RateLimiter:
    """Applies a limit, whose rate is not 0. Times are in ns by a clock that is never set; it must be past 0."""

    def __init__(self, limit: Limit, random: Callable[[int], bytes]) -> None:
        self._limit = limit
        self._interval = NS // limit.rate
        self._multipliers: tuple[int, ...] = _MULTIPLIERS.unpack(random(_MULTIPLIERS.size))
        self._sets: dict[int, list[_Bucket]] = {}

    def judge(self, verdict: Verdict, address: bytes, now: int) -> Verdict:
        """What becomes of a request with this verdict from this address: the same, KISS_RATE or DROP_RATE."""
        if verdict not in _REPLIES or (verdict is Verdict.ANSWERED_NTS and not self._limit.nts):
            return verdict
        bucket = self._bucket(prefix_of(address, self._limit.prefix4, self._limit.prefix6))
        bucket.full_at = max(bucket.full_at, now)
        if bucket.full_at - now <= (self._limit.burst - 1) * self._interval:
            bucket.full_at += self._interval
            return verdict
        if verdict in (Verdict.NAK_COOKIE, Verdict.NAK_AUTH) or now < bucket.next_kiss:
            return Verdict.DROP_RATE
        bucket.next_kiss = now + KISS_INTERVAL
        return Verdict.KISS_RATE

    def _bucket(self, prefix: int) -> _Bucket:
        """The prefix's bucket, which may be a new one in place of the fullest of its set."""
        found = self._sets.setdefault(self._set_of(prefix), [])
        for bucket in found:
            if bucket.prefix == prefix:
                return bucket
        fresh = _Bucket(prefix)
        if len(found) < WAYS:
            found.append(fresh)
        else:
            found[found.index(min(found, key=lambda b: b.full_at))] = fresh
        return fresh

    def _set_of(self, prefix: int) -> int:
        """Multiply-shift hashing: who does not know the multipliers cannot choose prefixes that share a set."""
        *factors, summand = self._multipliers
        words = struct.unpack(">4I", prefix.to_bytes(16, "big"))
        total: int = sum(map(mul, factors, words), summand)
        return total % 2**64 >> (64 - SETS_LOG2)

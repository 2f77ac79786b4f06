# SPDX-License-Identifier: MIT
"""The NTP header and its number formats, over the end of the era in 2036 (RFC 5905 sections 6 and 7.3)."""

from __future__ import annotations

import calendar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import FormatError
from nts.codec import ntp
from nts.codec.ntp import NS, Header
from testkit.packets import bounded

U32, U64, I8 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(-128, 127)
HEADERS = st.builds(
    Header, st.integers(0, 3), st.integers(0, 7), st.integers(0, 7), st.integers(0, 255), I8, I8, U32, U32,
    st.binary(min_size=4, max_size=4), U64, U64, U64, U64,
)  # fmt: skip


def at(*date: int) -> int:
    """Nanoseconds since 1970 of a date in UTC."""
    return calendar.timegm((*date, 0, 0, 0)) * NS


@given(HEADERS)
@bounded(200)
def test_headers_round_trip(header: Header) -> None:
    octets = header.encode()
    assert len(octets) == ntp.HEADER_LENGTH == 48
    assert Header.decode(octets) == header
    assert Header.decode(octets + b"more") == header


@given(st.binary(min_size=48, max_size=48))
@bounded(100)
def test_any_48_octets_are_a_header_and_come_back(octets: bytes) -> None:
    assert Header.decode(octets).encode() == octets


def test_a_header_on_the_wire() -> None:
    header = Header(3, 4, 4, 2, 6, -23, 1, 2, b"NTSN", 3, 4, 5, 6)
    words = [0x3, 0x4, 0x5, 0x6]
    assert header.encode().hex() == "e40206e9" + "00000001" + "00000002" + b"NTSN".hex() + "".join(
        f"{w:016x}" for w in words
    )


@pytest.mark.parametrize("size", [0, 1, 47])
def test_less_than_a_header_is_refused(size: int) -> None:
    """B05."""
    with pytest.raises(FormatError, match=f"packet of {size} octet"):
        Header.decode(bytes(size))


@pytest.mark.parametrize(
    ("date", "stamp"),
    [
        (at(1970, 1, 1), 2_208_988_800 << 32),
        (at(2036, 2, 7, 6, 28, 15), 0xFFFFFFFF << 32),
        (at(2036, 2, 7, 6, 28, 16), 0),
        (at(2036, 2, 7, 6, 28, 17), 1 << 32),
        (at(1970, 1, 1) + NS // 2, (2_208_988_800 << 32) + (1 << 31)),
        (at(1970, 1, 1) + 1, (2_208_988_800 << 32) + 4),
    ],
)
def test_timestamps_of_known_dates(date: int, stamp: int) -> None:
    assert ntp.timestamp(date) == stamp
    assert ntp.unix_ns(stamp, date) == date


TIMES = st.integers(at(1970, 1, 1), at(2200, 1, 1))


@given(TIMES)
@bounded(300)
def test_a_time_survives_the_way_through_a_timestamp(time: int) -> None:
    assert 0 <= ntp.timestamp(time) < 2**64
    assert ntp.unix_ns(ntp.timestamp(time), time) == time


@given(TIMES, st.integers(-(2**31) * NS + NS, 2**31 * NS - NS))
@bounded(300)
def test_the_era_is_the_one_nearest_to_our_own_time(time: int, ahead: int) -> None:
    """Up to 68 years between the two clocks."""
    assert ntp.unix_ns(ntp.timestamp(time), time + ahead) == time


@pytest.mark.parametrize(("here", "there"), [((2036, 2, 7, 6, 28, 10), (2036, 2, 7, 6, 28, 20))])
def test_clocks_on_both_sides_of_the_era_change_agree(here: tuple[int, ...], there: tuple[int, ...]) -> None:
    assert ntp.unix_ns(ntp.timestamp(at(*there)), at(*here)) == at(*there)
    assert ntp.unix_ns(ntp.timestamp(at(*here)), at(*there)) == at(*here)


@pytest.mark.parametrize(
    ("ns", "short"),
    [(0, 0), (1, 1), (NS, 1 << 16), (NS // 2, 1 << 15), (15_259, 2), (65_536 * NS, 2**32 - 1), (10**18, 2**32 - 1)],
)
def test_short_values_are_rounded_up_and_saturate(ns: int, short: int) -> None:
    assert ntp.short_from_ns(ns) == short


@given(U32)
@bounded(100)
def test_short_values_come_back_within_their_resolution(short: int) -> None:
    assert short - 1 <= ntp.short_from_ns(ntp.short_to_ns(short)) <= short

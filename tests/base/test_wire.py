# SPDX-License-Identifier: MIT
"""The cursor that all parsers read with: exactly what was asked for, or FormatError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import FormatError
from nts.base.wire import Reader, pad4, u16
from testkit.packets import bounded


@given(st.binary(max_size=40), st.lists(st.integers(0, 12), max_size=8))
@bounded(200)
def test_reads_give_consecutive_octets_or_raise_and_stay(data: bytes, counts: list[int]) -> None:
    reader, position = Reader(data), 0
    for count in counts:
        if position + count > len(data):
            with pytest.raises(FormatError):
                reader.take(count)
        else:
            assert reader.take(count) == data[position : position + count]
            position += count
        assert reader.position == position
        assert reader.remaining == len(data) - position
    assert reader.rest() == data[position:]


def test_an_overrun_says_where() -> None:
    reader = Reader(b"abc")
    reader.take(2)
    with pytest.raises(FormatError, match="2 octets expected at offset 2, 1 left"):
        reader.u16()


@given(st.lists(st.integers(0, 0xFFFF), max_size=20))
@bounded(50)
def test_u16_lists_round_trip(values: list[int]) -> None:
    data = b"".join(map(u16, values))
    assert Reader(data).u16_list() == values
    with pytest.raises(FormatError, match="odd length"):
        Reader(data + b"\0").u16_list()


@pytest.mark.parametrize(("data", "padded"), [(b"", b""), (b"a", b"a\0\0\0"), (b"abc", b"abc\0"), (b"abcd", b"abcd")])
def test_padding_adds_zeros_up_to_a_multiple_of_four(data: bytes, padded: bytes) -> None:
    assert pad4(data) == padded

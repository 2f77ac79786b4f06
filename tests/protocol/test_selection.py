# SPDX-License-Identifier: MIT
"""The intersection algorithm of RFC 5905 section 11.2.1: what it guarantees, for whatever servers say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.protocol.selection import Interval, Majority, majority

offsets = st.integers(-1000, 1000)
intervals = st.lists(st.builds(Interval, offsets, st.integers(0, 300)), max_size=9)


def holds(interval: Interval, point: int) -> bool:
    return interval.low <= point <= interval.high


def slow_majority(made: list[Interval]) -> Majority | None:
    """The definition: the most servers, more than half, that have a point in common; all such points."""
    points = {p for i in made for p in (i.low, i.high)}
    support = {p: sum(holds(i, p) for i in made) for p in points}
    most = max(support.values(), default=0)
    best = [p for p in points if support[p] == most]
    return Majority(min(best), max(best)) if 2 * most > len(made) else None


@st.composite
def some_liars(draw: st.DrawFn) -> tuple[int, list[Interval], list[Interval]]:
    """The true offset, honest servers whose intervals hold it, and fewer liars."""
    true = draw(offsets)
    errors = draw(st.lists(st.integers(-200, 200), min_size=2, max_size=5))
    honest = [Interval(true + e, abs(e) + 5) for e in errors]
    liars = draw(st.lists(st.builds(Interval, offsets, st.integers(0, 300)), max_size=len(honest) - 1))
    return true, honest, liars


@given(intervals)
def test_it_finds_what_the_definition_says(made: list[Interval]) -> None:
    assert majority(made) == slow_majority(made)


@given(intervals.filter(lambda made: majority(made) is not None))
def test_a_majority_agrees_with_the_majority(made: list[Interval]) -> None:
    agreed = majority(made)
    assert agreed is not None
    assert agreed.low <= agreed.high
    assert 2 * sum(agreed.contradicts(i) for i in made) < len(made)


@given(some_liars())
def test_honest_servers_always_find_a_majority(case: tuple[int, list[Interval], list[Interval]]) -> None:
    _, honest, liars = case
    assert majority([*honest, *liars]) is not None


@given(some_liars())
def test_where_nobody_lies_the_truth_is_found_and_nobody_accused(
    case: tuple[int, list[Interval], list[Interval]],
) -> None:
    true, honest, _ = case
    agreed = majority(honest)
    assert agreed is not None
    assert agreed.low <= true <= agreed.high
    assert not any(map(agreed.contradicts, honest))


@given(some_liars(), st.data())
def test_liars_who_are_far_off_are_named_and_nobody_else(
    case: tuple[int, list[Interval], list[Interval]], data: st.DataObject
) -> None:
    true, honest, liars = case
    liars = [Interval(i.offset + 10_000 * rank, i.error) for rank, i in enumerate(liars, 1)]  # they do not conspire
    agreed = majority(data.draw(st.permutations([*honest, *liars])))
    assert agreed is not None
    assert agreed.low <= true <= agreed.high
    assert all(map(agreed.contradicts, liars))
    assert not any(map(agreed.contradicts, honest))


@given(intervals, st.integers(-5000, 5000), st.data())
def test_neither_their_order_nor_our_own_offset_matters(made: list[Interval], shift: int, data: st.DataObject) -> None:
    before, mixed = majority(made), data.draw(st.permutations(made))
    after = majority([Interval(i.offset + shift, i.error) for i in mixed])
    assert after == (before and Majority(before.low + shift, before.high + shift))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ([], None),
        ([Interval(7, 2)], Majority(5, 9)),
        ([Interval(0, 5), Interval(20, 5)], None),
        ([Interval(0, 5), Interval(10, 5)], Majority(5, 5)),
        ([Interval(0, 5), Interval(20, 5), Interval(40, 5)], None),
        ([Interval(0, 5), Interval(2, 5), Interval(2000, 5)], Majority(-3, 5)),
        ([Interval(0, 5), Interval(100, 120), Interval(2000, 5)], Majority(-5, 5)),  # one of them is far away
        ([Interval(0, 1), Interval(1, 1), Interval(9, 1), Interval(10, 1)], None),
    ],
)
def test_some_cases(made: list[Interval], expected: Majority | None) -> None:
    assert majority(made) == expected

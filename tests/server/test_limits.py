# SPDX-License-Identifier: MIT
"""Who gives way when a worker of the NTS-KE server has too many connections."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.server.config import KeConfig, load
from nts.server.limits import Limits, Prefix
from testkit.packets import bounded
from testkit.processes import ROOT

SHIPPED = load(ROOT / "server.ini").ntske


def limits(**options: int) -> Limits[object]:
    config: KeConfig = replace(SHIPPED, **options)  # type: ignore[arg-type]
    return Limits(config)


SAME = [
    ("192.0.2.1", "192.0.2.1"), ("192.0.2.1", "::ffff:192.0.2.1"), ("2001:db8::1", "2001:db8::ffff:1"),
    ("fe80::1%eth0", "fe80::2%lo"),
]  # fmt: skip
DIFFERENT = [("192.0.2.1", "192.0.2.2"), ("2001:db8:0:1::1", "2001:db8:0:2::1"), ("0.0.0.1", "::1"), ("::", "0.0.0.0")]


@pytest.mark.parametrize(("one", "other", "same"), [(*p, True) for p in SAME] + [(*p, False) for p in DIFFERENT])
def test_prefixes_of_addresses(one: str, other: str, same: bool) -> None:
    """32 bits of IPv4 and 64 of IPv6, as shipped; a mapped IPv4 address is one of IPv4."""
    held = limits()
    assert (held.prefix(one) == held.prefix(other)) is same


def test_prefix_lengths_are_configurable() -> None:
    held = limits(prefix4=24, prefix6=48)
    assert held.prefix("192.0.2.1") == held.prefix("::ffff:192.0.2.200") != held.prefix("192.0.3.1")
    assert held.prefix("2001:db8:1:2::1") == held.prefix("2001:db8:1:3::1") != held.prefix("2001:db8:2:2::1")


def test_the_busiest_prefix_gives_way_and_its_oldest_first() -> None:
    held = limits(max_sessions=5)
    quiet, busy = held.prefix("192.0.2.1"), held.prefix("192.0.2.2")
    assert held.add(quiet, "old") is None
    assert all(held.add(busy, n) is None for n in range(4))
    for n in range(10):
        surplus = held.add(busy, 4 + n)
        assert surplus == n
        held.remove(busy, surplus)
    assert held.add(quiet, "new") == 10
    held.remove(busy, 10)
    assert held.first_to_go() == 11


def test_among_equals_the_oldest_gives_way() -> None:
    held = limits(max_sessions=3)
    prefixes = [held.prefix(f"192.0.2.{n}") for n in range(4)]
    assert [held.add(prefix, n) for n, prefix in enumerate(prefixes)] == [None, None, None, 0]


def test_a_prefix_alone_gets_no_more_than_its_share() -> None:
    held = limits(max_sessions=100, max_per_prefix=3)
    prefix = held.prefix("192.0.2.1")
    assert [held.add(prefix, n) for n in range(4)] == [None, None, None, 0]
    assert held.add(held.prefix("192.0.2.2"), "another") is None


def test_no_connection_no_way_to_give() -> None:
    held = limits()
    assert held.first_to_go() is None
    prefix = held.prefix("192.0.2.1")
    held.add(prefix, 1)
    held.remove(prefix, 1)
    assert held.first_to_go() is None


def test_rate_is_by_prefix_and_second() -> None:
    held = limits(rate_per_prefix=3)
    one, other = held.prefix("192.0.2.1"), held.prefix("192.0.2.2")
    assert [held.admits(one, 7.1 + n / 10) for n in range(5)] == [True, True, True, False, False]
    assert held.admits(other, 7.6)
    assert held.admits(one, 8.0)


def test_without_a_rate_all_are_admitted() -> None:
    held = limits(rate_per_prefix=0)
    assert all(held.admits(held.prefix("192.0.2.1"), 1.0) for _ in range(10_000))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=200), st.integers(1, 20), st.integers(1, 20))
@bounded(200)
def test_the_bounds_hold_whatever_happens(moves: list[tuple[int, bool]], most: int, share: int) -> None:
    """And nobody with fewer connections than another gives way for a newcomer."""
    held = limits(max_sessions=most, max_per_prefix=share)
    open_: dict[int, Prefix] = {}  # number: prefix
    for number, (client, closes) in enumerate(moves):
        prefix = held.prefix(f"192.0.2.{client}")
        mine = [n for n, p in open_.items() if p == prefix]
        if closes and mine:
            held.remove(prefix, mine[0])
            del open_[mine[0]]
            continue
        open_[number] = prefix
        surplus = held.add(prefix, number)
        if surplus is not None:
            assert isinstance(surplus, int)
            counts = [list(open_.values()).count(p) for p in open_.values()]
            own = list(open_.values()).count(open_[surplus])
            assert surplus != number
            assert own == max(counts) or (open_[surplus] == prefix and own > share)
            assert surplus == min(n for n, p in open_.items() if p == open_[surplus])
            held.remove(open_.pop(surplus), surplus)
        assert len(open_) <= most
        assert max(list(open_.values()).count(p) for p in open_.values()) <= share

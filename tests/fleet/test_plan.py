# SPDX-License-Identifier: MIT
"""The plan and its rules one by one; how it is sealed, and what becomes of values that were tampered with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nts.base.errors import ConfigError, FormatError
from nts.codec.keyring import MasterKey
from nts.fleet import envelope, plan, steps
from nts.fleet.envelope import NotOurs, Wrapping, WrappingKey
from nts.fleet.fleet import MEMBERS, Fleet
from nts.fleet.folder import Folder
from nts.fleet.plan import Ack, Phase, Plan
from nts.fleet.store import Item

A, B, C, D = (MasterKey(n, bytes([n]) * 32) for n in range(1, 5))
WRAPPING = Wrapping("/nts/", (WrappingKey(b"w" * 32), WrappingKey(b"x" * 32)))


def fleet(*keys: MasterKey, spread: int | None = None, max_keys: int = 4) -> Plan:
    return steps.join(steps.create("f", 10, max_keys, spread, keys or (A,)), "a", "t")


def held(of: Plan) -> dict[str, Ack]:
    """Every member has acknowledged it."""
    return {name: Ack(token, of.version, of.holds) for name, token in of.members}


def phases(of: Plan) -> str:
    return " ".join(f"{k.name}:{k.phase.value}:{k.until}" for k in of.keys)


# --- rules ------------------------------------------------------------------------------------------------------------


def test_a_rotation_step_by_step() -> None:
    now = steps.stage(fleet(), B, 0)
    assert steps.next_step(now, {}, 5) is None
    seen = [phases(now)]
    for clock in (5, 7, 18, 19):
        after = steps.next_step(now, held(now), clock)
        if after is not None:
            now = after
            seen.append(f"{clock} {now.version} {phases(now)}")
    assert seen == [
        "0001:active:None 0002:staged:None",
        "5 3 0001:old:None 0002:active:None",
        "7 3 0001:old:19 0002:active:None",
        "19 4 0002:active:None",
    ]
    assert steps.next_step(now, held(now), 1000) is None


def test_every_member_counts_from_the_moment_it_joins_and_by_its_own_token() -> None:
    now = steps.stage(fleet(), B, 0)
    acks = held(now)
    joined = steps.join(now, "b", "u")
    assert joined.version == now.version, "the others need not acknowledge anew"
    assert steps.lagging(joined, acks) == ["b"]
    assert steps.next_step(joined, acks, 0) is None
    for ack in (Ack("of another joining", 2, now.holds), Ack("u", 1, now.holds), Ack("u", 2, ("0001 active",))):
        assert steps.next_step(joined, {**acks, "b": ack}, 0) is None
    assert steps.next_step(joined, {**acks, "b": Ack("u", now.version, now.holds)}, 0) is not None
    assert steps.next_step(steps.leave(joined, "b"), acks, 0) is not None


def test_who_still_holds_a_revoked_key_does_not_depend_on_what_the_leader_does_next() -> None:
    before = steps.stage(fleet(), B, 0)
    token = before.tokens["a"]
    revoked = steps.revoke(before, "0001", C, 0)
    gone, later = (
        Ack(token, revoked.version, revoked.holds),
        Ack(token, revoked.version + 1, ("0003 old", "0002 active")),
    )
    assert steps.holding(revoked, {"a": gone}, "0001") == steps.holding(revoked, {"a": later}, "0001") == []
    another_plan = Ack(token, revoked.version, ("0001 active",))
    for ack in (Ack(token, before.version, before.holds), another_plan, Ack("of another joining", 9, revoked.holds)):
        assert steps.holding(revoked, {"a": ack}, "0001") == ["a"]
    assert steps.holding(revoked, {}, "0001") == ["a"]


def test_by_time_the_leader_counts_from_when_it_first_sees_a_version() -> None:
    now = steps.stage(fleet(spread=5), B, 0)
    seen = steps.next_step(now, {}, 100)
    assert seen is not None
    assert (seen.seen, seen.version) == (100, now.version)
    assert steps.next_step(seen, {}, 104) is None
    active = steps.next_step(seen, {}, 105)
    assert active is not None
    assert active.active.master == B
    assert active.seen is None


def test_a_key_is_staged_when_there_is_room_and_due_by_the_age_of_the_active_one() -> None:
    now = fleet(A, B, C)
    assert steps.is_due(now, 10, 10)
    assert not steps.is_due(now, 9, 10)
    staged = steps.stage(now, D, 3)
    assert not steps.is_due(staged, 100, 10)
    with pytest.raises(steps.NotNow, match="0004 is staged already"):
        steps.stage(staged, D, 3)
    with pytest.raises(steps.NotNow, match="there are 3 keys"):
        steps.stage(fleet(A, B, C, max_keys=3), D, 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0001", "0002:active:None 0003:staged:None"),
        ("0002", "0001:old:None 0004:active:None 0003:staged:None"),
        ("0003", "0001:old:None 0002:active:None"),
    ],
)
def test_a_revoked_key_goes_and_an_active_one_is_replaced(name: str, expected: str) -> None:
    now = steps.stage(fleet(A, B), C, 0)
    after = steps.revoke(now, name, D, 4)
    assert phases(after) == expected
    assert after.version == now.version + 1


def test_who_asks_for_what_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="no key ffff"):
        steps.revoke(fleet(), "ffff", B, 0)
    with pytest.raises(ConfigError, match="b is no member"):
        steps.leave(fleet(), "b")


def test_a_member_takes_no_older_plan_no_other_one_of_the_same_version_and_none_of_another_fleet() -> None:
    old = fleet()
    now = steps.stage(old, B, 0)
    steps.accept(None, old)
    steps.accept(old, now)
    steps.accept(now, steps.join(now, "b", "u"))
    for found, why in (
        (old, "version 1 of the plan, this member has carried out 2"),
        (steps.stage(old, C, 0), "two plans of version 2"),
        (replace(now, fleet="g", version=9), "plan of another fleet, g"),
    ):
        with pytest.raises(steps.GoneBack, match=why):
            steps.accept(now, found)
    with pytest.raises(steps.GoneBack, match="a plan of version 2 from before members joined or left"):
        steps.accept(steps.leave(steps.join(now, "b", "u"), "b"), now)


# --- in the store -----------------------------------------------------------------------------------------------------


def test_a_plan_comes_back_as_it_was_and_shows_no_key() -> None:
    now = steps.stage(fleet(A, B, spread=7), C, 5)
    public, secret, members = plan.encode_plan(now)
    assert plan.decode_plan(public, secret, members) == now
    for key in (A, B, C):
        assert key.key.hex() not in public
        assert key.key.hex() not in repr(now)
        assert repr(key.key) not in repr(now)
    ack = Ack("t", 3, ("0001 active",), ("abcd",), 99)
    assert plan.decode_ack(plan.encode_ack(ack)) == ack
    assert plan.decode_clock("12") == 12


@pytest.mark.parametrize("public", ["", "[]", "{}", "null", '{"keys": [["1", "staged", 0, null]]}', "x"])
def test_what_is_no_plan_is_a_format_error(public: str) -> None:
    with pytest.raises(FormatError, match="plan in the store"):
        plan.decode_plan(public, bytes(32), b"{}")


def test_a_plan_without_an_active_key_is_none() -> None:
    public, secret, members = plan.encode_plan(fleet())
    for phase in (Phase.OLD, Phase.STAGED):
        with pytest.raises(FormatError):
            plan.decode_plan(public.replace("active", phase.value), secret, members)


class Interrupted(Folder):
    """A store in which something happens before each look."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 2)
        self.before: list[Callable[[], object]] = []

    def read(self, prefix: str, since: int = 0) -> dict[str, Item]:
        if self.before:
            self.before.pop(0)()
        return super().read(prefix, since)


def test_plan_and_members_are_those_of_one_moment_or_read_again(tmp_path: Path) -> None:
    store = Interrupted(tmp_path)
    reader, writer = (Fleet(s, lambda: WRAPPING, os.urandom) for s in (store, Folder(tmp_path, 2)))
    assert writer.create(fleet())

    def joins(name: str) -> Callable[[], object]:
        return lambda: writer.change(lambda p: steps.join(p, name, "u"))

    def rotates() -> object:
        return writer.change(lambda p: steps.stage(p, B, 0))

    store.before = [joins("b"), joins("c"), joins("d"), rotates]
    assert reader.shared().plan == writer.shared().plan
    assert not store.before
    kept = reader.shared().value
    assert Fleet(store, lambda: WRAPPING, os.urandom).recall(kept) == reader.shared().plan


def test_a_list_of_members_that_is_lost_or_changed_is_noticed_by_who_needs_it(tmp_path: Path) -> None:
    store = Folder(tmp_path, 2)
    one, other = (Fleet(store, lambda: WRAPPING, os.urandom) for _ in range(2))
    assert one.create(fleet())
    now = one.shared().plan
    for spoilt in (None, b"{}", b'{"a": "t", "b": "u"}'):
        store.write({MEMBERS: spoilt}, {})
        with pytest.raises(plan.OtherMembers, match="not the one that the plan names"):
            other.shared()
        assert one.shared().plan == now, "it has the list already"
    one.change(lambda p: steps.stage(p, B, 0))
    assert other.shared().plan == one.shared().plan, "every change writes it anew"


@pytest.mark.parametrize("text", ["", "{}", "[1]", "x"])
def test_what_is_no_acknowledgement_or_clock_is_a_format_error(text: str) -> None:
    with pytest.raises(FormatError):
        plan.decode_ack(text)
    with pytest.raises(FormatError):
        plan.decode_clock(text)


def test_either_wrapping_key_opens_what_it_sealed() -> None:
    for wrap in WRAPPING.ids:
        value = WRAPPING.seal("n", "public", b"secret", os.urandom, wrap)
        assert WRAPPING.open("n", value) == ("public", b"secret")
        assert envelope.wrap_of(value) == wrap
        assert b"secret" not in value
    assert "w" * 8 not in repr(WRAPPING)


@pytest.mark.parametrize("place", range(0, 90, 3))
def test_an_octet_that_was_changed_is_found(place: int) -> None:
    value = bytearray(WRAPPING.seal("n", '{"version": 1}', b"secret", lambda n: bytes(n), WRAPPING.ids[0]))
    value[place % len(value)] ^= 1
    with pytest.raises(NotOurs):
        WRAPPING.open("n", bytes(value))


@pytest.mark.parametrize("value", [b"", b"\n", b"a\nb\n", b"a\nb c d\n", b"\xff\n\xff \xff \xff\n"])
def test_what_nobody_sealed_is_not_ours(value: bytes) -> None:
    with pytest.raises(NotOurs):
        WRAPPING.open("n", value)
    envelope.wrap_of(value)


def test_a_value_is_good_under_its_own_name_fleet_and_key_only() -> None:
    value = WRAPPING.seal("n", "public", b"secret", os.urandom, WRAPPING.ids[1])
    others = (
        ("m", WRAPPING),
        ("n", replace(WRAPPING, prefix="/other/")),
        ("n", replace(WRAPPING, keys=(WrappingKey(b"y" * 32),))),
        ("n", replace(WRAPPING, keys=WRAPPING.keys[:1])),
    )
    for name, wrapping in others:
        with pytest.raises(NotOurs):
            wrapping.open(name, value)
    with pytest.raises(NotOurs):
        WRAPPING.open("n", value + b"more")


def test_the_file_of_wrapping_keys() -> None:
    read = envelope.parse(f"{'0A' * 32}\n{'0b' * 32}\n", "/nts/", "f")
    assert [k.key for k in read.keys] == [b"\x0a" * 32, b"\x0b" * 32]
    for text in ("", "00", f"{'0a' * 32} x", "zz" * 32):
        with pytest.raises(ConfigError, match="f does not hold lines of 64 hexadecimal digits"):
            envelope.parse(text, "/nts/", "f")


def test_the_public_part_tells_operators_what_it_is() -> None:
    value = WRAPPING.seal("n", plan.encode_plan(fleet())[0], b"", os.urandom, WRAPPING.ids[0])
    assert json.loads(value.partition(b"\n")[0])["keys"] == [["0001", "active", 0, None]]

# SPDX-License-Identifier: MIT
"""The two promises of docs/fleet.md, for every order of messages, losses, crashes and changes of leader.

A small explicit-state checker: it runs the real functions of nts.fleet.steps from every state that can be reached,
with two members, one that joins, leaves and comes back, and two that would lead. Whatever takes time in reality is two
events here, between which anything else may happen: to decide and to commit, to read a plan and to carry it out, to
carry it out and to acknowledge it. A message that is lost, or a process that dies, is an event that never comes.

The list of members lies beside the plan in the store, and is read after it. That is one event here: the plan has the
list's digest, so who reads them has both as of one moment, or reads again (test_plan.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import pytest

from nts.codec.keyring import MasterKey
from nts.fleet import steps
from nts.fleet.plan import Ack, Plan

LIFE = 1
PROMISED = LIFE + steps.MARGIN  # ticks
KEYS = [MasterKey(n, bytes([n]) * 32) for n in range(4)]
NOTHING = -1


class Member(NamedTuple):
    """A host. Plans are numbers here, see `number`."""

    name: str
    held: int
    inbox: int
    """read, and not yet carried out"""
    serves: bool


class Leader(NamedTuple):
    """A process that believes it leads. What it wants to write may be out of date."""

    clock: int
    read: int
    wants: int


class State(NamedTuple):
    """What is in the store, in each process, and under way."""

    plan: int
    acks: tuple[tuple[str, str, int], ...]
    """member, token and plan"""
    clock: int
    lease: int
    """which process holds it"""
    leaders: tuple[Leader | None, ...]
    members: tuple[Member, ...]
    ages: tuple[tuple[int, int], ...]
    """of the youngest cookie of each key, up to PROMISED"""
    out_for: int
    """ticks since this version was written, up to `spread`"""
    staged: int
    joined: int
    backup: tuple[int, tuple[tuple[str, str, int], ...], int] | None = None
    """of plan, acks and clock"""
    restored: int = 0


class Bounds(NamedTuple):
    """How far the checker goes."""

    ticks: int
    rotations: int
    joinings: int = 0
    spread: int | None = None
    leaders: int = 2
    members: str = "ab"
    restores: int = 0


class Model:
    """One run of the checker."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.plans: list[Plan] = []
        self.numbers: dict[Plan, int] = {}
        self.next_step, self.accepts, self.keys = cache(self._next_step), cache(self._accepts), cache(self._keys)

    def number(self, plan: Plan) -> int:
        """The same number for equal plans, without the times that decide nothing here: fewer states."""
        bare = replace(plan, keys=tuple(replace(k, since=0) for k in plan.keys))
        if bare not in self.numbers:
            self.numbers[bare] = len(self.plans)
            self.plans.append(bare)
        return self.numbers[bare]

    def _next_step(self, plan: int, acks: tuple[tuple[str, str, int], ...], clock: int) -> int:
        known = {name: Ack(token, self.plans[p].version, self.plans[p].holds) for name, token, p in acks}
        after = steps.next_step(self.plans[plan], known, clock)
        return NOTHING if after is None else self.number(after)

    def _accepts(self, held: int, found: int) -> bool:
        try:
            steps.accept(None if held == NOTHING else self.plans[held], self.plans[found])
        except steps.GoneBack:
            return False
        return True

    def _keys(self, plan: int) -> tuple[int, frozenset[int]]:
        """The key that seals, and all that open."""
        ring = self.plans[plan].ring
        return ring.keys[-1].id, frozenset(k.id for k in ring.openers)

    # --- what may happen ----------------------------------------------------------------------------------------------

    def start(self) -> State:
        plan = steps.create("f", LIFE, 4, self.bounds.spread, tuple(KEYS[:1]))
        for name in self.bounds.members:
            plan = steps.join(plan, name, "1")
        first = self.number(plan)
        members = tuple(Member(name, first, NOTHING, True) for name in self.bounds.members)
        return self.sealed(State(first, (), 0, NOTHING, (None,) * self.bounds.leaders, members, (), 0, 0, 0))

    def sealed(self, state: State) -> State:
        """Every member that serves seals all the time."""
        now = dict.fromkeys((self.keys(m.held)[0] for m in state.members if m.serves), 0)
        return state._replace(ages=tuple(sorted({**dict(state.ages), **now}.items())))

    def successors(self, state: State) -> Iterator[tuple[str, State]]:
        """Every event that may come next."""
        yield from self.time(state)
        for i, leader in enumerate(state.leaders):
            yield from self.of_leader(state, i, leader)
        for i, member in enumerate(state.members):
            yield from self.of_member(state, i, member)
        yield from self.of_operators(state)
        yield from self.of_backups(state)

    def time(self, state: State) -> Iterator[tuple[str, State]]:
        if state.lease != NOTHING:
            yield "the lease lapses", state._replace(lease=NOTHING)
        clock = max(state.clock, *(x.clock for x in state.leaders if x), 0)
        spread = self.bounds.spread or 0
        out_for = min(state.out_for + 1, spread)
        if clock < self.bounds.ticks and not (spread and out_for == spread and self.is_behind(state)):
            ages = tuple((k, min(age + 1, PROMISED)) for k, age in state.ages)
            leaders = tuple(x and x._replace(clock=x.clock + 1) for x in state.leaders)
            yield "tick", self.sealed(state._replace(ages=ages, leaders=leaders, out_for=out_for))

    def is_behind(self, state: State) -> bool:
        """Whether a member that serves has an older plan. With `spread`, somebody promises that none has."""
        version = self.plans[state.plan].version
        return any(m.serves and self.plans[m.held].version < version for m in state.members)

    def written(self, state: State, plan: int) -> State:
        """With this plan in the store."""
        is_new = self.plans[plan].version > self.plans[state.plan].version
        return state._replace(plan=plan, out_for=0 if is_new else state.out_for)

    def of_leader(self, state: State, i: int, leader: Leader | None) -> Iterator[tuple[str, State]]:
        def now(new: Leader | None) -> State:
            return state._replace(leaders=(*state.leaders[:i], new, *state.leaders[i + 1 :]))

        if leader is None:
            if state.lease == NOTHING:
                yield f"{i} leads", now(Leader(state.clock, NOTHING, NOTHING))._replace(lease=i)
            return
        if state.lease != i:
            yield f"{i} notices", now(None)
        elif leader.clock > state.clock:
            yield f"{i} counts", state._replace(clock=leader.clock)
        wants = self.next_step(state.plan, state.acks, leader.clock)
        if wants != NOTHING and (leader.read, leader.wants) != (state.plan, wants):
            yield f"{i} decides", now(leader._replace(read=state.plan, wants=wants))
        if leader.wants != NOTHING:
            done = now(leader._replace(read=NOTHING, wants=NOTHING))
            if self.succeeds(state, i, leader):
                done = self.written(done, leader.wants)._replace(clock=leader.clock)
            yield f"{i} commits", done

    def succeeds(self, state: State, i: int, leader: Leader) -> bool:
        """Whether the store takes the leader's transaction."""
        return state.plan == leader.read and state.lease == i

    def of_member(self, state: State, i: int, member: Member) -> Iterator[tuple[str, State]]:
        def now(new: Member) -> State:
            return state._replace(members=(*state.members[:i], new, *state.members[i + 1 :]))

        name = member.name
        is_member = name in self.plans[state.plan].tokens
        if is_member and state.plan not in (member.inbox, member.held):
            yield f"{name} reads", now(member._replace(inbox=state.plan))
        if member.inbox != NOTHING:
            if self.accepts(member.held, member.inbox):
                yield f"{name} applies", self.sealed(now(Member(name, member.inbox, NOTHING, is_member)))
            else:
                yield f"{name} refuses", now(member._replace(inbox=NOTHING))
        elif member.serves and self.accepts(member.held, 0):  # somebody plays the first plan to it
            yield f"{name} goes back", self.sealed(now(member._replace(held=0)))
        if (
            self.bounds.spread is None
            and member.held != NOTHING
            and (token := self.plans[member.held].tokens.get(name))
        ):
            others = tuple(a for a in state.acks if a[0] != name)
            acks = tuple(sorted((*others, (name, token, member.held))))
            if acks != state.acks:
                yield f"{name} acknowledges", state._replace(acks=acks)

    def of_operators(self, state: State) -> Iterator[tuple[str, State]]:
        plan = self.plans[state.plan]
        if state.staged < self.bounds.rotations and not plan.staged:
            after = self.number(steps.stage(plan, KEYS[state.staged + 1], state.clock))
            yield "a key is staged", self.written(state, after)._replace(staged=state.staged + 1)
        here = [m for m in state.members if m.name != "c"]
        c = next((m for m in state.members if m.name == "c"), Member("c", NOTHING, NOTHING, False))
        if "c" in plan.tokens:  # it stops serving first
            gone = Member("c", NOTHING, NOTHING, False)
            yield "c leaves", state._replace(plan=self.number(steps.leave(plan, "c")), members=(*here, gone))
        elif state.joined < self.bounds.joinings:
            after = self.number(steps.join(plan, "c", str(state.joined + 2)))
            yield "c joins", state._replace(plan=after, members=(*here, c), joined=state.joined + 1)

    def of_backups(self, state: State) -> Iterator[tuple[str, State]]:
        """Somebody restores a backup of the store, and forgets that. Leaders remember nothing here: they have just
        joined."""
        if state.restored == self.bounds.restores:
            return
        if state.backup is None:
            yield "a backup is made", state._replace(backup=(state.plan, state.acks, state.clock))
        else:
            plan, acks, clock = state.backup
            restored = state._replace(plan=plan, acks=acks, clock=clock, lease=NOTHING)
            yield "it is restored", restored._replace(backup=None, restored=state.restored + 1)

    # --- the promises -------------------------------------------------------------------------------------------------

    def broken(self, state: State) -> str:
        """Which promise does not hold; empty: both do. (A key that somebody seals with has cookies of age 0.)"""
        for key, age in state.ages:
            for member in state.members:
                if age < PROMISED and member.serves and key not in self.keys(member.held)[1]:
                    return f"{member.name} refuses a cookie of key {key}, {age} ticks old"
        return ""

    def check(self) -> tuple[int, str]:
        """How many states there are, and the shortest way to one with a broken promise; empty: there is none."""
        first = self.start()
        came_from: dict[State, tuple[State, str] | None] = {first: None}
        border = [first]
        while border:
            following = []
            for state in border:
                for event, after in self.successors(state):
                    if after not in came_from:
                        came_from[after] = (state, event)
                        following.append(after)
                        if wrong := self.broken(after):
                            return len(came_from), f"{way(came_from, after)}: {wrong}"
            border = following
        return len(came_from), ""


def way(came_from: dict[State, tuple[State, str] | None], state: State) -> str:
    events: list[str] = []
    while step := came_from[state]:
        state = step[0]
        events.insert(0, step[1])
    return ", ".join(events)


SMALL = Bounds(3, 1)
JOINING = Bounds(3, 1, joinings=2, leaders=1, members="a")
SPREAD = Bounds(5, 1, spread=1, leaders=1)
RESTORED = Bounds(0, 2, leaders=1, restores=1)


@pytest.fixture(autouse=True)
def untraced() -> Iterator[None]:
    """Millions of calls: to count their lines for the coverage takes three times as long. test_plan.py has them too."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.mark.parametrize(
    "bounds",
    [SMALL, Bounds(3, 2, leaders=1), JOINING, SPREAD, Bounds(7, 1, spread=2, leaders=1)],
    ids=["two lead", "two rotations", "joining, leaving, coming back", "by time", "by time, slower"],
)
def test_the_promises_hold_in_every_state(bounds: Bounds) -> None:
    model = Model(bounds)
    states, wrong = model.check()
    assert wrong == ""
    assert states > 10_000
    assert any(len(plan.keys) == 1 and plan.version > 1 for plan in model.plans), "no key ever goes"


def test_a_restored_backup_breaks_no_promise() -> None:
    states, wrong = Model(RESTORED).check()
    assert wrong == ""
    assert states > 100_000


def expect_broken(model: Model, how: str) -> None:
    """The checker finds what a mistake in the rules would do."""
    _, wrong = model.check()
    assert wrong.endswith(how), wrong


def test_activation_without_acknowledgements_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "lagging", lambda plan, acks: [])
    expect_broken(Model(SMALL), "refuses a cookie of key 1, 0 ticks old")


def test_a_key_that_goes_a_tick_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MARGIN", steps.MARGIN - 1)
    expect_broken(Model(SMALL), f"refuses a cookie of key 0, {PROMISED - 1} ticks old")


def test_a_plan_that_goes_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "accept", lambda held, found: None)
    expect_broken(Model(SMALL), "refuses a cookie of key 1, 0 ticks old")


def test_a_spread_that_is_not_waited_for_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "is_held", lambda plan, acks, clock: True)
    expect_broken(Model(SPREAD), "refuses a cookie of key 1, 0 ticks old")


def test_acknowledgements_of_another_plan_of_that_version_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_version(plan: Plan, acks: Mapping[str, Ack]) -> list[str]:
        return [n for n, _ in plan.members if n not in acks or acks[n].version < plan.version]

    monkeypatch.setattr(steps, "lagging", by_version)
    expect_broken(Model(RESTORED), "refuses a cookie of key 2, 0 ticks old")


class WithoutLease(Model):
    def succeeds(self, state: State, i: int, leader: Leader) -> bool:
        return state.plan == leader.read


def test_a_leader_that_was_and_counts_faster_than_the_clock_is_found() -> None:
    expect_broken(WithoutLease(SMALL), "refuses a cookie of key 0, 0 ticks old")


class WithoutComparison(Model):
    def succeeds(self, state: State, i: int, leader: Leader) -> bool:
        return state.lease == i


def test_a_plan_that_overwrites_another_is_found() -> None:
    """A member that has just joined is in the one, and not in the other."""
    expect_broken(WithoutComparison(JOINING), "ticks old")

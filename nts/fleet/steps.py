# SPDX-License-Identifier: MIT
"""How a plan changes: the rules that keep the fleet's two promises. docs/fleet.md says why they do.

Each function takes a plan and returns the next one. Whoever calls it writes that in a transaction, which fails if the
plan in the store is not the one that was read; then they read again and decide anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nts.base.errors import ConfigError, NTSError
from nts.codec.keyring import CookieFormat, MasterKey
from nts.fleet.plan import Ack, FleetKey, Phase, Plan

MARGIN = 2
"""seconds that an old key stays beyond its cookies' life: for replies under way, and the clock's whole seconds"""


class NotNow(NTSError):
    """The fleet is not in a state for this."""

    hint = "fleet_helper.py status says what it waits for"


class GoneBack(NTSError):
    """The store has an older plan than this member: somebody restored a backup or replays what was."""

    hint = 'the keys stay as they are; docs/fleet.md, "The store has gone back", says what to do'


def lagging(plan: Plan, acks: Mapping[str, Ack]) -> list[str]:
    """The members that have not acknowledged just these keys since they joined."""
    return [
        name
        for name, token in plan.members
        if (ack := acks.get(name)) is None or (ack.token, ack.version, ack.holds) != (token, plan.version, plan.holds)
    ]


def holding(plan: Plan, acks: Mapping[str, Ack], name: str) -> list[str]:
    """The members that have not acknowledged this version, or a later one, without the key of this name."""
    return [
        member
        for member, token in plan.members
        if (ack := acks.get(member)) is None
        or ack.token != token
        or ack.version < plan.version
        or any(held.startswith(f"{name} ") for held in ack.holds)
    ]


def is_held(plan: Plan, acks: Mapping[str, Ack], clock: int) -> bool:
    """Whether every member has carried out this version."""
    if plan.spread is None:
        return not lagging(plan, acks)
    return plan.seen is not None and clock >= plan.seen + plan.spread


def next_step(plan: Plan, acks: Mapping[str, Ack], clock: int) -> Plan | None:
    """What the leader does next; None: nothing yet."""
    if plan.spread is not None and plan.seen is None:
        return replace(plan, seen=clock)
    if is_held(plan, acks, clock):
        unused = [k for k in plan.of(Phase.OLD) if k.until is None]
        if unused:  # nobody seals with these any more
            until = clock + plan.life + MARGIN
            return replace(plan, keys=tuple(replace(k, until=until) if k in unused else k for k in plan.keys))
        if plan.staged:
            return _changed(plan, (*plan.of(Phase.OLD), *_activated(plan, plan.staged, clock)))
    kept = tuple(k for k in plan.keys if k.until is None or clock < k.until)
    return _changed(plan, kept) if kept != plan.keys else None


def _activated(plan: Plan, key: FleetKey, clock: int) -> tuple[FleetKey, ...]:
    return (
        replace(plan.active, phase=Phase.OLD, since=clock),
        replace(key, phase=Phase.ACTIVE, since=clock),
    )


def _changed(plan: Plan, keys: tuple[FleetKey, ...]) -> Plan:
    return replace(plan, version=plan.version + 1, seen=None, keys=keys)


def create(
    fleet: str,
    life: int,
    max_keys: int,
    spread: int | None,
    keys: tuple[MasterKey, ...],
    cookie_format: CookieFormat = CookieFormat.OWN,
) -> Plan:
    """The first plan. The last of the keys seals; the fleet goes on opening the cookies of the others."""
    old = tuple(FleetKey(k, Phase.OLD, 0) for k in keys[:-1])
    active = FleetKey(keys[-1], Phase.ACTIVE, 0)
    return Plan(fleet, 1, life, max_keys, spread, None, 0, (), (*old, active), cookie_format)


def is_due(plan: Plan, clock: int, every: int) -> bool:
    """Whether it is time to stage the next key, and nothing stands in the way."""
    return clock - plan.active.since >= every and plan.staged is None and len(plan.keys) < plan.max_keys


def stage(plan: Plan, key: MasterKey, clock: int) -> Plan:
    """Add a key for the next rotation. NotNow when there is one, or no room."""
    if plan.staged:
        raise NotNow(f"key {plan.staged.name} is staged already")
    if len(plan.keys) >= plan.max_keys:
        raise NotNow(f"there are {len(plan.keys)} keys, as many as this fleet may have: the oldest has to go first")
    return _changed(plan, (*plan.keys, FleetKey(key, Phase.STAGED, clock)))


def revoke(plan: Plan, name: str, fresh: MasterKey, clock: int) -> Plan:
    """Remove a key at once. `fresh` takes the place of the active one: other members may not open its cookies yet."""
    if name not in (k.name for k in plan.keys):
        raise ConfigError(f"the fleet has no key {name}", hint="fleet_helper.py status lists the keys")
    old, active, staged = (
        tuple(k for k in plan.of(p) if k.name != name) for p in (Phase.OLD, Phase.ACTIVE, Phase.STAGED)
    )
    return _changed(plan, (*old, *(active or (FleetKey(fresh, Phase.ACTIVE, clock),)), *staged))


def join(plan: Plan, name: str, token: str) -> Plan:
    """Make this a member. It counts at once, and holds up the next phase until it has the keys."""
    return _with_members(replace(plan, seen=None), {**plan.tokens, name: token})


def leave(plan: Plan, name: str) -> Plan:
    """Nothing waits for this member any more. ConfigError when it is none."""
    if name not in plan.tokens:
        raise ConfigError(f"{name} is no member of this fleet", hint="fleet_helper.py status lists the members")
    return _with_members(plan, {n: token for n, token in plan.members if n != name})


def _with_members(plan: Plan, members: dict[str, str]) -> Plan:
    return replace(plan, turnover=plan.turnover + 1, members=tuple(sorted(members.items())))


def is_older(found: Plan, held: Plan) -> bool:
    """Whether the plan that a member holds came after this one."""
    return found.version < held.version or found.turnover < held.turnover


def accept(held: Plan | None, found: Plan) -> None:
    """GoneBack when a member that holds `held` must not carry out `found`."""
    if held is None:
        return
    if held.fleet != found.fleet:
        raise GoneBack(f"the store has the plan of another fleet, {found.fleet}, not of {held.fleet}")
    if found.version < held.version:
        raise GoneBack(f"the store has version {found.version} of the plan, this member has carried out {held.version}")
    if is_older(found, held):
        raise GoneBack(f"the store has a plan of version {held.version} from before members joined or left")
    if found.version == held.version and found.ring.openers != held.ring.openers:
        raise GoneBack(f"the store has two plans of version {held.version}")

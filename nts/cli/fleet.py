# SPDX-License-Identifier: MIT
"""The commands of `fleet_helper.py` that change the fleet: init, join, leave, rotate, revoke, rewrap."""

from __future__ import annotations

import os
import time
from pathlib import Path

from nts.base.errors import NO_HINT, ConfigError
from nts.base.text import about, counted
from nts.codec.foreign_keys import PLACES, ROOM
from nts.codec.keyring import MASTER_KEY_LENGTH, MasterKey
from nts.fleet import steps
from nts.fleet.agent import Agent
from nts.fleet.config import FleetConfig, etcd_backend
from nts.fleet.fleet import ACKS, MEMBERS, Fleet, parts_of
from nts.fleet.local import Memory
from nts.fleet.plan import Ack, Plan
from nts.fleet.steps import GoneBack, NotNow
from nts.fleet.store import PLAN, Refused, Unreachable
from nts.system import console, files, privileges

_PAUSE = 0.5  # seconds


def fresh_key(taken: set[int], place: int = 0) -> MasterKey:
    """A random key with an identifier that none of the others has, and its two lowest bits as given.

    From key to key they count up: chronyd knows the order of keys by them.
    """
    while True:
        number = int.from_bytes(os.urandom(2), "big")
        key = MasterKey(number - number % PLACES + place % PLACES, os.urandom(MASTER_KEY_LENGTH))
        if key.id not in taken:
            return key


def heed_memory(config: FleetConfig, fleet: Fleet) -> None:
    """GoneBack when the store has lost what this host has carried out."""
    value = Memory(config.fleet.memory).load()
    if value is not None:
        steps.accept(fleet.recall(value), fleet.shared().plan)


def _opened(config: FleetConfig) -> Fleet:
    """The fleet, to change it."""
    fleet = config.open()
    heed_memory(config, fleet)
    return fleet


def _fresh(plan: Plan, after: int = 1) -> MasterKey:
    """So many places after the active key."""
    return fresh_key({k.master.id for k in plan.keys}, plan.active.master.id + after)


# --- the fleet and its members ----------------------------------------------------------------------------------------


def init(config: FleetConfig, *, life: int, max_keys: int, spread: int | None) -> None:
    """Make the fleet with the keys of this host, and the wrapping key if it is missing. This host joins."""
    if not config.wrapping_path.exists():
        files.write_new((config.fleet.wrapping_key, f"{os.urandom(32).hex()}\n".encode(), 0o600))
        privileges.give(config.user, config.fleet.wrapping_key)
        console.say(f"made {config.fleet.wrapping_key}: bring it to all members, and keep it from everybody else")
    fleet, cookie_format = config.open(), config.cookie_format
    keys, room = config.target().keys().keys or (fresh_key(set()),), ROOM.get(cookie_format, max_keys)
    if max_keys > room:
        raise ConfigError(f"a server of {cookie_format.value}'s holds no more than --max-keys {room}")
    if len(keys) >= max_keys:
        raise ConfigError(f"this host has {len(keys)} keys, but --max-keys {max_keys} must leave room for a new one")
    plan = steps.create(os.urandom(4).hex(), life, max_keys, spread, keys, cookie_format)
    if not fleet.create(plan):
        raise ConfigError(f"there is a fleet under {config.fleet.prefix} already", hint="fleet_helper.py join")
    config.remembered().forget()
    print(f"made a fleet with {counted(len(keys), 'key')}: {', '.join(f'{k.id:04x}' for k in keys)}")
    join(config, force=False)


def restore(config: FleetConfig) -> None:
    """Put back the plan that this host has carried out, after etcd has lost it."""
    fleet, value = config.open(), config.remembered().load()
    if value is None:
        raise ConfigError(f"{config.fleet.memory} does not exist: this host has carried out no plan")
    held, parts, found = fleet.recall(value), parts_of(value), fleet.store.read(PLAN).get(PLAN)
    members = [item.value for item in fleet.store.read(MEMBERS).values()]
    is_without_members = found is not None and found.value == parts[PLAN] and members != [parts[MEMBERS]]
    if found is not None and not is_without_members and not steps.is_older(fleet.shared().plan, held):
        raise ConfigError("the plan in the store is no older than that of this host", hint=NO_HINT)
    if not fleet.store.write(parts, {PLAN: found.revision if found else 0}):
        raise NotNow("somebody else has just changed the plan")
    print(f"version {held.version} of the plan is in the store again")


def join(config: FleetConfig, *, force: bool) -> None:
    """Make this host a member, give it the keys, and acknowledge them."""
    fleet, target, memory = config.open(), config.target(), config.remembered()
    plan = fleet.shared().plan
    own = [k for k in target.keys().openers if k not in plan.ring.openers]
    if own and not force:
        names = ", ".join(f"{k.id:04x}" for k in own)
        raise ConfigError(
            f"this host has keys that the fleet does not have: {names}",
            hint="--force removes them: clients with cookies of this host are then refused once",
        )
    if config.name in plan.tokens and not force:
        value = memory.load()
        if config.name in fleet.alive():
            why = "its agent runs"
        elif value is None or fleet.recall(value).tokens.get(config.name) != plan.tokens[config.name]:
            why = "this host does not remember that it joined"
        else:
            why = ""
        if why:
            raise ConfigError(
                f"{config.name} is a member already, and {why}",
                hint="[fleet] name must be this host's own; --force if this is that host, installed anew",
            )
    memory.forget()
    joined = fleet.change(lambda p: steps.join(p, config.name, os.urandom(4).hex()))
    agent = Agent(fleet, config.name, target, memory, leads=False, lease=config.fleet.lease, poll=config.fleet.poll)
    agent.carry_out_now()
    print(f"{config.name} is a member, with version {joined.version}: {', '.join(k.name for k in joined.keys)}")


def leave(config: FleetConfig, name: str, *, force: bool) -> None:
    """Remove a member: this host, or another one by force."""
    fleet = _opened(config)
    if name != config.name and not force:
        raise ConfigError(
            f"{name} is another host: run this there, or use --force if it will never serve again",
            hint="if it still serves, cookies of its are refused elsewhere after the next rotations, and others' there",
        )
    fleet.change(lambda p: steps.leave(p, name))
    fleet.store.write({ACKS + name: None}, {})
    if name in fleet.alive():
        console.warn(f"the agent of {name} still runs: stop it, and the servers there")
    console.warn(f"{name} keeps its keys and gets no new ones: do not let it serve after the next rotation")
    print(f"{name} is no member any more")


# --- the keys ---------------------------------------------------------------------------------------------------------


def rotate(config: FleetConfig) -> None:
    """One rotation, or the rest of one that is under way, until every member seals with the new key."""
    fleet = _opened(config)
    plan = fleet.change(lambda p: p if p.staged else steps.stage(p, _fresh(p), 0))
    new = plan.staged
    assert new is not None
    console.say(f"key {new.name} is staged")
    said, acks, revision = "", dict[str, Ack](), 0
    while True:
        shared, (fresh, revision) = fleet.shared(), fleet.acks(revision)
        acks |= fresh
        plan, late = shared.plan, steps.lagging(shared.plan, acks)
        if plan.staged is None and new.name not in (k.name for k in plan.keys):
            raise NotNow(f"key {new.name} has been revoked")
        if plan.active.name == new.name and (plan.spread is not None or not late):
            break
        waits = _waits_for(plan, late, has_leader=shared.leader is not None)
        if waits != said:
            console.say(said := waits)
        fleet.store.wait(_PAUSE)
    print(f"key {new.name} is active on all members; old ones go {about(plan.life)} after that")


def _waits_for(plan: Plan, late: list[str], *, has_leader: bool) -> str:
    phase = "staged" if plan.staged else "active"
    if not has_leader:
        return f"waits for an agent that leads: {phase} key, version {plan.version}"
    if plan.spread is not None:
        return f"waits {about(plan.spread)} for version {plan.version} to reach all members"
    return f"waits for {', '.join(late) or 'the leader'}: {phase} key, version {plan.version}"


def rotate_every(config: FleetConfig, every: int) -> None:
    """Stage a key whenever it is due, for ever. Agents do the rest. Several of these do no harm: one is the first."""
    while True:
        fleet = config.open()
        try:
            heed_memory(config, fleet)
            _stage_if_due(fleet, every)
        except (NotNow, GoneBack, Unreachable) as e:
            console.warn_now_and_then(type(e).__name__, str(e))
        finally:
            fleet.store.close()
        time.sleep(min(60.0, max(_PAUSE, every / 20)))


def _stage_if_due(fleet: Fleet, every: int) -> None:
    plan, clock = fleet.shared().plan, fleet.clock()
    if steps.is_due(plan, clock, every):
        new = _fresh(plan)
        plan = fleet.change(lambda p: steps.stage(p, new, clock) if steps.is_due(p, clock, every) else p)
        if plan.staged and plan.staged.master == new:  # else another one was first
            console.say(f"key {plan.staged.name} is staged: the last rotation was {about(every)} ago")
    elif clock - plan.active.since >= 2 * every:
        console.warn_now_and_then("overdue", "the rotation is overdue: fleet_helper.py status says what it waits for")


def revoke(config: FleetConfig, name: str) -> None:
    """Remove a key at once, everywhere."""
    fleet = _opened(config)
    clock = fleet.clock()
    plan = fleet.change(lambda p: steps.revoke(p, name, _fresh(p, 0), clock))
    console.warn(f"clients with cookies of {name} are refused from now on, and do a new key exchange")
    print(f"key {name} is gone from the plan, version {plan.version}; {plan.active.name} seals")
    late = steps.holding(plan, fleet.acks()[0], name) if plan.spread is None else []
    end = time.monotonic() + config.fleet.poll
    while late and time.monotonic() < end:
        fleet.store.wait(_PAUSE)
        late = steps.holding(plan, fleet.acks()[0], name)  # the leader may take the plan further meanwhile
    if late:
        raise NotNow(f"these still have key {name}: {', '.join(late)}", hint="stop the servers there")


def rewrap(config: FleetConfig, *, stage: bool) -> None:
    """Make a new wrapping key (`stage`), or seal the plan with the newest one once every member has it."""
    path = config.fleet.wrapping_key
    if stage:
        _append(path, os.urandom(32).hex())
        print(f"added a wrapping key to {path}: bring the file to all members, then: fleet_helper.py rewrap")
        return
    fleet, newest = _opened(config), config.wrapping().ids[-1]
    now, (acks, _) = fleet.shared(), fleet.acks()
    without = [n for n, _ in now.plan.members if n not in acks or newest not in acks[n].wraps]
    if without and now.plan.spread is None:
        raise NotNow(f"these have not said that they have wrapping key {newest}: {', '.join(without)}",
                     hint=f"bring {path} there; their agents notice within a poll")  # fmt: skip
    if not fleet.rewrap(now, newest):
        raise NotNow("the plan has just been changed", hint="try again")
    print(f"the plan is sealed with wrapping key {newest}")
    late, end = fleet.sealed_otherwise(newest), time.monotonic() + 2 * config.fleet.poll
    while late and time.monotonic() < end:
        fleet.store.wait(_PAUSE)
        late = fleet.sealed_otherwise(newest)
    if late:
        raise NotNow(
            f"these still use another wrapping key: {', '.join(late)}", hint="keep all lines of the file for now"
        )
    print(f"all members use it; the lines before the last in {path} may go, everywhere")


def _append(path: Path, line: str) -> None:
    text, owner = files.read(path).decode().rstrip("\n"), path.stat()
    try:
        with files.locked(path.with_name(f".{path.name}.lock")):
            fresh = path.with_name(f".{path.name}.new")
            files.write_private(fresh, f"{text}\n{line}\n", for_group=bool(path.stat().st_mode & 0o040))
            if privileges.is_root():
                os.chown(fresh, owner.st_uid, owner.st_gid)
            files.rename(fresh, path)
    except OSError as e:
        raise ConfigError(f"cannot write {path}: {e.strerror}") from None


def grant(config: FleetConfig, cert: Path, key: Path, users: list[str], *, enable: bool) -> None:
    """Make the role in etcd, as its root."""
    etcd = etcd_backend()
    cluster = etcd.Cluster(config.etcd.endpoints, etcd.credentials(config.etcd.ca, cert, key))
    role = f"nts{config.fleet.prefix.rstrip('/').replace('/', '-')}"
    try:
        etcd.grant(cluster, config.fleet.prefix, role, tuple(users), enable=enable)
    except Refused as e:
        raise Refused(str(e), hint="--root-cert must name a certificate of etcd's user root") from None
    cluster.close()
    print(f"role {role} may read and write below {config.fleet.prefix}: {', '.join(users)}")
    if not enable:
        console.say("etcd heeds roles once its authentication is enabled: --enable-auth, or etcdctl auth enable")

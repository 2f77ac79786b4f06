# SPDX-License-Identifier: MIT
"""What a fleet agrees on: the plan, and what its members acknowledge. Values, and their form in the store.

Times are seconds of the fleet's clock, which only leaders advance and which never runs faster than time passes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from nts.base.errors import FormatError
from nts.codec.keyring import MASTER_KEY_LENGTH, CookieFormat, KeyRing, MasterKey

T = TypeVar("T")


class OtherMembers(FormatError):
    """A list of members that is not the one that the plan names."""

    hint = "is this a copy without it? If it is lost: fleet_helper.py init --restore, on a member that is not behind"


class Phase(str, Enum):
    """What servers do with a key."""

    STAGED = "staged"
    """open cookies"""
    ACTIVE = "active"
    """open cookies, and seal them; one key"""
    OLD = "old"
    """open cookies"""


@dataclass(frozen=True)
class FleetKey:
    """A master key and its phase."""

    master: MasterKey
    phase: Phase
    since: int
    """when it came into this phase"""
    until: int | None = None
    """when an old key goes; None for others, and as long as a member may still seal with it"""

    @property
    def name(self) -> str:
        return f"{self.master.id:04x}"


@dataclass(frozen=True)
class Plan:
    """The keys of a fleet and its members."""

    fleet: str
    """a random name that no other fleet has"""
    version: int
    """grows with each change of the keys; members acknowledge it"""
    life: int
    """seconds for which a cookie is promised to work"""
    max_keys: int
    """the most keys that there are at a time, staged and old ones included"""
    spread: int | None
    """seconds in which a new version reaches all members; None: they acknowledge it"""
    seen: int | None
    """when a leader first saw this version, for `spread`"""
    turnover: int
    """how often somebody has joined or left"""
    members: tuple[tuple[str, str], ...]
    """name and token of each, sorted"""
    keys: tuple[FleetKey, ...]
    """oldest first: old ones, the active one, the staged one"""
    cookie_format: CookieFormat = CookieFormat.OWN
    """of the cookies that members make"""

    def of(self, phase: Phase) -> tuple[FleetKey, ...]:
        """The keys in a phase."""
        return tuple(k for k in self.keys if k.phase is phase)

    @property
    def active(self) -> FleetKey:
        return self.of(Phase.ACTIVE)[0]

    @property
    def staged(self) -> FleetKey | None:
        return next(iter(self.of(Phase.STAGED)), None)

    @property
    def ring(self) -> KeyRing:
        """The keys as servers use them."""
        sealing = (*self.of(Phase.OLD), self.active)
        staged = tuple(k.master for k in self.of(Phase.STAGED))
        return KeyRing(tuple(k.master for k in sealing), staged, cookie_format=self.cookie_format)

    @property
    def holds(self) -> tuple[str, ...]:
        """The keys with their phase, as members acknowledge them."""
        return tuple(f"{k.name} {k.phase.value}" for k in self.keys)

    @property
    def tokens(self) -> dict[str, str]:
        return dict(self.members)


@dataclass(frozen=True)
class Ack:
    """What a member says it holds."""

    token: str
    """of the joining that it belongs to"""
    version: int
    holds: tuple[str, ...] = ()
    """the keys, with their phase: after a restored backup there may be two plans of one version"""
    wraps: tuple[str, ...] = ()
    """the wrapping keys that it can open plans with"""
    at: int = field(default=0, compare=False)
    """for people: when, by the member's clock, in seconds since 1970"""


# --- their form in the store: JSON, and octets to be encrypted --------------------------------------------------------


def encode_plan(plan: Plan) -> tuple[str, bytes, bytes]:
    """What everybody may read, the keys, and the list of members.

    The list grows with the fleet and seldom changes, so it lies beside the plan, which has its digest. Whoever has the
    list does not read it again at each phase.
    """
    members = json.dumps(dict(plan.members)).encode()
    public = {
        "fleet": plan.fleet, "version": plan.version, "life": plan.life, "max_keys": plan.max_keys,
        "spread": plan.spread, "seen": plan.seen, "turnover": plan.turnover, "members": _digest(members),
        "keys": [[k.name, k.phase.value, k.since, k.until] for k in plan.keys],
        "cookie_format": plan.cookie_format.value,
    }  # fmt: skip
    return json.dumps(public), b"".join(k.master.key for k in plan.keys), members


def decode_plan(public: str, secret: bytes, members: bytes) -> Plan:
    """FormatError when this is no plan, OtherMembers when it names another list of members."""
    return _decoded("plan", lambda: _plan(json.loads(public), secret, members))


def _digest(members: bytes) -> str:
    return hashlib.sha256(members).hexdigest()


def _plan(read: dict[str, Any], secret: bytes, members: bytes) -> Plan:
    if read["members"] != _digest(members):
        raise OtherMembers("the list of members in the store is not the one that the plan names")
    masters = [secret[i : i + MASTER_KEY_LENGTH] for i in range(0, len(secret), MASTER_KEY_LENGTH)]
    keys = tuple(
        FleetKey(MasterKey(int(name, 16), master), Phase(phase), int(since), until)
        for (name, phase, since, until), master in zip(read.pop("keys"), masters, strict=True)
    )
    listed = tuple(sorted(json.loads(members).items()))
    plan = Plan(**{**read, "members": listed, "keys": keys, "cookie_format": CookieFormat(read["cookie_format"])})
    if len(plan.of(Phase.ACTIVE)) != 1 or len(plan.of(Phase.STAGED)) > 1:
        raise ValueError
    return plan


def encode_ack(ack: Ack) -> str:
    return json.dumps([ack.token, ack.version, ack.holds, ack.wraps, ack.at])


def decode_ack(text: str) -> Ack:
    """FormatError when this is no acknowledgement."""

    def read() -> Ack:
        token, version, holds, wraps, at = json.loads(text)
        return Ack(str(token), int(version), tuple(holds), tuple(wraps), int(at))

    return _decoded("acknowledgement", read)


def decode_clock(text: str) -> int:
    """FormatError when this is no number of seconds."""
    return _decoded("clock", lambda: int(text))


def _decoded(what: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except (ValueError, TypeError, KeyError, AttributeError):
        raise FormatError(f"the {what} in the store has another form than this version writes") from None

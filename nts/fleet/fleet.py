# SPDX-License-Identifier: MIT
"""The fleet as its members see it: plan, acknowledgements and clock, sealed on the way into the store, and checked on
the way out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nts.base.errors import ConfigError, NTSError
from nts.fleet.envelope import NotOurs, Random, Wrapping, wrap_of
from nts.fleet.plan import Ack, OtherMembers, Plan, decode_ack, decode_clock, decode_plan, encode_ack, encode_plan
from nts.fleet.steps import NotNow
from nts.fleet.store import LEADER, PLAN, Store

MEMBERS, CLOCK, ACKS, ALIVE = "members", "clock", "acks/", "alive/"
_TRIES = 20


@dataclass(frozen=True)
class Shared:
    """Plan and leader, as of one moment."""

    plan: Plan
    revision: int
    """of the plan"""
    value: bytes
    """of the plan, as it lies in the store, and the list of members: what `recall` takes"""
    leader: tuple[bytes, int] | None
    """the leader's value and its revision"""


def parts_of(value: bytes) -> dict[str, bytes]:
    """A `Shared.value` as it lies in the store: plan, then members."""
    first, second, members = (*value.split(b"\n", 2), b"", b"")[:3]
    return {PLAN: first + b"\n" + second + b"\n", MEMBERS: members}


class Fleet:
    """A store, and the wrapping keys for it."""

    def __init__(self, store: Store, wrapping: Callable[[], Wrapping], random: Random) -> None:
        """`wrapping` reads the wrapping keys, each time."""
        self.store, self.wrapping, self.random = store, wrapping, random
        self.wrap = ""
        """the wrapping key that the plan was sealed with at the last look, and that all members have"""
        self._members = b""
        """the list of members, as last read"""

    def shared(self) -> Shared:
        """ConfigError when there is no plan yet, NotOurs when it is not genuine, OtherMembers when its list is gone.

        The list of members is read when the plan names another one than was read last. If the plan changes between the
        two reads, they do not fit each other, and both are read again.
        """
        for _ in range(_TRIES):
            found = self.store.read("shared/")
            if PLAN not in found:
                raise ConfigError("there is no fleet here yet", hint="fleet_helper.py init makes one")
            (value, revision), leader = found[PLAN], found.get(LEADER)
            try:
                plan = self._opened(value)
            except OtherMembers as e:
                missing = e
                self._members = next((item.value for item in self.store.read(MEMBERS).values()), b"")
            else:
                return Shared(plan, revision, value + self._members, leader and (leader.value, leader.revision))
        raise missing

    def recall(self, value: bytes) -> Plan:
        """The plan of a `Shared.value`. NotOurs when it is not genuine."""
        plan, self._members = parts_of(value).values()
        try:
            return self._opened(plan)
        except (NotOurs, OtherMembers) as e:
            hint = "fleet_helper.py join --force makes it anew, if the wrapping key is that of the other members"
            raise NotOurs(f"what this host remembers ([fleet] memory) cannot be used: {e}", hint=hint) from None

    def _opened(self, value: bytes) -> Plan:
        plan = decode_plan(*self.wrapping().open(PLAN, value), self._members)
        self.wrap = wrap_of(value)
        return plan

    def _seal(self, name: str, public: str, secret: bytes = b"", wrap: str = "") -> bytes:
        wrapping = self.wrapping()
        return wrapping.seal(name, public, secret, self.random, wrap or self.wrap or wrapping.ids[-1])

    def sealed(self, plan: Plan, wrap: str = "") -> dict[str, bytes]:
        """What a plan is in the store, sealed with the key that it was sealed with, or with another one."""
        public, secret, members = encode_plan(plan)
        return {PLAN: self._seal(PLAN, public, secret, wrap), MEMBERS: members}

    def create(self, plan: Plan) -> bool:
        """Whether this is the first plan now."""
        return self.store.write(self.sealed(plan), {PLAN: 0})

    def change(self, change: Callable[[Plan], Plan]) -> Plan:
        """Change the plan, and return it. `change` may be asked again, and may raise an NTSError."""
        for _ in range(_TRIES):
            now = self.shared()
            plan = change(now.plan)
            if plan == now.plan or self.store.write(self.sealed(plan), {PLAN: now.revision}):
                return plan
        raise NotNow("the plan is changed by others all the time", hint="try again")

    def acks(self, since: int = 0) -> tuple[dict[str, Ack], int]:
        """The acknowledgements, and the highest revision among them. What is not genuine counts as none."""
        wrapping, acks, highest = self.wrapping(), dict[str, Ack](), since
        for name, item in self.store.read(ACKS, since).items():
            highest = max(highest, item.revision)
            try:
                acks[name.removeprefix(ACKS)] = decode_ack(wrapping.open(name, item.value)[0])
            except NTSError:
                continue
        return acks, highest

    def acknowledge(self, name: str, ack: Ack) -> None:
        self.store.write({ACKS + name: self._seal(ACKS + name, encode_ack(ack))}, {})

    def clock(self) -> int:
        """Seconds, as the leader wrote them last."""
        found = self.store.read(CLOCK)
        return decode_clock(self.wrapping().open(CLOCK, found[CLOCK].value)[0]) if CLOCK in found else 0

    def rewrap(self, now: Shared, wrap: str) -> bool:
        """Seal plan and clock with another wrapping key. False when they have just changed. Agents do the rest."""
        found = self.store.read(CLOCK)
        expected = {PLAN: now.revision, CLOCK: found[CLOCK].revision if CLOCK in found else 0}
        clock = self._seal(CLOCK, str(self.clock()), wrap=wrap)
        return self.store.write({**self.sealed(now.plan, wrap), CLOCK: clock}, expected)

    def sealed_otherwise(self, wrap: str) -> list[str]:
        """The members whose acknowledgement is sealed with another wrapping key."""
        return [n.removeprefix(ACKS) for n, item in self.store.read(ACKS).items() if wrap_of(item.value) != wrap]

    def clock_value(self, seconds: int) -> bytes:
        return self._seal(CLOCK, str(seconds))

    def alive(self) -> set[str]:
        """The members whose agents run."""
        return {name.removeprefix(ALIVE) for name in self.store.read(ALIVE)}

    def declare_alive(self, name: str) -> None:
        """For as long as `store.beat` is called."""
        self.store.write({ALIVE + name: b""}, {}, mortal=True)

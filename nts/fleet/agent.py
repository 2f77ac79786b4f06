# SPDX-License-Identifier: MIT
"""The agent: carries out the plan on this host, and takes the plan to its next phase if it leads.

Whatever fails is said, counted, and tried again. The keys on this host change when a newer plan has been carried out
whole, and never because the store is away.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from nts.base.errors import NTSError
from nts.base.text import about
from nts.fleet import steps
from nts.fleet.fleet import CLOCK, Fleet, Shared
from nts.fleet.local import Memory, Target
from nts.fleet.plan import Ack, Phase, Plan
from nts.fleet.store import LEADER, PLAN, Unreachable
from nts.system import console

_SOON = 1.0  # seconds, while acknowledgements are awaited


class NotAMember(NTSError):
    """This host has left, or not joined yet."""

    hint = "fleet_helper.py join"


@dataclass
class Leadership:
    """The lease on `shared/leader`, and the fleet's clock since then."""

    revision: int
    base: int
    """what the clock said"""
    started: float
    """by this host's monotonic clock, after it said that"""
    acks: dict[str, Ack]
    acks_revision: int = 0
    written: int = -1
    """the clock as last written"""

    @property
    def clock(self) -> int:
        return self.base + int(time.monotonic() - self.started)


class Agent:
    """One member. `turn` does all that is due."""

    def __init__(
        self, fleet: Fleet, name: str, target: Target, memory: Memory, *, leads: bool, lease: float, poll: float
    ) -> None:
        self._fleet, self.name, self._target, self._memory = fleet, name, target, memory
        self._may_lead, self._beat_every, self._poll = leads, lease / 3, poll
        self._candidate = f"{name} {fleet.random(8).hex()}".encode()
        """this process, in `shared/leader`"""
        self._next_beat = self._next_look = 0.0
        self._again = False
        """whether something follows at once"""
        self._acked: tuple[Ack, str] | None = None
        """and the wrapping key that sealed it"""
        self._is_declared = False
        """whether the store says that this agent runs"""
        self.contact = -math.inf
        """when the store last answered with news, by the monotonic clock"""
        self._clock_seen = -1
        self.held: Plan | None = None
        """the last plan that was carried out"""
        self._held_wrap = ""
        """the wrapping key that seals it in the memory"""
        self.found: Plan | None = None
        """the plan in the store at the last look"""
        self.leadership: Leadership | None = None
        self.silent: list[str] = []
        """the members whose agents do not run, if this one leads"""
        self.problem = ""
        """what stands in the way now; empty: nothing"""
        self.failures = 0
        """turns that failed"""

    def start(self) -> None:
        """Use the keys of the last plan, whether or not the store can be reached. NTSError when it cannot be read."""
        value = self._memory.load()
        if value is not None:
            self.held = self._fleet.recall(value)
            try:
                self._report(self._target.apply(self.held.ring))
            except NTSError as e:
                console.warn(str(e))

    def turn(self) -> float:
        """Do what is due. Returns after how many seconds to come back at the latest."""
        try:
            self._turn()
            self.problem = ""
        except NTSError as e:
            self.failures += 1
            self._next_look = 0.0
            lasting = f"; {self.lasting()}" if isinstance(e, Unreachable) else ""
            self.problem = f"{e}{lasting}"
            console.warn_now_and_then(f"{type(e).__name__} {self.seconds_left > 0}", self.problem)
            return _SOON
        return 0.0 if self._again else _SOON if self._is_awaiting() else self._beat_every

    def _turn(self) -> None:
        now = time.monotonic()
        if now >= self._next_beat and not self._only_reads:
            if not self._fleet.store.beat():
                self.leadership, self._is_declared = None, False
            if not self._is_declared:
                self._fleet.declare_alive(self.name)
                self._is_declared = True
            self._next_beat = now + self._beat_every
        if now >= self._next_look or self._is_awaiting():
            shared = self._fleet.shared()
            self.found = shared.plan
            self._note_contact(shared.plan)
            self._again = False
            self._follow(shared)
            self._next_look = 0.0 if self._again else now + self._poll
        elif self.held is not None:
            self._repair(self.held)
        if self.leadership and self.leadership.clock >= self.leadership.written + self._beat_every:
            self._count(self.leadership)
            self._call_the_roll()

    def _note_contact(self, plan: Plan) -> None:
        """By time, what is read may be a copy: it is fresh when the fleet's clock has moved on in it."""
        if plan.spread is not None:
            clock = self._fleet.clock()
            if clock == self._clock_seen:
                if self.seconds_left <= 0:
                    raise Unreachable(
                        "nothing renews the copy of the plan, or nobody leads: the fleet's clock stands still"
                    )
                return
            self._clock_seen = clock
        self.contact = time.monotonic()

    @property
    def _only_reads(self) -> bool:
        """Whether the store may be a copy that cannot be written: nobody expects to hear of this member."""
        return not self._may_lead and (self.found is None or self.found.spread is not None)

    def wait(self, seconds: float) -> None:
        """Wait, and look at the plan at once when it has changed."""
        if self._fleet.store.wait(seconds):
            self._next_look = 0.0

    def _is_awaiting(self) -> bool:
        """Whether this agent leads and acknowledgements are missing, or the next phase follows."""
        if not self.leadership or not self.found:
            return False
        waits = any(k.phase is Phase.STAGED or (k.phase is Phase.OLD and k.until is None) for k in self.found.keys)
        return waits or any(k.until is not None and k.until <= self.leadership.clock for k in self.found.keys)

    def carry_out_now(self) -> None:
        """Carry out the plan that is there. Raises what stands in the way."""
        self._carry_out(self._fleet.shared())

    def _follow(self, shared: Shared) -> None:
        """Carry out the plan and lead. A leader whose own host is in trouble goes on to lead, unless it cannot trust
        the plan, or is no member."""
        trouble: NTSError | None = None
        try:
            self._carry_out(shared)
        except (steps.GoneBack, NotAMember):
            self._resign(shared)
            raise
        except NTSError as e:
            trouble = e
        if self._may_lead:
            self._lead(shared)
        if trouble:
            raise trouble

    # --- as a member --------------------------------------------------------------------------------------------------

    def _carry_out(self, shared: Shared) -> None:
        plan, token = shared.plan, shared.plan.tokens.get(self.name)
        steps.accept(self.held, plan)
        if token is None and plan.spread is None:
            raise NotAMember(f"{self.name} is no member of this fleet: its keys stay as they are")
        before = self.held.tokens.get(self.name) if self.held else None
        if before not in (None, token) and self._remembered_token() != token:
            raise NotAMember(
                f"another host has joined as {self.name}: the keys of this one stay as they are",
                hint="[fleet] name must be this host's own; then fleet_helper.py join",
            )
        if self.held is not None and self.held.version == plan.version:
            self._repair(plan)
        else:
            self._report(self._target.apply(plan.ring), f"version {plan.version}: ")
        if (plan, self._fleet.wrap) != (self.held, self._held_wrap):
            self._memory.save(shared.value)
            self.held, self._held_wrap = plan, self._fleet.wrap
        if token is not None and plan.spread is None:
            self._acknowledge(plan, token)

    def _remembered_token(self) -> str | None:
        """Of the last joining of this host, which another process may have seen to."""
        value = self._memory.load()
        return self._fleet.recall(value).tokens.get(self.name) if value is not None else None

    def _acknowledge(self, plan: Plan, token: str) -> None:
        ack = Ack(token, plan.version, plan.holds, self._fleet.wrapping().ids, int(time.time()))
        if (ack, self._fleet.wrap) != self._acked:
            self._fleet.acknowledge(self.name, ack)
            self._acked = (ack, self._fleet.wrap)

    def _repair(self, plan: Plan) -> None:
        """Undo what others have done to the keys on this host."""
        done = self._target.apply(plan.ring)
        if done:
            console.warn(f"the keys were not those of the plan: {', '.join(done)}; who else changes them?")

    def _report(self, done: list[str], why: str = "") -> None:
        if done:
            console.say(f"{why}{', '.join(done)}")

    def lasting(self) -> str:
        """How long the keys on this host will do, if the store stays away."""
        if self.held is None:
            return "this host has no keys of the fleet yet"
        kept = f"the keys of version {self.held.version} stay in use"
        if self.held.spread is None:
            return f"{kept}, and last until this member is removed by force: the fleet waits for it"
        left = self.seconds_left
        return f"{kept}, and last for {about(left)}" if left > 0 else f"{kept}, but others may seal with newer ones"

    @property
    def seconds_left(self) -> float:
        """After which others may seal with a key that this member does not have; infinite where they wait for it."""
        spread = self.held.spread if self.held else None
        return math.inf if spread is None else self.contact + spread - time.monotonic()

    # --- as the leader ------------------------------------------------------------------------------------------------

    def _lead(self, shared: Shared) -> None:
        if shared.leader is None or shared.leader[0] != self._candidate:
            self.leadership = None
            if shared.leader is None:  # etcd's recipe: who first puts a name there leads as long as its lease lives
                self._fleet.store.write({LEADER: self._candidate}, {LEADER: 0}, mortal=True)
                self._again = True
            return
        if self.leadership is None or self.leadership.revision != shared.leader[1]:
            self.leadership = Leadership(shared.leader[1], self._fleet.clock(), time.monotonic(), {})
            console.say("leads the fleet")
        lead = self.leadership
        fresh, lead.acks_revision = self._fleet.acks(lead.acks_revision)
        lead.acks |= fresh
        clock = lead.clock
        after = steps.next_step(shared.plan, lead.acks, clock)
        if after is None:
            self._say_who_lags(shared.plan, lead.acks)
            return
        changes = {**self._fleet.sealed(after), CLOCK: self._fleet.clock_value(clock)}
        if self._fleet.store.write(changes, {PLAN: shared.revision, LEADER: lead.revision}):
            lead.written = clock
            if after.version != shared.plan.version:
                console.say(f"leads to version {after.version}: {', '.join(after.holds)}")
        self._again = True

    def _resign(self, shared: Shared) -> None:
        if shared.leader and shared.leader[0] == self._candidate:
            self._fleet.store.write({LEADER: None}, {LEADER: shared.leader[1]})
        self.leadership = None

    def _count(self, lead: Leadership) -> None:
        """Write what the fleet's clock says."""
        clock = lead.clock
        if self._fleet.store.write({CLOCK: self._fleet.clock_value(clock)}, {LEADER: lead.revision}):
            lead.written = clock
        else:
            self.leadership = None

    def _call_the_roll(self) -> None:
        """Notice members whose agents do not run. They may serve all the same, so they stay members."""
        if self.found is not None and self.found.spread is None:
            alive = self._fleet.alive()
            self.silent = [name for name, _ in self.found.members if name not in alive]
            if self.silent:
                console.warn_now_and_then("silent", f"no agent is heard of on {', '.join(self.silent)}")

    def _say_who_lags(self, plan: Plan, acks: dict[str, Ack]) -> None:
        late = steps.lagging(plan, acks) if plan.spread is None else []
        if late and self._is_awaiting():
            console.warn_now_and_then("lagging", f"the rotation waits for {', '.join(late)}")

    @property
    def lagging(self) -> list[str]:
        """Who has not acknowledged the plan; only the leader knows."""
        if not self.leadership or not self.found or self.found.spread is not None:
            return []
        return steps.lagging(self.found, self.leadership.acks)

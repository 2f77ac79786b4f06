# SPDX-License-Identifier: MIT
"""Judgements that client cases share: what a client did, against what a right one does. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from nts.base.registry import MAX_PACKET
from nts.check.client.probe import ClientProbe, Seen, Until, until_accepted, until_asked, until_settled
from nts.check.model import Finding, Severity, failed, passed, skipped, warned
from nts.check.peer.faults import Expected, Fault, Side, find

MAX_CONNECTIONS = 3  # in one meeting: a few addresses or one quick repetition are no loop
DROPPED_POLLS = 3  # requests of a daemon that must go without an effect
SHORT = 1.0  # seconds for a client to wait for what does not come


def meet(probe: ClientProbe, names: tuple[str, ...], seconds: float = 15.0) -> Iterator[Finding]:
    """Let the client meet each of these faults, and judge it by what a right client makes of it."""
    for name in names:
        fault = find(name)
        with probe.scene(fault) as scene:
            until = _UNTIL[fault.expected]
            if fault.expected in (Expected.DROP, Expected.GIVE_UP):
                seen = scene.meet(until=until, wait=SHORT, seconds=seconds)
            else:
                seen = scene.meet(until=until, seconds=seconds)
        yield from meeting(seen, fault)


_UNTIL: dict[Expected, Until] = {
    Expected.USE: until_accepted,
    Expected.ABORT: until_settled,
    Expected.SEND_NOTHING: until_settled,
    Expected.SURVIVE: lambda seen: bool(seen.accepted) or until_asked(DROPPED_POLLS)(seen),
    Expected.DROP: lambda seen: bool(seen.accepted) or until_asked(DROPPED_POLLS)(seen),
    Expected.GIVE_UP: lambda seen: bool(seen.accepted) or until_asked(DROPPED_POLLS)(seen),
}


def meeting(seen: Seen, fault: Fault) -> Iterator[Finding]:
    """All that there is to say of a meeting with a fault."""
    yield from protected(seen)
    if fault.expected is Expected.USE:
        yield used(seen, fault.side)
    elif fault.expected is Expected.SURVIVE:
        yield survived(seen)
    elif fault.expected is Expected.ABORT:
        yield from aborted(seen)
    elif fault.expected is Expected.SEND_NOTHING:
        yield sent_nothing(seen)
    else:
        yield not_taken(seen)


def protected(seen: Seen) -> Iterator[Finding]:
    """Section 8.7: no plain NTP, whatever happens; and no packet that does not fit."""
    if seen.plain_requests:
        count = len(seen.plain_requests)
        yield failed(f"{seen.what}: falls back to plain NTP ({count} requests without NTS)", Severity.CRIT)
    longest = max((len(r.datagram) for r in seen.requests), default=0)
    if longest > MAX_PACKET:
        yield failed(f"{seen.what}: sends packets of {longest} octets, which do not fit in 1280", Severity.MUST)
    if seen.code is not None and (seen.code < 0 or seen.code > 128):
        yield failed(f"{seen.what}: ends with signal {-seen.code if seen.code < 0 else seen.code - 128}")


def used(seen: Seen, side: Side = Side.NTP) -> Finding:
    """It takes the time; or, where it does not say, it at least goes on to the time server."""
    if seen.accepted:
        return passed(f"{seen.what}: takes the time")
    if seen.accepted is None and side is Side.KE and seen.nts_requests:
        return passed(f"{seen.what}: goes on to the time server")
    if seen.accepted is None and seen.nts_requests:
        return skipped(f"{seen.what}: whether the client took the time is not seen from here")
    return failed(f"{seen.what}: takes no time ({did(seen)})")


def survived(seen: Seen) -> Finding:
    """It may take the time or not; that it goes on working has yet to be seen."""
    if seen.accepted is False and seen.nts_requests:
        return warned(f"{seen.what}: takes no time from such replies")
    return used(seen)


def aborted(seen: Seen) -> Iterator[Finding]:
    """It asks nobody for the time, and does not come back at once."""
    if seen.nts_requests or seen.accepted:
        yield failed(f"{seen.what}: goes on ({did(seen)})")
    elif not any(s.received for s in seen.sessions):
        yield skipped(f"{seen.what}: the client sent no NTS-KE request")
    elif len(seen.sessions) > MAX_CONNECTIONS:
        yield failed(f"{seen.what}: {len(seen.sessions)} connections within {seen.seconds:.0f} s", Severity.MUST)
    else:
        yield passed(f"{seen.what}: aborts")


def sent_nothing(seen: Seen) -> Finding:
    """Not an octet of application data went to a server that must not be spoken to."""
    octets = sum(len(s.received) for s in seen.sessions)
    if octets or seen.nts_requests or seen.accepted:
        return failed(f"{seen.what}: goes on ({octets} octets of NTS-KE, {did(seen)})")
    if not seen.sessions:
        return skipped(f"{seen.what}: the client did not connect")
    return passed(f"{seen.what}: aborts before its request")


def not_taken(seen: Seen) -> Finding:
    """It takes no time from an answer that must not be believed."""
    if seen.accepted:
        return failed(f"{seen.what}: takes the time")
    if not seen.nts_requests:
        return skipped(f"{seen.what}: the client never asked for the time")
    if seen.accepted is None:
        return skipped(f"{seen.what}: whether the client took the time is not seen from here")
    return passed(f"{seen.what}: takes no time")


def no_key_exchange(seen: Seen, allowed: int = 1) -> Finding:
    """It goes on with the keys it has."""
    if len(seen.sessions) > allowed:
        return failed(f"{seen.what}: runs another key exchange")
    return passed(f"{seen.what}: no key exchange")


def spent_once(seen: Seen) -> Finding:
    """Section 5.7: a cookie should not be sent twice."""
    twice = len(seen.spent) - len(set(seen.spent))
    if twice:
        return warned(f"{seen.what}: {twice} of {len(seen.spent)} requests reuse a cookie")
    return passed(f"{seen.what}: {len(seen.spent)} requests, each with a cookie of its own")


def did(seen: Seen) -> str:
    """What was seen of it, in a few words."""
    plural = "" if len(seen.requests) == 1 else "s"
    ended = "" if seen.code is None else f", exit code {seen.code}"
    return f"{len(seen.requests)} NTP request{plural}{ended}"

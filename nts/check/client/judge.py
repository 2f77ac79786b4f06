# SPDX-License-Identifier: MIT
"""Judgements that client cases share: they compare what a client did with what a correct client does."""

from __future__ import annotations

from collections.abc import Iterator

from nts.base.registry import MAX_PACKET
from nts.check.client.probe import ClientProbe, Seen, Until, until_accepted, until_asked, until_settled
from nts.check.findings import counted
from nts.check.model import Finding, Severity, failed, passed, skipped, warned
from nts.check.peer.faults import Expected, Fault, Side, find

MAX_CONNECTIONS = 3  # in one meeting: a few addresses or one quick retry are not a loop
DROPPED_POLLS = 3  # requests of a daemon that must pass without effect
LONG, SHORT = 5.0, 1.0  # seconds for a client to wait for an answer, and for one that does not come


def meet(probe: ClientProbe, *names: str) -> Iterator[Finding]:
    """Let the client meet each of these faults, and judge it by what a correct client does."""
    for name in names:
        fault = find(name)
        wait = SHORT if fault.expected in (Expected.DROP, Expected.GIVE_UP) else LONG
        with probe.scene(fault) as scene:
            seen = scene.meet(until=_UNTIL.get(fault.expected, _asked), wait=wait, seconds=15)
        yield from meeting(seen, fault)


def _asked(seen: Seen) -> bool:
    """Until the client takes the time, or seems not to."""
    return bool(seen.accepted) or until_asked(DROPPED_POLLS)(seen)


_UNTIL: dict[Expected, Until] = {
    Expected.USE: until_accepted, Expected.EITHER: lambda s: until_accepted(s) or s.settled,
    Expected.ABORT: until_settled, Expected.SEND_NOTHING: until_settled,
}  # fmt: skip


def meeting(seen: Seen, fault: Fault) -> Iterator[Finding]:
    """Everything to say about a meeting with a fault."""
    yield from careful(seen)
    if fault.expected is Expected.USE:
        yield used(seen, fault.side)
    elif fault.expected is Expected.SURVIVE:
        yield survived(seen)
    elif fault.expected is Expected.ABORT:
        yield aborted(seen)
    elif fault.expected is Expected.SEND_NOTHING:
        yield sent_nothing(seen)
    elif fault.expected is Expected.EITHER:
        yield either(seen)
    else:
        yield not_taken(seen)


def careful(seen: Seen) -> Iterator[Finding]:
    """Whatever happens: no plain NTP (section 8.7), no packet too long, no crash, no key exchanges in a loop (4.2)."""
    yield from hurried(seen)
    if seen.plain_requests:
        count = len(seen.plain_requests)
        yield failed(f"{seen.what}: falls back to plain NTP ({count} requests without NTS)", Severity.CRIT)
    longest = max((len(r.datagram) for r in seen.requests), default=0)
    if longest > MAX_PACKET:
        yield failed(f"{seen.what}: sends packets of {longest} octets, which do not fit in 1280", Severity.MUST)
    if seen.code is not None and (seen.code < 0 or seen.code > 128):
        yield failed(f"{seen.what}: ends with signal {-seen.code if seen.code < 0 else seen.code - 128}")


def hurried(seen: Seen) -> Iterator[Finding]:
    """Key exchanges must not follow each other quickly, whatever makes a client repeat them (section 4.2)."""
    allowed = MAX_CONNECTIONS * seen.runs
    if len(seen.sessions) > allowed:
        yield failed(f"{seen.what}: {len(seen.sessions)} connections within {seen.seconds:.0f} s", Severity.MUST)


def either(seen: Seen) -> Finding:
    """The RFC leaves open what the client does."""
    if seen.never_came:
        return skipped(f"{seen.what}: the client never came")
    does = "goes on" if seen.nts_requests or seen.accepted else "gives up"
    return passed(f"{seen.what}: {does}; the RFC leaves it open")


def used(seen: Seen, side: Side = Side.NTP) -> Finding:
    """The client must take the time. If it does not say whether it did, it must at least go on to the time server."""
    if seen.accepted:
        return passed(f"{seen.what}: takes the time")
    if seen.accepted is None and side is Side.KE and seen.nts_requests:
        return passed(f"{seen.what}: goes on to the time server")
    if seen.accepted is None and seen.nts_requests:
        return skipped(f"{seen.what}: we cannot see whether the client took the time")
    if seen.never_came:
        return skipped(f"{seen.what}: the client never came")
    return failed(f"{seen.what}: takes no time ({did(seen)})")


def survived(seen: Seen) -> Finding:
    """The client may take the time or not, but must have asked for it."""
    if seen.accepted is False and seen.nts_requests:
        return warned(f"{seen.what}: takes no time from such replies")
    return used(seen)


def aborted(seen: Seen) -> Finding:
    """The client must send no time request."""
    if len(seen.requests) > len(seen.plain_requests) or seen.accepted:
        return failed(f"{seen.what}: goes on ({did(seen)})")
    if seen.never_came:
        return skipped(f"{seen.what}: the client never came")
    if not any(s.received for s in seen.sessions):
        return skipped(f"{seen.what}: the client sent no NTS-KE request")
    return passed(f"{seen.what}: aborts")


def sent_nothing(seen: Seen) -> Finding:
    """The client must not send a single octet of application data."""
    octets = sum(len(s.received) for s in seen.sessions)
    if octets or seen.nts_requests or seen.accepted:
        return failed(f"{seen.what}: goes on ({octets} octets of NTS-KE, {did(seen)})")
    if not seen.sessions:
        return skipped(f"{seen.what}: the client never came")
    return passed(f"{seen.what}: aborts before its request")


def not_taken(seen: Seen) -> Finding:
    """The client must take no time from this server."""
    if seen.accepted:
        return failed(f"{seen.what}: takes the time")
    if not seen.nts_requests:
        return skipped(f"{seen.what}: the client never {'came' if seen.never_came else 'asked for the time'}")
    if seen.accepted is None:
        return skipped(f"{seen.what}: we cannot see whether the client took the time")
    return passed(f"{seen.what}: takes no time")


def no_key_exchange(seen: Seen, allowed: int = 1) -> Finding:
    """The client must go on with the keys it has."""
    if len(seen.sessions) > allowed:
        return failed(f"{seen.what}: runs another key exchange")
    return passed(f"{seen.what}: no key exchange")


def spent_once(seen: Seen) -> Finding:
    """The client should not send a cookie twice (section 5.7)."""
    twice = len(seen.spent) - len(set(seen.spent))
    if twice:
        return warned(f"{seen.what}: {twice} of {len(seen.spent)} requests reuse a cookie")
    return passed(f"{seen.what}: {len(seen.spent)} requests, each with its own cookie")


def did(seen: Seen) -> str:
    """What the client did, in a few words."""
    ended = "" if seen.code is None else f", exit code {seen.code}"
    return f"{counted(len(seen.requests), 'NTP request')}{ended}"

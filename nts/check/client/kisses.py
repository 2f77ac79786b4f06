# SPDX-License-Identifier: MIT
"""C08 to C11 and C26: kiss-o'-death packets, forged and genuine (RFC 8915 section 5.7, RFC 5905 section 7.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nts.base.registry import COOKIES_WANTED
from nts.check.client import judge
from nts.check.client.probe import ClientProbe, Scene, Seen, until_accepted, until_asked
from nts.check.findings import counted
from nts.check.model import Finding, Group, Severity, failed, passed, skipped
from nts.check.peer import SOUND_KE, NtpTalk
from nts.check.peer.faults import Expected, find
from nts.check.peer.faults.time import then_time
from nts.check.peer.ke import KeTalk, fresh_ring, sound

GROUP: Group[ClientProbe] = Group("Kisses of death")

WATCH = 6.0  # seconds to watch how a daemon reacts to a kiss
MAX_EXCHANGES = 3  # within WATCH: one to start with, one because of the kiss, and one to spare
GENUINE = 4  # replies before a kiss, to see how often a daemon polls


@GROUP.check(
    "C08", "kiss-forged-nak", section="5.7", severity=Severity.CRIT, ref="A75",
    sends="Nothing, to see what silence alone does. An NTS NAK without a Unique Identifier, and one with a wrong one:"
    " alone, and followed by the genuine reply.",
    expects="No effect: the client takes no time from it, runs no key exchange for it, and uses the genuine reply.",
    rule="A kiss-o'-death must hold the Unique Identifier of an outstanding request.",
)  # fmt: skip
def kiss_forged_nak(probe: ClientProbe) -> Iterator[Finding]:
    asked = until_asked(judge.DROPPED_POLLS)
    with probe.scene(find("ntp-silence")) as scene:  # a forged NAK alone is no more than silence
        allowed = max(1, len(scene.meet(until=asked, wait=judge.SHORT).sessions))
    for name in ("forged-nak", "forged-nak-wrong-uid"):
        alone = find(name)
        assert alone.answer is not None
        answer = then_time(alone.answer)
        both = replace(alone, name=f"{name}, then a genuine reply", expected=Expected.USE, answer=answer)
        for fault, until, wait, most in (
            (alone, asked, judge.SHORT, allowed), (both, until_accepted, judge.LONG, 1),
        ):  # fmt: skip
            with probe.scene(fault) as scene:
                seen = scene.meet(until=until, wait=wait)
            yield from judge.meeting(seen, fault)
            yield judge.no_key_exchange(seen, most)


@GROUP.check(
    "C09", "kiss-nak-then-time", section="5.7", severity=Severity.SHOULD, ref="A76",
    sends="An NTS NAK with the right Unique Identifier, and the genuine reply right after it.",
    expects="The client uses the genuine reply and runs no key exchange.",
    rule="An NTS NAK is not authentic: before it believes one, a client waits until its next poll for a valid reply.",
)  # fmt: skip
def kiss_nak_then_time(probe: ClientProbe) -> Iterator[Finding]:
    fault = find("nak-then-time")
    with probe.scene(fault) as scene:
        seen = scene.meet(until=until_accepted)
    yield from judge.meeting(seen, fault)
    yield judge.no_key_exchange(seen)


@GROUP.check(
    "C10", "kiss-nak-for-ever", section="5.7", severity=Severity.CRIT, ref="A76 A77 A78 A80",
    sends="Nothing but NTS NAKs; the NTS-KE server fails after the first key exchange.",
    expects="The client uses its old cookies until a key exchange succeeds, runs key exchanges rarely, and sends no"
    " plain NTP.",
    rule="After an NTS NAK a client runs a key exchange, but not in quick succession. Until one succeeds, it uses the"
    " cookies it has.",
)  # fmt: skip
def kiss_nak_for_ever(probe: ClientProbe) -> Iterator[Finding]:
    fault = find("nak")

    def first_only(talk: KeTalk) -> None:
        if talk.session is scene.ke.sessions[0]:
            sound(talk)
        else:
            talk.request()
            talk.reset()

    with probe.scene(fault, ke=replace(SOUND_KE, answer=first_only)) as scene:
        seen = scene.meet(until=lambda s: s.seconds > WATCH and len(s.requests) > 0, count=3)
        yield from judge.meeting(seen, fault)
        text = f"{seen.what}: {counted(len(seen.sessions), 'key exchange')} within {seen.seconds:.0f} s"
        if len(seen.sessions) > MAX_EXCHANGES:
            yield failed(text, Severity.MUST)
        else:
            yield passed(text)
        yield from _keeps_asking(probe, scene, seen)


def _keeps_asking(probe: ClientProbe, scene: Scene, seen: Seen) -> Iterator[Finding]:
    """The client must go on with its old cookies: a daemon while it runs, others when they are started again."""
    if not probe.client.resident:
        if not probe.client.keeps:
            yield skipped("whether the client keeps old cookies: each run begins with a key exchange", Severity.INFO)
            return
        scene.ke.close()
        seen = scene.meet(until=lambda s: bool(s.requests))
        yield from judge.careful(seen)
    later = seen.nts_requests if not probe.client.resident else seen.nts_requests[2:]
    if later:
        yield passed("when no key exchange succeeds, the client goes on using old cookies")
    else:
        yield failed(f"{seen.what}: the client gives up its old cookies ({judge.did(seen)})", Severity.SHOULD)


@GROUP.check(
    "C11", "kiss-rate-deny", section="5.7", severity=Severity.MUST, ref="A75 B13",
    sends="Authentic kisses RATE, DENY and RSTR after some genuine replies; the same unprotected, before genuine ones.",
    expects="The client obeys authentic ones (fewer requests after RATE, none after DENY and RSTR) and takes no time"
    " from them; unprotected ones have no effect.",
    rule="A kiss for an outstanding request brings no time and must be obeyed (RFC 5905 section 7.4).",
)  # fmt: skip
def kiss_rate_deny(probe: ClientProbe) -> Iterator[Finding]:
    yield from judge.meet(probe, "kiss-rate", "kiss-deny", "kiss-rstr", "forged-rate", "forged-deny", "forged-rstr")
    if not probe.client.resident:
        yield skipped("whether the client polls less after a kiss: it does not poll by itself", Severity.INFO)
        return
    for code in ("rate", "deny", "rstr"):
        yield from _obeys(probe, code)


def _obeys(probe: ClientProbe, code: str) -> Iterator[Finding]:
    """How often a daemon polls before and after authentic kisses."""
    fault = find(f"kiss-{code}")
    kiss = fault.answer
    assert kiss is not None

    def later(talk: NtpTalk) -> list[bytes | float]:
        return [talk.time()] if len(talk.requests) <= GENUINE else kiss(talk)

    def watched(seen: Seen) -> bool:
        asked = seen.requests
        return len(asked) > GENUINE and seen.requests[GENUINE].at + WATCH < seen.requests[0].at + seen.seconds

    with probe.scene(replace(fault, name=f"{fault.name} after {GENUINE} genuine replies", answer=later)) as scene:
        seen = scene.meet(until=watched, seconds=3 * WATCH)
    yield from judge.careful(seen)
    at = [r.at for r in seen.nts_requests]
    if len(at) <= GENUINE:
        yield skipped(f"{seen.what}: only {len(at)} requests came")
        return
    rhythm, after = at[GENUINE] - at[GENUINE - 1], at[GENUINE + 1 :]
    if code == "rate":
        expected = WATCH / max(rhythm, 0.001)
        text = f"{seen.what}: {len(after)} requests within {WATCH:g} s, one each {rhythm:.2g} s before"
        yield passed(text) if len(after) < expected / 1.5 else failed(text)
    elif after:
        yield failed(f"{seen.what}: {len(after)} more requests within {WATCH:g} s")
    else:
        yield passed(f"{seen.what}: no more requests")


@GROUP.check(
    "C26", "kiss-nak-renewal", section="5.7", severity=Severity.SHOULD, ref="A76 A77",
    sends="Cookies that the time server cannot open, so it answers with NTS NAKs; sound ones from the second key"
    " exchange on.",
    expects="The client runs another key exchange before it has spent its last cookie, and then takes the time.",
    rule="If only an NTS NAK comes until the next poll, a client should run a key exchange; old cookies do not help.",
)  # fmt: skip
def kiss_nak_renewal(probe: ClientProbe) -> Iterator[Finding]:
    lost = fresh_ring()

    def later_sound(talk: KeTalk) -> None:
        talk.send(talk.respond(talk.request(), ring=lost if talk.session is scene.ke.sessions[0] else None))

    count = COOKIES_WANTED + 2
    with probe.scene(what="NTS NAKs", ke=replace(SOUND_KE, answer=later_sound)) as scene:
        seen = scene.meet(until=lambda s: bool(s.accepted) or until_asked(count)(s), count=count, wait=judge.SHORT)
    yield from judge.careful(seen)
    renewed = seen.sessions[1].started if len(seen.sessions) > 1 else float("inf")
    refused = sum(r.at < renewed for r in seen.nts_requests)
    if not refused:
        yield skipped(f"{seen.what}: the client never {'came' if seen.never_came else 'asked for the time'}")
    elif len(seen.sessions) > 1 and seen.runs == 1:
        late = refused >= COOKIES_WANTED
        text = f"{seen.what}: {counted(refused, 'request')} before the next key exchange"
        yield failed(f"{text}, so all cookies were spent first") if late else passed(text)
        yield judge.used(seen)
    elif not seen.resident:
        yield skipped("whoever starts the client must run the key exchange that should follow")
    elif refused >= COOKIES_WANTED:
        yield failed(f"{seen.what}: {counted(refused, 'request')}, and no key exchange")
    else:
        yield skipped(f"{seen.what}: no key exchange within {seen.seconds:.0f} s, but the client may wait longer")

# SPDX-License-Identifier: MIT
"""C07, C12 and C13: the stock of cookies, and how the client refills it (RFC 8915 section 5.7)."""

from __future__ import annotations

from collections.abc import Iterator

from nts.base.registry import COOKIES_WANTED, MAX_PLACEHOLDERS, FieldType
from nts.check.client import judge
from nts.check.client.probe import ClientProbe, Seen, until_accepted, until_asked
from nts.check.model import Finding, Group, Severity, failed, passed, skipped, warned
from nts.check.peer import NtpTalk
from nts.check.peer.faults import find
from nts.codec import extensions

GROUP: Group[ClientProbe] = Group("Cookies")

MANY = 12  # requests: enough to spend all cookies of the key exchange and some of the replies'


@GROUP.check(
    "C07", "cookie-in-clear", section="5.7", severity=Severity.MUST, ref="A66 A68",
    sends="Genuine replies with additional cookies in clear: before the authenticator, and after it.",
    expects="The client keeps only encrypted cookies: the others never come back.",
    rule="Only encrypted fields bring cookies; the client discards fields after the authenticator.",
)  # fmt: skip
def cookie_in_clear(probe: ClientProbe) -> Iterator[Finding]:
    for name in ("clear-cookies", "trailing-cookies"):
        yield from _clear_cookies(probe, name)


def _clear_cookies(probe: ClientProbe, name: str) -> Iterator[Finding]:
    with probe.scene(find(name)) as scene:
        seen = scene.meet(count=MANY, wait=1.0, until=until_asked(MANY))
        clear = {f.body for reply in scene.ntp.sent for f in extensions.walk(reply)[0] if f.type == FieldType.COOKIE}
    yield from judge.careful(seen)
    if clear & set(seen.spent):
        yield failed(f"{seen.what}: {len(clear & set(seen.spent))} cookies in clear were stored and spent")
    elif seen.accepted is False:
        yield warned(f"{seen.what}: takes no time from such replies, so no cookies")
    elif len(seen.requests) <= COOKIES_WANTED:
        yield skipped(f"{seen.what}: only {len(seen.requests)} requests came, the first 8 with older cookies")
    else:
        yield passed(f"{seen.what}: none of {len(clear)} cookies in clear came back in {len(seen.spent)} requests")


@GROUP.check(
    "C12", "cookie-silence", section="5.7", severity=Severity.SHOULD, ref="A63 A64",
    sends="No reply to any time request.",
    expects="Each request has its own cookie and asks for one more than the one before (up to seven placeholders);"
    " then comes a key exchange, and never plain NTP.",
    rule="Cookies should not be reused. Placeholders refill the stock to eight. Without cookies, a key exchange is"
    " due.",
)  # fmt: skip
def cookie_silence(probe: ClientProbe) -> Iterator[Finding]:
    fault = find("ntp-silence")
    with probe.scene(fault) as scene:
        seen = scene.meet(count=9, wait=0.2, until=until_asked(40), seconds=30)
    yield from judge.meeting(seen, fault)
    yield judge.spent_once(seen)
    if not seen.resident and len(seen.sessions) >= len(seen.requests) > 1:
        yield skipped("how the client refills its stock: each run begins with a key exchange")
        return
    asked = [len(r.placeholders) for r in seen.nts_requests][:COOKIES_WANTED]
    if max(asked, default=0) > MAX_PLACEHOLDERS:
        yield failed(f"{seen.what}: {max(asked)} placeholders in a request", Severity.MUST)
    elif len(asked) < COOKIES_WANTED:
        yield skipped(f"{seen.what}: only {len(asked)} requests came")
    elif asked == sorted(asked) and asked[-1] > asked[0]:
        yield passed(f"{seen.what}: placeholders grow to {asked[-1]}")
    else:
        yield warned(f"{seen.what}: placeholders are {', '.join(map(str, asked))}")
    if len(seen.sessions) > 1:
        yield passed(f"{seen.what}: a key exchange follows")
    elif seen.resident:
        yield skipped(f"{seen.what}: no key exchange within {seen.seconds:.0f} s, but the client may wait longer")
    else:
        yield skipped("whoever starts the client must run the key exchange that should follow")


@GROUP.check(
    "C13", "cookie-shapes", section="5.7", severity=Severity.MUST, ref="A30 A64",
    sends="Replies without cookies, with 9 and with 20, with cookies of 1000 octets, and of mixed lengths.",
    expects="The client goes on working, keeps at most eight cookies, and sends no packet longer than 1280 octets.",
    rule="Cookies are opaque and of any length. A client keeps up to eight and avoids fragmentation.",
)  # fmt: skip
def cookie_shapes(probe: ClientProbe) -> Iterator[Finding]:
    for name in ("reply-without-cookies", "twenty-cookies", "cookie-length-change", "mixed-cookie-lengths"):
        fault = find(name)
        with probe.scene(fault) as scene:
            few = name == "reply-without-cookies"  # the client must not run out of them
            count = COOKIES_WANTED - 3 if few else MANY
            seen = scene.meet(count=count, until=until_asked(count))
            yield from judge.meeting(seen, fault)
            scene.ntp.behave(answer=_genuine)
            scene.what = f"after {name}, sound replies"
            seen = scene.meet(until=until_accepted)
        yield from judge.careful(seen)
        yield judge.used(seen)
    yield from _hoarded(probe)


def _genuine(talk: NtpTalk) -> list[bytes | float]:
    """Like the sound answer, but also for cookies that the server did not make."""
    return [talk.time()]


def _hoarded(probe: ClientProbe) -> Iterator[Finding]:
    """Give the client more cookies than it may keep, then none, and see how many it has."""
    fault, silence = find("nine-cookies"), find("ntp-silence")
    with probe.scene(fault) as scene:
        yield from judge.meeting(scene.meet(count=3, until=until_asked(3)), fault)
        scene.ntp.behaviour, scene.what = silence.ntp(scene.ntp.behaviour), "silence after nine cookies a reply"
        count = COOKIES_WANTED + 4
        yield from _stock(probe, scene.meet(count=count, wait=0.2, until=until_asked(count), seconds=15))


def _stock(probe: ClientProbe, seen: Seen) -> Iterator[Finding]:
    """How many cookies the client spends before its next key exchange."""
    yield from judge.careful(seen)
    if not probe.client.keeps:
        yield skipped("how many cookies the client keeps: each run begins with a key exchange", Severity.INFO)
        return
    began = seen.sessions[0].started if seen.sessions else float("inf")
    cookies = {c for r in seen.nts_requests if r.at < began for c in r.bodies(FieldType.COOKIE)}
    text = f"{seen.what}: {len(cookies)} cookies in stock"
    yield failed(text) if len(cookies) > COOKIES_WANTED else passed(text)

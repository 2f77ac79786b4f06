# SPDX-License-Identifier: MIT
"""C01 to C06: replies that a client must not believe (RFC 8915 section 5.7)."""

from __future__ import annotations

from collections.abc import Iterator

from nts.check.client import judge
from nts.check.client.probe import ClientProbe, until_asked
from nts.check.model import Finding, Group, Severity, failed
from nts.check.peer.faults import find
from nts.check.peer.ntp import NtpTalk

GROUP: Group[ClientProbe] = Group("Replies that are not authentic")

_DROPPED = "The client takes no time and goes on waiting for a genuine reply."
_VERIFY = (
    "A client drops every reply that is not authentic under the S2C key, or that does not hold the Unique Identifier "
    "of an outstanding request."
)

GROUP.check(
    "C01", "reply-plain", section="5.7", severity=Severity.CRIT, ref="A72",
    sends="A plain NTP reply of 48 octets with the right origin timestamp; the same followed by a crypto-NAK.",
    expects=_DROPPED, rule=_VERIFY,
)(lambda p: judge.meet(p, "plain-reply", "crypto-nak"))  # fmt: skip
GROUP.check(
    "C02", "reply-stripped-authenticator", section="5.7", severity=Severity.CRIT, ref="A72",
    sends="A reply with the right Unique Identifier and without an authenticator.", expects=_DROPPED, rule=_VERIFY,
)(lambda p: judge.meet(p, "stripped-authenticator"))  # fmt: skip
GROUP.check(
    "C03", "reply-stripped-uid", section="5.7", severity=Severity.CRIT, ref="A72",
    sends="An authentic reply without a Unique Identifier.", expects=_DROPPED, rule=_VERIFY,
)(lambda p: judge.meet(p, "stripped-uid"))  # fmt: skip
GROUP.check(
    "C04", "reply-wrong-uid", section="5.7", severity=Severity.CRIT, ref="A72",
    sends="Authentic replies with a random Unique Identifier, with the first 28 octets of the right one, and with the"
    " one of an earlier request.",
    expects=_DROPPED, rule=_VERIFY,
)(lambda p: judge.meet(p, "wrong-uid", "uid-prefix", "older-uid"))  # fmt: skip
GROUP.check(
    "C05", "reply-bad-tag", section="5.6", severity=Severity.CRIT, ref="A57 A58",
    sends="Replies sealed with a random key and with the C2S key, and one with a bit of its header changed.",
    expects=_DROPPED,
    rule="The authenticator covers everything before it, and replies are sealed with the S2C key.",
)(lambda p: judge.meet(p, "bad-tag", "c2s-key", "bit-flip"))  # fmt: skip


@GROUP.check(
    "C06", "reply-replayed", section="5.7", severity=Severity.CRIT, ref="A72 B11",
    sends="Each genuine reply twice, with earlier ones before it; then only old replies; then authentic ones with"
    " another origin timestamp.",
    expects="The client uses each reply once and only for its own request: it stores no cookie twice and takes no time"
    " from old replies.",
    rule="A reply belongs to the request whose Unique Identifier and transmit timestamp it returns.",
)  # fmt: skip
def reply_replayed(probe: ClientProbe) -> Iterator[Finding]:
    count = 12  # more than the eight cookies of the key exchange, so the replies' cookies are spent too
    with probe.scene(find("replay")) as scene:
        scene.what = "genuine replies, each twice"
        seen = scene.meet(count=count, until=until_asked(count))
        yield from judge.careful(seen)
        yield judge.used(seen)
        twice = len(seen.spent) - len(set(seen.spent))
        if twice:
            yield failed(f"{seen.what}: the cookies of a replayed reply are stored again ({twice} of them came twice)")
        scene.what, old = "old replies alone", scene.ntp.sent[-8:]

        def replay(_talk: NtpTalk) -> list[bytes | float]:
            return [*old]

        scene.ntp.behave(answer=replay)
        seen = scene.meet(until=until_asked(judge.DROPPED_POLLS), wait=judge.SHORT)
    yield from judge.careful(seen)
    yield judge.not_taken(seen)
    yield from judge.meet(probe, "bad-origin")

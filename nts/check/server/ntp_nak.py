# SPDX-License-Identifier: MIT
"""Server checks of how a server treats requests that are not authentic: NTS NAK, and never time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nts.base.registry import FieldType
from nts.check.model import Finding, Group, Severity
from nts.check.ntp import judge
from nts.check.ntp.forge import Forge, Request
from nts.check.ntp.probe import Make
from nts.check.server.probe import ServerProbe
from nts.codec.extensions import FIELD_HEADER
from nts.codec.ntp import HEADER_LENGTH

UID_FLIPS, COOKIE_FLIPS = 4, 8  # how many octets of these fields the sweep changes

group: Group[ServerProbe] = Group("NTP: authentication")

group.check(
    41, "nak-badtag", section="5.7", severity=Severity.SHOULD, ref="A73 A74",
    sends="A request with one bit of its tag flipped.",
    expects="NTSN with the Unique Identifier, without a cookie or an authenticator. Silence is a warning, time a"
    " critical failure.",
    rule="If a request fails authentication, the server should answer with a kiss-o'-death NTSN, which is itself"
    " unprotected.",
)(lambda p: judge.findings(
    [p.ntp.ask(lambda f: replace(f.usual().flipped(-1, 0), label="a bit of the tag flipped"), linger=True)],
    judge.expect_nak,
))  # fmt: skip
group.check(
    42, "nak-badcookie", section="5.7", severity=Severity.SHOULD, ref="A73 A74",
    sends="A request with random octets as the cookie.",
    expects="NTSN with the Unique Identifier, without a cookie or an authenticator. Silence is a warning, time a"
    " critical failure.",
    rule="If a server cannot use a cookie, it should answer with a kiss-o'-death NTSN, so that the client gets new"
    " cookies.",
)(lambda p: judge.findings(
    [p.ntp.ask(lambda f: f.request("a random cookie", f.uid(), f.random_cookie(), f.seal()), linger=True)],
    judge.expect_nak,
))  # fmt: skip


def _flips(probe: ServerProbe) -> Iterator[Make]:
    """A flipped bit in each octet of the header, and in some of the identifier and the cookie."""
    random = probe.random

    def flip(octet: int, where: str) -> Make:
        bit = random.randrange(8)
        return lambda f: f.usual().flipped(octet, bit, where)

    model = probe.ntp.forge.usual()
    for octet in range(HEADER_LENGTH):
        yield flip(octet, "the header")
    for kind, name, count in (
        (FieldType.UNIQUE_IDENTIFIER, "the identifier", UID_FLIPS),
        (FieldType.COOKIE, "the cookie", COOKIE_FLIPS),
    ):
        start, length = model.offset(kind) + FIELD_HEADER, len(model.bodies(kind)[0])
        middle = random.sample(range(1, length - 1), min(count, length) - 2) if length > 2 else []
        for octet in sorted({0, length - 1, *middle}):
            yield flip(start + octet, name)


@group.check(
    43, "ntp-bitflip-sweep", section="5.6", severity=Severity.CRIT, ref="A57",
    sends="Usual requests with one bit flipped after sealing: in each octet of the header, in 4 of the Unique"
    " Identifier, in 8 of the cookie. Once each.",
    expects="Never an authentic reply, and the server still answers usual requests. Time without protection is a"
    " warning.",
    rule="The authenticator covers all octets before it, so any change there makes the request inauthentic.",
)  # fmt: skip
def ntp_bitflip_sweep(probe: ServerProbe) -> Iterator[Finding]:
    answers = probe.ntp.burst(_flips(probe), tries=1)
    yield from judge.sweep(answers, judge.expect_no_authentic_time, "requests with a flipped bit")


@group.check(
    44, "ntp-key-swap", section="5.6", severity=Severity.CRIT, ref="A58",
    sends="A request sealed with the S2C key.",
    expects="NTSN or silence, never time.",
    rule="Requests are sealed with the C2S key, and only replies with the S2C key. Otherwise a reply could be"
    " reflected as a request.",
)  # fmt: skip
def ntp_key_swap(probe: ServerProbe) -> Iterator[Finding]:
    def swapped(forge: Forge) -> Request:
        seal = replace(forge.seal(), cipher=forge.ticket.keys.s2c_cipher)
        return forge.usual("sealed with the S2C key", seal=seal)

    yield from judge.findings(probe.ntp.burst([swapped]), judge.expect_no_time)

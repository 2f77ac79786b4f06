# SPDX-License-Identifier: MIT
"""What the way of an NTS association comes to: a finding for every observation. Pure: `client.explain` observes."""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from nts.base.errors import NTSError
from nts.base.text import about, harmless
from nts.client.finding_texts import Finding, finding
from nts.system.tls_probe import Reply

# --- names and connections -------------------------------------------------------------------------------------------


class Reach(Enum):
    """What became of an attempt to reach a port of an address. The first member is the most telling."""

    SILENT = "no answer"
    UNREACHABLE = "an error: not reachable, or prohibited"
    REFUSED = "refused"
    NO_ROUTE = "this machine has no route to it"


_REACHES = {
    errno.ECONNREFUSED: Reach.REFUSED,
    errno.ENETUNREACH: Reach.NO_ROUTE,
    errno.EADDRNOTAVAIL: Reach.NO_ROUTE,
}
_CONNECT = {
    Reach.SILENT: "port-blocked",
    Reach.UNREACHABLE: "prohibited",
    Reach.REFUSED: "refused",
    Reach.NO_ROUTE: "no-route",
}


def reach(error: OSError) -> Reach:
    """The meaning of an error of connect() or send()."""
    return Reach.SILENT if isinstance(error, TimeoutError) else _REACHES.get(error.errno or 0, Reach.UNREACHABLE)


def from_error(name: str, error: NTSError) -> Finding:
    """A finding that is an error of the clients, which has the exit code."""
    made = finding(name, error=error, hint=error.hint or "")
    return Finding(made.id, error.exit_code, made.meaning, made.advice)


def no_connection(reaches: Collection[Reach], port: int) -> Finding:
    """No address accepted a TCP connection."""
    return finding(_CONNECT[next(r for r in Reach if r in reaches)], port=port)


# --- TLS -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello:
    """A handshake that failed, and what later ones got: with a short ClientHello, then with one like the first."""

    reply: Reply
    octets: int
    first: bytes = b""
    problem: str = ""
    is_old: bool = False
    refuses_alpn: bool = False
    short_octets: int = 0
    short_reply: Reply | None = None
    later_reply: Reply | None = None


def no_handshake(hello: Hello, config: str) -> Finding:
    """The handshake failed. `config` is a file of OpenSSL settings that make the ClientHello short."""
    if hello.refuses_alpn:
        return finding("not-ntske", how="refuses")
    if hello.is_old:
        return finding("old-tls")
    if hello.later_reply is Reply.TLS:
        return finding("tls-unsteady")
    if hello.short_reply is Reply.TLS:
        return finding("large-hello", octets=hello.octets, short=hello.short_octets, config=config)
    match hello.reply:
        case Reply.OTHER:
            line = hello.first.decode(errors="replace").strip().partition("\n")[0].strip()
            return finding("not-tls", said=line and f" ({harmless(line, 60)!r})")
        case Reply.SILENCE:
            return finding("tls-silent")
        case Reply.CLOSED | Reply.RESET:
            return finding("tls-closed")
        case Reply.TLS:
            return finding("tls-failed", problem=hello.problem)


@dataclass(frozen=True)
class Certificate:
    """What counts about a certificate, and what was expected."""

    errors: tuple[int, ...]
    """codes of X509_STORE_CTX_get_error(3)"""
    check: str
    """the check that failed first, in words"""
    is_for_us: bool
    """whether the name is in it"""
    name: str
    seen: str
    """names, issuer, dates"""
    issuer: str
    """of the last certificate that the server sent"""
    expected: str
    """whom we trust"""
    clock_error: tuple[float, float] = (0.0, 0.0)
    """how far our clock would have to be behind, at least and at most, in seconds"""
    tolerance: float = 0.0
    """by how much it may be wrong, in seconds"""
    speaks_ntske: bool = True

    @property
    def is_out_of_time(self) -> bool:
        """Whether it is not valid by our clock."""
        return bool(_TIME & set(self.errors))

    @property
    def least_clock_error(self) -> float:
        """How far our clock must be behind for it to be valid, in seconds; below 0: ahead."""
        least, most = self.clock_error
        return least if least > 0 else min(most, 0.0)

    @property
    def is_tolerable(self) -> bool:
        """Whether the clock may be so wrong."""
        least, most = self.clock_error
        return least <= most and abs(self.least_clock_error) <= self.tolerance


_NOT_YET, _EXPIRED = 9, 10
_TIME = {_NOT_YET, _EXPIRED}
_UNTRUSTED = {2, 7, 18, 19, 20, 21, 24}


def bad_certificate(c: Certificate) -> Finding | None:
    """The first thing that is wrong with a certificate; None if it is acceptable."""
    if _UNTRUSTED & set(c.errors):
        same = " of the same name, but with another key" if c.issuer in c.expected.split(" or ") else ""
        weight = "" if c.speaks_ntske else "; that it does not select ntske/1 either speaks for the former"
        return finding("untrusted", issuer=c.issuer, expected=c.expected + same, weight=weight)
    if set(c.errors) - _TIME:
        return finding("certificate", check=c.check, seen=c.seen)
    if c.is_out_of_time and not c.is_tolerable:
        return _out_of_time(c)
    return None if c.is_for_us else finding("wrong-name", name=c.name, seen=c.seen)


def _out_of_time(c: Certificate) -> Finding:
    if c.clock_error[0] > c.clock_error[1]:
        return finding("certificate", check="it and its issuer are never valid at the same time", seen=c.seen)
    name = "not-yet-valid" if _NOT_YET in c.errors else "expired"
    wrong = c.least_clock_error
    return finding(name, seen=c.seen, wrong=f"at least {about(wrong)} {_direction(wrong)}")


def _direction(seconds: float) -> str:
    return "behind" if seconds > 0 else "ahead"


def clock_verdict(c: Certificate, offset: float) -> Finding:
    """What the server's time, `offset` seconds ahead of ours, says about a certificate that is out of its time."""
    least, most = c.clock_error
    if not least <= offset <= most:
        return _out_of_time(c)
    return finding("clock-wrong", wrong=f"{timedelta(seconds=round(abs(offset)))} {_direction(offset)}")


# --- NTP -------------------------------------------------------------------------------------------------------------


class Got(Enum):
    """What came back for an NTP request. The first member is the most telling."""

    TIME = "time"
    NAK = "an NTS NAK"
    UNUSABLE = "an authentic answer without usable time"
    KISS = "an unprotected kiss-o'-death"
    STRIPPED = "an answer without NTS"
    ALTERED = "an answer that is not authentic"
    MISMATCH = "an answer to another request"
    REFUSED = "refused"
    UNREACHABLE = "an error: not reachable, or prohibited"
    SILENCE = "no answer"


_TIME_LESS = {
    Got.NAK: "keys-lost", Got.UNUSABLE: "unusable", Got.KISS: "kiss", Got.STRIPPED: "stripped", Got.ALTERED: "altered",
    Got.MISMATCH: "mismatch", Got.REFUSED: "ntp-refused", Got.UNREACHABLE: "ntp-prohibited",
    Got.SILENCE: "ntp-blocked",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """An NTP request and what came back."""

    octets: int
    got: Got
    reason: str = ""
    """more about the answer"""


def no_time(port: int, asked: Sequence[Asked], plain: Got | None) -> Finding:
    """No NTS request got the time. `plain`: what a request of 48 octets got, if one was sent."""
    best = min(asked, key=lambda a: list(Got).index(a.got))
    got = plain if best.got is Got.SILENCE and plain in (Got.REFUSED, Got.UNREACHABLE) else best.got
    if best.got is Got.SILENCE and plain is Got.TIME:
        return finding("nts-filtered", vanishing=best.octets, port=port)
    return finding(_TIME_LESS[got], port=port, reason=best.reason or got.value)


def some_time(asked: Sequence[Asked], unreached: Sequence[str]) -> Finding:
    """Time came from a server that was asked all this. `unreached`: addresses that did not work."""
    passing = max(a.octets for a in asked if a.got is Got.TIME)
    longer = [a.octets for a in asked if a.got is Got.SILENCE and a.octets > passing]
    if longer:
        return finding("size-limit", passing=passing, vanishing=min(longer))
    if unreached:
        return finding("some-addresses", unreached=", ".join(unreached))
    return finding("loss" if any(a.got is Got.SILENCE for a in asked) else "ok")

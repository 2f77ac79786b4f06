# SPDX-License-Identifier: MIT
"""What observations of --explain come to, where a real fault would be hard to arrange; and how findings are worded."""

from __future__ import annotations

import errno
import re

import pytest

from nts.base.text import about, span
from nts.client import findings
from nts.client.finding_texts import FINDINGS
from nts.client.findings import Asked, Certificate, Got, Hello, Reach
from nts.system.tls_probe import Reply

SOUND = Certificate((), "", True, "time.example", "for time.example", "CN=Us", "CN=Us")
DAY = 86400.0


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([TimeoutError(), OSError(errno.ENETUNREACH, "")], "port-blocked"),
        ([OSError(errno.ENETUNREACH, ""), OSError(errno.ECONNREFUSED, "")], "refused"),
        ([OSError(errno.ECONNREFUSED, ""), OSError(errno.EHOSTUNREACH, "")], "prohibited"),
        ([OSError(errno.EACCES, "")], "prohibited"),
        ([OSError(errno.EADDRNOTAVAIL, "")], "no-route"),
    ],
)
def test_of_several_addresses_the_most_telling_counts(errors: list[OSError], expected: str) -> None:
    reaches: list[Reach] = [findings.reach(e) for e in errors]
    for order in (reaches, reaches[::-1]):
        assert findings.no_connection(order, 4460).id == expected


@pytest.mark.parametrize(
    ("first", "short", "later", "expected"),
    [
        (Reply.SILENCE, Reply.TLS, Reply.SILENCE, "large-hello"),
        (Reply.CLOSED, Reply.TLS, Reply.RESET, "large-hello"),
        (Reply.SILENCE, Reply.TLS, None, "large-hello"),
        (Reply.SILENCE, Reply.TLS, Reply.TLS, "tls-unsteady"),
        (Reply.SILENCE, Reply.SILENCE, None, "tls-silent"),
        (Reply.SILENCE, None, None, "tls-silent"),
        (Reply.RESET, Reply.CLOSED, None, "tls-closed"),
        (Reply.OTHER, None, None, "not-tls"),
    ],
)
def test_only_what_a_later_handshake_shows_is_claimed(
    first: Reply, short: Reply | None, later: Reply | None, expected: str
) -> None:
    hello = Hello(first, 1500, short_octets=240, short_reply=short, later_reply=later)
    assert findings.no_handshake(hello, "x25519.cnf").id == expected


def certificate(*errors: int, tolerance: float = 0, is_for_us: bool = True, clock: tuple[float, float]) -> Certificate:
    return Certificate(errors, "it", is_for_us, "time.example", "seen", "CN=Us", "CN=Us", clock, tolerance)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (certificate(9, clock=(3 * DAY, 9 * DAY)), "not-yet-valid"),
        (certificate(9, clock=(3 * DAY, 9 * DAY), tolerance=4 * DAY), None),
        (certificate(9, clock=(3 * DAY, 9 * DAY), tolerance=4 * DAY, is_for_us=False), "wrong-name"),
        (certificate(10, clock=(-9 * DAY, -3 * DAY), tolerance=2 * DAY), "expired"),
        (certificate(10, clock=(-9 * DAY, -3 * DAY), tolerance=4 * DAY), None),
        (certificate(9, 10, clock=(3 * DAY, -3 * DAY), tolerance=3650 * DAY), "certificate"),
        (certificate(20, 10, clock=(-9 * DAY, -3 * DAY), tolerance=4 * DAY), "untrusted"),
        (certificate(10, 26, clock=(-9 * DAY, -3 * DAY), tolerance=4 * DAY), "certificate"),
        (certificate(26, clock=(-9 * DAY, 9 * DAY), tolerance=4 * DAY), "certificate"),
        (certificate(clock=(-9 * DAY, 9 * DAY)), None),
    ],
)
def test_the_tolerance_excuses_dates_and_nothing_else(seen: Certificate, expected: str | None) -> None:
    found = findings.bad_certificate(seen)
    assert (found and found.id) == expected


@pytest.mark.parametrize(("offset", "expected"), [(4 * DAY, "clock-wrong"), (2 * DAY, "not-yet-valid")])
def test_the_servers_time_says_whose_fault_it_is(offset: float, expected: str) -> None:
    seen = certificate(9, clock=(3 * DAY, 9 * DAY), tolerance=30 * DAY)
    assert findings.clock_verdict(seen, offset).id == expected


@pytest.mark.parametrize(
    ("got", "plain", "expected"),
    [
        ([Got.SILENCE, Got.REFUSED], None, "ntp-refused"),
        ([Got.STRIPPED, Got.NAK, Got.SILENCE], None, "keys-lost"),
        ([Got.SILENCE], Got.SILENCE, "ntp-blocked"),
        ([Got.SILENCE], Got.TIME, "nts-filtered"),
        ([Got.SILENCE], Got.REFUSED, "ntp-refused"),
        ([Got.SILENCE], Got.UNREACHABLE, "ntp-prohibited"),
    ],
)
def test_of_several_answers_the_most_telling_counts(got: list[Got], plain: Got | None, expected: str) -> None:
    assert findings.no_time(123, [Asked(228, g) for g in got], plain).id == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([Asked(228, Got.TIME), Asked(956, Got.TIME)], "ok"),
        ([Asked(228, Got.SILENCE), Asked(228, Got.TIME), Asked(956, Got.TIME)], "loss"),
        ([Asked(228, Got.NAK), Asked(228, Got.TIME)], "ok"),
        ([Asked(228, Got.TIME), Asked(956, Got.SILENCE), Asked(540, Got.TIME)], "size-limit"),
        ([Asked(228, Got.TIME), Asked(956, Got.KISS)], "ok"),
    ],
)
def test_sizes(asked: list[Asked], expected: str) -> None:
    assert findings.some_time(asked, []).id == expected


def test_findings_are_worded_alike() -> None:
    for name, (_, meaning, advice) in FINDINGS.items():
        assert re.fullmatch(r"[a-z-]+", name)
        for text in (meaning, advice):
            assert not text.endswith(".")
            assert "  " not in text
            assert text[:1] == text[:1].lower() or text.startswith(("NTS", "NTP", "TCP", "{"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1m", 60), ("3d", 259200), ("59s", None), ("2d1", None), ("", None), ("d", None)],
)
def test_spans_of_time(text: str, seconds: int | None) -> None:
    assert span(text, 60, 259200) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 second"), (60, "60 seconds"), (61, "2 minutes"), (-3601, "2 hours"), (86401, "2 days"), (0, "0 seconds")],
)
def test_a_span_of_time_is_said_in_its_largest_unit(seconds: float, text: str) -> None:
    assert about(seconds) == text

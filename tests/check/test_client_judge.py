# SPDX-License-Identifier: MIT
"""What is made of a client's packets, where it is easily misjudged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from nts.base.registry import NTS_FIELDS
from nts.check.client import judge, requests
from nts.check.client.probe import Seen, _no_time
from nts.check.model import Grade
from nts.check.peer import NtpPeer, craft
from nts.check.peer.faults import Side, find
from nts.check.peer.ke import KeSession
from nts.check.peer.ntp import NtpTalk


@pytest.fixture
def request_seen() -> Iterator[NtpTalk]:
    """A request with an identifier, a cookie and an authenticator, by its form."""
    packet = bytes([0x23]) + bytes(47)
    packet += b"".join(bytes([kind, 4, 0, 36]) + bytes(32) for kind in (1, 2, 4))
    with NtpPeer() as peer:
        yield NtpTalk(packet, ("127.0.0.1", 4000), peer)


def test_a_client_may_drop_a_reply_with_more_cookies_than_it_asked_for(request_seen: NtpTalk) -> None:
    """It is the server that must not send them (RFC 8915 section 5.7)."""
    seen = Seen("nine-cookies", True, requests=[request_seen], accepted=False)
    assert [f.grade for f in judge.meeting(seen, find("nine-cookies"))] == [Grade.WARN]


def test_a_packet_of_another_version_with_nts_fields_is_no_fallback(request_seen: NtpTalk) -> None:
    """ntpd-rs speaks NTPv5 if it is told to, even if it did not offer that; its fields end where they end."""
    talk = replace(request_seen, datagram=b"\x2b" + request_seen.datagram[1:] + bytes([4, 4, 0, 27]) + bytes(24))
    seen = Seen("unoffered-protocol", True, sessions=[KeSession("127.0.0.1:4000")], requests=[talk], accepted=False)
    findings = [(f.grade, f.text) for f in judge.meeting(seen, find("unoffered-protocol"))]
    assert findings == [(Grade.FAIL, "unoffered-protocol: goes on (1 NTP request)")]


def test_a_client_that_asks_nobody_for_the_time_is_told_from_one_that_takes_none(request_seen: NtpTalk) -> None:
    seen = Seen("sound servers", True, sessions=[KeSession("127.0.0.1:4000")], accepted=False, output="ends on TERM")
    assert "asks nobody for the time" in _no_time(seen)
    assert _no_time(replace(seen, requests=[request_seen])).endswith('it says "ends on TERM"')


def test_client_that_does_not_say_is_judged_by_what_it_sends(request_seen: NtpTalk) -> None:
    silent = Seen("x", False, accepted=None)
    asked = Seen("x", False, requests=[request_seen], accepted=None)
    assert judge.used(asked, Side.KE).grade is Grade.PASS
    assert judge.used(asked).grade is Grade.SKIP
    assert judge.used(silent).grade is Grade.SKIP
    assert "never came" in judge.used(silent).text
    assert judge.used(replace(silent, first=False)).grade is Grade.FAIL
    assert judge.not_taken(asked).grade is Grade.SKIP
    assert judge.not_taken(silent).grade is Grade.SKIP
    assert judge.sent_nothing(silent).grade is Grade.SKIP
    assert judge.aborted(silent).grade is Grade.SKIP
    assert judge.spent_once(asked).grade is Grade.PASS
    assert judge.spent_once(Seen("x", False, requests=[request_seen] * 2)).grade is Grade.WARN


def test_hammering_and_crashing_are_seen() -> None:
    sessions = [KeSession("127.0.0.1:4000", received=b"x") for _ in range(judge.MAX_CONNECTIONS + 1)]
    (finding,) = judge.careful(Seen("x", False, sessions=sessions))
    assert finding.grade is Grade.FAIL
    assert not list(judge.careful(Seen("x", False, sessions=sessions[1:])))
    assert judge.aborted(Seen("x", False, sessions=sessions)).grade is Grade.PASS
    for code in (-11, 139):
        (finding,) = judge.careful(Seen("x", False, code=code))
        assert finding.grade is Grade.FAIL
        assert "signal 11" in finding.text


def nts_packet(*fields: tuple[int, int, bytes]) -> bytes:
    """A packet of these fields: type, length of the body, what it begins with."""
    return bytes([0x23]) + bytes(47) + b"".join(craft.field(t, start.ljust(n, b"\0")) for t, n, start in fields)


UID, COOKIE, PLACEHOLDER, AUTH = NTS_FIELDS
GOOD_AUTH = (AUTH, 36, bytes([0, 16, 0, 16]))


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ("one identifier", [(UID, 32, b""), (COOKIE, 100, b""), (COOKIE, 100, b""), GOOD_AUTH]),
        ("nothing of NTS after", [(UID, 32, b""), (COOKIE, 100, b""), GOOD_AUTH, (PLACEHOLDER, 100, b"")]),
        ("an identifier of 32", [(UID, 28, b""), (COOKIE, 100, b""), GOOD_AUTH]),
        ("a nonce of 16", [(UID, 32, b""), (COOKIE, 100, b""), (AUTH, 28, bytes([0, 8, 0, 16]))]),
        ("a nonce of 16", [(UID, 32, b""), (COOKIE, 100, b""), (AUTH, 28, bytes([9, 9, 9, 9]))]),
        ("placeholders as long", [(UID, 32, b""), (COOKIE, 100, b""), (PLACEHOLDER, 96, b""), GOOD_AUTH]),
        ("placeholders of zeros", [(UID, 32, b""), (COOKIE, 100, b""), (PLACEHOLDER, 100, b"x"), GOOD_AUTH]),
        ("nothing", [(UID, 32, b""), (COOKIE, 100, b""), (PLACEHOLDER, 100, b""), GOOD_AUTH]),
    ],
)
def test_each_rule_of_a_request_can_be_broken(rule: str, fields: list[tuple[int, int, bytes]]) -> None:
    with NtpPeer() as peer:
        talk = NtpTalk(nts_packet(*fields), ("127.0.0.1", 4000), peer)
        broken = [f.text for f in requests._shape(Seen("x", False, requests=[talk])) if f.grade is Grade.FAIL]
    assert [text.startswith(rule) for text in broken] == ([True] if rule != "nothing" or broken else [])


def test_what_links_requests_is_seen() -> None:
    """A81, B14: a header that varies, and one port for all."""
    with NtpPeer() as peer:
        packets = [nts_packet((UID, 32, os.urandom(32)), (COOKIE, 100, b""), GOOD_AUTH) for _ in range(2)]
        packets[1] = packets[1][:2] + b"\6" + packets[1][3:]
        talks = [NtpTalk(p, ("127.0.0.1", 123), peer) for p in packets]
        findings = [*requests._freshness(Seen("x", False, requests=talks))]
        assert any("octet 2," in f.text for f in findings if f.grade is Grade.WARN)
        assert any("one port" in f.text for f in findings if f.grade is Grade.WARN)
        assert any("nonces come" in f.text for f in findings if f.grade is Grade.FAIL)
        shape = [f.text for f in requests._shape(Seen("x", False, requests=talks)) if f.grade is Grade.FAIL]
        assert any(text.startswith("not from port 123") for text in shape)


def test_a_short_nonce_that_comes_again_is_seen() -> None:
    """What follows it differs, and must not hide it."""
    with NtpPeer() as peer:
        auths = [(AUTH, 36, bytes([0, 8, 0, 16]) + b"constant" + os.urandom(16)) for _ in range(2)]
        packets = [nts_packet((UID, 32, os.urandom(32)), (COOKIE, 100, b""), auth) for auth in auths]
        talks = [NtpTalk(p, ("127.0.0.1", 123), peer) for p in packets]
        findings = [*requests._freshness(Seen("x", False, requests=talks))]
    assert any("nonces come" in f.text for f in findings if f.grade is Grade.FAIL)

# SPDX-License-Identifier: MIT
"""What is made of a client's packets, where it is easily misjudged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from nts.check.client import judge
from nts.check.client.probe import Seen, _no_time
from nts.check.model import Grade
from nts.check.peer import NtpPeer
from nts.check.peer.faults import find
from nts.check.peer.ke import KeSession
from nts.check.peer.ntp import NtpTalk


@pytest.fixture
def request_seen() -> Iterator[NtpTalk]:
    """A request with an identifier, a cookie and an authenticator."""
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

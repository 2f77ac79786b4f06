# SPDX-License-Identifier: MIT
"""Which packet a finding of nts_check is about, and which octets of it; and that the page marks them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from nts.base.registry import ErrorCode, RecordType
from nts.check.findings import marked, merged
from nts.check.ke import forge as ke_forge
from nts.check.ke import judge as ke_judge
from nts.check.ke.answer import KeAnswer
from nts.check.ke.forge import AEAD_15, END, NTPV4, REQUEST, UNKNOWN_TYPE, record, request
from nts.check.model import Direction, Exhibit, Finding, Grade, Mark, Protocol, Span, conclude, failed, passed
from nts.check.ntp import judge
from nts.check.ntp.answer import classify
from nts.check.ntp.forge import Forge, Request, Ticket
from nts.check.output import as_html, summary, text
from nts.check.peer.craft import response
from nts.check.server import CHECKS
from nts.codec.ntp import HEADER_LENGTH
from nts.codec.records import encode_u16s
from testkit import packets

KEYS = packets.session_keys()
COOKIE_END = HEADER_LENGTH + 36 + 104
END_OF_USUAL = COOKIE_END + 40
"""octets of a usual request: header, identifier, cookie, authenticator"""


def forge() -> Forge:
    return Forge(Ticket(KEYS, packets.cookie_of(KEYS)), packets.Counter(0))


# --- where something is unusual --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "spans"),
    [
        (REQUEST, []),
        (b"", []),
        (request(record(UNKNOWN_TYPE)), [(12, 16)]),
        (NTPV4 + REQUEST, [(6, 12)]),
        (NTPV4 + AEAD_15 + record(RecordType.END_OF_MESSAGE, critical=False), [(12, 16)]),
        (NTPV4 + AEAD_15 + END + record(UNKNOWN_TYPE), [(16, 20)]),
        (request(offer=[1, 2, 15]), [(6, 16)]),
        (REQUEST[:9], [(6, 9)]),
        (REQUEST[:14], [(12, 14)]),
        (REQUEST + REQUEST, [(16, 22), (22, 28), (28, 32)]),
    ],
    ids=["usual", "nothing", "unknown", "twice", "not critical", "after", "longer", "cut", "cut at the end", "second"],
)
def test_a_key_exchange_request_knows_where_it_is_unusual(octets: bytes, spans: list[Span]) -> None:
    assert ke_forge.oddities(octets) == spans


@pytest.mark.parametrize(
    ("make", "spans"),
    [
        (Forge.usual, []),
        (lambda f: f.plain("plain"), []),
        (lambda f: f.usual(header=f.header(mode=1)), [(0, 1)]),
        (lambda f: f.usual().flipped(-1, 0), [(END_OF_USUAL - 1, END_OF_USUAL)]),
        (lambda f: f.with_placeholders(1), [(COOKIE_END, COOKIE_END + 104)]),
        (lambda f: f.request("after", f.uid(), f.cookie(), f.seal(), f.unknown()), [(END_OF_USUAL, END_OF_USUAL + 28)]),
        (lambda f: f.request("two", f.uid(), f.uid(), f.cookie(), f.seal()), [(84, 120)]),
        (lambda f: f.request("longer", f.uid(64), f.cookie(), f.seal()), [(48, 116)]),
        (lambda f: f.usual(seal=f.seal(f.unknown())), [(COOKIE_END, COOKIE_END + 68)]),
        (lambda f: f.usual().cut(COOKIE_END + 30), [(COOKIE_END, COOKIE_END + 30)]),
    ],
    ids=["usual", "plain", "mode", "bit", "placeholder", "after", "two", "longer", "inside", "cut"],
)
def test_a_time_request_knows_where_it_is_unusual(make: Callable[[Forge], Request], spans: list[Span]) -> None:
    assert make(forge()).oddities == spans


def changed(octets: bytes, at: int, to: bytes) -> bytes:
    return octets[:at] + to + octets[at + len(to) :]


@pytest.mark.parametrize(
    ("change", "spans"),
    [
        (lambda reply: reply, []),
        (lambda reply: changed(reply, 0, b"\x23"), [(0, 1), (84, 228)]),
        (lambda reply: changed(reply, 24, bytes(8)), [(24, 32), (84, 228)]),
        (lambda reply: changed(reply, 60, bytes(8)), [(48, 84), (84, 228)]),
        (lambda reply: changed(reply, len(reply) - 1, b"\x00"), [(84, 228)]),
        (lambda _reply: b"\x24" + bytes(47), [(1, 2), (12, 16), (24, 32)]),
        (lambda _reply: b"short", []),
    ],
    ids=["sound", "mode", "origin", "identifier", "seal", "kiss", "short"],
)
def test_a_reply_knows_where_it_is_unusual(change: Callable[[bytes], bytes], spans: list[Span]) -> None:
    asked = forge().usual()
    reply = packets.answer(asked.packet)
    assert len(reply) == 228
    assert classify(asked, [change(reply)]).oddities == spans


# --- what findings blame ---------------------------------------------------------------------------------------------


def test_a_finding_that_is_no_pass_blames_request_and_reply() -> None:
    asked = forge().with_placeholders(1)
    reply = packets.answer(asked.packet)
    answers = [classify(asked, [changed(reply, 24, bytes(8))])]
    (bad,) = judge.findings(answers, judge.expect_time)
    assert bad.grade is Grade.FAIL
    assert bad.marks[0] == Mark(asked.packet, tuple(asked.oddities))
    assert [m.octets for m in bad.marks] == [asked.packet, answers[0].octets]
    (good,) = judge.findings([classify(asked, [reply])], judge.expect_time)
    assert (good.grade, good.marks) == (Grade.PASS, ())


def test_a_judgement_of_a_key_exchange_does_so_too_and_only_once() -> None:
    sent = request(record(UNKNOWN_TYPE))
    accepted = KeAnswer(response(), sent=sent)
    for finding in (ke_judge.error(accepted), ke_judge.gave_up(accepted)):
        assert [m.octets for m in finding.marks] == [sent, accepted.octets]
        assert finding.marks[0].spans == ((12, 16),)
    refusal = record(RecordType.ERROR, encode_u16s(ErrorCode.BAD_REQUEST)) + END
    assert ke_judge.error(KeAnswer(refusal, sent=sent)).marks == ()
    assert [m.octets for m in ke_judge.error(KeAnswer(b"", sent=sent)).marks] == [sent]


def test_equal_findings_become_one_with_the_marks_of_all() -> None:
    found = merged([("a", marked(failed("x"), b"1")), ("b", marked(failed("x"), b"2", (0, 1))), ("c", passed("x"))])
    assert [f.text for f in found] == ["a, b: x", "c: x"]
    assert found[0].marks == (Mark(b"1"), Mark(b"2", ((0, 1),)))


# --- on paper --------------------------------------------------------------------------------------------------------


def page(*findings: Finding) -> str:
    made = forge()
    asked = made.request("an unknown field after", made.uid(), made.cookie(), made.seal(), made.unknown())
    exhibits = [
        Exhibit(Direction.SENT, "a usual one", Protocol.NTP, forge().usual().packet),
        Exhibit(Direction.SENT, "an unknown field after", Protocol.NTP, asked.packet),
        Exhibit(Direction.NOTE, "no reply"),
    ]
    result = conclude(CHECKS[46], [*findings, marked(failed("bad"), asked.packet, *asked.oddities)], exhibits)
    return as_html.page(summary.Report("server", "h:1", 0, None, None, planned=1, results=(result,)))


def test_the_page_marks_the_packet_its_octets_and_the_field() -> None:
    source = page(passed("good"))
    assert source.count('<li class="blamed FAIL">') == 1
    assert f"<b>to look at: octets {END_OF_USUAL} to {END_OF_USUAL + 27}</b>" in source
    here = re.findall(r'<span class="here">(.*?)\n</span>', source)
    assert here[0].split()[:3] == [str(END_OF_USUAL), "0xf5c5", "unknown,"]
    assert len(here) == 2, "the field's line, and that of its content"


def test_of_equal_packets_the_last_ones_are_marked() -> None:
    """A control comes before the stimulus, even if both send the same octets."""
    sent = [Exhibit(Direction.SENT, what, Protocol.NTS_KE, REQUEST) for what in ("control", "first", "second")]
    for count, expected in ((1, ["second"]), (2, ["first", "second"])):
        result = conclude(CHECKS[2], [marked(failed("bad"), REQUEST)] * count, sent)
        source = as_html.page(summary.Report("server", "h:1", 0, None, None, planned=1, results=(result,)))
        assert re.findall(r'blamed FAIL"><span class="way">sent</span> (\w+) ', source) == expected


def test_every_line_of_a_packet_has_its_octets() -> None:
    exhibit = Exhibit(Direction.SENT, "", Protocol.NTP, forge().usual().packet)
    found = text.located(exhibit)
    assert [line for _, line in found] == text.decoded(exhibit)
    assert [at for at, _ in found][:3] == [(0, 4), (4, 16), (16, 24)]
    assert found[-1][0] == (COOKIE_END, END_OF_USUAL)
    assert text.located(replace(exhibit, octets=b"")) == []

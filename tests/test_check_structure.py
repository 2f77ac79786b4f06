# SPDX-License-Identifier: MIT
"""The pieces that the checks share: how findings are put together, and what a stimulus is unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nts.base.errors import FormatError
from nts.base.registry import ALPN
from nts.check.findings import counted, listed, merged, together
from nts.check.ke.forge import H2, REQUEST, TLS_1_2, Stimulus
from nts.check.model import MAX_EXHIBITS, CheckEnded, Direction, Finding, Grade, Transcript, failed, passed
from nts.codec import foreign_keys
from nts.codec.keyring import CookieFormat, ForeignKey


def test_a_failure_counts_even_if_the_next_stimulus_cannot_be_sent_and_a_pass_does_not() -> None:
    def findings() -> Iterator[tuple[str, Finding]]:
        yield "first", passed("so")
        yield "second", failed("thus")
        raise ConnectionResetError

    found = together(findings())
    assert next(found) == failed("second: thus")
    with pytest.raises(ConnectionResetError):
        next(found)


def test_equal_findings_become_one() -> None:
    found = merged([("a", failed("thus")), ("b", passed("so")), ("c", failed("thus"))])
    assert found == [failed("a, c: thus"), passed("b: so")]


@pytest.mark.parametrize(
    ("things", "text"),
    [([], "none"), ([15], "15"), ([15, 16], "15, 16"), (range(13), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 1 more")],
)
def test_a_list_has_an_end(things: list[int], text: str) -> None:
    assert listed(things) == text


def test_a_number_has_its_noun() -> None:
    assert (counted(1, "cookie"), counted(0, "cookie")) == ("1 cookie", "0 cookies")


def test_a_transcript_has_an_end_and_is_taken_once() -> None:
    transcript = Transcript()
    for i in range(MAX_EXHIBITS + 1):
        transcript.add(Direction.NOTE, str(i))
    assert len(transcript.take()) == MAX_EXHIBITS
    assert transcript.take() == []


def test_each_way_to_end_a_check_has_its_grade() -> None:
    assert {kind.__name__: kind.grade for kind in CheckEnded.__subclasses__()} == {
        "Skipped": Grade.SKIP, "PathTrouble": Grade.PATH, "Silenced": Grade.FAIL,
    }  # fmt: skip


def test_a_stimulus_is_a_usual_request_unless_told_otherwise() -> None:
    usual = Stimulus()
    assert (usual.octets, usual.alpn, usual.usual) == (REQUEST, (ALPN,), True)
    assert usual.offer == "TLS 1.3, ALPN ntske/1"
    assert not Stimulus(alpn=(H2,)).usual
    assert Stimulus(newest=TLS_1_2, alpn=()).offer == "TLS 1.2 and older, ALPN none"


@pytest.mark.parametrize("read", [foreign_keys.read_chrony, foreign_keys.read_ntpsec], ids=["chrony", "ntpsec"])
def test_an_empty_file_holds_no_keys(read: object) -> None:
    assert callable(read)
    with pytest.raises(FormatError):
        read("")


def test_a_foreign_key_is_not_shown() -> None:
    assert "0b0b" not in repr(ForeignKey(CookieFormat.CHRONY, 1, b"\x0b" * 32))
    assert "\\x0b" not in repr(ForeignKey(CookieFormat.CHRONY, 1, b"\x0b" * 32))

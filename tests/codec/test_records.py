# SPDX-License-Identifier: MIT
"""NTS-KE records: round trips, any segmentation, truncation, limits, and the syntax of bodies (RFC 8915 section 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import FormatError
from nts.base.registry import RecordType
from nts.codec import records
from nts.codec.records import Message, MessageReader, Record
from testkit.packets import bounded, message_of
from testkit.raw_ke import END, GOOD_REQUEST, record

RECORDS = st.lists(st.builds(Record, st.integers(1, 0x7FFF), st.booleans(), st.binary(max_size=40)), max_size=6)
MESSAGE = record(1, b"\0\0") + record(0x3FFF, b"odd", critical=False) + record(5, bytes(101), critical=False) + END


def test_a_record_on_the_wire_is_critical_bit_type_length_and_body() -> None:
    """A12."""
    assert Record(4, True, b"\0\x0f").encode() == bytes.fromhex("8004 0002 000f")
    assert Record(0x3FFF, False, b"abc").encode() == bytes.fromhex("3fff 0003 616263")


@given(RECORDS)
@bounded(150)
def test_messages_round_trip(sent: list[Record]) -> None:
    end = Record(RecordType.END_OF_MESSAGE, True, b"")
    message = message_of(records.encode_message(sent))
    assert message == Message((*sent, end))
    records.check_end_of_message(message)


@given(RECORDS, st.data())
@bounded(150)
def test_segmentation_does_not_matter(sent: list[Record], data: st.DataObject) -> None:
    """A08: however a message is cut up, the reader gives the same, and not before the last octet."""
    octets = records.encode_message(sent)
    reader, rest = MessageReader(1 << 16), octets
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        got, rest = reader.feed(rest[:size]), rest[size:]
        assert (got is None) == bool(rest)
    assert got == message_of(octets)
    assert reader.octets == len(octets)


def test_a_message_fed_by_the_octet_equals_the_whole() -> None:
    """A08."""
    reader = MessageReader(1 << 16)
    results = [reader.feed(MESSAGE[i : i + 1]) for i in range(len(MESSAGE))]
    assert results[:-1] == [None] * (len(MESSAGE) - 1)
    assert results[-1] == message_of(MESSAGE)


@pytest.mark.parametrize("size", range(len(MESSAGE)))
def test_every_truncation_is_incomplete(size: int) -> None:
    """A21: never a message, never an error: the peer may still send the rest."""
    assert MessageReader(1 << 16).feed(MESSAGE[:size]) is None


def test_a_message_may_fill_the_limit_exactly_and_no_more() -> None:
    assert MessageReader(len(MESSAGE)).feed(MESSAGE) == message_of(MESSAGE)
    with pytest.raises(FormatError, match="more than"):
        MessageReader(len(MESSAGE) - 1).feed(MESSAGE)


def test_a_record_that_would_pass_the_limit_is_refused_by_its_header() -> None:
    with pytest.raises(FormatError, match="more than 100"):
        MessageReader(100).feed(record(0x3FFF, bytes(97))[:4])


def test_an_endless_message_is_cut_off_at_the_limit() -> None:
    """Whatever comes, the reader holds no more than the limit and one record header."""
    reader = MessageReader(1024)
    with pytest.raises(FormatError, match="more than 1024"):  # noqa: PT012
        while reader.octets < 2048:
            reader.feed(record(0x3FFF, b"", critical=False)[:2])
            reader.feed(b"\0\0")
    assert reader.octets <= 1024 + records.HEADER_LENGTH


@given(st.binary(max_size=300), st.integers(1, 50))
@bounded(200)
def test_arbitrary_octets_give_a_message_nothing_or_format_error(data: bytes, size: int) -> None:
    reader = MessageReader(200)
    for i in range(0, len(data), size):
        try:
            message = reader.feed(data[i : i + size])
        except FormatError:
            break
        if message is not None:
            assert message.records[-1].type == RecordType.END_OF_MESSAGE
            assert all(r.type != RecordType.END_OF_MESSAGE for r in message.records[:-1])
            break
    assert reader.octets <= 200 + records.HEADER_LENGTH + size


@pytest.mark.parametrize("kind", [0x0801, 0x4001, 0x7FFF, 0x0100, 0x3FFF])
def test_a_type_has_fifteen_bits_and_is_not_aliased(kind: int) -> None:
    """A12: 0x0801 and 0x4001 are not Next Protocol Negotiation."""
    first = message_of(record(kind, b"x", critical=False) + END).records[0]
    assert (first.type, first.critical, first.name) == (kind, False, "unknown")
    assert message_of(record(kind, b"x") + END).records[0].critical


def test_octets_after_the_end_are_counted() -> None:
    assert message_of(GOOD_REQUEST + b"12345").trailing == 5


@pytest.mark.parametrize("more", [b"12345", GOOD_REQUEST, END, record(0x3FFF)])
def test_octets_that_come_after_the_end_in_pieces_are_counted_too(more: bytes) -> None:
    """A06, A14: a second message on the same connection is not a message but a mistake."""
    reader = MessageReader(1 << 10)
    whole = reader.feed(GOOD_REQUEST)
    assert whole == message_of(GOOD_REQUEST)
    for octet in more:
        later = reader.feed(bytes([octet]))
    assert later is not None
    assert (later.records, later.trailing) == (whole.records, len(more))


def test_a_limit_holds_for_a_record_header_that_is_cut_off() -> None:
    reader = MessageReader(8)
    assert reader.feed(record(0x3FFF, b"1234", critical=False)) is None
    with pytest.raises(FormatError, match="more than 8 octets"):
        reader.feed(b"\x80")


@pytest.mark.parametrize(
    ("octets", "complaint"),
    [
        (record(0, critical=False), "not critical"),
        (record(0, b"x"), "has a body"),
        (END + END, "4 octets after"),
        (END + b"\0", "1 octet after"),
    ],
)
def test_end_of_message_is_critical_empty_and_last(octets: bytes, complaint: str) -> None:
    """A14."""
    with pytest.raises(FormatError, match=complaint):
        records.check_end_of_message(message_of(octets))


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0\0", bytes(4)])
def test_a_single_number_has_two_octets(body: bytes) -> None:
    """A37: and the same goes for Error and Warning."""
    with pytest.raises(FormatError, match="Port"):
        records.single_u16(Record(RecordType.PORT, True, body))


def test_numbers_are_in_network_order() -> None:
    assert records.single_u16(Record(RecordType.PORT, True, b"\x10\x1b")) == 4123
    assert records.encode_u16s(0, 15, 4123) == bytes.fromhex("0000 000f 101b")
    assert records.u16_list(Record(RecordType.AEAD_ALGORITHM, True, bytes.fromhex("000f 0011"))) == [15, 17]


@pytest.mark.parametrize(
    "name",
    [
        "192.0.2.1", "::1", "2001:db8::1", "::ffff:192.0.2.1", "ntp1", "ntp1.example.com", "ntp.example.com.",
        "xn--bcher-kva.example", "a-b.example", "_ntp._udp.example", "3com.example", "a" * 63 + ".example",
        ".".join(["a" * 49] * 5),
    ],
)  # fmt: skip
def test_server_names_that_are_accepted(name: str) -> None:
    """A31, C19."""
    assert records.server_name(Record(RecordType.SERVER, True, name.encode())) == name


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b".", b"..", b"a..b", b".a", b"[::1]", b"fe80::1%eth0", b"::1%1", b"192.0.2", b"192.0.2.256",
        b"192.0.2.01", b"192.0.2.1.", b"1", b"b\xc3\xbccher.example", b"\xff", b"a\0b", b"a.example\0", b"a b.example",
        b" a.example", b"a.example\n", b"a.example\r\n", b"\x1b[2J.example", b"-a.example", b"a-.example",
        b"a.example:123", b"ntp://a.example", b"a" * 64 + b".example", b".".join([b"a" * 49] * 6), b"a" * 300,
    ],
)  # fmt: skip
def test_server_names_that_are_refused(body: bytes) -> None:
    """A31, C19: nothing that a resolver or a terminal could be tricked with."""
    with pytest.raises(FormatError, match="server name"):
        records.server_name(Record(RecordType.SERVER, True, body))


def test_repr_of_a_record_shows_no_body() -> None:
    assert "secret" not in repr(Record(RecordType.NEW_COOKIE, False, b"secret"))

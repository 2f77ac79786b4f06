# SPDX-License-Identifier: MIT
"""nts_check decode: hexadecimal as people paste it, and what it is taken for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import FormatError
from nts.check.decode import hexinput
from nts.check.model import Protocol
from nts.codec.ntp import Header
from testkit.packets import REQUEST, answer, bounded
from testkit.raw_ke import AEAD_15, END, GOOD_REQUEST, NEXT_PROTOCOL_NTPV4, record

PACKET = REQUEST.encode()
NAK = answer(replace(REQUEST, key=bytes(32)).encode())
GOOD_RESPONSE = NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(5, bytes(100), critical=False) * 8 + END
TCPDUMP = "\n".join(f"\t0x{i:04x}:  {PACKET[i : i + 16].hex(' ', 2)}" for i in range(0, len(PACKET), 16))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PACKET.hex(), [PACKET]),
        (PACKET.hex(" "), [PACKET]),
        (PACKET.hex(":").upper() + "\n", [PACKET]),
        ("0x23, 0x00,\n 0xff", [b"\x23\0\xff"]),
        (TCPDUMP, [PACKET]),
        (f"{PACKET.hex()}\n\n  \n{TCPDUMP}\n\n", [PACKET, PACKET]),
    ],
    ids=["plain", "spaces", "colons", "C", "tcpdump", "two"],
)
def test_hexadecimal_is_read_as_people_paste_it(text: str, expected: list[bytes]) -> None:
    assert hexinput.messages(text) == expected


@pytest.mark.parametrize("text", ["", " \n", "abc", "zz", "\x1b[2J", "é0"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        hexinput.messages(text)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


def test_what_hexadecimal_is_is_guessed() -> None:
    for octets in (PACKET, answer(PACKET), NAK, Header(version=3, mode=3).encode()):
        assert hexinput.guess(octets) is Protocol.NTP
    for octets in (GOOD_REQUEST, GOOD_RESPONSE, record(2, b"\0\1") + END, END):
        assert hexinput.guess(octets) is Protocol.NTS_KE
    for octets in (b"\x23\0", b"\x80", b"\xff" * 4):
        with pytest.raises(FormatError):
            hexinput.guess(octets)


@bounded(200)
@given(st.text(max_size=100) | st.text(alphabet="0123456789abcdef \n:x", max_size=200))
def test_no_text_raises_anything_but_format_error(text: str) -> None:
    try:
        found = hexinput.messages(text)
    except FormatError:
        return
    assert all(found)

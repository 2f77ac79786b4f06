# SPDX-License-Identifier: MIT
"""Messages in hexadecimal, as people paste them, and a guess at what they are."""

from __future__ import annotations

import re

from nts.base.errors import FormatError
from nts.check.model import Protocol
from nts.codec.ntp import HEADER_LENGTH
from nts.codec.records import HEADER_LENGTH as RECORD_HEADER

MAX_TEXT = 1 << 22  # characters
_OFFSET = re.compile(r"^\s*(0x)?[0-9a-fA-F]{4,8}:\s", re.MULTILINE)  # what tcpdump and xxd print before each line
_BETWEEN = re.compile(r"0x|[\s:,]")


def messages(text: str) -> list[bytes]:
    """The messages in `text`, separated by blank lines. FormatError when there is anything but hex."""
    if len(text) > MAX_TEXT:
        raise FormatError(f"more than {MAX_TEXT} characters of hex")
    blocks = [_BETWEEN.sub("", _OFFSET.sub("", block)) for block in re.split(r"\n\s*\n", text)]
    found = [_octets(block) for block in blocks if block]
    if not found:
        raise FormatError("no hexadecimal digits")
    return found


def _octets(digits: str) -> bytes:
    wrong = re.search(r"[^0-9a-fA-F]", digits)
    if wrong:
        raise FormatError(f"{wrong[0]!a} is not a hexadecimal digit")
    if len(digits) % 2:
        raise FormatError("an odd number of hexadecimal digits")
    return bytes.fromhex(digits)


def guess(octets: bytes) -> Protocol:
    """Guess whether it is an NTP packet or an NTS-KE message. FormatError when it is neither.

    The first octet tells: it is version and mode in NTP, and the upper half of a small record type in NTS-KE.
    """
    version, mode = octets[0] >> 3 & 7, octets[0] & 7
    if len(octets) >= HEADER_LENGTH and 1 <= version <= 5 and mode:
        return Protocol.NTP
    if len(octets) >= RECORD_HEADER and not version:
        return Protocol.NTS_KE
    raise FormatError("neither an NTP packet nor an NTS-KE message; say which with --as")

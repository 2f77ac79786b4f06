# SPDX-License-Identifier: MIT
"""Messages in hexadecimal, as people paste them, and a guess of what they are."""

from __future__ import annotations

import re

from nts.base.errors import FormatError
from nts.check.model import Protocol
from nts.codec.ntp import HEADER_LENGTH
from nts.codec.records import HEADER_LENGTH as RECORD_HEADER

MAX_TEXT = 1 << 22  # characters
_OFFSET = re.compile(r"^\s*(0x)?[0-9a-fA-F]{4,8}:\s", re.MULTILINE)  # as tcpdump and xxd put them in front
_BETWEEN = re.compile(r"0x|[\s:,]")


def messages(text: str) -> list[bytes]:
    """The messages in `text`, which blank lines part. FormatError when there is something else than hex."""
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
    """Whether it is an NTP packet or an NTS-KE message. FormatError when it is neither.

    The first octet tells: NTP has a version and a mode there, and NTS-KE the upper half of a small record type.
    """
    version, mode = octets[0] >> 3 & 7, octets[0] & 7
    if len(octets) >= HEADER_LENGTH and 1 <= version <= 5 and mode:
        return Protocol.NTP
    if len(octets) >= RECORD_HEADER and not version:
        return Protocol.NTS_KE
    raise FormatError("neither an NTP packet nor an NTS-KE message; say which with --as")

# SPDX-License-Identifier: MIT
"""Messages in hexadecimal, as people paste them, and a guess at what they are."""

from __future__ import annotations

import re

from nts.base.errors import FormatError
from nts.check.model import Protocol
from nts.codec.ntp import HEADER_LENGTH
from nts.codec.records import HEADER_LENGTH as RECORD_HEADER

MAX_TEXT = 1 << 22  # characters
_LINE = 32  # digits of a line of hexdump -C
_BETWEEN = re.compile(r"0x|[\s:,]")
# A line of xxd, of tcpdump -x and -X, and of hexdump -C: an offset, octets, and perhaps the same as characters.
_DUMP = re.compile(
    r"\s*(?:0x)?([0-9a-fA-F]{4,8})(?:: {1,2}(\S+(?: \S+)*)(?:  .*)?|  ((?:[0-9a-fA-F]{2} {1,2})+) *(?:\|.*)?)\s*"
)
_WORDS = re.compile(r"^[0-9a-fA-F]{7} [0-9a-fA-F]{4}\b", re.MULTILINE)
_TCPDUMP = re.compile(r"^\t0x0000:  [46]", re.MULTILINE)


def is_tcpdump(text: str) -> bool:
    """Whether it is what tcpdump -x or -X prints: IP packets, each after a line about it."""
    return _TCPDUMP.search(text) is not None


def messages(text: str) -> list[bytes]:
    """The messages in `text`, or the packets of tcpdump -x. FormatError when there is anything but hex.

    Blank lines separate messages, and so does an offset of 0.
    """
    if len(text) > MAX_TEXT:
        raise FormatError(f"more than {MAX_TEXT} characters of hex")
    if _WORDS.search(text):
        raise FormatError("hexdump swaps octets unless it is told not to: use hexdump -C, or xxd")
    found, others, repeated = [""], is_tcpdump(text), False
    for line in text.splitlines():
        match = _DUMP.fullmatch(line.expandtabs(1))
        if not line.strip() or (match and not int(match[1], 16)):
            found.append("")
        if match and repeated:
            found[-1] = _repeated(found[-1], 2 * int(match[1], 16))
        repeated = line.strip() == "*" and len(found[-1]) >= _LINE
        if match:
            found[-1] += _BETWEEN.sub("", match[2] or match[3])
        elif not repeated and not others and not _ends(found[-1], line):
            found[-1] += _BETWEEN.sub("", line)
    octets = [_octets(block) for block in found if block]
    if not octets:
        raise FormatError("no hexadecimal digits")
    return octets


def _repeated(digits: str, length: int) -> str:
    """The digits with their last line repeated up to a length: hexdump -C writes * in place of equal lines."""
    if not len(digits) <= length <= MAX_TEXT:
        raise FormatError("the offset after * cannot be")
    return (digits + digits[-_LINE:] * (1 + (length - len(digits)) // _LINE))[:length]


def _ends(digits: str, line: str) -> bool:
    """Whether a line is nothing but the length of what came before it, as at the end of hexdump -C."""
    length = line.strip()
    return re.fullmatch(r"[0-9a-f]{8}", length) is not None and int(length, 16) * 2 == len(digits) > 0


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

# SPDX-License-Identifier: MIT
"""Strict parsing of numbers, spans of time, addresses and names from people and peers, and words to show them."""

from __future__ import annotations

import ipaddress
import math
import re

# A label: letters, digits, inner hyphens (RFC 8915 4.1.7, RFC 5890 2.3.1). Underscores are tolerated.
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_MAX_NAME = 253
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # in seconds
_NAMES = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def whole_number(text: str, low: int, high: int) -> int | None:
    """A decimal number within bounds, else None. ASCII digits only: no sign, space or underscore, unlike int()."""
    plausible = text.isascii() and text.isdigit() and len(text) <= len(str(high))
    return int(text) if plausible and low <= int(text) <= high else None


def span(text: str, low: int, high: int) -> int | None:
    """Seconds of a whole number with the unit s, m, h or d, within bounds, else None."""
    seconds = (whole_number(text[:-1], 1, high) or 0) * _UNITS.get(text[-1:], 0)
    return seconds if low <= seconds <= high else None


def about(seconds: float) -> str:
    """A length of time in its largest unit, rounded up: 3 days."""
    unit, size = next((u, s) for u, s in _NAMES if abs(seconds) > s or s == 1)
    return counted(math.ceil(abs(seconds) / size), unit)


def is_server_name(text: str) -> bool:
    """Whether `text` is an IP address without a zone identifier, or a domain name in ASCII."""
    labels = text.removesuffix(".").split(".")
    is_name = all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()
    return is_ip_address(text) or (is_name and len(text) <= _MAX_NAME)


def same_address(one: str, other: str) -> bool:
    """Whether both texts mean the same IP address."""
    return is_ip_address(one) and is_ip_address(other) and ipaddress.ip_address(one) == ipaddress.ip_address(other)


def is_ip_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address without a zone identifier."""
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def counted(number: int, noun: str) -> str:
    """A number and its noun: 1 cookie, 2 cookies."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def clipped(text: str, limit: int) -> str:
    """`text`, or its beginning and how much was left out: a peer may send more than anybody would read."""
    return text if len(text) <= limit else f"{text[:limit]}... ({counted(len(text) - limit, 'more character')})"


def harmless(text: str, limit: int = 200) -> str:
    """What a peer sent, fit for a terminal: one line without control codes or direction marks, and not too long."""
    return clipped("".join(c if c.isprintable() else "?" for c in text), limit)


def place_hint(host: str) -> str | None:
    """What to write instead of [ADDRESS], HOST:PORT or [ADDRESS]:PORT, which are no names; None for anything else."""
    bracketed = re.fullmatch(r"\[(.*)\](?::(\d+))?", host)
    name, port = bracketed.groups() if bracketed else host.rpartition(":")[::2]
    if not bracketed and (not name or ":" in name or not port.isdigit()):
        return None
    return f"write HOST PORT, here {name} {port}" if port else f"write HOST PORT without brackets, here {name}"


def octets(first: int, last: int) -> str:
    """Where octets are, as in a sentence: `octet 2`, `octets 2 to 5`."""
    return f"octet {first}" if first == last else f"octets {first} to {last}"

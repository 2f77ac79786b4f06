# SPDX-License-Identifier: MIT
"""Numbers, addresses and names as text, checked strictly: what people and peers send."""

from __future__ import annotations

import ipaddress
import re

# A label: letters, digits and hyphens, not at its ends; underscores are tolerated (RFC 8915 4.1.7, RFC 5890 2.3.1).
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_MAX_NAME = 253


def whole_number(text: str, low: int, high: int) -> int | None:
    """A decimal number within bounds, else None: no sign, no spaces, none of int()'s other liberties."""
    plausible = text.isascii() and text.isdigit() and len(text) <= len(str(high))
    return int(text) if plausible and low <= int(text) <= high else None


def is_server_name(text: str) -> bool:
    """Whether `text` is an IP address without a zone identifier, or a domain name in ASCII."""
    labels = text.removesuffix(".").split(".")
    is_name = all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()
    return is_ip_address(text) or (is_name and len(text) <= _MAX_NAME)


def same_address(one: str, other: str) -> bool:
    """Whether both are the same IP address, however they are spelled."""
    return is_ip_address(one) and is_ip_address(other) and ipaddress.ip_address(one) == ipaddress.ip_address(other)


def is_ip_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address without a zone identifier."""
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False

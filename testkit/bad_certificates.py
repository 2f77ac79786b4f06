# SPDX-License-Identifier: MIT
"""Certificates with octets that OpenSSL lets pass when it parses them, and stricter parsers do not."""

from __future__ import annotations

import ssl

from nts.check.peer.authority import Authority, Certificate

MALFORMED = {  # a part: octets in it, and what takes their place
    "version": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"),
    "date": (b"\x17\x0d2", b"\x17\x0dx"),
    "name": (b"localhost", b"local\xff\0st"),
}


def malformed(authority: Authority, part: str) -> Certificate:
    """One for localhost, changed there: so the CA's signature does not fit either."""
    chain, key = authority.issue()
    before, after = MALFORMED[part]
    octets = ssl.PEM_cert_to_DER_cert(chain.read_text())
    assert before in octets
    chain.write_text(ssl.DER_cert_to_PEM_cert(octets.replace(before, after, 1)))
    return chain, key

# SPDX-License-Identifier: MIT
"""The registered numbers, written down a second time, from RFC 8915 section 7 and RFC 5297 section 6."""

from __future__ import annotations

import sys

import pytest

from nts.base import registry
from nts.base.registry import Direction, ErrorCode, FieldType, RecordType
from nts.cli import ke_client
from nts.codec.aead import Aead, exporter_context


def test_numbers_are_the_registered_ones() -> None:
    """A05, A40, A93."""
    assert (registry.KE_PORT, registry.NTP_PORT) == (4460, 123)
    assert registry.ALPN.hex() == "6e74736b652f31"
    assert registry.EXPORTER_LABEL == "EXPORTER-network-time-security"
    assert registry.KISS_NTSN.hex() == "4e54534e"
    assert [int(f) for f in FieldType] == [0x0104, 0x0204, 0x0304, 0x0404]
    assert [int(r) for r in RecordType] == [*range(8), 1024]
    assert [int(e) for e in ErrorCode] == [0, 1, 2]
    assert [(int(a), a.key_length) for a in Aead] == [(15, 32), (16, 48), (17, 64), (30, 16)]


def test_the_client_takes_the_registered_port_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A05."""
    monkeypatch.setattr(sys, "argv", ["ntske_client.py", "host.example"])
    assert ke_client.arguments(None).port == 4460


def test_the_exporter_context_has_five_octets() -> None:
    """A40, A93."""
    assert exporter_context(Aead(15), Direction.C2S) == bytes.fromhex("0000000f00")
    assert exporter_context(Aead(17), Direction.S2C) == bytes.fromhex("0000001101")


def test_names_for_people_are_complete() -> None:
    assert set(registry.RECORD_NAMES) == set(RecordType)
    assert set(registry.ERROR_NAMES) == set(ErrorCode)
    assert set(registry.FIELD_NAMES) == set(FieldType) >= set(registry.NTS_FIELDS)

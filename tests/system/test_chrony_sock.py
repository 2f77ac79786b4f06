# SPDX-License-Identifier: MIT
"""Samples for chronyd's SOCK: the layout, and what stands in the way."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

import pytest

from nts.base.errors import ConfigError
from nts.system.chrony_sock import ChronySock, encode
from testkit.chrony import short_folder


def test_a_sample_has_the_layout_of_sock_sample() -> None:
    """refclock_sock.c: struct timeval, double, four ints; the magic number spells SOCK."""
    sample = encode(1_700_000_000_123_456_789, -0.25, 1)
    seconds, microseconds, offset = struct.unpack_from("@lld", sample)
    assert (seconds, microseconds, offset) == (1_700_000_000, 123_456, -0.25)
    assert struct.unpack_from("@4i", sample, struct.calcsize("@lld")) == (0, 1, 0, int.from_bytes(b"SOCK", "big"))
    assert len(sample) == struct.calcsize("@lld4i")


def test_a_sample_arrives_and_a_lost_socket_is_told() -> None:
    with short_folder() as folder:
        path = folder / "s"
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as chronyd:
            chronyd.bind(str(path))
            sock = ChronySock(path)
            assert sock.feed(10**9, 0.5, 0) == ""
            assert chronyd.recv(100) == encode(10**9, 0.5, 0)
        assert sock.feed(10**9, 0.5, 0) == f"cannot feed chronyd through {path}: Connection refused"
        path.unlink()
        assert sock.feed(10**9, 0.5, 0) == f"cannot feed chronyd through {path}: No such file or directory"


def test_a_chronyd_that_does_not_read_does_not_hold_us_up() -> None:
    with short_folder() as folder, contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as chronyd:
        chronyd.bind(str(folder / "s"))
        sock = ChronySock(folder / "s")
        assert any(sock.feed(0, 0.0, 0) for _ in range(10_000))


def test_what_is_no_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        ChronySock(tmp_path / "none")
    with pytest.raises(ConfigError, match="is not a socket"):
        ChronySock(tmp_path)

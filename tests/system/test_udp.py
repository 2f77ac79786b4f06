# SPDX-License-Identifier: MIT
"""The kernel's timestamps of what a client sends and receives, and doing without them."""

from __future__ import annotations

import select
import socket
import sys
import time

import pytest

from nts.system import udp

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps what is sent")


def conversation() -> tuple[int | None, int, list[int]]:
    """A datagram there and back: when it left by its socket, when it arrived, and our clock around both."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
    ):
        far.bind(("127.0.0.1", 0))
        udp.stamp_both_ways(near)
        near.connect(far.getsockname())
        times = [time.time_ns()]
        near.send(b"there")
        times.append(time.time_ns())
        far.sendto(b"back", far.recvfrom(10)[1])
        departed = udp.departure_ns(near)
        assert udp.departure_ns(near) is None, "it is there once"
        assert select.select([near], [], [], 5)[0]
        _, ancillary, _, _ = near.recvmsg(10, 256)
        return departed, udp.arrival_ns(ancillary), [*times, time.time_ns()]


def test_the_kernel_stamps_what_leaves_and_what_arrives() -> None:
    departed, arrived, (before, after, end) = conversation()
    assert departed is not None
    assert before <= departed <= after <= arrived <= end


def test_a_system_without_such_timestamps_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "other")
    departed, arrived, (_, after, _) = conversation()
    assert departed is None
    assert after <= arrived <= time.time_ns()
    monkeypatch.setattr(udp, "_MSG_ERRQUEUE", 0)
    assert conversation()[0] is None


def test_a_kernel_that_knows_no_such_option_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "SO_TIMESTAMPING", 9999)
    assert conversation()[0] is None

# SPDX-License-Identifier: MIT
"""What the server says of its clock (RFC 5905 section 7.3)."""

from __future__ import annotations

import time

import pytest

from nts.base.registry import Leap
from nts.codec import ntp
from nts.system import clock
from nts.system.clock import Clock


def kernel(monkeypatch: pytest.MonkeyPatch, leap: int, error_us: int) -> None:
    monkeypatch.setattr(clock, "kernel_status", lambda: (leap, error_us))


def test_a_local_reference_does_not_ask_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch, Leap.UNSYNCHRONISED, 0)
    system = Clock("local", 10).system()
    assert (system.leap, system.stratum, system.reference_id) == (0, 10, bytes([127, 127, 1, 1]))
    assert system.root_dispersion == 0


def test_an_unsynchronised_kernel_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch, Leap.UNSYNCHRONISED, 0)
    system = Clock("auto", 3).system()
    assert (system.leap, system.stratum, system.reference_id) == (3, 16, b"INIT")
    assert system.root_dispersion == 2**32 - 1


def test_a_synchronised_kernel_gives_leap_and_error(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch, Leap.INSERT, 250_000)
    system = Clock("auto", 3).system()
    assert (system.leap, system.stratum, system.reference_id) == (1, 3, bytes([127, 0, 0, 1]))
    assert system.root_dispersion == 2**14
    assert Clock("auto", 1).system().reference_id == b"LOCL"


def test_the_variables_are_worked_out_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000 * ntp.NS + 5
    monkeypatch.setattr(time, "time_ns", lambda: now)
    served = Clock("local", 10)
    first = served.system()
    now += ntp.NS // 2
    assert served.system() is first
    now += ntp.NS
    later = served.system()
    assert later.reference_time - first.reference_time == 1 << 32
    assert later.reference_time <= ntp.timestamp(now)
    now -= 3600 * ntp.NS
    assert served.system().reference_time < first.reference_time, "a clock that was set back is not served as it was"


def test_the_real_kernel_answers() -> None:
    leap, error_us = clock.kernel_status()
    assert leap in set(Leap)
    assert error_us >= 0
    assert -30 <= clock.measure_precision() <= -1
    assert abs(clock.now() - ntp.timestamp(time.time_ns())) < 2**32

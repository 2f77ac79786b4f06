# SPDX-License-Identifier: MIT
"""Fixtures for the tests of the native engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testkit.engine import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench("127.0.0.1")
    yield bench
    bench.close()

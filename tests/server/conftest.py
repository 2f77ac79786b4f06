# SPDX-License-Identifier: MIT
"""Fixtures for the tests of the native engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testkit.engine import Bench
from testkit.processes import KE_ENGINES, Suite


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench("127.0.0.1")
    yield bench
    bench.close()


@pytest.fixture(scope="module", params=KE_ENGINES)
def ke_engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """What serves the key exchange in this module's suites: its tests run once with each."""
    before, Suite.ke_engine = Suite.ke_engine, request.param
    yield request.param
    Suite.ke_engine = before

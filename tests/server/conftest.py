# SPDX-License-Identifier: MIT
"""Fixtures for the tests of the servers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user can reach; pytest's own are private."""
    path = Path(tempfile.mkdtemp(prefix="nts-test-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)

# SPDX-License-Identifier: MIT
"""Fixtures that run every test of this folder once with each engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testkit import processes
from testkit.processes import Suite


@pytest.fixture(scope="module", params=["native", "python"], autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Everything here holds for both engines."""
    Suite.engine = request.param
    yield request.param
    Suite.engine = "native"


@pytest.fixture(scope="module")
def suite(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """The session's `suite`, once with each engine."""
    with processes.running_suite(tmp_path_factory.mktemp(engine)) as running:
        yield running

# SPDX-License-Identifier: MIT
"""Fixtures for the tests with a chronyd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit import chrony


@pytest.fixture(scope="module")
def chronyd_can_run() -> None:
    """Skip the test where no chronyd can run."""
    chrony.require()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with chrony.short_folder() as path:
        yield path

# SPDX-License-Identifier: MIT
"""Fixtures for all tests."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nts
from nts.check.client import ntpsec
from nts.check.model import Skipped
from nts.check.peer import Authority
from nts.codec.keyring import KeyRing, MasterKey
from testkit.namespaces import own_loopback
from testkit.processes import Suite, running_suite


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine-module", help="the native engine to test, in place of the one in nts/")
    parser.addoption("--engine-ke-module", help="the same for the native loop of the key exchange server")


def pytest_configure(config: pytest.Config) -> None:
    """Load those modules before anything can load the usual ones."""
    for option, name in (("--engine-module", "_engine"), ("--engine-ke-module", "_engine_ke")):
        path = config.getoption(option)
        if path is not None:
            spec = importlib.util.spec_from_file_location(f"nts.{name}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            sys.modules[f"nts.{name}"] = module
            setattr(nts, name, module)


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Both servers with one worker each, running for the whole session. Tests must not rotate their keys."""
    with running_suite(tmp_path_factory.mktemp("suite")) as running:
        yield running


@pytest.fixture
def own_suite(tmp_path: Path) -> Iterator[Suite]:
    """Both servers, for one test that does with them what it likes."""
    with running_suite(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A throwaway CA, for the servers that tests play themselves."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def ntpd_command() -> list[str]:
    """What runs NTPsec's ntpd. Skips where that is not, or may not have port 123."""
    try:
        command = ntpsec._command()
    except Skipped as e:
        pytest.skip(str(e))
    if os.geteuid() != 0:
        pytest.skip("only root may have UDP port 123")
    return command


@pytest.fixture
def ntpd(ntpd_command: list[str]) -> Iterator[list[str]]:
    """The same, in a network of the test's own."""
    with own_loopback():
        yield ntpd_command


@pytest.fixture
def ring() -> KeyRing:
    """Two master keys, the second one current."""
    return KeyRing((MasterKey(0x1234, bytes(range(32))), MasterKey(0xABCD, bytes(range(32, 64)))))

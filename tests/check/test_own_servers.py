# SPDX-License-Identifier: MIT
"""What the suite is held to first: its own servers pass all of nts_check's server checks, as a user would run them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nts.check.server import CHECKS
from testkit.processes import run, running_suite


@pytest.mark.parametrize("engine", ["native", "python"])
def test_our_servers_pass_all_checks_without_a_warning(tmp_path: Path, engine: str) -> None:
    with running_suite(tmp_path, ntpv4={"engine": engine}) as suite:
        done = run("nts_check.py", "server", "--fast", "--json", "-c", suite.ca, "localhost", suite.ke_port)
    report = json.loads(done.stdout)
    assert {r["name"]: r["verdict"] for r in report["results"] if r["verdict"] != "PASS"} == {}
    assert sorted(r["name"] for r in report["results"]) == sorted(c.name for c in CHECKS)
    assert done.returncode == 0, done.stderr

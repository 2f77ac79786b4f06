# SPDX-License-Identifier: MIT
"""What a command imports, which is most of the time that it takes to start. Not the time, which depends on the machine.

`python -m tools.bench start` measures that; docs/performance.md has the figures.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nts.check.peer import NtpBehaviour, NtpPeer
from nts.check.peer.craft import random_cookies
from testkit.client_runs import genuine, only, some_keys, write_association
from testkit.processes import ROOT, Suite

TLS = {"OpenSSL", "cryptography", "service_identity", "ssl"}
PARSERS = {"cffi", "pycparser"}  # _cffi_backend is enough
OTHERS = {"rich", "dpkt", "prometheus_client", "asyncio"}


def imported_by(*command: object) -> set[str]:
    """The packages that a script imports from its start to its end."""
    return {name.partition(".")[0] for name in modules_of(*command)}


def modules_of(*command: object) -> set[str]:
    """The modules, likewise."""
    line = [sys.executable, "-X", "importtime", *map(str, command)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.fail(done.stderr[-500:])
    return set(re.findall(r"^import time: .*\| +(\S+)$", done.stderr, re.MULTILINE))


@pytest.mark.parametrize("script", sorted(p.name for p in ROOT.glob("*.py")))
def test_no_script_needs_cryptography_to_explain_itself(script: str) -> None:
    assert not imported_by(script, "--help") & (TLS | PARSERS | OTHERS)


def test_the_time_client_imports_no_tls_and_no_parser_of_c(tmp_path: Path) -> None:
    keys = some_keys()
    with NtpPeer(NtpBehaviour(only(genuine), keys=keys)) as server:
        write_association(tmp_path / "client.ini", keys, server.port, random_cookies(8))
        imported = imported_by("ntsts_client.py", "-f", tmp_path / "client.ini", "--dump", "--verbose")
    assert "_cffi_backend" in imported, "it is libaes_siv that it uses"
    assert not imported & (TLS | PARSERS | OTHERS)


def test_the_time_client_imports_what_only_some_options_need_for_these_alone(tmp_path: Path) -> None:
    keys, prom = some_keys(), tmp_path / "nts.prom"
    with NtpPeer(NtpBehaviour(only(genuine), keys=keys)) as server:
        for name in ("a.ini", "b.ini"):
            write_association(tmp_path / name, keys, server.port, random_cookies(8))
        several = ("-f", tmp_path / "a.ini", "-f", tmp_path / "b.ini")
        for options in ((*several, "-n", 2, "-i", 0.01), (*several, "--check"), (*several, "--json")):
            assert not imported_by("ntsts_client.py", *options) & (TLS | PARSERS | OTHERS | {"matplotlib"})
        imported = imported_by("ntsts_client.py", *several, "--metrics", prom)
    assert imported & (OTHERS | {"matplotlib"}) == {"prometheus_client"}


def test_the_key_exchange_client_imports_no_parser_of_c(suite: Suite, tmp_path: Path) -> None:
    where = ("-c", suite.ca, "localhost", suite.ke_port, "-o", tmp_path / "client.ini")
    imported = imported_by("ntske_client.py", *where)
    assert {"OpenSSL", "cryptography"} <= imported
    assert not imported & PARSERS


def test_only_explanations_import_what_only_they_need(suite: Suite, tmp_path: Path) -> None:
    where = ("-c", suite.ca, "localhost", suite.ke_port, "-o", tmp_path / "client.ini")
    more = modules_of("ntske_client.py", "--explain", *where) - modules_of("ntske_client.py", *where)
    assert {"nts.client.explain", "nts.client.findings", "nts.system.tls_probe", "subprocess"} <= more


def test_the_clients_run_where_nothing_has_been_built(suite: Suite, tmp_path: Path) -> None:
    """From a tree without libaes_siv and engine; the time client tells what it uses instead."""
    shutil.copytree(ROOT / "nts", tmp_path / "nts", ignore=shutil.ignore_patterns("*.so", "__pycache__"))

    def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        shutil.copy(ROOT / script, tmp_path)
        line = [sys.executable, str(tmp_path / script), *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)

    for aead in (15, 30):
        fetched = run("ntske_client.py", "--aead", aead, "-c", suite.ca, "localhost", suite.ke_port)
        assert (fetched.returncode, fetched.stderr) == (0, "")
        asked = run("ntsts_client.py", "--verbose")
        assert asked.returncode == 0, asked.stderr
        assert "offset" in asked.stdout
        assert "the package cryptography does its work" in asked.stderr

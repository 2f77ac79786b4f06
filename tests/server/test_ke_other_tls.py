# SPDX-License-Identifier: MIT
"""The native loop of the key exchange server over another TLS library of OpenSSL's API, where there is one.

`NTS_KE_TLS=/opt/aws-lc .venv/bin/python -m pytest tests/server/test_ke_other_tls.py`
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.processes import ROOT

TLS = Path(os.environ.get("NTS_KE_TLS") or "/nowhere")

pytestmark = pytest.mark.skipif(
    not (TLS / "lib" / "libssl.a").exists(),
    reason="needs another TLS library: NTS_KE_TLS names a folder with its include and lib",
)


def run(*command: object) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_tests_in_c_pass() -> None:
    run("tools/cmake_build.sh", "engine", "build/engine-other-tls", "-DNTS_ENGINE_WERROR=ON", f"-DNTS_KE_TLS={TLS}")
    assert "100% tests passed" in run(
        "ctest", "--test-dir", "build/engine-other-tls", "-R", "_ke|ke_", "--no-tests=error"
    )


def test_the_module_for_python_passes_those_in_python() -> None:
    """But for the alerts: AWS-LC has another one for a bad post-quantum key share."""
    module = ROOT / "build" / "_engine_ke-other-tls.so"
    run(sys.executable, "-m", "nts._engine_build", "_engine_ke", module)
    output = run(
        sys.executable, "-m", "pytest", "-q", "--engine-ke-module", module,
        "tests/server/test_engine_ke.py", "--deselect",
        "tests/server/test_engine_ke.py::test_both_libraries_do_the_same_with_a_usual_clienthello",
    )  # fmt: skip
    assert " passed" in output

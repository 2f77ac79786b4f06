# SPDX-License-Identifier: MIT
"""What servers say of their master keys: at the start, and when it happens, though no client comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nts.server import keystore
from testkit.key_files import put
from testkit.processes import HAS_ENGINE, NO_ENGINE, Suite

NATIVE = pytest.param("native", marks=pytest.mark.skipif(not HAS_ENGINE, reason=NO_ENGINE))


@pytest.mark.parametrize("which", ["key exchange", NATIVE, "python"])
def test_damaged_files_and_an_emptied_folder_are_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setattr(Suite, "engine", "python" if which == "key exchange" else which)
    suite = Suite(tmp_path, options={"ntske": {"workers": 2}, "ntpv4": {"workers": 2}})
    for name in ("0001.key", "0002.key", "early.key"):
        put(suite.keys, name)
    server = suite.start_ke() if which == "key exchange" else suite.start_ts()
    try:
        early = f"warning: {suite.keys}/early.key: not named with 4 lower-case hexadecimal digits and .key\n"
        assert early in server.output()
        put(suite.keys, "0002.key", "damaged")
        late = f"warning: {suite.keys}/0002.key: does not hold 64 hexadecimal digits\n"
        server.wait_for(late, timeout=5)
        for path in keystore.key_paths(suite.keys):
            path.unlink()
        empty = f"warning: no master key in {suite.keys}: cookies cannot be made or opened\n"
        server.wait_for(empty, timeout=5)
    finally:
        suite.stop()
    assert [server.output().count(line) for line in (early, late, empty)] == [1, 1, 1]

# SPDX-License-Identifier: MIT
"""Every package is pinned with the hashes of its files, and tools/pin_hashes.py writes them."""

from __future__ import annotations

import itertools

import pytest

from nts.cli import script
from testkit.processes import ROOT
from tools.pin_hashes import FILES, HASH, PIN, pinned

LINES = [(path.name, line) for path in FILES for line in path.read_text().splitlines() if line]
A, B = "0a" * 32, "0b" * 32


class OneRelease:
    """An index that knows demo 1.0 alone."""

    def hashes(self, name: str, version: str) -> list[str]:
        return [A, B] if (name, version) == ("demo", "1.0") else []


def test_each_package_is_pinned_and_each_pin_has_hashes() -> None:
    for (file, line), (_, following) in itertools.pairwise([*LINES, ("", "")]):
        assert PIN.match(line) or HASH.match(line) or line.startswith("#") or line == "-r requirements.txt", line
        if PIN.match(line) or line.endswith("\\"):
            assert line.endswith(" \\"), f"{file}: no hash follows {line}: run python -m tools.pin_hashes"
            assert HASH.match(following), f"{file}: no hash follows {line}"


def test_the_hashes_of_a_changed_pin_are_replaced() -> None:
    before = ["# why", 'demo==1.0; python_version < "3.11"', "", "demo==1.0 \\", f"    --hash=sha256:{'0c' * 32}"]
    hashes = [f"    --hash=sha256:{A} \\", f"    --hash=sha256:{B}"]
    after = ["# why", 'demo==1.0; python_version < "3.11" \\', *hashes, "", "demo==1.0 \\", *hashes]
    assert list(pinned(before, OneRelease())) == after
    assert list(pinned(after, OneRelease())) == after


def test_a_release_that_the_index_does_not_have_is_an_error() -> None:
    with pytest.raises(SystemExit, match=r"no file of demo 1\.1"):
        list(pinned(["demo==1.1"], OneRelease()))


def test_scripts_know_the_packages_that_they_need() -> None:
    text = (ROOT / "requirements.txt").read_text()
    assert all(f"\n{name}==" in text for name in script._DISTRIBUTIONS.values())

# SPDX-License-Identifier: MIT
"""Copies the Python packages that the suite needs to run, and no others, out of .venv.

usage: python -m tools.runtime_packages FOLDER     for tools/install.sh: needs neither pip nor the network
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

OPTIONAL = ("aetcd", "grpcio", "protobuf")  # of fleet_helper.py with etcd
REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"


def copy(target: Path) -> None:
    """Copy the files of all that requirements.txt pins, at the version that it pins, and what is optional if there."""
    pins = re.findall(r"^([\w.-]+)==([\w.]+)", REQUIREMENTS.read_text(), re.MULTILINE)
    for name in dict(pins):
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            sys.exit(f"{name} is missing: run ./bootstrap build")
        if (name, found.version) not in pins:
            sys.exit(f"{name} {found.version} is not what requirements.txt pins: run ./bootstrap build")
        _copy(found, target)
    for name in OPTIONAL:
        with contextlib.suppress(metadata.PackageNotFoundError):
            _copy(metadata.distribution(name), target)


def _copy(found: metadata.Distribution, target: Path) -> None:
    for file in found.files or ():
        if ".." not in file.parts and file.suffix != ".pyc":  # their commands, and what is compiled again
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(found.locate_file(file)), target / file)


if __name__ == "__main__":
    copy(Path(sys.argv[1]))

# SPDX-License-Identifier: MIT
"""Writes the hashes of all files of each pinned release into the requirement files.

usage: python -m tools.pin_hashes     after a change of a version in requirements.txt or requirements-dev.txt

pip then installs nothing else, on whatever platform. The hashes come from the index that pip is configured with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Protocol

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version
from pip._internal.commands import create_command

from testkit.processes import ROOT

FILES = (ROOT / "requirements.txt", ROOT / "requirements-dev.txt")
PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[\w.]+)(?P<marker>;[^\\]*?)?\s*\\?$")
HASH = re.compile(r"\s+--hash=sha256:[0-9a-f]{64}(?: \\)?$")
JSON = "application/vnd.pypi.simple.v1+json"  # PEP 691


class Hashes(Protocol):
    def hashes(self, name: str, version: str) -> list[str]:
        """The SHA-256 of each file of this release, sorted; none if there is no such release."""


class Index:
    """The package index, reached the way pip does."""

    def __init__(self, url: str, session: Any) -> None:
        self._url, self._session = url.rstrip("/"), session

    def hashes(self, name: str, version: str) -> list[str]:
        answer = self._session.get(f"{self._url}/{canonicalize_name(name)}/", headers={"Accept": JSON})
        answer.raise_for_status()
        files = answer.json()["files"]
        return sorted(f["hashes"]["sha256"] for f in files if version_of(f["filename"]) == Version(version))


def version_of(filename: str) -> Version | None:
    """The release that a file belongs to; None for a kind of file that pip no longer installs."""
    try:
        if filename.endswith(".whl"):
            return parse_wheel_filename(filename)[1]
        return parse_sdist_filename(filename)[1]
    except (InvalidSdistFilename, InvalidWheelFilename):
        return None


def pinned(lines: list[str], index: Hashes) -> Iterator[str]:
    """These lines of a requirement file with the hashes that the index has now."""
    for line in lines:
        match = PIN.match(line)
        if HASH.match(line):
            continue
        if match is None:
            yield line
            continue
        hashes = index.hashes(match["name"], match["version"])
        if not hashes:
            raise SystemExit(f"the index has no file of {match['name']} {match['version']}")
        yield f"{match['name']}=={match['version']}{match['marker'] or ''} \\"
        yield from (f"    --hash=sha256:{h} \\" for h in hashes[:-1])
        yield f"    --hash=sha256:{hashes[-1]}"


def main() -> None:
    command: Any = create_command("download")  # knows pip's configuration, certificates and proxies
    options, _ = command.parse_args([])
    with command.main_context():
        index = Index(options.index_url, command.get_default_session(options))
        for path in FILES:
            path.write_text("".join(f"{line}\n" for line in pinned(path.read_text().splitlines(), index)))


if __name__ == "__main__":
    main()

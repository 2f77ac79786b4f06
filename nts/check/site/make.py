# SPDX-License-Identifier: MIT
"""Writes a site into a folder. Files are written whole or not at all; nothing else in the folder is touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nts.base.errors import ConfigError
from nts.check.output.render import write
from nts.check.saved import reading
from nts.check.site import history, pages


def make(folder: Path, files: Sequence[Path]) -> tuple[int, int]:
    """Make the site from the reports in these files; how many servers and reports it has. ConfigError."""
    reports = [report for path in files for report in reading.read(path)]
    servers = history.servers(reports)
    _take(folder)
    for server in servers:
        _folder(folder / server.folder)
        write(folder / server.folder / pages.BADGE, pages.badge(server))
        write(folder / server.folder / pages.PAGE, pages.page(server))
    write(folder / pages.PAGE, pages.index(servers))
    return len(servers), sum(len(server.runs) for server in servers)


def _take(folder: Path) -> None:
    """Make the folder, unless it is there. ConfigError if it holds somebody else's site."""
    _folder(folder)
    index = folder / pages.PAGE
    if index.exists() and f'content="{pages.GENERATOR} ' not in index.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"{index} is no page of {pages.GENERATOR}", hint="give a folder of its own")


def _folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as e:
        raise ConfigError(f"cannot make {folder}: {e.strerror}", hint="give another folder") from None

# SPDX-License-Identifier: MIT
"""Reads a list of servers: a HOST, HOST:PORT or [ADDRESS]:PORT on each line; # begins a comment."""

from __future__ import annotations

from pathlib import Path

from nts.base.errors import ConfigError
from nts.base.registry import KE_PORT
from nts.base.text import harmless, is_ip_address, is_server_name, whole_number
from nts.system import addresses, inifile

Place = tuple[str, int]


def label(place: Place) -> str:
    """How reports name a server."""
    return addresses.format_address(place)


def read(path: Path) -> dict[str, Place]:
    """The servers by their names in reports, each once. ConfigError names the line of a mistake."""
    lines = enumerate(inifile.read_text(path).splitlines(), 1)
    stripped = ((number, line.partition("#")[0].strip()) for number, line in lines)
    places = [_place(path, number, line) for number, line in stripped if line]
    if not places:
        raise ConfigError(f"{path} names no server", hint="write a HOST or HOST:PORT on each line")
    return {label(place): place for place in places}


def _place(path: Path, number: int, line: str) -> Place:
    host, colon, port = (line, "", "") if is_ip_address(line) else line.rpartition(":")
    if not colon or line.endswith("]"):
        host, port = line, str(KE_PORT)
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    found = whole_number(port, 1, 65535)
    if found is None or not is_server_name(host.partition("%")[0] if ":" in host else host):
        raise ConfigError(
            f"{path}, line {number}: {harmless(line, 60)!r} is no server",
            hint="write HOST, HOST:PORT or [ADDRESS]:PORT, and comments after #",
        )
    return host.lower(), found

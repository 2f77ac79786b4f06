# SPDX-License-Identifier: MIT
"""Where the files lie that no argument names: beside the scripts in a checkout, in the system's folders otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from nts import IS_CHECKOUT, ROOT


def server_ini() -> Path:
    """The configuration of the servers."""
    return ROOT / "server.ini" if IS_CHECKOUT else Path("/etc/nts/server.ini")


def client_ini(host: str = "") -> Path:
    """The state of the clients; with `host`, of the associations with that key exchange server alone."""
    name = f"client.{host.replace('/', '_')}.ini" if host else "client.ini"
    if IS_CHECKOUT:
        return ROOT / name
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else Path.home() / ".local/state") / "nts" / name


def fleet_ini() -> Path:
    """The configuration of the fleet's helper."""
    return ROOT / "fleet.ini" if IS_CHECKOUT else Path("/etc/nts/fleet.ini")

# SPDX-License-Identifier: MIT
"""The register of faults: every way to misbehave that has a name.

A new fault is one declaration in the file of its subject. `misbehave` and the client cases find it by name.
"""

from __future__ import annotations

from nts.check.peer.faults import exchange, handshake, time
from nts.check.peer.faults.register import Expected, Fault, Side

__all__ = ["FAULTS", "Expected", "Fault", "Side", "UnknownFault", "find"]

FAULTS: dict[str, Fault] = {f.name: f for f in (*handshake.FAULTS, *exchange.FAULTS, *time.FAULTS)}


class UnknownFault(ValueError):
    """No fault has this name."""


def find(name: str) -> Fault:
    """The fault with this name. UnknownFault."""
    if name not in FAULTS:
        raise UnknownFault(f"no fault is called {name!r}; --list shows them all")
    return FAULTS[name]

# SPDX-License-Identifier: MIT
"""Waits for a socket, as select() does, but also for one with a descriptor of 1024 and more."""

from __future__ import annotations

import selectors
from typing import Protocol

_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)


class HasFileno(Protocol):
    """A socket, or something around one."""

    def fileno(self) -> int:
        """Its descriptor."""


def readable(source: HasFileno, seconds: float) -> bool:
    """Whether something can be read from it within that time, or an error."""
    return _wait(source, selectors.EVENT_READ, seconds)


def writable(source: HasFileno, seconds: float) -> bool:
    """Whether it takes something within that time, or an error is to be read."""
    return _wait(source, selectors.EVENT_WRITE, seconds)


def _wait(source: HasFileno, event: int, seconds: float) -> bool:
    with _Selector() as selector:
        selector.register(source, event)
        return bool(selector.select(seconds))

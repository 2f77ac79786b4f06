# SPDX-License-Identifier: MIT
"""Lines on stderr: `prog: ...`, `prog: warning: ...`, `prog: error: ...` and `hint: ...`. They hold no secrets."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path


def prog() -> str:
    """The name of the running script."""
    return Path(sys.argv[0]).name


def _to_stderr(line: str) -> None:
    # A server must not fail because stderr does: the disk may be full, or the log reader gone.
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def say(line: str) -> None:
    """Print a status line."""
    _to_stderr(f"{prog()}: {line}")


def warn(line: str) -> None:
    """Print a warning."""
    say(f"warning: {line}")


def ignore(_line: str) -> None:
    """Print nothing. Takes the place of `say` or `warn` where lines are unwanted."""


def fail(message: str, hint: str | None = None) -> None:
    """Print an error, and a hint of what to try next."""
    say(f"error: {message}")
    if hint:
        _to_stderr(f"hint: {hint}")


def counts(totals: dict[str, int]) -> str:
    """Counters as text."""
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in totals.items()) or "none"

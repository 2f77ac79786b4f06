# SPDX-License-Identifier: MIT
"""Lines on stderr: `prog: ...`, `prog: warning: ...`, `prog: error: ...` and `hint: ...`. Never a secret in one."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path


def prog() -> str:
    """The name of the running script."""
    return Path(sys.argv[0]).name


def _to_stderr(line: str) -> None:
    # A server must not fail because nobody reads what it says: a full disk, a log reader that has gone.
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def say(line: str) -> None:
    """A status line."""
    _to_stderr(f"{prog()}: {line}")


def warn(line: str) -> None:
    """A warning."""
    say(f"warning: {line}")


def ignore(_line: str) -> None:
    """Where a line is not wanted."""


def fail(message: str, hint: str | None = None) -> None:
    """An error and a hint of what to try."""
    say(f"error: {message}")
    if hint:
        _to_stderr(f"hint: {hint}")


def counts(totals: dict[str, int]) -> str:
    """Counters as text."""
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in totals.items()) or "none"

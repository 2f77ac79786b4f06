# SPDX-License-Identifier: MIT
"""Lines on stderr: `prog: ...`, `prog: warning: ...`, `prog: error: ...` and `hint: ...`. They hold no secrets.

With `use_json`, each is a JSON object instead: `time` (UTC), `program`, `pid`, `level` (info, warning or error),
`message`, and what else the caller gives.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

_MINUTE = 60.0  # seconds

_json = False
_last_warned: dict[str, float] = {}  # when, by subject
_last_counts: dict[str, int] = {}


def use_json() -> None:
    """Write JSON from now on, also in processes forked from this one."""
    global _json
    _json = True


def prog() -> str:
    """The name of the running script."""
    return Path(sys.argv[0]).name


COMMANDS = {
    "ntske_client": "ntske-client",
    "ntsts_client": "ntsts-client",
    "ntske_server": "ntske-server",
    "ntsts_server": "ntsts-server",
    "server_helper": "nts-server-helper",
    "fleet_helper": "nts-fleet-helper",
    "nts_check": "nts-check",
}
"""the scripts, and the commands that pip makes of them"""


def worded(text: str) -> str:
    """A text that names scripts, such as a hint, for the user of the commands that pip has installed."""
    if prog() in COMMANDS.values():
        for script, command in COMMANDS.items():
            text = text.replace(f"{script}.py", command)
    return text


def _to_stderr(line: str) -> None:
    # A server must not fail because stderr does: the disk may be full, or the log reader gone.
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def _write(level: str, message: str, **more: Any) -> None:
    message = worded(message)
    if _json:
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        head = {"time": now, "program": prog(), "pid": os.getpid(), "level": level, "message": message}
        _to_stderr(json.dumps({**head, **more}))
    else:
        _to_stderr(f"{prog()}: {'' if level == 'info' else level + ': '}{message}")


def say(line: str, **more: Any) -> None:
    """Print a status line. `more` is only for JSON."""
    _write("info", line, **more)


def warn(line: str) -> None:
    """Print a warning."""
    _write("warning", line)


def warn_now_and_then(subject: str, line: str, pause: float = _MINUTE) -> bool:
    """Print a warning, unless there was one about the same subject within the last `pause` seconds."""
    now = time.monotonic()
    due = now - _last_warned.get(subject, -pause) >= pause
    if due:
        _last_warned[subject] = now
        warn(line)
    return due


def warn_of_more(subject: str, line: str, count: int) -> None:
    """Print a warning when `count` has grown since the last one about the subject, at most once a minute."""
    if count > _last_counts.get(subject, 0) and warn_now_and_then(subject, line):
        _last_counts[subject] = count


def ignore(_line: str, **_more: Any) -> None:
    """Print nothing. Takes the place of `say` or `warn` where lines are unwanted."""


def fail(message: str, hint: str | None = None) -> None:
    """Print an error, and a hint of what to try next."""
    hint = worded(hint or "")
    if _json:
        _write("error", message, hint=hint or None)
        return
    _write("error", message)
    if hint:
        _to_stderr(f"hint: {hint}")


def counts(totals: dict[str, int]) -> str:
    """Counters as text."""
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in totals.items()) or "none"

# SPDX-License-Identifier: MIT
"""Runs a program that cannot touch the clock, and believes that it does: `python -m nts.system.still_clock PROGRAM...`.

What sets or steers the clock, or reads how it is steered, succeeds and does nothing (seccomp). It cannot be undone, and
what the program starts is kept from the clock too. A process of its own puts the filter in force, since a program with
threads must not do so much between fork and exec.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nts
from nts.system import sandbox

FOLDER = Path(nts.__file__).parent.parent
"""where a command must be started, so that Python finds this module"""


def command(*program: str) -> list[str]:
    """What runs a program so, started in FOLDER."""
    return [sys.executable, "-m", __name__, *program]


def main() -> None:
    """Become the program of the arguments. Exit code 1: there is no libseccomp; 127: there is no such program."""
    try:
        sandbox.still_clock()
    except OSError as e:
        sys.exit(f"still_clock: {e}")
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as e:
        print(f"still_clock: {sys.argv[1]}: {e.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main()

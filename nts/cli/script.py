# SPDX-License-Identifier: MIT
"""What all scripts share: where output goes, how errors look, which exit code they give.

stdout carries only the product. Everything else goes to stderr as `prog: ...`, `prog: warning: ...`,
`prog: error: ...` or `hint: ...`, one line each, without a secret in it.

Imports nothing that needs more than the standard library, so that it can say what is missing. For the same reason
scripts import the rest of the package inside `main`.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from nts import ROOT
from nts.base.errors import ExitCode, NTSError
from nts.system import console

_OLDEST_PYTHON = (3, 10)
_DISTRIBUTIONS = {
    "cffi": "cffi",
    "OpenSSL": "pyOpenSSL",
    "cryptography": "cryptography",
    "service_identity": "service-identity",
    "rich": "rich",
    "dpkt": "dpkt",
}


def run(main: Callable[[], int]) -> None:
    """Run a script's `main` and exit; every error a user can cause becomes one line and an exit code."""
    if sys.version_info < _OLDEST_PYTHON:
        console.fail(
            "Python {}.{} or newer is needed".format(*_OLDEST_PYTHON), "use .venv/bin/python after ./bootstrap build"
        )
        sys.exit(ExitCode.USAGE)
    _open_standard_streams()
    atexit.register(_give_up_on_stderr)
    try:
        code = main()
        sys.stdout.flush()
    except NTSError as e:
        console.fail(str(e), e.hint)
        code = e.exit_code
    except ModuleNotFoundError as e:
        if e.name not in _DISTRIBUTIONS:
            raise
        console.fail(f"this Python has no {_DISTRIBUTIONS[e.name]}", _interpreter_hint())
        code = ExitCode.USAGE
    except KeyboardInterrupt:
        code = 130
    except (OSError, UnicodeError, RuntimeError) as e:  # of what this machine refuses, what no other place expects
        if not isinstance(e, BrokenPipeError):
            console.fail(f"{e.filename}: {e.strerror}" if isinstance(e, OSError) and e.filename else str(e))
        with contextlib.suppress(OSError):  # no descriptors left, perhaps
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more to flush at exit
        code = ExitCode.USAGE if isinstance(e, OSError) and e.filename else ExitCode.FAILURE
    sys.exit(code)


def _open_standard_streams() -> None:
    """Have something behind descriptors 0 to 2, and streams, even when the caller has closed them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # becomes the lowest free one, which is this one
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the whole run
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path or a name that the locale cannot show


def _give_up_on_stderr() -> None:
    """Drop what could not be written so far: the interpreter would try again, and make the exit code 120."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _interpreter_hint() -> str:
    return f"run {ROOT / 'bootstrap'} build, then {ROOT / '.venv/bin/python'} {sys.argv[0]}"

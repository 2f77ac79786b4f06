# SPDX-License-Identifier: MIT
"""What all scripts share: streams, error messages and exit codes.

stdout carries only results. Everything else goes to stderr, one line each, without secrets: `prog: ...`,
`prog: warning: ...`, `prog: error: ...` or `hint: ...`.

This module imports only modules that need the standard library alone, so that it can report missing packages. For the
same reason scripts import the rest of the package inside `main`.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from nts import IS_CHECKOUT, ROOT
from nts.base.errors import ExitCode, NTSError
from nts.system import console

_OLDEST_PYTHON = (3, 10)
_STANDARD_OUTPUT = "cannot write to standard output"
_DISTRIBUTIONS = {
    "cffi": "cffi",
    "_cffi_backend": "cffi",
    "OpenSSL": "pyOpenSSL",
    "cryptography": "cryptography",
    "service_identity": "service-identity",
    "rich": "rich",
    "dpkt": "dpkt",
    "prometheus_client": "prometheus_client",
}


def run(main: Callable[[], int]) -> None:
    """Run a script's `main` and exit. Every error that a user can cause becomes one line and an exit code."""
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
    except ImportError as e:
        name = (e.name or "").partition(".")[0]
        if name not in _DISTRIBUTIONS:
            raise
        console.fail(f"this Python has another {_DISTRIBUTIONS[name]} than is needed: {e.msg}", _interpreter_hint())
        code = ExitCode.USAGE
    except KeyboardInterrupt:
        code = 130
    except (OSError, UnicodeError, RuntimeError) as e:  # what the machine refuses and nothing else handles
        if not isinstance(e, BrokenPipeError):
            console.fail(f"{e.filename}: {e.strerror}" if isinstance(e, OSError) and e.filename else str(e))
        with contextlib.suppress(OSError):  # there may be no descriptors left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit must not fail
        named = isinstance(e, OSError) and e.filename not in (None, _STANDARD_OUTPUT)
        code = ExitCode.USAGE if named else ExitCode.FAILURE
    sys.exit(code)


def heed_ctrl_c() -> None:
    """Make Ctrl-C a KeyboardInterrupt again. The clients start without: in an import it would leave a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _StandardOutput(io.TextIOWrapper):
    """stdout, whose errors name it: those of other files name these."""

    def write(self, text: str) -> int:
        with _named():
            return super().write(text)

    def flush(self) -> None:
        with _named():
            super().flush()


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        e.filename = _STANDARD_OUTPUT
        raise


def _open_standard_streams() -> None:
    """Open descriptors 0 to 2, and streams, where the caller has closed them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - open for the whole run
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for paths and names that the locale cannot encode
    if isinstance(sys.stdout, io.TextIOWrapper):
        old = sys.stdout
        encoding, errors, by_line = old.encoding, old.errors, old.line_buffering
        sys.stdout = _StandardOutput(old.detach(), encoding, errors, line_buffering=by_line)


def _give_up_on_stderr() -> None:
    """Drop unwritable output. Otherwise the interpreter tries again at exit and changes the exit code to 120."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _interpreter_hint() -> str:
    if not IS_CHECKOUT:
        return f"{sys.executable} -m pip check says what is missing"
    return f"run {ROOT / 'bootstrap'} build, then {ROOT / '.venv/bin/python'} {sys.argv[0]}"

# SPDX-License-Identifier: MIT
"""What all scripts share: where output goes, how errors look, which exit code they give.

stdout carries only the product. Everything else goes to stderr as `prog: ...`, `prog: warning: ...`,
`prog: error: ...` or `hint: ...`, one line each, without a secret in it.

Imports nothing that needs more than the standard library, so that it can say what is missing. For the same reason
scripts import the rest of the package inside `main`.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import io
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nts import inifile
from nts.errors import ExitCode, NTSError
from nts.registry import AeadId

_OLDEST_PYTHON = (3, 10)
_DISTRIBUTIONS = {
    "cffi": "cffi",
    "OpenSSL": "pyOpenSSL",
    "cryptography": "cryptography",
    "service_identity": "service-identity",
    "rich": "rich",
    "dpkt": "dpkt",
}


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


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the script's docstring: what it does, then worked examples."""
    return argparse.ArgumentParser(prog=prog(), **_described(doc))


def subcommand(subparsers: Any, name: str, doc: str | None) -> argparse.ArgumentParser:
    """The same for a subcommand; how the docstring starts also stands in the list of subcommands."""
    words = _described(doc)
    about = " ".join(words["description"].split()).partition(": ")[0].rstrip(".")
    added: argparse.ArgumentParser = subparsers.add_parser(name, help=about[:1].lower() + about[1:], **words)
    return added


def _described(doc: str | None) -> dict[str, Any]:
    description, _, examples = (doc or "").partition("\n\n")
    return {
        "description": description,
        "epilog": examples,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }


def add_family(parser: argparse.ArgumentParser) -> None:
    """-4 and -6."""
    group = parser.add_mutually_exclusive_group()
    for flag, family in (("-4", socket.AF_INET), ("-6", socket.AF_INET6)):
        text = f"use IPv{flag[1:]} only"
        group.add_argument(flag, dest="family", action="store_const", const=family, help=text)
    parser.set_defaults(family=socket.AF_UNSPEC)


def add_output(parser: argparse.ArgumentParser) -> None:
    """The options for what is shown."""
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    parser.add_argument("--verbose", action="store_true", help="say more")
    parser.add_argument("--show-secrets", action="store_true", help="show keys and cookies, which are secret")


def port(text: str) -> int:
    """A command-line argument: a TCP or UDP port."""
    return _in_range(text, 1, 65535, "a port from 1 to 65535")


def count(text: str) -> int:
    """A command-line argument: how often."""
    return _in_range(text, 1, 1_000_000, "a number from 1 to 1000000")


def _in_range(text: str, low: int, high: int, what: str) -> int:
    value = inifile.number(text, low, high)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def seed(text: str) -> int:
    """A command-line argument: what a random source starts from."""
    return _in_range(text, 0, 2**32 - 1, f"a number from 0 to {2**32 - 1}")


def duration(text: str) -> float:
    """A command-line argument: seconds."""
    value = _seconds(text)
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds over 0 and up to 86400")
    return value


def pause(text: str) -> float:
    """A command-line argument: seconds, or none."""
    value = _seconds(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 3600")
    return value


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def aead_list(text: str) -> tuple[AeadId, ...]:
    """A command-line argument: AEAD algorithms in order of preference."""
    try:
        return inifile.aeads(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"{text!r}: {e}") from None


def run(main: Callable[[], int]) -> None:
    """Run a script's `main` and exit; every error a user can cause becomes one line and an exit code."""
    if sys.version_info < _OLDEST_PYTHON:
        fail("Python {}.{} or newer is needed".format(*_OLDEST_PYTHON), "use .venv/bin/python after ./bootstrap build")
        sys.exit(ExitCode.USAGE)
    _open_standard_streams()
    atexit.register(_give_up_on_stderr)
    try:
        code = main()
        sys.stdout.flush()
    except NTSError as e:
        fail(str(e), e.hint)
        code = e.exit_code
    except ModuleNotFoundError as e:
        if e.name not in _DISTRIBUTIONS:
            raise
        fail(f"this Python has no {_DISTRIBUTIONS[e.name]}", _interpreter_hint())
        code = ExitCode.USAGE
    except KeyboardInterrupt:
        code = 130
    except (OSError, UnicodeError, RuntimeError) as e:  # of what this machine refuses, what no other place expects
        if not isinstance(e, BrokenPipeError):
            fail(f"{e.filename}: {e.strerror}" if isinstance(e, OSError) and e.filename else str(e))
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
    root = Path(__file__).resolve().parent.parent
    return f"run {root / 'bootstrap'} build, then {root / '.venv/bin/python'} {sys.argv[0]}"

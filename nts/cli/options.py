# SPDX-License-Identifier: MIT
"""Arguments that several scripts share, with their checks, and help texts made from docstrings."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nts import __version__
from nts.base.text import span, whole_number
from nts.system import console

if TYPE_CHECKING:
    from nts.codec.aead import Aead


_MAX_TOLERANCE = 3650 * 86400  # seconds


class _Parser(argparse.ArgumentParser):
    """Refuses an empty argument. What a shell makes of an unset variable must not stand for a default."""

    def format_help(self) -> str:
        return console.worded(super().format_help())

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else list(args)
        if any(word == "" or (word.startswith("--") and word.endswith("=")) for word in words):
            self.error("an argument is empty: is a variable of the shell unset?")
        return super().parse_known_args(words, namespace)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the script's docstring: a description, then examples. It refuses empty arguments."""
    return _with_version(_Parser(prog=console.prog(), **_described(doc)))


def subcommand(subparsers: Any, name: str, doc: str | None) -> argparse.ArgumentParser:
    """The same for a subcommand. The list of subcommands shows the docstring up to its first colon."""
    words = _described(doc)
    about = " ".join(words["description"].split()).partition(": ")[0].rstrip(".")
    return _with_version(subparsers.add_parser(name, help=about[:1].lower() + about[1:], **words))


def _with_version(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--version", action="version", version=f"{console.prog()} {__version__}")
    return parser


def _described(doc: str | None) -> dict[str, Any]:
    description, _, examples = (doc or "").partition("\n\n")
    return {
        "description": description,
        "epilog": examples,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }


def server(doc: str | None, verbose: str, *, log_addresses: bool = False) -> argparse.Namespace:
    """The arguments of a server: `config` (a path or None), `verbose`. Sets the format of the log.

    `log_addresses` adds an option of that name.
    """
    made = parser(doc)
    made.add_argument(
        "config", nargs="?", metavar="server.ini", help="configuration (default: beside this script, or in /etc/nts)"
    )
    made.add_argument("--verbose", action="store_true", help=f"print a line on stderr for each {verbose}")
    made.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="how lines on stderr look (default: text)"
    )
    if log_addresses:
        made.add_argument("--log-addresses", action="store_true", help="name clients' addresses in those lines")
    args = made.parse_args()
    if args.log_format == "json":
        console.use_json()
    return args


def add_family(parser: argparse.ArgumentParser) -> None:
    """Add -4 and -6."""
    group = parser.add_mutually_exclusive_group()
    for flag, family in (("-4", socket.AF_INET), ("-6", socket.AF_INET6)):
        text = f"use IPv{flag[1:]} only"
        group.add_argument(flag, dest="family", action="store_const", const=family, help=text)
    parser.set_defaults(family=socket.AF_UNSPEC)


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the options that select the output."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--verbose", action="store_true", help="print more")
    parser.add_argument("--show-secrets", action="store_true", help="print keys and cookies, which are secret")


def text(text: str) -> str:
    """A command-line argument that must not be empty."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def path(text_: str) -> Path:
    """A command-line argument: the path of a file."""
    return Path(text(text_))


def port(text: str) -> int:
    """A command-line argument: a TCP or UDP port."""
    return _in_range(text, 1, 65535, "a port from 1 to 65535")


def count(text: str) -> int:
    """A command-line argument: a number of repetitions."""
    return _in_range(text, 1, 1_000_000, "a number from 1 to 1000000")


def _in_range(text: str, low: int, high: int, what: str) -> int:
    value = whole_number(text, low, high)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def seed(text: str) -> int:
    """A command-line argument: the seed of a random source."""
    return _in_range(text, 0, 2**32 - 1, f"a number from 0 to {2**32 - 1}")


def duration(text: str) -> float:
    """A command-line argument: seconds, more than 0."""
    value = _seconds(text)
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds over 0 and up to 86400")
    return value


def tolerance(text: str) -> int:
    """A command-line argument: seconds, from a number with a unit."""
    seconds = span(text, 1, _MAX_TOLERANCE)
    if seconds is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number with the unit s, m, h or d, up to 3650d")
    return seconds


def pause(text: str) -> float:
    """A command-line argument: seconds, possibly 0."""
    value = _seconds(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 3600")
    return value


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def aead_list(text: str) -> tuple[Aead, ...]:
    """A command-line argument: AEAD algorithms in order of preference."""
    from nts.codec.aead import Aead  # here, so that `script.run` reports missing packages

    try:
        return Aead.parse_list(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"{text!r}: {e}") from None

# SPDX-License-Identifier: MIT
"""The argument parsers of the scripts, without running these."""

from __future__ import annotations

import argparse
import os
import runpy
from pathlib import Path
from unittest import mock

import pytest

from nts.check.commands import decode


class Caught(Exception):
    """Carries the parser of a script that is about to use it."""


def parser_of(script: Path) -> argparse.ArgumentParser:
    """The parser that the script makes."""

    def caught(parser: argparse.ArgumentParser) -> None:
        raise Caught(parser)

    environ = {k: v for k, v in os.environ.items() if k != "SSLKEYLOGFILE"}  # a default of --keylog
    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", caught),
        mock.patch.object(argparse.ArgumentParser, "parse_intermixed_args", caught),
        mock.patch.dict(os.environ, environ, clear=True),
        pytest.raises(Caught) as caught_parser,
    ):
        runpy.run_path(str(script))["main"]()
    parser: argparse.ArgumentParser = caught_parser.value.args[0]
    return parser


def run_decode(*arguments: object) -> int:
    """nts_check.py decode with these arguments, in this process; its exit code."""
    parser = argparse.ArgumentParser()
    decode.add(parser.add_subparsers())
    args = parser.parse_args(["decode", *map(str, arguments)])
    return int(args.run(args))

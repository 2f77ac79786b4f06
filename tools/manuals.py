# SPDX-License-Identifier: MIT
"""Makes man pages, and completion for bash, zsh and fish, from the parsers of the commands' arguments.

usage: python -m tools.manuals FOLDER     writes FOLDER/man, FOLDER/bash-completion, FOLDER/zsh, FOLDER/fish

For tools/install.sh, where FOLDER is PREFIX/share. Needs the packages shtab and argparse-manpage.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import shtab

import server_helper
from nts import ROOT, __version__
from nts.cli import options
from nts.system.console import COMMANDS
from testkit.command_lines import parser_of

SHELLS = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}


MAN = "man/man1/{}.1"


def files() -> Iterator[tuple[str, str]]:
    """The path of each file in the folder, and its text."""
    for script, command in COMMANDS.items():
        with mock.patch.object(sys, "argv", [command]):
            parser = parser_of(ROOT / f"{script}.py")
        yield MAN.format(command), _worded(man_page(parser), r"\-")
        _mark(parser)
        for shell, path in SHELLS.items():
            yield path.format(command), _worded(shtab.complete(parser, shell), "-")


def man_page(parser: argparse.ArgumentParser) -> str:
    """A page of section 1, without a date, which would change with each run."""
    from build_manpages.manpage import Manpage  # here: it loads setuptools, which no test may do before pip

    page = Manpage(parser)
    page.description = re.split(r": |\.\s|\.$", " ".join((parser.description or "").split()))[0]
    page.manual, page.source, page.date = "NTS suite", f"nts-suite {__version__}", ""
    return str(page).replace(".SH COMMENTS\nexamples:", ".SH EXAMPLES")


def _mark(parser: argparse.ArgumentParser) -> None:
    """Say which arguments are files or words that the parser does not know."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _mark(subparser)
        elif action.type is options.path or action.dest == "config":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.dest == "words":
            action.choices = server_helper.COMMANDS


def _worded(text: str, hyphen: str) -> str:
    for script, command in COMMANDS.items():
        text = text.replace(f"{script}.py", command.replace("-", hyphen))
    return text


def main(folder: str) -> None:
    for path, text in files():
        target = Path(folder) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])

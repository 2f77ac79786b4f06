# SPDX-License-Identifier: MIT
"""The checks explained: for `--list`, and as docs/checks.md."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.text import Text

from nts.check.model import Check
from nts.check.output.summary import in_groups
from nts.check.output.terminal import console, labelled
from nts.check.output.text import section


def show(checks: Iterable[Check[Any]]) -> None:
    """Explain the checks on stdout."""
    screen = console(sys.stdout)
    group = ""
    for check in in_groups(checks):
        if check.group != group:
            group = check.group
            screen.print(Text(f"{group}\n", "bold underline" if screen.is_terminal else ""))
        about = f"  {check.severity.value}, {section(check.section)}, {check.ref}"
        head = Text.assemble(f"{check.id} ", (check.name, "bold"), (about, "dim"))
        screen.print(head, soft_wrap=not screen.is_terminal)
        for label, text in check.texts.items():
            labelled(screen, label, text)
        screen.print()


def markdown(title: str, checks: Sequence[Check[Any]]) -> str:
    """A chapter of docs/checks.md: a table of all, then each one explained."""
    lines = [f"## {title}", ""]
    for group in dict.fromkeys(c.group for c in checks):
        members = [c for c in checks if c.group == group]
        lines += [f"### {_escaped(group)}", "", "| no. | name | severity | section | ref |", "|---|---|---|---|---|"]
        lines += [
            f"| {c.id} | [{c.name}](#{c.name}) | {c.severity.value} | {_escaped(c.section)} | {_escaped(c.ref)} |"
            for c in members
        ]
        lines.append("")
        for check in members:
            lines += [f'<a id="{check.name}"></a>**{check.id} {check.name}**, {check.severity.value}, '
                      f"{_escaped(section(check.section))}", ""]  # fmt: skip
            lines += [f"- {label}: {_escaped(text)}" for label, text in check.texts.items()]
            lines.append("")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    for character in "\\`*_[]<>|":
        text = text.replace(character, "\\" + character)
    return text

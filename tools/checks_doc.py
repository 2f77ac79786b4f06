# SPDX-License-Identifier: MIT
"""Writes docs/checks.md from the checks themselves: `python -m tools.checks_doc`. A test holds it up to date."""

from __future__ import annotations

from pathlib import Path

from nts.check import client, server
from nts.check.output import catalogue

PATH = Path(__file__).resolve().parent.parent / "docs/checks.md"
HEAD = """\
# The checks of nts_check

Made by `python -m tools.checks_doc` from the checks themselves; `nts_check.py server --list` says the same on a
terminal. [nts_check.md](nts_check.md) says what verdicts and severities mean. Sections are those of RFC 8915 unless
another document is named; the requirements (A.., B..) are in [rfc8915.md](rfc8915.md).
"""


def text() -> str:
    """The whole document."""
    return "\n".join(
        [
            HEAD,
            catalogue.markdown("Checks of a server", server.CHECKS),
            catalogue.markdown("Checks of a client", client.CASES),
        ]
    )


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")

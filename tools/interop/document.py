# SPDX-License-Identifier: MIT
"""docs/interop.md: what is known of interoperability, from the results of a run."""

from __future__ import annotations

import textwrap

from tools.interop import page
from tools.interop.cases import CASES
from tools.interop.report import Record, peers, table

_ABOUT = (
    "Every NTS server with every client, each pair in two network namespaces of its own, in {count} cases: {peers}. The"
    " programs of the others are Debian's, unpacked by `tools/peers.sh`; nothing is installed, and no clock is touched."
    " `make matrix` runs this, and `python -m tools.interop --report --document` wrote this page of its results."
)
_KEYS = """
## What was seen of it

The packets, keys and logs of each cell are kept, and `nts_check.py decode` reads them.

| implementation | its keys |
|---|---|
| this suite | `ntske_client.py` writes TLS secrets to `SSLKEYLOGFILE`; the server's master keys open its cookies |
| chrony | GnuTLS writes TLS secrets to `SSLKEYLOGFILE`, in both roles; `ntskeys` opens the cookies |
| NTPsec | none by itself; `tools/interop/keylog.c`, preloaded, has OpenSSL write them; `nts-keys` opens the cookies |
| ntpd-rs | none of TLS: rustls is built without a key log. The server's file at `key-storage-path` opens the cookies |
"""


def document(records: list[Record]) -> str:
    """The page."""
    everybody = dict.fromkeys((*peers(records)[0], *peers(records)[1]))
    lines = "\n".join(table(records, colour=False))
    about = textwrap.fill(_ABOUT.format(count=len(CASES), peers=", ".join(everybody)), 120)
    text = f"# Interoperability\n\n{about}\n\n```\n{lines}\n```\n"
    text += "\n## What failed, and whose fault it is\n\n" + _list(page.faults(records))
    text += (
        "\n## Rules that were broken\n\nThe decoder found them in the packets. Nobody stumbled over them, or the list"
        " above says so.\n\n" + _list(page.problems(records))
    )
    text += "\n## What is not supported\n\n" + _list(page.unsupported(records))
    return text + _KEYS


def _list(groups: dict[page.Group, str]) -> str:
    if not groups:
        return "Nothing.\n"
    lines = []
    for (what, section, sentence), where in groups.items():
        quote = f" RFC 8915 section {section}: *{sentence}*" if sentence else ""
        lines.append(f"- {what}.{quote} {where[0].upper()}{where[1:]}.\n")
    return "".join(lines)

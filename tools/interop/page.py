# SPDX-License-Identifier: MIT
"""The matrix as one HTML page without script, font or picture: it opens without a network, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from string import Template

import nts
from nts.check.findings import counted
from nts.check.output import as_html, frame
from tools.interop.cases import CASES
from tools.interop.report import Record, peers
from tools.interop.run import Grade

_CLASSES = {Grade.OK: "ok", Grade.FAILED: "failed", Grade.UNSUPPORTED: "no"}
_STYLE = """\
body { max-width: 90rem; }
.ok { --c: var(--pass); } .failed { --c: var(--fail); } .no { --c: var(--line); }
.wide { overflow-x: auto; margin: 1rem 0 .5rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--card); }
.wide table { display: table; width: auto; } .wide thead { display: table-header-group; }
.wide tbody { display: table-row-group; } .wide tr { display: table-row; }
.wide th, .wide td { display: table-cell; padding: .4rem .5rem; border: solid var(--line); border-width: 0 1px 1px 0; }
.wide th { color: inherit; font-size: inherit; font-weight: 600; white-space: nowrap; }
tbody th { position: sticky; left: 0; background: var(--card); }
.marks { display: grid; grid-template-columns: repeat(5, 1.3rem); gap: .15rem; }
.marks > * { width: 1.3rem; height: 1.3rem; line-height: 1.2rem; text-align: center; border: 1px solid var(--c);
  border-radius: .25rem; color: var(--c); font-size: .75rem; font-weight: 700; text-decoration: none; }
.marks .failed { background: var(--c); color: var(--card); }
.marks .no { color: var(--soft); font-weight: 400; }
article { overflow-wrap: anywhere; }
blockquote { margin: .4rem 0; padding-left: .8rem; border-left: .2rem solid var(--line); color: var(--soft); }
"""
_HEADER = Template("""\
<h1>NTS interop matrix</h1>
<p class="tool">$counts. Servers are in rows, clients in columns. A letter leads to the packets, keys and logs of its
cell.</p>""")
_MAIN = Template("""\
<div class="wide"><table>
<thead><tr><th>server \\ client</th>$clients</tr></thead>
<tbody>
$rows
</tbody>
</table></div>
<p class="tool">Filled: failed. Pale: one of them does not do this.</p>
<h2>Cases</h2>
<dl class="sheet">
$cases
</dl>
<h2>Failed</h2>
$failed
<h2>Broken rules</h2>
$problems
<h2>Not supported</h2>
$unsupported""")
_FOOTER = "<p>Broken rules are what nts_check.py decode found in the packets, whether a cell succeeded or not.</p>"


def page(records: list[Record]) -> str:
    """The page, for a file beside the cells' folders."""
    servers, clients = peers(records)
    found = {(r.server, r.client, r.case): r for r in records}
    rows = []
    for server in servers:
        cells = "".join(
            f'<td><div class="marks">{"".join(_mark(found.get((server, client, c)), c) for c in CASES)}</div></td>'
            for client in clients
        )
        rows.append(f"<tr><th>{escape(server)}</th>{cells}</tr>")
    tally = {grade: sum(r.grade is grade for r in records) for grade in Grade}
    main = _MAIN.substitute(
        clients="".join(f"<th>{escape(c)}</th>" for c in clients), rows="\n".join(rows),
        cases="\n".join(
            f"<dt><b>{c.letter}</b> {c.name}</dt><dd>{escape(c.what)}</dd>" for c in CASES.values()
        ),
        failed=_articles("failed", faults(records)), problems=_articles("failed", problems(records)),
        unsupported=_articles("no", unsupported(records)),
    )  # fmt: skip
    return frame.page(
        generator=f"tools.interop {nts.__version__}", title="NTS interop matrix",
        style=as_html.STYLE.read_text(encoding="utf-8") + _STYLE,
        header=_HEADER.substitute(counts=", ".join(f"{count} {grade.value}" for grade, count in tally.items())),
        main=main, footer=_FOOTER,
    )  # fmt: skip


def _mark(kept: Record | None, case: str) -> str:
    letter = CASES[case].letter
    if kept is None:
        return f'<span class="no" title="{case}: not run">&nbsp;</span>'
    title = escape(f"{case}: {kept.grade.value}{kept.reason and ': '}{kept.reason}", quote=True)
    link = escape(kept.folder, quote=True)
    return f'<a class="{_CLASSES[kept.grade]}" href="{link}/" title="{title}">{letter}</a>'


Group = tuple[str, str, str]
"""what, a section, a sentence of the RFC"""


def _articles(kind: str, groups: dict[Group, str]) -> str:
    texts = []
    for (what, section, sentence), where in groups.items():
        quote = f"<blockquote>{escape(sentence)} (RFC 8915 section {section})</blockquote>" if sentence else ""
        cells = f'<p class="tool">{escape(where)}</p>'
        texts.append(f'<article class="{kind}"><p class="seen">{escape(what)}</p>{quote}{cells}</article>')
    return "\n".join(texts) or "<p>Nothing.</p>"


def faults(records: Sequence[Record]) -> dict[Group, str]:
    """What failed, and in which cells."""
    return _grouped(((fault, r) for r in records for fault in r.faults), records)


def problems(records: Sequence[Record]) -> dict[Group, str]:
    """Rules that were broken, and in which cells."""
    found = (
        ((f"{side}: {text} ({severity}, {_where(section)})", "", ""), r)
        for r in records
        for side, severity, text, section in r.problems
    )
    return _grouped(found, records)


def _where(section: str) -> str:
    return section if section.startswith("RFC") else f"RFC 8915 section {section}"


def unsupported(records: Sequence[Record]) -> dict[Group, str]:
    """What could not be done, and where."""
    return _grouped((((r.why, "", ""), r) for r in records if r.grade is Grade.UNSUPPORTED), records)


def _grouped(items: Iterable[tuple[Group, Record]], everything: Sequence[Record]) -> dict[Group, str]:
    """By what it is: in how many cells, and which servers, clients and cases they have."""
    groups: dict[Group, list[Record]] = {}
    for group, kept in items:
        groups.setdefault(group, []).append(kept)
    return {group: _cells(groups[group], everything) for group in sorted(groups)}


def _cells(records: Sequence[Record], everything: Sequence[Record]) -> str:
    parts = []
    for what, names, all_names in zip(("server", "client"), peers(records), peers(everything), strict=True):
        several = "s" * (len(names) > 1)
        parts.append(f"all {what}s" if several and names == all_names else f"{what}{several} {', '.join(names)}")
    cases = [case for case in CASES if any(r.case == case for r in records)]
    return f"{counted(len(records), 'cell')}: {'; '.join(parts)}; {', '.join(cases)}"

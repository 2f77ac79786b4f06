# SPDX-License-Identifier: MIT
"""The matrix as one HTML page without script, font or picture: it opens without a network, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from string import Template

from nts.check.findings import counted
from tools.interop.cases import CASES
from tools.interop.report import Record, peers
from tools.interop.run import Grade

_CLASSES = {Grade.OK: "ok", Grade.FAILED: "failed", Grade.UNSUPPORTED: "no"}
_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>NTS interop matrix</title>
<style>
:root { color-scheme: light dark; --back: #fdfdfb; --card: #fff; --ink: #1c1f23; --soft: #5a626c; --line: #dcdfe3;
  --ok: #1a7f37; --failed: #c21d2c; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --card: #1c2024; --ink: #e4e7ea; --soft: #9aa4af;
  --line: #343a41; --ok: #57c270; --failed: #ff7b80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 90rem; padding: 1.5rem 1.25rem 4rem; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: clamp(1.4rem, 5vw, 2rem); line-height: 1.2; margin: 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; }
p, dl, dd, ul { margin: 0 0 .5rem; }
.soft { color: var(--soft); }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; background: var(--card); }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .4rem .5rem; border-bottom: 1px solid var(--line); border-right: 1px solid var(--line);
  text-align: left; vertical-align: top; }
tr:last-child > * { border-bottom: 0; } tr > *:last-child { border-right: 0; }
thead th, tbody th { white-space: nowrap; font-weight: 600; }
tbody th { position: sticky; left: 0; background: var(--card); }
.marks { display: grid; grid-template-columns: repeat(5, 1.3rem); gap: .15rem; }
.marks > * { width: 1.3rem; height: 1.3rem; line-height: 1.2rem; text-align: center; border: 1px solid var(--c);
  border-radius: .25rem; color: var(--c); font-size: .75rem; font-weight: 700; text-decoration: none; }
.ok { --c: var(--ok); } .failed { --c: var(--failed); } .no { --c: var(--line); }
.marks .failed { background: var(--c); color: var(--card); }
.marks .no { color: var(--soft); font-weight: 400; }
.key { display: grid; grid-template-columns: max-content max-content 1fr; gap: .15rem 1rem; font-size: .92rem; }
.key dt { font-weight: 700; } .key dd { margin: 0; }
article { border: 1px solid var(--line); border-left: .3rem solid var(--c); border-radius: .4rem;
  background: var(--card); padding: .7rem 1rem; margin-bottom: .7rem; overflow-wrap: anywhere; }
article > p:first-child { font-weight: 600; }
blockquote { margin: .4rem 0; padding-left: .8rem; border-left: .2rem solid var(--line); color: var(--soft); }
</style>
</head>
<body>
<h1>NTS interop matrix</h1>
<p class="soft">$counts. Servers are in rows, clients in columns. A letter leads to the packets, keys and logs of its
cell.</p>
<div class="wide"><table>
<thead><tr><th class="soft">server \\ client</th>$clients</tr></thead>
<tbody>
$rows
</tbody>
</table></div>
<h2>Cases</h2>
<dl class="key">
$cases
</dl>
<p class="soft">Filled: failed. Pale: one of them does not do this.</p>
<h2>Failed</h2>
$failed
<h2>Broken rules</h2>
<p class="soft">What nts_check.py decode found in the packets, whether a cell succeeded or not.</p>
$problems
<h2>Not supported</h2>
$unsupported
</body>
</html>
""")


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
    return _PAGE.substitute(
        counts=", ".join(f"{count} {grade.value}" for grade, count in tally.items()),
        clients="".join(f"<th>{escape(c)}</th>" for c in clients), rows="\n".join(rows),
        cases="\n".join(
            f'<dt>{c.letter}</dt><dd>{c.name}</dd><dd class="soft">{escape(c.what)}</dd>' for c in CASES.values()
        ),
        failed=_articles("failed", faults(records)), problems=_articles("failed", problems(records)),
        unsupported=_articles("no", unsupported(records)),
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
        texts.append(
            f'<article class="{kind}"><p>{escape(what)}</p>{quote}<p class="soft">{escape(where)}</p></article>'
        )
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

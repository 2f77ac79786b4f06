# SPDX-License-Identifier: MIT
"""A run as one self-contained HTML page: no script, no font, no picture, and it may not load any.

`_e` escapes every text, whether it comes from the peer or from us. Templates take finished HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import nts
from nts.base.text import octets
from nts.check.findings import listed
from nts.check.model import Exhibit, Grade, Mark, Result, Span
from nts.check.output import frame, sheet, summary
from nts.check.output.summary import ORDER, TOOL, Report
from nts.check.output.text import duration, located, section
from nts.check.remedies import remedy, told
from nts.cli.results import utc

_CODE = re.compile("`([^`]+)`")
STYLE = Path(__file__).with_name("style.css")

_HEADER = Template("""\
<p class="tool">$tool</p>
<h1>$target</h1>
$grade
<p class="meaning">$meaning</p>
<ul class="counts">
$counts
</ul>
<dl class="facts">
$facts
</dl>""")

_FOOTER = """\
<p>FAIL breaks a rule. WARN is allowed or harmless, but undesirable. PATH? means that packets vanish on the path rather
than at the peer. SKIP could not be judged. CRIT is about security. A peer conforms if no check of severity CRIT or MUST
fails; if such a check could not be judged, nobody can say.</p>
<p>Cookies and keys are not shown; &lt;100 octets&gt; stands for one.</p>"""

_ROW = Template("""\
<tr class="$mark"><td class="verdict"><span class="badge">$verdict</span></td><td class="number">$number</td>\
<td class="name"><a href="#$name">$name</a></td><td class="severity">$severity</td><td class="section">$section</td>\
<td class="evidence">$evidence</td></tr>""")

_TABLE = Template("""\
<table>
<caption>$group</caption>
<thead><tr><th class="verdict">verdict</th><th class="number">no.</th><th class="name">check</th>\
<th class="severity">severity</th><th class="section">section</th><th>what was seen</th></tr></thead>
<tbody>
$rows
</tbody>
</table>""")

_FINDING = Template("""\
<article class="$mark" id="$name">
<div class="head"><span class="badge">$verdict</span><h3 class="name">$name</h3><span class="about">$about</span></div>
<p class="seen">$evidence</p>
$details
</article>""")

_PASSED = Template("""\
<details class="$mark" id="$name">
<summary><span class="badge">$verdict</span> <span class="name">$name</span>
<span class="seen">$evidence</span></summary>
<p class="head"><span class="about">$about</span></p>
$details
</details>""")


def _e(value: object) -> str:
    return escape(str(value), quote=True)


def page(report: Report) -> str:
    """The page."""
    bad = summary.by_gravity(r for r in report.results if r.grade is not Grade.PASS)
    good = [r for r in report.results if r.grade is Grade.PASS]
    tables = [_table(group, report.results) for group in dict.fromkeys(r.check.group for r in report.results)]
    body = [
        *_part("Facts", _sheet(report)),
        *_part("What to look at", [_fill(_FINDING, r, details=_details(r, report.software)) for r in bad]),
        *_part("All checks", tables),
        *_part("Passed", [_fill(_PASSED, r, details=_details(r, report.software)) for r in good]),
    ]
    header = _HEADER.substitute(
        tool=_e(f"{TOOL} {report.command}"), target=_e(report.target), meaning=_e(summary.meaning(report)),
        grade=_grade(report), counts="\n".join(_counts(report)), facts="\n".join(_facts(report)),
    )  # fmt: skip
    return frame.page(
        generator=_e(f"{TOOL} {nts.__version__}"), title=_e(f"{report.target}: {TOOL} {report.command}"),
        style=STYLE.read_text(encoding="utf-8"), header=header, main="\n".join(body), footer=_FOOTER,
    )  # fmt: skip


def _part(title: str, blocks: Sequence[str]) -> list[str]:
    return ["<section>", f"<h2>{_e(title)}</h2>", *blocks, "</section>"] if blocks else []


def _counts(report: Report) -> Iterable[str]:
    for verdict in ORDER:
        count = report.counts[verdict]
        none = "" if count else " none"
        yield f'<li class="{verdict.name}{none}"><b>{count}</b> {_e(verdict.value)}</li>'


def _facts(report: Report) -> Iterable[str]:
    facts: dict[str, object] = {
        "started": utc(report.started_ns).partition(".")[0].replace("T", " ") + " UTC",
        "took": duration(report.seconds),
        "checks": f"{len(report.results)} of {report.planned}",
        "with": f"{TOOL} {nts.__version__}",
    }
    if report.seed is not None:
        facts["seed"] = report.seed
    if report.pace is not None:
        facts["pace"] = f"{report.pace:g} s"
    return (f"<div><dt>{_e(name)}</dt><dd>{_e(value)}</dd></div>" for name, value in facts.items())


def _grade(report: Report) -> str:
    if report.grade is None:
        return ""
    letter, line = report.grade["letter"], summary.grade_line(report)
    return f'<p class="grade {letter[0]}"><b>{_e(letter)}</b> {_e(line)}</p>'


def _sheet(report: Report) -> list[str]:
    if report.facts is None:
        return []
    rows = (f"<dt>{_e(label)}</dt><dd>{_e(text)}</dd>" for label, text in sheet.lines(report.facts))
    return ['<dl class="sheet">', *rows, "</dl>"]


def _fill(template: Template, result: Result[Any], **html: str) -> str:
    check = result.check
    about = f"{result.severity.value} · {section(check.section)} · requirement {check.ref} · {duration(result.seconds)}"
    texts = {
        "mark": result.grade.name, "verdict": result.grade.value, "number": check.id, "name": check.name,
        "severity": result.severity.value, "section": check.section, "evidence": result.evidence, "about": about,
    }  # fmt: skip
    return template.substitute({name: _e(text) for name, text in texts.items()}, **html)


def _table(group: str, results: Iterable[Result[Any]]) -> str:
    rows = [_fill(_ROW, r) for r in results if r.check.group == group]
    return _TABLE.substitute(group=_e(group), rows="\n".join(rows))


def _details(result: Result[Any], software: str | None) -> str:
    check = result.check
    texts = {"the RFC says": check.rule, "the check sends": check.sends, "what passes": check.expects}
    lines = ['<dl class="texts">', *(f"<dt>{_e(k)}</dt><dd>{_e(v)}</dd>" for k, v in texts.items())]
    for label, text in told(remedy(check.name, result.grade), software):
        words = _CODE.sub(r"<code>\1</code>", _e(text))
        lines.append(f"<dt>{_e(label)}</dt><dd>{words}</dd>")
    if len(result.findings) > 1:
        found = "<br>".join(_e(f"{f.grade.value}: {f.text}") for f in result.findings)
        lines.append(f"<dt>found</dt><dd>{found}</dd>")
    lines.append("</dl>")
    if result.exhibits:
        lines += ['<ul class="wire">', *_exhibits(result), "</ul>"]
    return "\n".join(lines)


def _exhibits(result: Result[Any]) -> Iterable[str]:
    """What went over the wire. Of equal octets, a mark is of the last that no other mark is of: controls come first."""
    marks = [m for f in result.findings for m in f.marks]
    shown = []
    for exhibit in reversed(result.exhibits):
        mark = next((m for m in marks if exhibit.octets and m.octets == exhibit.octets), None)
        if mark:
            marks.remove(mark)
        shown.append(_exhibit(exhibit, mark, result.grade))
    return reversed(shown)


def _exhibit(exhibit: Exhibit, mark: Mark | None, grade: Grade) -> str:
    spans = mark.spans if mark else ()
    lines = "".join(f"<span{_marked(at, spans)}>{_e(line)}\n</span>" for at, line in located(exhibit))
    shown = f"<pre>{lines}</pre>" if lines else ""
    about = f'<span class="way">{_e(exhibit.direction.value)}</span> {_e(exhibit.text)}'
    if mark is None:
        return f"<li>{about}{shown}</li>"
    where = f": {listed(octets(first, end - 1) for first, end in spans)}" if spans else ""
    return f'<li class="blamed {grade.name}">{about} <b>to look at{_e(where)}</b>{shown}</li>'


def _marked(at: Span, spans: Iterable[Span]) -> str:
    return ' class="here"' if any(start < at[1] and at[0] < end for start, end in spans) else ""

# SPDX-License-Identifier: MIT
"""The pages of a site as HTML: the list of all servers, and a page for each.

`_e` escapes every text, wherever it comes from. Templates take finished HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import nts
from nts.check.findings import counted
from nts.check.output import as_html, frame, sheet
from nts.check.output.summary import TOOL
from nts.check.output.text import duration, printable, section
from nts.check.remedies import ANY
from nts.check.saved import reading
from nts.check.saved.changes import compare
from nts.check.server import CHECKS
from nts.check.site import svg
from nts.check.site.history import Run, Server
from nts.check.site.plots import plots

GENERATOR = f"{TOOL} site"
BADGE, PAGE = "badge.svg", "index.html"
_STYLES = (as_html.STYLE, Path(__file__).with_name("site.css"))
_RULES = {check.name: check.rule for check in CHECKS}
_GRAVITY = ("FAIL", "PATH?", "WARN", "SKIP", "PASS")
_SEVERITIES = ("CRIT", "MUST", "SHOULD", "INFO")
_SAID = {True: "yes", False: "no", None: "open"}
_HEAD = ("grade", "server", "conforms", "fail", "warn", "open", "TLS group", "AEAD", "certificate", "stratum", "offset",
         "checked")  # fmt: skip

_FOOTER = """\
<p>A server conforms if no check of severity CRIT or MUST fails; "open" means that one could not be judged, so that
nobody can say. A grade is the lowest that any finding allows.</p>"""


def _e(value: object) -> str:
    return escape(printable(str(value)), quote=True)


def _page(title: str, heading: str, tool: str, lead: Iterable[str], body: Iterable[str]) -> str:
    style = "".join(path.read_text(encoding="utf-8") for path in _STYLES)
    header = f'<p class="tool">{tool}</p>\n<h1>{heading}</h1>\n' + "\n".join(lead)
    return frame.page(
        generator=_e(f"{GENERATOR} {nts.__version__}"), title=_e(title), style=style,
        header=header, main="\n".join(body), footer=_FOOTER,
    )  # fmt: skip


def _chip(run: Run) -> str:
    """The grade, or what stands in its place."""
    letter = run.letter
    mark = {"A+": "Ap", None: "none"}.get(letter, letter)
    return f'<span class="chip g-{mark}">{_e(letter or "?")}</span>'


def _section(title: str, blocks: Iterable[str]) -> Iterator[str]:
    found = list(blocks)
    if found:
        yield from ("<section>", f"<h2>{_e(title)}</h2>", *found, "</section>")


# --- the list --------------------------------------------------------------------------------------------------------


def index(servers: Sequence[Server]) -> str:
    """The list of all servers, in this order."""
    latest = [server.latest for server in servers]
    conforming = sum(run.conforms is True for run in latest)
    last = max(run.when for server in servers for run in server.runs)
    verb = "conforms" if conforming == 1 else "conform"
    said = f"{conforming} of {counted(len(servers), 'server')} {verb} to RFC 8915."
    heads = "".join(f"<th>{_e(name)}</th>" for name in _HEAD)
    return _page(
        "NTS servers", "NTS servers", f"{TOOL} site",
        [f'<p class="meaning">{_e(said)}</p>', f'<p class="tool">last checked {_e(last)}</p>'],
        [f'<table class="servers">\n<thead><tr>{heads}</tr></thead><tbody>', *map(_row, servers), "</tbody></table>"],
    )  # fmt: skip


def _row(server: Server) -> str:
    run = server.latest
    link = f'<a href="{_e(server.folder)}/{PAGE}">{_e(server.name)}</a>'
    told = _told(server.told)
    numbers = [str(run.counts[v]) if run.results else "" for v in ("FAIL", "WARN", "open")]
    said = "unreachable" if run.failure is not None else _SAID[run.conforms] if run.results else "not judged"
    cells = dict(zip(_HEAD[2:], [said, *numbers, *told, run.day], strict=True))
    rest = "".join(
        f'<td class="{_class(name, text)}" data-label="{_e(name)}">{_e(text)}</td>' for name, text in cells.items()
    )
    return f'<tr><td class="letter">{_chip(run)}</td><td class="server">{link}</td>{rest}</tr>'


def _class(name: str, text: str) -> str:
    bad = (name == "conforms" and text in ("no", "unreachable")) or (name == "fail" and text not in ("", "0"))
    marks = {"bad": bad, "blank": not text, "group": name == "TLS group"}
    return " ".join(mark for mark, is_so in marks.items() if is_so)


def _told(run: Run) -> list[str]:
    """TLS group, AEADs, certificate, stratum and offset; empty where they are not known."""
    group, aeads = reading.text(run.report, "facts.ke.group") or "", reading.member(run.report, "facts.nts.aeads")
    strong = reading.member(run.report, "facts.ke.post_quantum") is True
    days, stratum, offset = (run.number(p) for p in ("certificate.days_left", "ntp.stratum", "ntp.offset_s"))
    return [
        f"{group} (PQ)" if group and strong else group,
        ", ".join(map(str, aeads)) if isinstance(aeads, list) else "",
        "" if days is None else f"{days:.0f} d",
        "" if stratum is None else f"{stratum:g}",
        "" if offset is None else svg.short(offset),
    ]


# --- a server --------------------------------------------------------------------------------------------------------


def badge(server: Server) -> str:
    """Its badge."""
    run = server.latest
    text = run.letter or ("unreachable" if run.failure is not None else _badge_word(run))
    return svg.badge(text, svg.LETTER_COLOURS.get(text, svg.NO_COLOUR))


def _badge_word(run: Run) -> str:
    return {True: "conforms", False: "does not conform", None: "unknown"}[run.conforms]


def page(server: Server) -> str:
    """Its page."""
    run = server.latest
    lead = [
        f'<p class="meaning">{_e(run.state)}</p>',
        *_counts(run),
        f'<dl class="facts"><div><dt>checked</dt><dd>{_e(run.when)}</dd></div>'
        f"<div><dt>runs</dt><dd>{len(server.runs)}</dd></div>"
        f'<div><dt>badge</dt><dd><a href="{BADGE}">{BADGE}</a></dd></div></dl>',
    ]
    body = [
        *_section("Why this grade", _caps(run)),
        *_section("Facts", _facts(server.told)),
        *_section("What has changed since the run before", _changes(server)),
        *_section("What to look at", _findings(run)),
        *_section("History", _history(server)),
        *_section("All checks", _tables(run)),
    ]
    tool = f'<a href="../{PAGE}">all servers</a>'
    return _page(f"{server.name}: {TOOL}", f"{_chip(run)} {_e(server.name)}", tool, lead, body)


def _counts(run: Run) -> Iterator[str]:
    if run.results:
        counts = run.counts
        marks = (("PASS", "PASS"), ("WARN", "WARN"), ("FAIL", "FAIL"), ("open", "SKIP"))
        items = [
            f'<li class="{mark}{"" if counts[v] else " none"}"><b>{counts[v]}</b> {_e(v)}</li>' for v, mark in marks
        ]
        yield f'<ul class="counts">{"".join(items)}</ul>'


def _caps(run: Run) -> Iterator[str]:
    caps = [c for c in run.grade.get("caps", ()) if isinstance(c, dict)]
    if caps:
        rows = [f"<li><b>{_e(c.get('letter'))}</b> {_cap(c)}{_e(c.get('reason'))}</li>" for c in caps]
        yield f'<ul class="caps">{"".join(rows)}</ul>'


def _cap(cap: dict[str, Any]) -> str:
    check = cap.get("check")
    return f'<a class="name" href="#{_e(check)}">{_e(check)}</a> ' if isinstance(check, str) else ""


def _facts(run: Run) -> Iterator[str]:
    facts = run.facts
    try:
        lines = sheet.lines(facts) if facts else []
    except (
        TypeError,
        ValueError,
        ArithmeticError,
        LookupError,
        AttributeError,
    ):  # a report from elsewhere may have anything in it
        lines = [("facts", "cannot be shown: they are not as they should be")]
    if lines:
        rows = "".join(f"<dt>{_e(label)}</dt><dd>{_e(text)}</dd>" for label, text in lines)
        yield f'<dl class="texts">{rows}</dl>'


def _changes(server: Server) -> Iterator[str]:
    runs = [r for r in server.runs if r.results or r.failure is not None]
    if len(runs) > 1:
        first, *rest = compare(runs[-2].report, runs[-1].report).lines
        yield f"<p>{_e(first)}</p>"
        if rest:
            yield f'<ul class="changes">{"".join(f"<li>{_e(line.strip())}</li>" for line in rest)}</ul>'


def _about(result: dict[str, Any]) -> str:
    return f"{result['severity']} · {section(result['section'])}"


def _mark(verdict: str) -> str:
    return verdict.rstrip("?")


def _findings(run: Run) -> Iterator[str]:
    bad = [r for r in run.results if r["verdict"] != "PASS"]
    software = reading.text(run.report, "facts.implementation.name")
    for r in sorted(bad, key=lambda r: (_GRAVITY.index(r["verdict"]), _severity(r))):
        rows = "".join(f"<dt>{_e(label)}</dt><dd>{_e(text)}</dd>" for label, text in _texts(r, software))
        texts = f'<dl class="texts">{rows}</dl>' if rows else ""
        yield (
            f'<article class="{_mark(r["verdict"])}" id="{_e(r["name"])}"><div class="head">'
            f'<span class="badge">{_e(r["verdict"])}</span><h3 class="name">{_e(r["name"])}</h3>'
            f'<span class="about">{_e(_about(r))}</span></div><p class="seen">{_e(r["evidence"])}</p>{texts}</article>'
        )


def _texts(result: dict[str, Any], software: str | None) -> Iterator[tuple[str, str]]:
    """The rule, and what to do: in general, and with this software (None: with any), where they are known."""
    if result["name"] in _RULES:
        yield "the RFC says", _RULES[result["name"]]
    remedy = result.get("remedy")
    for whose, text in remedy.items() if isinstance(remedy, dict) else ():
        if whose == ANY or software in (None, whose):
            yield "remedy" if whose == ANY else whose, str(text)


def _severity(result: dict[str, Any]) -> int:
    severity = result["severity"]
    return _SEVERITIES.index(severity) if severity in _SEVERITIES else len(_SEVERITIES)


def _tables(run: Run) -> Iterator[str]:
    for group in dict.fromkeys(r["group"] for r in run.results):
        rows = [_check(r) for r in run.results if r["group"] == group]
        yield f"<table>\n<caption>{_e(group)}</caption>\n<tbody>\n{chr(10).join(rows)}\n</tbody>\n</table>"


def _check(result: dict[str, Any]) -> str:
    return (
        f'<tr class="{_mark(result["verdict"])}"><td class="verdict"><span class="badge">{_e(result["verdict"])}</span>'
        f'</td><td class="name">{_e(result["name"])}</td><td class="severity">{_e(result["severity"])}</td>'
        f'<td class="evidence">{_e(result["evidence"])}</td></tr>'
    )


def _history(server: Server) -> Iterator[str]:
    if len(server.runs) > 1:
        figures = [f"<figure>{p}<figcaption>{_e(c)}</figcaption></figure>" for c, p in plots(server.runs)]
        yield f'<div class="plots">{"".join(figures)}</div>'
    rows = "".join(map(_run, reversed(server.runs)))
    yield f'<details class="runs"><summary>{counted(len(server.runs), "run")}</summary><ul>{rows}</ul></details>'


def _run(run: Run) -> str:
    counts = ", ".join(f"{run.counts[v]} {v}" for v in ("PASS", "WARN", "FAIL", "open") if run.counts[v])
    seconds = run.report.get("seconds")
    took = duration(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 1e9 else ""
    said = "; ".join(text for text in (run.failure or counts or "only facts", took) if text)
    return f"<li>{_chip(run)} {_e(run.when)}: {_e(said)}</li>"

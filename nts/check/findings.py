# SPDX-License-Identifier: MIT
"""Words and lists that judgements share. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from nts.base.text import counted as counted  # one of the words, for judgements too
from nts.check.model import Finding, Grade, Mark, Span

_MAX_LISTED = 12


def listed(things: Iterable[object]) -> str:
    """Things separated by commas. Only the first few: a peer may send any number."""
    texts = [str(t) for t in things]
    more = len(texts) - _MAX_LISTED
    return (", ".join(texts[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")) or "none"


def true_of(statements: Mapping[str, bool]) -> list[str]:
    """The statements that are true."""
    return [text for text, is_true in statements.items() if is_true]


def labelled(label: str, finding: Finding) -> Finding:
    """The finding with the name of its stimulus in front."""
    return replace(finding, text=f"{label}: {finding.text}")


def marked(finding: Finding, octets: bytes, *spans: Span) -> Finding:
    """The finding with a packet that is to blame, and where in it; a PASS blames none."""
    if finding.grade is Grade.PASS or not octets:
        return finding
    return replace(finding, marks=(*finding.marks, Mark(octets, spans)))


def merged(findings: Iterable[tuple[str, Finding]]) -> list[Finding]:
    """Labelled findings, where equal ones become one with all their labels and marks."""
    groups: dict[Finding, list[tuple[str, Finding]]] = {}
    for label, finding in findings:
        groups.setdefault(finding, []).append((label, finding))
    return [
        labelled(listed(label for label, _ in same), replace(finding, marks=tuple(m for _, f in same for m in f.marks)))
        for finding, same in groups.items()
    ]


def together(findings: Iterable[tuple[str, Finding]]) -> Iterator[Finding]:
    """Labelled findings, merged, once there is no more; those that are no pass also if making the next one raises.

    So a failure counts even then, while passes alone are not enough.
    """
    found: list[tuple[str, Finding]] = []
    try:
        found.extend(findings)
    except Exception:
        yield from merged((label, f) for label, f in found if f.grade is not Grade.PASS)
        raise
    yield from merged(sorted(found, key=lambda pair: pair[1].grade is Grade.PASS))

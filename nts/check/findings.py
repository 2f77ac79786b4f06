# SPDX-License-Identifier: MIT
"""Words and lists that judgements share. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from nts.base.text import counted as counted  # one of the words, for judgements too
from nts.check.model import Finding, Grade

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


def merged(findings: Iterable[tuple[str, Finding]]) -> list[Finding]:
    """Labelled findings, where equal ones become one with all their labels."""
    labels: dict[Finding, list[str]] = {}
    for label, finding in findings:
        labels.setdefault(finding, []).append(label)
    return [labelled(listed(names), finding) for finding, names in labels.items()]


def together(findings: Iterable[tuple[str, Finding]]) -> Iterator[Finding]:
    """Labelled findings as they come, except that passes wait for the end and are merged.

    So a failure counts even if making the next finding raises, while passes alone are not enough then.
    """
    passes = []
    for label, finding in findings:
        if finding.grade is Grade.PASS:
            passes.append((label, finding))
        else:
            yield labelled(label, finding)
    yield from merged(passes)

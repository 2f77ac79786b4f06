# SPDX-License-Identifier: MIT
"""Runs checks one after the other and turns whatever happens into results."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from nts.base.errors import NTSError
from nts.check.model import Check, CheckEnded, Finding, Result, Transcript, conclude, skipped


class Recording(Protocol):
    """What the runner needs of a probe."""

    transcript: Transcript


R = TypeVar("R", bound=Recording)


def run(
    checks: Iterable[Check[R]], probe: R, on_start: Callable[[Check[R]], None] = lambda _check: None
) -> Iterator[Result[R]]:
    """Yield the result of each check as soon as it is known. Nothing that a peer does ends the run."""
    for check in sorted(checks, key=lambda c: c.last):
        on_start(check)
        started = time.monotonic()
        probe.transcript.take()
        findings = list(_findings(check, probe))
        yield conclude(check, findings, probe.transcript.take(), time.monotonic() - started)


def _findings(check: Check[R], probe: R) -> Iterator[Finding]:
    try:
        yield from check.run(probe)
    except CheckEnded as e:
        yield Finding(e.grade, str(e))
    except (NTSError, OSError) as e:  # such as a failed key exchange that the check needs first
        yield skipped(f"could not be judged: {e}")
    except Exception as e:  # a bug in one check must not cost the results of the others
        place = traceback.extract_tb(e.__traceback__)[-1]
        where = f"{Path(place.filename).name} line {place.lineno}"
        yield skipped(f"the check itself failed, please report it: {type(e).__name__} in {where}")


class UnknownCheck(ValueError):
    """No check has this name."""


def select(checks: Iterable[Check[R]], only: Iterable[str], skip: Iterable[str]) -> list[Check[R]]:
    """Choose checks by name or number. A name that ends in * stands for all names that begin with the rest.

    UnknownCheck when a name matches nothing.
    """
    chosen = list(checks)
    wanted, unwanted = [_named(chosen, n) for n in only], [_named(chosen, n) for n in skip]
    if wanted:
        chosen = [c for c in chosen if any(c.name in names for names in wanted)]
    return [c for c in chosen if not any(c.name in names for names in unwanted)]


def _named(checks: list[Check[R]], pattern: str) -> set[str]:
    prefix = pattern.removesuffix("*")
    found = {
        c.name for c in checks if pattern in (c.name, c.id) or (pattern.endswith("*") and c.name.startswith(prefix))
    }
    if not found:
        raise UnknownCheck(f"no check is called {pattern!r}; --list shows them all")
    return found

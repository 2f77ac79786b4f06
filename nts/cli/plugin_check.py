# SPDX-License-Identifier: MIT
"""--check: one line and an exit code, as the plugins of Nagios, Icinga and others have them.

`NTS OK - offset +1.200 ms, ... | offset=0.0012s;0.05;1 ...`: behind the bar each value has its limits. Of several
servers, the worst state counts, and names of values begin with the server's name.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from enum import IntEnum

from nts.base.errors import ConfigError, LibraryError, NTSError, ResolveError
from nts.base.text import counted
from nts.cli import time_arguments
from nts.cli.results import seconds
from nts.cli.time_arguments import Limits
from nts.client.sources import Comparison, Source, ask_all, compare
from nts.client.state import Association
from nts.codec.ntp import NS

_DAY = 86400.0
_LOCAL = (ConfigError, LibraryError, ResolveError)  # failures that say nothing of the server


class State(IntEnum):
    """What a monitoring system makes of the exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_BY_WEIGHT = (State.OK, State.UNKNOWN, State.WARNING, State.CRITICAL)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    state: State
    text: str
    performance: str = ""
    """the value for machines, with its limits"""


def main(args: argparse.Namespace) -> int:
    """Query, print the line; the exit code."""
    try:
        found = _look(args)
    except (NTSError, ImportError, OSError) as e:
        found = [Finding(_state_of(e), str(e))]
    state = max((f.state for f in found), key=_BY_WEIGHT.index)
    told = [f.text for f in found if f.state is state and (state or f.performance)]
    performance = " ".join(f.performance for f in found if f.performance)
    text = f"NTS {state.name} - {'; '.join(told)}".replace("|", "?")  # what follows a bar is for machines
    print(f"{text} | {performance}" if performance else text, flush=True)
    return state


def _look(args: argparse.Namespace) -> list[Finding]:
    sources = time_arguments.sources(args)
    for number in range(args.count):
        if number:
            time.sleep(args.interval)
        for _ in ask_all(sources, args.timeout):
            pass
    found = [finding for source in sources for finding in _findings(source, args.warn, args.crit, len(sources) > 1)]
    return found + (_disagreement(compare(sources)) if len(sources) > 1 else [])


def _state_of(e: Exception | None) -> State:
    return State.CRITICAL if isinstance(e, NTSError) and not isinstance(e, _LOCAL) else State.UNKNOWN


def _findings(source: Source, warn: Limits, crit: Limits, several: bool) -> list[Finding]:
    """What there is to say about one server."""
    who, prefix = (f"{source.name}: ", f"{source.name} ") if several else ("", "")
    report, found = source.last, source.filtered
    assert report is not None
    if found is None:
        return [Finding(_state_of(report.failure), f"{who}{report.failure}")]

    def finding(quantity: str, value: float | None, text: str, unit: str, *, low: bool = False) -> Finding:
        """Compare with the limits: too `low`, or too high, in either direction."""
        limits = (warn.get(quantity), crit.get(quantity))
        if value is None:  # not in a client.ini that another program wrote
            return Finding(State.OK if limits == (None, None) else State.UNKNOWN, f"{who}{quantity} unknown")
        warned, alarmed = (limit is not None and (value < limit if low else abs(value) > limit) for limit in limits)
        state = State.CRITICAL if alarmed else State.WARNING if warned else State.OK
        shown = ";".join("" if x is None else _number(x) + ":" * low for x in limits)
        return Finding(state, f"{who}{text}", f"{_quoted(prefix + quantity)}={_number(value)}{unit};{shown};;")

    association = report.exchange.association if report.exchange else None
    age, left = (_age(association.exchanged), _left(association)) if association else (None, None)
    offset, error = seconds(found.offset, sign=True), seconds(found.error)
    others = [
        f"{_quoted(prefix + name)}={_number(value / NS)}s;;;0;"
        for name, value in (("error", found.error), ("delay", max(found.delay, 0)), ("jitter", found.jitter))
    ]
    return [
        finding("offset", found.offset / NS, f"offset {offset} +/- {error}", "s"),
        Finding(State.OK, f"{who}delay {seconds(found.delay)}", " ".join(others)),
        finding("cookies", source.stock, f"{counted(source.stock or 0, 'cookie')} left", "", low=True),
        finding("age", age, f"key exchange {_days(age)} ago", "s"),
        finding("certificate", left, f"certificate expires in {_days(left)}", "s", low=True),
    ]


def _age(since: int | None) -> float | None:
    return None if since is None else round(time.time()) - since


def _left(association: Association) -> float | None:
    age = _age(association.certificate_not_after)
    return None if age is None else -age


def _days(value: float | None) -> str:
    return f"{(value or 0) / _DAY:.1f} days"


def _number(value: float) -> str:
    """A number without an exponent, which performance data do not know."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _quoted(label: str) -> str:
    """A name as performance data want it."""
    return label if label.isalnum() else "'" + label.replace("'", "''").replace("=", "_") + "'"


def _disagreement(comparison: Comparison | None) -> list[Finding]:
    if comparison is None:
        return []  # nobody to compare with; that has a finding of its own
    if comparison.majority is None:
        return [Finding(State.WARNING, "no majority of the servers agrees")]
    return [Finding(State.CRITICAL, f"{s.name} is a falseticker") for s in comparison.falsetickers]

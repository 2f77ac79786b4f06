# SPDX-License-Identifier: MIT
"""Several servers, each with its own client.ini: asked at the same time, filtered, and compared with each other."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nts.base.errors import NTSError
from nts.client.ts_session import Answer, Exchange
from nts.codec.ntp import NS
from nts.protocol import selection
from nts.protocol.clock_filter import ClockFilter, Filtered, Sample
from nts.protocol.selection import Interval, Majority

_STEP = NS // 8  # a change of our clock's rate takes hours for as much; a step does not
_REACH = 0xFF  # the last eight queries (RFC 5905 section 9.2)

Ask = Callable[[float], Exchange]
"""makes one query within so many seconds, as `ts_session.ask` does"""


@dataclass(frozen=True)
class Report:
    """What came of one query. Exactly one of `answer` and `failure` is there."""

    source: Source
    exchange: Exchange | None
    """None when nothing could be sent"""
    failure: NTSError | None

    @property
    def answer(self) -> Answer | None:
        return self.exchange.answer if self.exchange else None


class Source:
    """A server, and what is known of it after some queries."""

    def __init__(self, name: str, ask: Ask) -> None:
        self.name, self._ask = name, ask
        self.queries = 0
        self.failures: Counter[str] = Counter()
        """by the name of the exit code, in lower case"""
        self.last: Report | None = None
        self.last_answer: Answer | None = None
        self.stock: int | None = None
        """cookies after the last query"""
        self._answered_at: int | None = None
        self._reach = 0
        self._filter = ClockFilter()
        self._clock_ahead: int | None = None  # of the clock that nobody sets

    @property
    def answers(self) -> int:
        return self.queries - self.failures.total()

    @property
    def filtered(self) -> Filtered | None:
        """The result of the clock filter by now."""
        return self._filter.result(time.monotonic_ns())

    @property
    def is_reachable(self) -> bool:
        """Whether one of the last eight queries was answered."""
        return bool(self._reach)

    @property
    def silence(self) -> float | None:
        """Seconds since the last good answer; None: there has been none."""
        return None if self._answered_at is None else (time.monotonic_ns() - self._answered_at) / NS

    def query(self, timeout: float) -> Report:
        """Ask once, and take note of what comes."""
        self._forget_if_stepped()
        exchange = None
        try:
            exchange = self._ask(timeout)
            failure = exchange.failure
            self.stock = exchange.stock
        except NTSError as e:
            failure = e
        self.last = report = Report(self, exchange, failure)
        self.queries += 1
        self._reach = (self._reach << 1 | (failure is None)) & _REACH
        if failure is not None:
            self.failures[failure.exit_code.name.lower()] += 1
        elif report.answer is not None:
            self._answered_at = time.monotonic_ns()
            self.last_answer, m = report.answer, report.answer.measurement
            self._filter.add(Sample(m.offset, m.delay, m.error, self._answered_at))
        return report

    def _forget_if_stepped(self) -> None:
        ahead = time.time_ns() - time.monotonic_ns()
        if self._clock_ahead is not None and abs(ahead - self._clock_ahead) > _STEP:
            self._filter.clear()
        self._clock_ahead = ahead


def ask_all(sources: Sequence[Source], timeout: float) -> Iterator[Report]:
    """Ask all at the same time. Yields the reports as they come."""
    if len(sources) == 1:
        yield sources[0].query(timeout)
        return
    reports: queue.SimpleQueue[Report | BaseException] = queue.SimpleQueue()

    def ask(source: Source) -> None:
        try:
            reports.put(source.query(timeout))
        except BaseException as e:  # raised where the reports are read
            reports.put(e)

    for source in sources:
        threading.Thread(target=ask, args=(source,), daemon=True).start()  # Ctrl-C does not wait for it
    for _ in sources:
        report = reports.get()
        if isinstance(report, BaseException):
            raise report
        yield report


@dataclass(frozen=True)
class Comparison:
    """Which servers agree. Without a majority nobody can tell."""

    majority: Majority | None
    truechimers: tuple[Source, ...] = ()
    falsetickers: tuple[Source, ...] = ()


def compare(sources: Sequence[Source]) -> Comparison | None:
    """Compare the servers that can be reached, by their filtered results. None when there are less than two."""
    found = [(s, Interval(f.offset, f.error)) for s in sources if s.is_reachable and (f := s.filtered)]
    if len(found) < 2:
        return None
    agreed = selection.majority([interval for _, interval in found])
    if agreed is None:
        return Comparison(None)
    false = tuple(s for s, interval in found if agreed.contradicts(interval))
    return Comparison(agreed, tuple(s for s, _ in found if s not in false), false)

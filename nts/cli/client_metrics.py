# SPDX-License-Identifier: MIT
"""--metrics: what the time client knows of its servers, in a file for node_exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nts.base.errors import NO_HINT, ConfigError
from nts.cli.output import Output
from nts.client.sources import Comparison, Source
from nts.codec.ntp import NS

_Value = Callable[[Source], "float | None"]


def _last(name: str) -> _Value:
    """A duration of the last sample."""

    def value(source: Source) -> float | None:
        answer = source.last_answer
        return getattr(answer.measurement, name) / NS if answer else None

    return value


def _filtered(name: str) -> _Value:
    """A duration of the clock filter's result."""

    def value(source: Source) -> float | None:
        found = source.filtered
        return getattr(found, name) / NS if found else None

    return value


_GAUGES: tuple[tuple[str, str, _Value], ...] = (
    ("offset_seconds", "How far the server's clock was ahead of ours in the last sample.", _last("offset")),
    ("error_bound_seconds", "Upper bound of that offset's error.", _last("error")),
    ("delay_seconds", "Round trip of the last sample, less the server's own time.", _last("delay")),
    ("filtered_offset_seconds", "Offset of the best of the last eight samples.", _filtered("offset")),
    ("jitter_seconds", "How far the offsets of the last eight samples are from the best one.", _filtered("jitter")),
    (
        "dispersion_seconds",
        "Weighted errors of the last eight samples; 16 s for a missing one.",
        _filtered("dispersion"),
    ),
    ("cookies", "Cookies in stock.", lambda s: s.stock),
    ("last_answer_age_seconds", "Seconds since the last good answer, when this file was written.", lambda s: s.silence),
)


class Textfile(Output, Collector):
    """Writes all metrics after each round, atomically."""

    def __init__(self, path: Path, sources: Sequence[Source]) -> None:
        """ConfigError when the file cannot be written."""
        self._path, self._sources = path, sources
        self._comparison: Comparison | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._write()

    def end_round(self, comparison: Comparison | None) -> None:
        self._comparison = comparison
        self._write()

    def _write(self) -> None:
        try:
            write_to_textfile(str(self._path), self._registry)
        except OSError as e:
            raise ConfigError(f"cannot write {self._path}: {e.strerror}", hint=NO_HINT) from None

    def collect(self) -> Iterator[Metric]:
        """All metrics, for prometheus_client."""
        for name, text, value in _GAUGES:
            gauge = GaugeMetricFamily(f"nts_client_{name}", text, labels=["server"])
            for source in self._sources:
                if (found := value(source)) is not None:
                    gauge.add_metric([source.name], found)
            yield gauge
        answers = CounterMetricFamily("nts_client_answers", "Queries with a good answer.", labels=["server"])
        failures = CounterMetricFamily("nts_client_failures", "Other queries, by kind.", labels=["server", "kind"])
        for source in self._sources:
            answers.add_metric([source.name], source.answers)
            for kind, count in sorted(source.failures.items()):
                failures.add_metric([source.name, kind], count)
        yield from (answers, failures)
        if self._comparison and self._comparison.majority:
            false = GaugeMetricFamily(
                "nts_client_falseticker", "1: the majority of the servers contradicts this one.", labels=["server"]
            )
            for source in (*self._comparison.truechimers, *self._comparison.falsetickers):
                false.add_metric([source.name], source in self._comparison.falsetickers)
            yield false

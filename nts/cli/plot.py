# SPDX-License-Identifier: MIT
"""--plot: offset with its error bound, and delay, over time. matplotlib draws; nothing else needs it."""

from __future__ import annotations

import datetime
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from nts.base.errors import NO_HINT, ConfigError
from nts.cli.output import Output
from nts.client.sources import Report
from nts.codec.ntp import NS
from nts.system import console


class _Point(NamedTuple):
    at: datetime.datetime
    offset: float  # seconds
    error: float
    delay: float


def _matplotlib() -> Any:
    """The package, with the parts of it that `Plot` uses. ConfigError without it."""
    try:
        import matplotlib.dates
        import matplotlib.figure
        import matplotlib.ticker
    except ImportError:
        hint = f"{sys.executable} -m pip install matplotlib"
        raise ConfigError("--plot needs the package matplotlib", hint=hint) from None
    return matplotlib


class Plot(Output):
    """Collects samples and draws them at the end."""

    def __init__(self, path: Path) -> None:
        """ConfigError when there is no matplotlib, or the file cannot be written."""
        self._path, self._library = path, _matplotlib()
        self._points: defaultdict[str, list[_Point]] = defaultdict(list)
        try:
            path.open("ab").close()
        except OSError as e:
            raise ConfigError(f"cannot write {path}: {e.strerror}", hint=NO_HINT) from None

    def add(self, report: Report) -> None:
        if answer := report.answer:
            m = answer.measurement
            at = datetime.datetime.fromtimestamp(answer.received_ns / NS, datetime.timezone.utc)
            self._points[report.source.name].append(_Point(at, m.offset / NS, m.error / NS, m.delay / NS))

    def close(self) -> None:
        if not self._points:
            console.warn(f"no answers, so nothing is drawn in {self._path}")
            if not self._path.stat().st_size:
                self._path.unlink()
            return
        figure = self._library.figure.Figure(figsize=(10, 6), layout="constrained")
        offsets, delays = figure.subplots(2, sharex=True)
        for name, points in self._points.items():
            times = [p.at for p in points]
            errors = [p.error for p in points]
            offsets.errorbar(times, [p.offset for p in points], errors, fmt="o", markersize=3, capsize=2, label=name)
            delays.plot(times, [p.delay for p in points], "o", markersize=3, label=name)
        for axes, title in ((offsets, "offset, with error bound"), (delays, "delay")):
            axes.set_ylabel(title)
            axes.yaxis.set_major_formatter(self._library.ticker.EngFormatter("s"))
            axes.grid(alpha=0.3)
        delays.set_ylim(bottom=0)
        delays.set_xlabel("UTC")
        locator = self._library.dates.AutoDateLocator()
        delays.xaxis.set_major_locator(locator)
        delays.xaxis.set_major_formatter(self._library.dates.ConciseDateFormatter(locator))
        offsets.legend()
        try:
            figure.savefig(self._path)
        except OSError as e:
            raise ConfigError(f"cannot write {self._path}: {e.strerror}", hint=NO_HINT) from None

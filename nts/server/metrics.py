# SPDX-License-Identifier: MIT
"""Metrics of a server for Prometheus, over HTTP from a process of their own: serving time waits for no scrape.

The process reads what the workers count, and follows master keys and certificate as they do.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from nts.server import listen
from nts.server.counters import Board, Counters, Family, Gauge, Histogram
from nts.server.key_watcher import KeyWatcher
from nts.server.workers import StopSignal

_NS = 1_000_000_000

Source = Callable[[], Iterable[Metric]]
"""metrics at the moment of the call"""


def metric(family: Family, cells: list[int]) -> Metric:
    """A family with the sums of its cells."""
    if isinstance(family, Histogram):
        *counts, microseconds = cells
        return HistogramMetricFamily(
            family.name,
            family.help,
            buckets=list(zip(family.values, map(float, accumulate(counts)), strict=False)),
            sum_value=microseconds / 1e6,
        )
    labels = [family.label] if family.label else []
    make = GaugeMetricFamily if isinstance(family, Gauge) else CounterMetricFamily
    made = make(family.name, family.help, labels=labels)
    for value, count in zip(family.values, cells, strict=True):
        made.add_metric([value] if labels else [], count)
    return made


def gauge(name: str, help: str, value: float, **labels: str) -> Metric:
    """One number, with fixed labels."""
    made = GaugeMetricFamily(name, help, labels=list(labels))
    made.add_metric(list(labels.values()), value)
    return made


def of_counters(counters: Counters) -> Source:
    """What the workers count."""
    return lambda: [metric(family, cells) for family, cells in counters.sums()]


def of_workers(board: Board, count: int) -> Source:
    """How the worker processes are."""
    restarts = Family("nts_worker_restarts", "Worker processes that ended and were replaced.")
    return lambda: [
        gauge("nts_workers", "Worker processes.", count),
        metric(restarts, [board.restarts]),
    ]


def of_keys(watcher: KeyWatcher) -> Source:
    """Number of the master keys; identifier, which every cookie shows, and age of the current one."""

    def read() -> Iterator[Metric]:
        watcher.ring()
        files = watcher.snapshot.files
        yield gauge("nts_master_keys", "Master keys that open cookies.", len(files))
        if files:
            identifier, age = f"{files[-1].key.id:04x}", time.time() - files[-1].mtime_ns / _NS
            yield gauge("nts_master_key_info", "Which master key seals cookies.", 1, id=identifier)
            yield gauge("nts_master_key_age_seconds", "Age of the master key that seals cookies.", age)

    return read


class Exporter(Collector):
    """Answers scrapes. Made before the process gives up its privileges; `serve` runs in a worker process."""

    def __init__(self, address: tuple[str, int], sources: Iterable[Source]) -> None:
        """Listen on an address and port. ConfigError when that is not possible."""
        host, port = address
        (self._listener,) = listen.listening(socket.SOCK_STREAM, (host,), port)
        self._listener.listen(16)
        self._sources = tuple(sources)

    def collect(self) -> Iterator[Metric]:
        """All metrics, for prometheus_client."""
        for source in self._sources:
            yield from source()

    def serve(self, stop: StopSignal, beat: Callable[[], None]) -> None:
        """Answer scrapes until it is time to stop."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        server = _Server(self._listener)
        server.set_app(make_wsgi_app(registry))
        while True:
            beat()
            ready, _, _ = select.select([self._listener.fileno(), *stop.descriptors()], [], [], 1.0)
            if set(ready) - {self._listener.fileno()}:
                return
            if ready:
                server.handle_request()

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


class _Handler(WSGIRequestHandler):
    timeout = 5  # seconds, so that nobody can hold a thread for ever

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


class _Server(ThreadingMixIn, WSGIServer):
    """On a socket that listens already. A slow reader holds up no other."""

    daemon_threads = True
    timeout = 0

    def __init__(self, listener: socket.socket) -> None:
        self.address_family = listener.family
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()[:2]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error."""

# SPDX-License-Identifier: MIT
"""A server's metrics, fetched as Prometheus does."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""by name and labels"""


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def samples(port: int) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(scrape(port)):
        for sample in family.samples:
            found[sample.name, frozenset(sample.labels.items())] = sample.value
    return found


def value(port: int, name: str, **labels: str) -> float:
    return samples(port)[name, frozenset(labels.items())]

# SPDX-License-Identifier: MIT
"""Metrics of an agent for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nts.base.errors import ConfigError
from nts.fleet.agent import Agent


class AgentMetrics(Collector):
    """What an agent knows at the moment of the scrape."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def collect(self) -> Iterator[Metric]:
        agent, plan, held = self._agent, self._agent.found, self._agent.held
        leads = agent.leadership is not None
        for name, about, value in (
            ("held_version", "Version of the plan that this host has carried out.", held and held.version),
            ("plan_version", "Version of the plan in the store at the last look.", plan and plan.version),
            ("members", "Members of the fleet.", plan and len(plan.members)),
            ("keys", "Keys of the fleet.", plan and len(plan.keys)),
            ("contact_age_seconds", "Seconds since the store answered.", time.monotonic() - agent.contact),
            ("keys_last_seconds", "Seconds for which the keys here do if the store stays away.", agent.seconds_left),
            ("problem", "Whether something stands in this agent's way (1) or not (0).", bool(agent.problem)),
            ("leads", "Whether this agent leads (1) or not (0).", leads),
            ("members_behind", "Members that the leader waits for; elsewhere 0.", leads and len(agent.lagging)),
            (
                "members_silent",
                "Members whose agents do not run, by the leader; elsewhere 0.",
                leads and len(agent.silent),
            ),
        ):
            yield GaugeMetricFamily(f"nts_fleet_{name}", about, value=float(value or 0))
        yield CounterMetricFamily("nts_fleet_failures", "Turns of this agent that failed.", value=agent.failures)


def serve(agent: Agent, address: tuple[str, int]) -> None:
    """Answer scrapes on a thread. ConfigError when the address cannot be used."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(AgentMetrics(agent))
    try:
        start_http_server(address[1], address[0], registry)
    except OSError as e:
        raise ConfigError(f"metrics on {address[0]} port {address[1]}: {e.strerror}") from None

# SPDX-License-Identifier: MIT
"""`fleet_helper.py agent`: the service that every host of a fleet runs."""

from __future__ import annotations

import contextlib
import signal
from types import FrameType

from nts.base.errors import NTSError
from nts.fleet.agent import Agent
from nts.fleet.config import FleetConfig
from nts.system import console, service


class _Stop(Exception):
    """SIGTERM or SIGINT came."""


def run(config: FleetConfig) -> None:
    """Until SIGTERM or SIGINT. NTSError when it cannot start."""
    fleet = config.open()
    fleet_ini = config.fleet
    agent = Agent(
        fleet, config.name, config.target(), config.remembered(),
        leads=config.leads, lease=fleet_ini.lease, poll=fleet_ini.poll,
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        agent.start()
        if fleet_ini.metrics is not None:
            from nts.fleet import metrics

            metrics.serve(agent, fleet_ini.metrics)
        console.say(f"agent of {config.name}, with {f'version {agent.held.version}' if agent.held else 'no keys yet'}")
        service.notify("READY=1")
        while True:
            pause = agent.turn()
            service.notify("WATCHDOG=1", f"STATUS={agent.problem or 'carries out the plan'}")
            agent.wait(pause)
    except _Stop:
        service.notify("STOPPING=1")
        with contextlib.suppress(NTSError):  # what is mortal then dies a little later
            fleet.store.close()


def _stop(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise _Stop

# SPDX-License-Identifier: MIT
"""Runs a command of `fleet_helper.py`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from nts.base.errors import ConfigError, ExitCode
from nts.cli import fleet, fleet_agent, fleet_status
from nts.fleet import config as fleet_config
from nts.fleet.config import FleetConfig
from nts.fleet.steps import GoneBack
from nts.system import console, places


def run(args: argparse.Namespace) -> int:
    """Its exit code. NTSError when it fails."""
    config = fleet_config.load(args.config or places.fleet_ini(), args.backend)
    _COMMANDS[args.command](config, args)
    return ExitCode.OK


def _init(config: FleetConfig, args: argparse.Namespace) -> None:
    if args.grant:
        if not args.root_cert or not args.root_key or config.fleet.backend != "etcd":
            raise ConfigError("--grant needs etcd, --root-cert and --root-key")
        fleet.grant(config, args.root_cert, args.root_key, args.grant, enable=args.enable_auth)
    elif args.restore:
        fleet.restore(config)
    else:
        fleet.init(config, life=args.cookie_life, max_keys=args.max_keys, spread=args.spread)


def _rotate(config: FleetConfig, args: argparse.Namespace) -> None:
    if args.every:
        fleet.rotate_every(config, args.every)
    else:
        fleet.rotate(config)


def _status(config: FleetConfig, args: argparse.Namespace) -> None:
    opened = config.open()
    found = fleet_status.status(opened)
    try:
        fleet.heed_memory(config, opened)
    except GoneBack as e:
        console.warn(str(e))
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        fleet_status.show(found)


def _leave(config: FleetConfig, args: argparse.Namespace) -> None:
    fleet.leave(config, args.member or config.name, force=args.force)


_COMMANDS: dict[str, Callable[[FleetConfig, argparse.Namespace], None]] = {
    "init": _init,
    "join": lambda config, args: fleet.join(config, force=args.force),
    "leave": _leave,
    "agent": lambda config, _: fleet_agent.run(config),
    "status": _status,
    "rotate": _rotate,
    "revoke": lambda config, args: fleet.revoke(config, args.key),
    "rewrap": lambda config, args: fleet.rewrap(config, stage=args.stage),
}

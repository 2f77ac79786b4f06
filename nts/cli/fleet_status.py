# SPDX-License-Identifier: MIT
"""`fleet_helper.py status`: keys, members, and what the rotation waits for; a table, or JSON."""

from __future__ import annotations

import time
from typing import Any

from nts.base.text import about
from nts.fleet import steps
from nts.fleet.fleet import Fleet
from nts.fleet.plan import Ack, Plan


def status(fleet: Fleet) -> dict[str, Any]:
    """For JSON. No secrets."""
    shared, clock, (acks, _), alive = fleet.shared(), fleet.clock(), fleet.acks(), fleet.alive()
    plan = shared.plan
    return {
        "fleet": plan.fleet,
        "version": plan.version,
        "cookie_format": plan.cookie_format.value,
        "cookie_life_seconds": plan.life,
        "max_keys": plan.max_keys,
        "spread_seconds": plan.spread,
        "leader": shared.leader[0].decode(errors="replace").split(" ")[0] if shared.leader else None,
        "waits_for": steps.lagging(plan, acks) if plan.spread is None else [],
        "keys": [
            {
                "id": k.name,
                "phase": k.phase.value,
                "age_seconds": max(0, clock - k.since),
                "goes_in_seconds": None if k.until is None else max(0, k.until - clock),
            }
            for k in plan.keys
        ],
        "members": [_member(plan, name, acks.get(name), name in alive) for name, _ in plan.members],
    }


def _member(plan: Plan, name: str, ack: Ack | None, is_alive: bool) -> dict[str, Any]:
    current = ack if ack is not None and ack.token == plan.tokens[name] else None
    return {
        "name": name,
        "version": current.version if current else None,
        "behind": plan.version - current.version if current else plan.version,
        "holds": list(current.holds) if current else [],
        "acknowledged_seconds_ago": max(0, int(time.time()) - current.at) if current else None,
        "wrapping_keys": list(current.wraps) if current else [],
        "agent": "runs" if is_alive else "silent",
    }


def show(found: dict[str, Any]) -> None:
    """Print it for a person."""
    leader = found["leader"] or "nobody: no agent runs that may lead"
    life = f"live {about(found['cookie_life_seconds'])}, format {found['cookie_format']}"
    print(f"fleet {found['fleet']}, version {found['version']}; cookies {life}")
    print(f"led by {leader}")
    for key in found["keys"]:
        goes = key["goes_in_seconds"]
        rest = "" if goes is None else f", goes in {about(goes)}"
        print(f"key {key['id']}: {key['phase']} for {about(key['age_seconds'])}{rest}")
    if found["waits_for"]:
        print(f"waits for {', '.join(found['waits_for'])}")
    rows = [("member", "agent", "version", "behind", "acknowledged", "holds")]
    for member in found["members"]:
        ago, is_told = member["acknowledged_seconds_ago"], found["spread_seconds"] is None
        rows.append(
            (
                member["name"],
                member["agent"],
                "-" if member["version"] is None else str(member["version"]),
                str(member["behind"]) if is_told else "-",
                "-" if ago is None else f"{about(ago)} ago",
                ", ".join(member["holds"]) or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

# SPDX-License-Identifier: MIT
"""All checks of a server, a module for each subject."""

from __future__ import annotations

from nts.check.model import Check
from nts.check.probe import ServerProbe
from nts.check.server import ke_errors, ke_message, ke_negotiation, tls

GROUPS = (
    tls.group,
    ke_message.group,
    ke_errors.group,
    ke_negotiation.group,
)

CHECKS: list[Check[ServerProbe]] = sorted((c for g in GROUPS for c in g.checks), key=lambda c: int(c.id))
"""in the order of their numbers"""

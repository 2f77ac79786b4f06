# SPDX-License-Identifier: MIT
"""All server checks, a module for each subject."""

from __future__ import annotations

from nts.check.model import Check
from nts.check.server import (
    ke_errors,
    ke_message,
    ke_negotiation,
    ntp_cookies,
    ntp_fields,
    ntp_nak,
    ntp_reply,
    ntp_robustness,
    tls,
)
from nts.check.server.probe import ServerProbe

GROUPS = (
    tls.group,
    ke_message.group,
    ke_errors.group,
    ke_negotiation.group,
    ntp_reply.group,
    ntp_cookies.group,
    ntp_nak.group,
    ntp_fields.group,
    ntp_robustness.group,
)

CHECKS: list[Check[ServerProbe]] = sorted((c for g in GROUPS for c in g.checks), key=lambda c: int(c.id))
"""in the order of their numbers"""

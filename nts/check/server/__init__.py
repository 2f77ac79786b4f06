# SPDX-License-Identifier: MIT
"""The checks of a server, a file for each subject, in the order of their numbers."""

from __future__ import annotations

from nts.check.model import Check
from nts.check.probe import ServerProbe
from nts.check.server import ntp_cookies, ntp_fields, ntp_nak, ntp_reply, ntp_robustness

GROUPS = (
    ntp_reply.group,
    ntp_cookies.group,
    ntp_nak.group,
    ntp_fields.group,
    ntp_robustness.group,
)
CHECKS: list[Check[ServerProbe]] = sorted((c for g in GROUPS for c in g.checks), key=lambda c: int(c.id))

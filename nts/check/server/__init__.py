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
    ntp_keys,
    ntp_nak,
    ntp_reply,
    ntp_robustness,
    tls,
)
from nts.check.server.probe import ServerProbe

MODULES = (
    tls, ke_message, ke_errors, ke_negotiation, ntp_reply, ntp_keys, ntp_cookies, ntp_nak, ntp_fields,
    ntp_robustness,
)  # fmt: skip

CHECKS: list[Check[ServerProbe]] = sorted((c for m in MODULES for c in m.group.checks), key=lambda c: int(c.id))
"""in the order of their numbers"""

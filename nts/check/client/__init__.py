# SPDX-License-Identifier: MIT
"""The client cases, C01 to C26: our servers misbehave, and the client under test is judged by what it does.

recipes chronyd ntpsec ntpd_rs  how to run a client       probe   the scene, and what was seen in it
judge             judgements that cases share             others  the cases, a file for each subject
"""

from __future__ import annotations

from nts.check.client import algorithms, exchange, kisses, replies, requests, stock, where
from nts.check.client.probe import ClientProbe
from nts.check.model import Check

CASES: list[Check[ClientProbe]] = sorted(
    (case for m in (replies, stock, kisses, exchange, where, requests, algorithms) for case in m.GROUP.checks),
    key=lambda c: c.id,
)
"""all of them, by number"""

# SPDX-License-Identifier: MIT
"""The probe that server checks work with."""

from __future__ import annotations

import random

from nts.check.context import Context, Pace, Target, Turns
from nts.check.ke.probe import KeProbe
from nts.check.ntp.probe import NtpProbe

SLOWEST_KE = 128.0  # seconds between two connections: some servers limit them to one in 64 s


class ServerProbe:
    """`ke` speaks NTS-KE and `ntp` speaks NTP with the cookies that `ke` fetches. Both keep a pace and a transcript."""

    def __init__(
        self,
        target: Target,
        *,
        pace: float = 1.0,
        ke_pace: float | None = None,
        auto: bool = False,
        seed: int | None = None,
        turns: Turns | None = None,
    ) -> None:
        """`pace` is the least number of seconds between two packets, `ke_pace` between two connections (None: `pace`).

        `auto` goes slower when the server limits the rate. None as `seed` draws one. Probes of several targets share
        their `turns`.
        """
        self.seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        turns = turns or Turns()
        context = Context(target, random.Random(self.seed))
        self.target, self.random, self.transcript = context.target, context.random, context.transcript
        self.ke = KeProbe(context, Pace(pace if ke_pace is None else ke_pace, auto, SLOWEST_KE, turns))
        self.ntp = NtpProbe(context, Pace(pace, auto, turns=turns), self.ke)

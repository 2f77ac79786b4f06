# SPDX-License-Identifier: MIT
"""How long a run takes, by nts_check's own word, and at which pace it ends."""

from __future__ import annotations

import json
from collections import Counter

import jsonschema
import pytest

from nts.check import runner
from nts.check.commands.server import plan
from nts.check.context import Pace, Target
from nts.check.peer import Authority, pair
from nts.check.server import CHECKS, effort, facts
from nts.check.server.probe import ServerProbe
from nts.system.addresses import Endpoint
from testkit.processes import Suite, run
from testkit.sample_checks import SCHEMA

TINY = 1e-9  # seconds: a pace, without which there would be more packets
SLACK = 3
"""connections or packets of a check that the table may be wrong by"""


def counted(pace: Pace, counts: Counter[str], kind: str) -> None:
    """Count how often somebody waits at this pace."""
    wait = pace.wait

    def counting(*peers: Endpoint) -> None:
        counts[kind] += 1
        wait(*peers)

    pace.wait = counting  # type: ignore[method-assign,assignment]


def test_the_table_says_how_much_each_check_sends(authority: Authority) -> None:
    counts: Counter[str] = Counter()
    with pair(authority=authority) as servers:
        target = Target("localhost", servers.ke.port, authority.ca, patience=0.5, silence=1)
        probe = ServerProbe(target, pace=TINY, seed=1)
        counted(probe.ke.pace, counts, "ke")
        counted(probe.ntp.pace, counts, "ntp")
        first = probe.ke.reach()
        facts.gather(probe, first)
        seen = {"the facts": (counts["ke"], counts["ntp"])}
        for check in CHECKS:
            counts.clear()
            assert list(runner.run([check], probe))
            seen[check.name] = (counts["ke"], counts["ntp"])
    least = effort.seconds([], 1, 1)
    told = {"the facts": least, **{c.name: effort.seconds([c], 1, 1) - least for c in CHECKS}}
    wrong = {name: (n, told[name]) for name, n in seen.items() if abs(sum(n) - told[name]) > SLACK}
    assert not wrong
    connections, packets = (sum(n[i] for n in seen.values()) for i in (0, 1))
    assert effort.seconds(CHECKS, 0, 1) == pytest.approx(connections, rel=0.1)
    assert effort.seconds(CHECKS, 1, 0) == pytest.approx(packets, rel=0.1)


@pytest.mark.parametrize(
    ("names", "paces", "words"),
    [
        ([], (1, 1), "only facts, at most one packet in 1 s, about 10 s"),
        (["ke-basic"], (1, 1), "1 check, at most one packet in 1 s, about 11 s"),
        (["ke-basic"], (0, 64), "1 check, one connection in 64 s, about 9 min"),
        (["ke-*"], (0, 0), "27 checks, without pauses"),
        (None, (1, 1), "57 checks, at most one packet in 1 s, about 7 min"),
        (None, (8, 64), "57 checks, at most one packet in 8 s, one connection in 64 s, about 2.0 h"),
    ],
)
def test_a_run_says_how_long_it_takes(names: list[str] | None, paces: tuple[float, float], words: str) -> None:
    checks = CHECKS if names is None else runner.select(CHECKS, names, []) if names else []
    assert plan(checks, *paces) == words


def test_json_has_the_pace_that_was_asked_for_and_the_last_one(suite: Suite) -> None:
    options = ("--only", "ke-basic", "--pace", "0.1", "--ke-pace", "0.2", "--json")
    done = run("nts_check.py", "server", "-c", suite.ca, *options, "localhost", suite.ke_port)
    values = json.loads(done.stdout)
    jsonschema.validate(values, SCHEMA)
    paces = [values[name] for name in ("pace", "ke_pace", "final_pace", "final_ke_pace")]
    assert paces == [0.1, 0.2, 0.1, 0.2]

# SPDX-License-Identifier: MIT
"""nts_check's NTP probe against servers that answer late, as they do on a machine with too much to do."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Iterable, Iterator

import pytest

from nts.check import runner
from nts.check.context import Target
from nts.check.model import Grade
from nts.check.peer import KeBehaviour, Pair, pair
from nts.check.peer.ke import KeTalk
from nts.check.peer.ntp import NtpTalk, sound
from nts.check.server import CHECKS
from nts.check.server.probe import ServerProbe
from testkit.ntp_faults import NAMES, SHORT, Answer, explained, judged
from testkit.processes import run


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    with pair() as both:
        yield both


def late(least: float, most: float) -> Answer:
    """Answers as soundly as ever, but after so many seconds, by chance. Requests do not wait for each other."""
    chance = random.Random(1)

    def send(talk: NtpTalk, reply: bytes) -> None:
        with contextlib.suppress(OSError):  # the server has ended
            talk.peer._sock.sendto(reply, talk.client)

    def answer(talk: NtpTalk) -> Iterable[bytes | float]:
        if (reply := talk.sound()) is not None:
            threading.Timer(chance.uniform(least, most), send, (talk, reply)).start()
        return []

    return answer


def test_a_busy_machine_makes_no_verdict(servers: Pair) -> None:
    """Replies come after up to three times the usual wait. Of the long sweeps, one is enough."""
    sweeps = ("ntp-bitflip-sweep", "ntp-malformed-sweep", "ntp-modes-versions", "ntp-no-amplify")
    found = judged(servers, late(0.0, 3 * SHORT), [name for name in NAMES if name not in sweeps])
    assert not [r.evidence for r in found.values() if r.grade is Grade.FAIL], explained(found)
    assert found["ntp-answers"].grade is found["ntp-basic"].grade is Grade.PASS, explained(found)


def test_a_user_of_fast_gets_the_right_verdicts_on_a_busy_machine(servers: Pair) -> None:
    servers.ntp.behave(answer=late(0.8, 1.5))
    names = "ntp-answers,ntp-basic,ntp-aeads,nak-badtag,ntp-key-swap"
    done = run("nts_check.py", "server", "--fast", "--json", "--only", names, "127.0.0.1", servers.ke.port)
    servers.ntp.behave(answer=sound)
    report = json.loads(done.stdout)
    assert {r["name"]: r["evidence"] for r in report["results"] if r["verdict"] != "PASS"} == {}
    assert report["facts"]["ntp"]["stratum"] is not None


def test_a_key_exchange_that_takes_too_long_is_tried_once_more() -> None:
    def slow(talk: KeTalk) -> None:
        request = talk.request()
        talk.wait(0.7)
        talk.send(talk.respond(request))

    with pair(KeBehaviour(slow)) as both:
        asker = ServerProbe(Target("127.0.0.1", both.ke.port, timeout=0.5), pace=0, seed=1)
        (result,) = runner.run(runner.select(CHECKS, ["ke-basic"], []), asker)
    assert result.grade is Grade.PASS, result.evidence

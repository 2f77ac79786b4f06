# SPDX-License-Identifier: MIT
"""Time servers on loopback, some with a clock that is off, each with a client.ini for it. No clock is touched."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nts.check.peer import NtpBehaviour, NtpPeer, NtpTalk
from nts.check.peer.craft import random_cookies
from nts.codec import ntp
from testkit.client_runs import Answer, some_keys, write_association


def ahead(seconds: float) -> Answer:
    """The answers of a server whose clock is so far ahead."""
    shift = int(seconds * 2**32)

    def answer(talk: NtpTalk) -> list[bytes | float]:
        sent = ntp.timestamp(time.time_ns()) + shift
        return [talk.time(header=talk.header(receive=talk.received + shift, transmit=sent))]

    return answer


@dataclass(frozen=True)
class TimeServer:
    """A server that runs, and the client.ini for it."""

    peer: NtpPeer
    ini: Path


@contextlib.contextmanager
def time_servers(folder: Path, *answers: Answer) -> Iterator[list[TimeServer]]:
    """Servers that answer so for the length of the block: a.ini is for the first one, b.ini for the second."""
    servers = []
    with contextlib.ExitStack() as stack:
        for letter, answer in zip("abcdefgh", answers, strict=False):
            keys, ini = some_keys(), folder / f"{letter}.ini"
            peer = stack.enter_context(NtpPeer(NtpBehaviour(answer, keys=keys)))
            write_association(ini, keys, peer.port, random_cookies(8))
            servers.append(TimeServer(peer, ini))
        yield servers

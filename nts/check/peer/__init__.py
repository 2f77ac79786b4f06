# SPDX-License-Identifier: MIT
"""Servers for a client to meet, NTS-KE and NTP, sound or faulty on demand.

with pair(ntp=NtpBehaviour(answer=lambda talk: [talk.kiss()])) as servers:
    ...  # let a client run a key exchange with localhost, port servers.ke.port, CA servers.authority.ca
    servers.ke.sessions, servers.ntp.requests
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nts.check.peer.authority import Authority
from nts.check.peer.ke import SOUND_KE, KeBehaviour, KePeer, KeTalk, fresh_ring
from nts.check.peer.ntp import SOUND_NTP, NtpBehaviour, NtpPeer, NtpTalk

__all__ = [
    "SOUND_KE", "SOUND_NTP", "Authority", "KeBehaviour", "KePeer", "KeTalk", "NtpBehaviour", "NtpPeer", "NtpTalk",
    "Pair", "pair", "temporary_authority",
]  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Both servers, running. The time server opens the cookies of the other."""

    authority: Authority
    ke: KePeer
    ntp: NtpPeer


@contextlib.contextmanager
def temporary_authority() -> Iterator[Authority]:
    """A CA that lasts as long as the `with` block."""
    with tempfile.TemporaryDirectory(prefix="nts-ca-") as folder:
        yield Authority(Path(folder))


@contextlib.contextmanager
def pair(
    ke: KeBehaviour = SOUND_KE, ntp: NtpBehaviour = SOUND_NTP, *, authority: Authority | None = None
) -> Iterator[Pair]:
    """Run both servers for the length of the `with` block, by default with a certificate of a temporary authority."""
    ring = fresh_ring()
    with contextlib.ExitStack() as stack:
        authority = authority or stack.enter_context(temporary_authority())
        ntp_peer = stack.enter_context(NtpPeer(ntp, ring))
        ke = replace(ke, certificate=ke.certificate or authority.certificate, ntp_port=ke.ntp_port or ntp_peer.port)
        yield Pair(authority, stack.enter_context(KePeer(ke, ring)), ntp_peer)

# SPDX-License-Identifier: MIT
"""The probe that client cases work with: it sets a scene, lets the client under test in, and reports what it did.

with probe.scene(find("stripped-authenticator")) as scene:
    seen = scene.meet(count=3)
seen.accepted, seen.requests, seen.sessions
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from nts.base.registry import NTS_FIELDS, FieldType
from nts.base.text import harmless
from nts.check.client.recipes import Client, ClientResult, Place, wait_until
from nts.check.model import Direction, Protocol, Skipped, Transcript
from nts.check.peer import SOUND_KE, SOUND_NTP, Authority, KeBehaviour, KePeer, NtpBehaviour, NtpPeer, NtpTalk, pair
from nts.check.peer.faults import Fault
from nts.check.peer.ke import KeSession
from nts.codec import extensions

LAST_WORDS = 1.5  # seconds for the servers to notice everything that a client did before it ended
STALLED = 5.0  # seconds without a request after which a daemon has stopped asking
SETTLE = 1.0  # seconds after a key exchange within which a client that goes on would ask for the time
_SHOWN = 4  # packets of a meeting that become exhibits
_LINES = 5  # of the client's output that become exhibits
SAYS = "the client says: "


@dataclass
class Seen:
    """What a client did in one meeting."""

    what: str
    """the fault that it met"""
    resident: bool
    sessions: list[KeSession] = field(default_factory=list)
    requests: list[NtpTalk] = field(default_factory=list)
    accepted: bool | None = None
    """whether it took the time; None: it does not say"""
    code: int | None = None
    output: str = field(default="", repr=False)
    seconds: float = 0.0
    runs: int = 1
    """how often it was started"""
    first: bool = True
    """whether the client has met nobody in this scene before, so that it must begin with a key exchange"""

    @property
    def never_came(self) -> bool:
        """Whether there was no client at all."""
        return self.first and not self.sessions and not self.requests

    @property
    def last_words(self) -> list[str]:
        """The last lines that it printed, fit for a report."""
        return [harmless(line) for line in self.output.splitlines() if line.strip()][-_LINES:]

    @property
    def nts_requests(self) -> list[NtpTalk]:
        return [r for r in self.requests if r.is_nts]

    @property
    def plain_requests(self) -> list[NtpTalk]:
        """The requests without any NTS field, also in front of a malformed one."""
        return [r for r in self.requests if not any(f.type in NTS_FIELDS for f in extensions.scan(r.datagram)[0])]

    @property
    def spent(self) -> list[bytes]:
        """The cookies that came, in order."""
        return [c for r in self.requests for c in r.bodies(FieldType.COOKIE)]

    @property
    def idle(self) -> float:
        """Seconds since its last request; 0 before the first."""
        return time.monotonic() - self.requests[-1].at if self.requests else 0.0

    @property
    def settled(self) -> bool:
        """Whether its last key exchange ended a while ago."""
        ended = [s.finished for s in self.sessions if s.finished is not None]
        return bool(ended) and time.monotonic() - max(ended) > SETTLE


Until = Callable[[Seen], bool]


def until_accepted(seen: Seen) -> bool:
    """Until the client takes the time or, if it does not say so, has at least asked for it."""
    return bool(seen.accepted) or (seen.accepted is None and bool(seen.nts_requests))


def until_settled(seen: Seen) -> bool:
    """Until the client's key exchange ended a while ago."""
    return bool(seen.accepted) or seen.settled


def until_asked(count: int) -> Until:
    """Until `count` requests have come, or the client seems to have stopped asking."""
    return lambda seen: len(seen.requests) >= count or seen.idle > STALLED


class Scene:
    """Both servers, running, and a folder for what the client keeps."""

    def __init__(self, probe: ClientProbe, what: str, ke: KePeer, ntp: NtpPeer, folder: Path) -> None:
        self._probe, self.what, self.ke, self.ntp, self.folder = probe, what, ke, ntp, folder

    def meet(self, *, until: Until, count: int = 1, wait: float = 5.0, seconds: float = 20.0) -> Seen:
        """Let the client in. `count` requests are wanted; `until` ends clients that do not end by themselves."""
        client, ke, ntp = self._probe.client, self.ke, self.ntp
        first_session, first_request = len(ke.sessions), len(ntp.requests)
        started = time.monotonic()

        def seen(accepted: bool | None) -> Seen:
            return Seen(
                self.what, client.resident, ke.sessions[first_session:], ntp.requests[first_request:], accepted,
                seconds=time.monotonic() - started, first=first_session == first_request == 0,
            )  # fmt: skip

        place = Place("localhost", ke.port, ntp.port, self._probe.authority.ca, self.folder, count, wait, seconds)
        outcome: ClientResult = client.meet(place, lambda accepted: until(seen(accepted)))
        wait_until(lambda: ke.is_idle and ntp.is_idle, LAST_WORDS)
        result = replace(seen(outcome.accepted), code=outcome.code, output=outcome.output, runs=outcome.runs)
        self._probe.exhibit(result, ntp)
        return result


class ClientProbe:
    """What a client case gets."""

    def __init__(self, client: Client, authority: Authority, *, ke_port: int = 0, ntp_port: int = 0) -> None:
        """The ports are for clients that need fixed ones; 0: any that is free."""
        self.client, self.authority, self.transcript = client, authority, Transcript()
        self.ports = ke_port, ntp_port
        self._works: bool | None = None
        self._ended = ""

    @contextlib.contextmanager
    def scene(
        self, fault: Fault | None = None, *, what: str = "", ke: KeBehaviour = SOUND_KE, ntp: NtpBehaviour = SOUND_NTP
    ) -> Iterator[Scene]:
        """Run the servers, with a fault or as told. Skipped if the client does not even work with sound ones."""
        self.require_working()
        with self._scene(fault, what, ke, ntp) as scene:
            yield scene

    @contextlib.contextmanager
    def _scene(self, fault: Fault | None, what: str, ke: KeBehaviour, ntp: NtpBehaviour) -> Iterator[Scene]:
        if fault is not None:
            what, ke, ntp = fault.name, fault.ke(self.authority, ke), fault.ntp(ntp)
        whose = fault.side.value if fault else ""
        self.transcript.add(Direction.NOTE, f"the {whose} server {fault.does}" if fault else what)
        ke, ntp = replace(ke, port=ke.port or self.ports[0]), replace(ntp, port=ntp.port or self.ports[1])
        with (
            tempfile.TemporaryDirectory(prefix="nts-client-") as folder,
            pair(ke, ntp, authority=self.authority) as servers,
        ):
            yield Scene(self, what, servers.ke, servers.ntp, Path(folder))

    def require_working(self) -> None:
        """Silence proves nothing of a client that would be silent anyway."""
        if self._works is None:
            with self._scene(None, "sound servers", SOUND_KE, SOUND_NTP) as scene:
                seen = scene.meet(until=until_accepted)
                self._works = until_accepted(seen)
                self._ended = _no_time(seen)
            if self._works:
                self.transcript.take()  # not part of the case that happens to be first
        if not self._works:
            raise Skipped(self._ended)

    def exhibit(self, seen: Seen, ntp: NtpPeer) -> None:
        """Record what a person needs to see of a meeting."""
        for session in seen.sessions[:_SHOWN]:
            name = (session.server_name or b"none").decode(errors="replace")
            tls = session.tls_version or f"no TLS ({session.problem})"
            text = f"key exchange from {session.address}: {tls}, server name {name}, {session.sent} octets sent to it"
            self.transcript.add(Direction.RECEIVED, text, Protocol.NTS_KE, session.received)
            if session.response:
                part = "" if session.sent == len(session.response) else f", the first {len(session.response)}"
                text = f"response of {session.sent} octets{part}"
                self.transcript.add(Direction.SENT, text, Protocol.NTS_KE, session.response)
        for request in seen.requests[:_SHOWN]:
            self.transcript.add(
                Direction.RECEIVED, f"request of {len(request.datagram)} octets", Protocol.NTP, request.datagram
            )
        for reply in ntp.sent[-_SHOWN:]:
            self.transcript.add(Direction.SENT, f"reply of {len(reply)} octets", Protocol.NTP, reply)
        took = {True: "took the time", False: "took no time", None: "does not say whether it took the time"}
        ended = "" if seen.code is None else f", exit code {seen.code}"
        self.transcript.add(Direction.NOTE, f"the client {took[seen.accepted]}{ended}")
        for line in seen.last_words:
            self.transcript.add(Direction.NOTE, f"{SAYS}{line}")


def _no_time(seen: Seen) -> str:
    """That the client does not even work with sound servers, and why, as far as it says."""
    came = "the client never came" if seen.never_came else "the client gets no time from sound servers either"
    if seen.resident and seen.sessions and not seen.requests and seen.code is None:
        return "the client makes its key exchange and then asks nobody for the time, not even sound servers"
    ended = "" if seen.code is None else f" (exit code {seen.code})"
    said = f': it says "{seen.last_words[-1]}"' if seen.last_words else ""
    return f"{came}{ended}{said}"

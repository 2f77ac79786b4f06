# SPDX-License-Identifier: MIT
"""Sends NTP requests to the server under check and collects what comes back: paced, bounded, on a fresh port each.

Two ways to ask. `ask` is for a request that should be answered: silence is tried again with a fresh packet.
`volley` is for requests that should not be: it sends a block of them, then a control request, and takes the answer
to that as the end of waiting, plus a grace of some round trips, as the network may change the order. What comes
later than that is missed, which can spare a server a FAIL but never cause one.

In both, silence counts only once a control request (a usual one, new) has been answered; else PathTrouble. But a volley
has a control request in front of it, too: a server that answers that one, and none any more after the block, is
Silenced by what is in it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nts.base.registry import MAX_COOKIE
from nts.check import judge_ntp
from nts.check.forge import Forge, Request, Ticket
from nts.check.judge_ntp import Answer, Kind
from nts.check.model import Direction, PathTrouble, Protocol, Silenced, Skipped
from nts.system import addresses

if TYPE_CHECKING:
    from nts.check.probe import ServerProbe

TRIES = 3  # of a stimulus that gets silence
BLOCK = 8  # stimuli of a volley before the next control request
MAX_REPLIES = 32  # to one request; what more comes is left in the kernel
GRACE, GRACE_ROUND_TRIPS = 0.1, 4  # seconds, and how many round trips more
PAUSES = (2, 4, 8)  # how many times the pace, before a server is asked again that answers no more
SLOWEST = 4.0  # seconds between two packets, even if a server asks for fewer still
_ROOM = 65535

Make = Callable[[Forge], Request]
"""A stimulus: made anew whenever it is sent, so that no two packets are the same"""


def _control(forge: Forge) -> Request:
    return forge.usual("control: a usual request")


def _replied(answer: Answer) -> bool:
    """Whether it is a reply that says more than "not now"."""
    return answer.kind is not Kind.SILENCE and not answer.is_rate_kiss


@dataclass(frozen=True)
class Exchange:
    """One request and all that it brought, as sizes."""

    label: str
    sent: int
    """octets"""
    received: int
    """octets of all replies together"""


class _Shot:
    """A request on its way, on a socket of its own."""

    def __init__(self, request: Request, endpoint: addresses.Endpoint) -> None:
        self.request, self.replies, self.error = request, list[bytes](), ""
        self.sock = socket.socket(endpoint.family, socket.SOCK_DGRAM)
        self.started = time.monotonic()
        try:
            self.sock.setblocking(False)
            self.sock.connect(endpoint.address)
            self.sock.send(request.packet)
        except OSError as e:  # no route, say: nothing will come
            self.error = e.strerror or str(e)

    def collect(self) -> None:
        """Take what has come."""
        while len(self.replies) < MAX_REPLIES:
            try:
                self.replies.append(self.sock.recv(_ROOM))
            except BlockingIOError:
                return
            except OSError as e:  # the network says that nobody listens there
                self.error = e.strerror or str(e)
                return

    @property
    def full(self) -> bool:
        """Whether no more is to come, or taken."""
        return bool(self.error) or len(self.replies) >= MAX_REPLIES

    def answer(self) -> Answer:
        answer = judge_ntp.judge(self.request, self.replies)
        return replace(answer, reason=self.error) if answer.kind is Kind.SILENCE else answer

    def wait(self, seconds: float) -> Answer:
        """The answer, once it has come or time is up."""
        self._gather(self.started + seconds, lambda: self.full or self.answer().belongs)
        return self.answer()

    def linger(self, seconds: float) -> Answer:
        """The answer, once there was time for more replies than one."""
        self._gather(time.monotonic() + seconds, lambda: self.full)
        return self.answer()

    def _gather(self, until: float, enough: Callable[[], bool]) -> None:
        while not enough() and (left := until - time.monotonic()) > 0 and select.select([self.sock], [], [], left)[0]:
            self.collect()
        self.collect()  # what lies there already


class NtpProbe:
    """What server checks talk NTP with, to the time server that key exchanges lead to."""

    def __init__(self, probe: ServerProbe) -> None:
        self._probe, self.pace = probe, probe.ntp_pace
        self.tally: list[Exchange] = []
        """all exchanges of the run"""
        self._forge: Forge | None = None
        self._endpoint: addresses.Endpoint | None = None
        self._round_trip = 0.0  # seconds, of the last single request
        self._trouble = False  # whether the last control request went unanswered

    # --- tickets -----------------------------------------------------------------------------------------------------

    @property
    def forge(self) -> Forge:
        """Makes requests with the ticket in use; one ticket does for many checks, as servers keep no state."""
        return self._forge or self._renew()

    def _renew(self) -> Forge:
        """A key exchange, a new ticket, and perhaps another time server (RFC 8915 section 4.1.7)."""
        fetched = self._probe.ke.fetch()
        cookie = fetched.cookies[0]
        if not 0 < len(cookie) <= MAX_COOKIE:
            raise Skipped(f"could not be judged: a cookie of {len(cookie)} octets fits in no NTP packet")
        self._endpoint = fetched.endpoint(self._probe.target.family)
        self._forge = self.with_ticket(Ticket(fetched.keys, cookie))
        return self._forge

    def with_ticket(self, ticket: Ticket) -> Forge:
        """A forge for another ticket."""
        return Forge(ticket, self._probe.random.randbytes)

    # --- one request -------------------------------------------------------------------------------------------------

    def ask(self, make: Make, forge: Forge | None = None, *, linger: bool = False) -> Answer:
        """The answer to a request that should get one.

        `forge` has another ticket than the one in use; `linger` waits a moment for a second reply, where it matters.
        """
        self._recover()
        answer = self._try(make, TRIES, forge, linger=linger)
        if not _replied(answer):
            self.control()
            self._probe.record.add(Direction.NOTE, "a usual request right after was answered")
        return answer

    def control(self, tries: int = TRIES) -> None:
        """Returns once a usual request is answered with time: then what came before it would have been, too.

        PathTrouble when nothing comes. Skipped when something else comes, even with a new ticket: from a server that
        serves nobody, refusals prove nothing.
        """
        answer = self._try(_control, tries)
        if _replied(answer) and answer.kind is not Kind.TIME:  # the server may have dropped an old cookie key
            self._renew()
            answer = self._try(_control, tries)
        self._trouble = not _replied(answer)
        if answer.is_rate_kiss:
            raise Skipped("could not be judged: the server asks for fewer requests (RATE); try a slower --pace")
        if answer.kind is Kind.SILENCE:
            why = f" ({answer.reason})" if answer.reason else ""
            raise PathTrouble(f"no answer, and none to a usual NTS request either{why}: silence proves nothing")
        if answer.kind is not Kind.TIME:
            raise Skipped(f"could not be judged: a usual request gets {answer}")

    def _recover(self) -> None:
        if self._trouble:  # do not try everything on a server that is not there
            self.control(1)

    def _try(self, make: Make, tries: int, forge: Forge | None = None, *, linger: bool = False) -> Answer:
        """Until there is a reply."""
        for _ in range(tries):
            request = make(forge or self.forge)
            with self._sent([request]) as (shot,):
                answer = shot.wait(self._probe.target.patience)
                self._round_trip = time.monotonic() - shot.started
                if linger and shot.replies:
                    answer = shot.linger(self._grace)
                if make is not _control or answer.kind is not Kind.TIME:
                    self._show(shot)
            if answer.is_rate_kiss:  # obeyed (RFC 5905 section 7.4), but by those only who set themselves a pace
                self.pace.interval = min(2 * self.pace.interval, SLOWEST)
            if _replied(answer):
                break
        return answer

    @property
    def _grace(self) -> float:
        """Seconds for what may come after a reply, or after that to a later request."""
        return min(self._probe.target.patience, GRACE + GRACE_ROUND_TRIPS * self._round_trip)

    def ask_at(self, endpoint: addresses.Endpoint, request: Request) -> Answer:
        """The answer to a request for a time server that has nothing to do with the ticket in use."""
        self.pace.wait()
        try:
            shot = _Shot(request, endpoint)
        except OSError as e:
            raise Skipped(f"could not be judged: cannot send: {e.strerror}") from None
        with shot.sock:
            answer = shot.wait(self._probe.target.patience)
        self._show(shot)
        return answer

    # --- many --------------------------------------------------------------------------------------------------------

    def volley(self, makes: Iterable[Make], tries: int = TRIES) -> list[Answer]:
        """The answers to requests that should get none, or a refusal, in the order of the requests.

        Silenced when the server answers a usual request before them and none after.
        """
        self.control(1 if self._trouble else TRIES)
        pending = dict(enumerate(makes))
        answers: dict[int, Answer] = {}
        for number in range(tries):
            if pending:
                answers |= self._round(pending, show_silence=not number)
            pending = {i: make for i, make in pending.items() if answers[i].kind is Kind.SILENCE}
        self._probe.record.add(Direction.NOTE, f"usual requests before and after every {BLOCK} of these were answered")
        return [answers[i] for i in sorted(answers)]

    def _after(self, block: Sequence[_Shot]) -> None:
        """See that the server still answers after these requests, as it did before. Silenced, PathTrouble, Skipped."""
        try:
            self.control()
        except PathTrouble:
            for shot in block:
                shot.collect()
                self._show(shot)
            if self._answers_later():
                raise
            tries, labels = TRIES + len(PAUSES), judge_ntp.listed([shot.request.label for shot in block])
            raise Silenced(
                f"it answered a usual request right before these packets, and none of {tries} after them: {labels}"
            ) from None

    def _answers_later(self) -> bool:
        """Whether usual requests are answered again after some rest, as by a server that limits their rate."""
        for pause in PAUSES:
            time.sleep(pause * self.pace.interval)
            try:
                self.control(1)
            except PathTrouble:
                continue
            except Skipped:
                pass  # with no time, but it is there
            return True
        return False

    def _round(self, makes: dict[int, Make], show_silence: bool) -> dict[int, Answer]:
        """Each once."""
        requests = {i: make(self.forge) for i, make in makes.items()}
        with self._sent(requests.values(), self._after) as shots:
            time.sleep(self._grace)
            for shot in shots:
                shot.collect()
            answers = {i: shot.answer() for i, shot in zip(requests, shots, strict=True)}
            # What is worth showing comes first: the record has an end.
            for shot in sorted(shots, key=lambda s: s.answer().kind in (Kind.SILENCE, Kind.NAK)):
                if shot.replies or show_silence:
                    self._show(shot)
        return answers

    @contextlib.contextmanager
    def _sent(
        self, requests: Iterable[Request], after_block: Callable[[Sequence[_Shot]], None] | None = None
    ) -> Iterator[Sequence[_Shot]]:  # fmt: skip
        """The requests on their way, at the pace; their sockets live as long as the block of code."""
        shots: list[_Shot] = []
        try:
            for request in requests:
                assert self._endpoint is not None  # where the request's ticket is good
                self.pace.wait()
                shots.append(_Shot(request, self._endpoint))
                if after_block and len(shots) % BLOCK == 0:
                    after_block(shots[-BLOCK:])
            if after_block and (rest := len(shots) % BLOCK):
                after_block(shots[-rest:])
            yield shots
        except OSError as e:  # no more sockets, or none of this address family
            raise Skipped(f"could not be judged: cannot send: {e.strerror}") from None
        finally:
            for shot in shots:
                shot.sock.close()
                self.tally.append(Exchange(shot.request.label, len(shot.request.packet), sum(map(len, shot.replies))))

    def _show(self, shot: _Shot) -> None:
        answer, note = shot.answer(), self._probe.record.add
        note(Direction.SENT, shot.request.label, Protocol.NTP, shot.request.packet)
        for reply in shot.replies:
            what = str(answer) if reply is answer.octets else "another packet"
            note(Direction.RECEIVED, what, Protocol.NTP, reply)
        if not shot.replies:
            note(Direction.NOTE, f"no reply: {shot.error}" if shot.error else "no reply")

# SPDX-License-Identifier: MIT
"""Sends NTP requests to the server under check and collects the replies: paced, bounded, each from a fresh port.

There are two ways to ask. `ask` is for a request that should be answered: after silence it tries again with a fresh
packet. `burst` is for requests that should not be answered: it sends a block of them, then a control request. The
answer to that ends the waiting, after a grace of a few round trips because the network may reorder packets. A reply
that comes later is missed, which can spare a server a FAIL but never cause one.

In both cases silence counts only once a control request, which is new and usual, has been answered; otherwise the
result is PathTrouble. A busy machine answers late: the last of several tries waits longer, and once an answer has taken
long, all later ones may. `burst` also sends a control request first: if the server answers that one and none after the
block, the block has Silenced it.
"""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from nts.base.registry import MAX_COOKIE
from nts.check.context import Context, Pace
from nts.check.findings import listed
from nts.check.ke.probe import Fetched, KeProbe
from nts.check.model import Direction, PathTrouble, Protocol, Silenced, Skipped
from nts.check.ntp.answer import REFUSALS, Kind, NtpAnswer, classify
from nts.check.ntp.forge import Forge, Request, Ticket
from nts.system import addresses, waiting

TRIES = 3  # for a stimulus that gets silence
LONGER = 4  # times the usual wait for a reply, before silence counts
PATIENT_TRIES = 6  # for the question whether anybody is there
ROUNDS = 14  # usual requests in turn with a silent stimulus
LOSSES = 2  # of usual requests in a burst, from which on its silence proves nothing
CHANCE = 0.001  # of silence that is only bad luck
BLOCK = 8  # stimuli of a burst between two control requests
MAX_REPLIES = 32  # to one request; the kernel keeps the rest
GRACE, GRACE_ROUND_TRIPS = 0.1, 4  # seconds, plus this many round trips
PAUSES = (2, 4, 8)  # multiples of the pace, before a server that stopped answering is asked again
SLOWEST = 4.0  # seconds between two packets at most, even if the server asks for fewer packets still
_ROOM = 65535

Make = Callable[[Forge], Request]
"""A stimulus. It is made anew each time it is sent, so no two packets are the same."""


def _control(forge: Forge) -> Request:
    return forge.usual("control: a usual request")


def _replied(answer: NtpAnswer) -> bool:
    """Whether the server said more than "not now"."""
    return answer.kind is not Kind.SILENCE and not answer.is_rate_kiss


@dataclass(frozen=True)
class Exchange:
    """The size of one request and of everything it brought."""

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
        except OSError as e:  # such as no route: nothing will come
            self.error = e.strerror or str(e)

    def collect(self) -> None:
        """Take what has arrived."""
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
        """Whether nothing more will come, or be taken."""
        return bool(self.error) or len(self.replies) >= MAX_REPLIES

    def answer(self) -> NtpAnswer:
        answer = classify(self.request, self.replies)
        return replace(answer, reason=self.error) if answer.kind is Kind.SILENCE else answer

    def wait(self, seconds: float) -> NtpAnswer:
        """Wait until the answer has come or time is up."""
        self._gather(self.started + seconds, lambda: self.full or self.answer().belongs)
        return self.answer()

    def linger(self, seconds: float) -> NtpAnswer:
        """Give more replies time to come."""
        self._gather(time.monotonic() + seconds, lambda: self.full)
        return self.answer()

    def _gather(self, until: float, enough: Callable[[], bool]) -> None:
        while not enough() and (left := until - time.monotonic()) > 0 and waiting.readable(self.sock, left):
            self.collect()
        self.collect()  # what has arrived by now


class NtpProbe:
    """Sends time requests to the time server that a key exchange names."""

    def __init__(self, context: Context, pace: Pace, ke: KeProbe) -> None:
        self.pace = pace
        self._target, self._random, self._note, self._ke = context.target, context.random, context.transcript.add, ke
        self.tally: list[Exchange] = []
        """all exchanges of the run"""
        self._forge: Forge | None = None
        self._endpoint: addresses.Endpoint | None = None
        self._round_trip = 0.0  # seconds, of the last single request
        self._patience = self._target.patience  # seconds; grows with the answers
        self._controls: list[bool] = []  # whether each usual request was answered
        self._trouble = False  # whether the last control request went unanswered

    # --- tickets -----------------------------------------------------------------------------------------------------

    @property
    def forge(self) -> Forge:
        """Builds requests with the current ticket. One ticket serves many checks, because servers keep no state."""
        return self._forge or self._renew()

    def _renew(self) -> Forge:
        """Run a key exchange for a new ticket. It may name another time server (RFC 8915 section 4.1.7)."""
        self._forge, self._endpoint = self._accept(self._ke.fetch())
        return self._forge

    def _accept(self, fetched: Fetched) -> tuple[Forge, addresses.Endpoint]:
        """A forge for the first cookie of a key exchange, and where to send its requests."""
        cookie = fetched.cookies[0]
        if not 0 < len(cookie) <= MAX_COOKIE:
            raise Skipped(f"could not be judged: a cookie of {len(cookie)} octets fits in no NTP packet")
        return self.with_ticket(Ticket(fetched.keys, cookie)), fetched.endpoint(self._target.family)

    def use(self, fetched: Fetched) -> addresses.Endpoint:
        """Take the ticket of a key exchange that the caller made; where its requests go. Skipped, ResolveError."""
        self._forge, self._endpoint = self._accept(fetched)
        return self._endpoint

    @property
    def where(self) -> str:
        """The time server's address and port, once a request was sent."""
        assert self._endpoint is not None
        return f"{addresses.format_address(self._endpoint.address)} (UDP)"

    def with_ticket(self, ticket: Ticket) -> Forge:
        """A forge for another ticket."""
        return Forge(ticket, self._random.randbytes)

    # --- one request -------------------------------------------------------------------------------------------------

    def ask(self, make: Make, forge: Forge | None = None, *, linger: bool = False) -> NtpAnswer:
        """The answer to a request that should get one.

        `forge` replaces the one with the current ticket. `linger` waits a moment for a second reply.
        """
        self._recover()
        answer = self._try(make, TRIES, forge, linger=linger)
        if answer.kind is Kind.SILENCE:
            return self.duel(answer, lambda: self._try(make, 1, forge, linger=linger))
        if not _replied(answer):
            self.control()
        return answer

    def duel(self, answer: NtpAnswer, again: Callable[[], NtpAnswer]) -> NtpAnswer:
        """Send a silent stimulus and usual requests in turn, until it is clear whether chance explains the silence.

        Skipped when it does, because the server answers only a part of the usual ones: it limits their rate.
        """
        silent, sent, answered = TRIES, 0, 0
        self.control()
        while sent < ROUNDS:
            sent += 1
            answered += _replied(self._try(_control, 1))
            if (1 - answered / (sent + 1)) ** silent < CHANCE:
                self._note(Direction.NOTE, f"{answered} of {sent} usual requests in between were answered")
                return answer
            answer = again()
            if _replied(answer):
                return answer
            silent += 1
            if answered < sent and self.pace.slow_down():
                silent, sent, answered = 0, 0, 0
        raise Skipped(f"could not be judged: {self._limited(answered, sent)}")

    def _limited(self, answered: int, sent: int) -> str:
        limit = f"the server answers {answered} of {sent} usual requests, as one does that limits their rate"
        return f"{limit}, at one packet in {self.pace.interval:g} s; try --pace auto, or --pace 8"

    def knock(self, make: Make) -> NtpAnswer:
        """The answer to a request that should get one, after a few tries; silence is an answer too."""
        return self._try(make, PATIENT_TRIES)

    def control(self, tries: int = TRIES, *, longer: bool = False) -> None:
        """Return once a usual request gets time: then the requests before it could have been answered too.

        PathTrouble when nothing comes. Skipped when something else comes, even with a new ticket: if a server serves
        nobody, its refusals prove nothing. `longer` as for `_try`.
        """
        answer = self._try(_control, tries, longer=longer)
        while answer.kind is Kind.SILENCE and any(self._controls) and self.pace.slow_down():
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
        if self._trouble:  # do not send every stimulus to a server that is not there
            self.control(1)

    def _try(
        self, make: Make, tries: int, forge: Forge | None = None, *, linger: bool = False, longer: bool = False
    ) -> NtpAnswer:  # fmt: skip
        """Send the stimulus until there is a reply. `longer` is about each try, not only the last of several."""
        for number in range(tries):
            request = make(forge or self.forge)
            with self._sent([request]) as (shot,):
                answer = self._wait(shot, longer=longer or 0 < number == tries - 1)
                if linger and shot.replies:
                    answer = shot.linger(self._grace)
                if make is not _control or answer.kind is not Kind.TIME:
                    self._show(shot)
            if make is _control:
                self._controls.append(_replied(answer))
            if answer.is_rate_kiss:  # slow down (RFC 5905 section 7.4); a pace of 0 stays 0
                self.pace.interval = min(2 * self.pace.interval, SLOWEST)
            if _replied(answer):
                break
        return answer

    def patience(self, *, longer: bool) -> float:
        """Seconds to wait for a reply."""
        return LONGER * self._patience if longer else self._patience

    def _wait(self, shot: _Shot, *, longer: bool) -> NtpAnswer:
        """Wait for the answer. If it takes long, wait longer for later ones: the server or this machine is busy."""
        answer = shot.wait(self.patience(longer=longer))
        self._round_trip = time.monotonic() - shot.started
        if answer.kind is not Kind.SILENCE:
            most = LONGER * self._target.patience
            self._patience = max(self._patience, min(2 * self._round_trip, most))
        return answer

    @property
    def _grace(self) -> float:
        """Seconds for what may come after a reply, or after the reply to a later request."""
        return min(self._patience, GRACE + GRACE_ROUND_TRIPS * self._round_trip)

    def ask_with(self, fetched: Fetched, make: Make) -> NtpAnswer:
        """The answer to a request with the ticket of another key exchange, without any control request."""
        forge, endpoint = self._accept(fetched)
        for number in range(TRIES):
            self.pace.wait(endpoint)
            try:
                shot = _Shot(make(forge), endpoint)
            except OSError as e:
                raise Skipped(f"could not be judged: cannot send: {e.strerror}") from None
            self.pace.sent(endpoint)
            with shot.sock:
                answer = self._wait(shot, longer=number == TRIES - 1)
            self._show(shot)
            if answer.kind is not Kind.SILENCE:
                break
        return answer

    # --- many --------------------------------------------------------------------------------------------------------

    def burst(self, makes: Iterable[Make], tries: int = TRIES) -> list[NtpAnswer]:
        """The answers to requests that should get none, or a refusal, in the order of the requests.

        Silenced when the server answers a usual request before them and none after.
        """
        self.control(1 if self._trouble else TRIES)
        wanted = list(makes)
        pending = dict(enumerate(wanted))
        answers: dict[int, NtpAnswer] = {}
        before = len(self._controls)
        for number in range(tries):
            if pending:
                answers |= self._round(pending, show_silence=not number)
            pending = {i: make for i, make in pending.items() if answers[i].kind is Kind.SILENCE}
        controls = self._controls[before:]
        if controls.count(False) >= LOSSES and all(a.kind in REFUSALS for a in answers.values()):
            if self.pace.slow_down():
                return self.burst(wanted, tries)
            raise Skipped(f"could not be judged: {self._limited(controls.count(True), len(controls))}")
        self._note(Direction.NOTE, f"usual requests before and after every {BLOCK} of these were answered")
        return [answers[i] for i in sorted(answers)]

    def _after(self, block: Sequence[_Shot]) -> None:
        """Check that the server still answers after these requests. Silenced, PathTrouble, Skipped."""
        try:
            self.control()
        except PathTrouble:
            for shot in block:
                shot.collect()
                self._show(shot)
            pauses = self._pauses()
            if self._answers_later(pauses):
                raise
            tries, labels = TRIES + len(pauses), listed(shot.request.label for shot in block)
            raise Silenced(
                f"it answered a usual request right before these packets, and none of {tries} after them: {labels}"
            ) from None

    def _pauses(self) -> list[int]:
        """PAUSES, and more where usual requests have been lost before, so that silence is not only bad luck."""
        earlier = self._controls[:-TRIES]
        share = (earlier.count(True) + 0.5) / (len(earlier) + 1)
        needed = math.ceil(math.log(CHANCE) / math.log(1 - share))
        return [*PAUSES, *[1] * (needed - TRIES - len(PAUSES))]

    def _answers_later(self, pauses: Sequence[int]) -> bool:
        """Whether the server answers again after a rest, like one that limits the rate of requests."""
        for pause in pauses:
            time.sleep(pause * max(1.0, self.pace.interval) if self.pace.interval else 0)
            try:
                self.control(1, longer=True)
            except PathTrouble:
                continue
            except Skipped:
                pass  # it gives no time, but it is there
            return True
        return False

    def _round(self, makes: dict[int, Make], show_silence: bool) -> dict[int, NtpAnswer]:
        """Send each stimulus once."""
        requests = {i: make(self.forge) for i, make in makes.items()}
        with self._sent(requests.values(), self._after) as shots:
            time.sleep(self._grace)
            for shot in shots:
                shot.collect()
            answers = {i: shot.answer() for i, shot in zip(requests, shots, strict=True)}
            # The transcript has an end, so the interesting ones come first.
            for shot in sorted(shots, key=lambda s: s.answer().kind in (Kind.SILENCE, Kind.NAK)):
                if shot.replies or show_silence:
                    self._show(shot)
        return answers

    @contextlib.contextmanager
    def _sent(
        self, requests: Iterable[Request], after_block: Callable[[Sequence[_Shot]], None] | None = None
    ) -> Iterator[Sequence[_Shot]]:  # fmt: skip
        """Send the requests at the pace. Their sockets live as long as the `with` block."""
        shots: list[_Shot] = []
        try:
            for request in requests:
                assert self._endpoint is not None  # where the request's ticket is good
                self.pace.wait(self._endpoint)
                shots.append(_Shot(request, self._endpoint))
                self.pace.sent(self._endpoint)
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
        answer = shot.answer()
        self._note(Direction.SENT, shot.request.label, Protocol.NTP, shot.request.packet)
        for reply in shot.replies:
            what = str(answer) if reply is answer.octets else "another packet"
            self._note(Direction.RECEIVED, what, Protocol.NTP, reply)
        if not shot.replies:
            self._note(Direction.NOTE, f"no reply: {shot.error}" if shot.error else "no reply")

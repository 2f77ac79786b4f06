# SPDX-License-Identifier: MIT
"""The probe's side of NTS-KE: sends whatever a check likes over TLS, and tells how the server took it.

It speaks to OpenSSL by itself, because `nts.system.tls` rightly refuses what a checker must offer (TLS 1.2, other ALPN
protocols) and hides what it must see (how a connection ends). Every wait is bounded, and so is what it holds; what a
server does comes back as a `KeAnswer`, never as an exception. Certificates are not verified here.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

from OpenSSL import SSL

from nts.base.errors import ALPNError, ConnectError, FormatError, KeResponseError, TLSError
from nts.base.registry import ALERT_NAMES, ALPN, COOKIES_WANTED, Alert, RecordType
from nts.base.text import is_ip_address
from nts.check import judge_ke
from nts.check.ke_answer import MAX_ANSWER, End, KeAnswer
from nts.check.ke_forge import REQUEST, request
from nts.check.model import Direction, Protocol
from nts.client import ke_session
from nts.codec import records
from nts.codec.aead import Aead, SessionKeys
from nts.codec.records import MessageReader
from nts.system import addresses, tls

if TYPE_CHECKING:
    from nts.check.probe import ServerProbe

ATTEMPTS = 3  # for a connection that breaks before TLS is set up
GRACE = 1.0  # seconds for what may follow a complete answer: more octets, or the end of the connection
TLS_1_2: int = SSL.TLS1_2_VERSION
H2 = b"h2"


@dataclass(frozen=True)
class Fetched:
    """What NTP checks need of a key exchange."""

    keys: SessionKeys
    server: str
    """the time server's name or address, the NTS-KE server's address if it named none (section 4.1.7)"""
    port: int
    cookies: tuple[bytes, ...] = field(repr=False)

    def endpoint(self, family: socket.AddressFamily) -> addresses.Endpoint:
        """Where to send NTP packets. ResolveError when the name has no address."""
        return addresses.resolve(addresses.absolute(self.server), self.port, socket.SOCK_DGRAM, family)[0]


@dataclass(frozen=True)
class Stimulus:
    """What to do with a connection."""

    chunks: tuple[bytes | float, ...]
    """octets to send, each in TLS records of their own, and pauses in seconds"""
    alpn: tuple[bytes, ...] = (ALPN,)
    newest: int | None = None
    """the newest TLS version to offer, and then older ones too; None: TLS 1.3 alone"""
    each: int = 0
    """octets in a TLS record; 0: as many as there are"""
    wait: float | None = None
    """seconds for the answer; None: as the target says"""
    close: bool = False
    """send close_notify after the chunks"""
    again: bytes = b""
    """to send once the answer is complete"""
    patient: bool = False
    """wait for the server to close for all of `wait`, before we close; else for a moment only"""
    what: str = "a request"

    @property
    def usual(self) -> bool:
        """Whether its TLS handshake is one that every server has to take."""
        return self.alpn == (ALPN,) and self.newest is None

    @property
    def offer(self) -> str:
        protocols = ", ".join(p.decode("ascii", "replace") for p in self.alpn) or "none"
        return f"TLS {'1.3' if self.newest is None else '1.2 and older'}, ALPN {protocols}"

    @property
    def octets(self) -> bytes:
        return b"".join(c for c in self.chunks if isinstance(c, bytes)) + self.again

    def context(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if self.newest is None:
            context.set_min_proto_version(SSL.TLS1_3_VERSION)
        else:
            context.set_max_proto_version(self.newest)
            context.set_cipher_list(b"ALL:@SECLEVEL=0")  # a server's refusal must not be owed to our modesty
        if self.alpn:
            context.set_alpn_protos(list(self.alpn))
        return context


class _Session:
    """One connection. Methods return when they are done or the server has ended it; `end` says which."""

    def __init__(self, sock: socket.socket, name: str, stimulus: Stimulus, timeout: float) -> None:
        self._sock, self._stimulus, self._timeout = sock, stimulus, timeout
        self._alert: int | None = None
        context = stimulus.context()
        context.set_info_callback(self._on_info)
        self.tls = SSL.Connection(context, sock)
        if not is_ip_address(name):
            self.tls.set_tlsext_host_name(name.encode("ascii"))
        self.tls.set_connect_state()
        self._reader = MessageReader(MAX_ANSWER)
        self.octets = bytearray()
        self.complete = False
        """whether a whole message has come"""
        self.end: End | None = None
        self.detail = ""
        self.handshake = False
        self.prompted = False
        self._started = time.monotonic()
        self._settled: float | None = None

    def _on_info(self, _connection: SSL.Connection, where: int, value: int) -> None:
        if where & SSL.SSL_CB_READ_ALERT == SSL.SSL_CB_READ_ALERT:
            self._alert = (value & 0xFF) or self._alert

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """What ends a connection, noted."""
        try:
            yield
        except SSL.ZeroReturnError:
            self._over(End.CLOSE_NOTIFY)
        except (SSL.SysCallError, OSError) as e:
            eof = isinstance(e, SSL.SysCallError) and e.args[0] == -1
            self._over(End.EOF if eof else End.RESET)
        except (SSL.Error, ValueError) as e:
            number = self._alert
            self._over(End.BROKEN if number is None else End.ALERT)
            self.detail = tls.reason(e) if number is None else ALERT_NAMES.get(number, f"number {number}")

    def _over(self, end: End) -> None:
        self.end = end
        self._settle()

    def _settle(self) -> None:
        self._settled = time.monotonic() if self._settled is None else self._settled

    def run(self, deadline: float) -> None:
        """All of it: the handshake before the deadline, the chunks, the answer, the end."""
        with self._ending(), contextlib.suppress(TimeoutError):
            tls.run_to_completion(self._sock, deadline, self.tls.do_handshake)
            self.handshake = True
            self._started = time.monotonic()
        if not self.handshake:
            return
        stimulus = self._stimulus
        for chunk in stimulus.chunks:
            self._say(chunk)
        if stimulus.close:
            self._close()
        until = time.monotonic() + (self._timeout if stimulus.wait is None else stimulus.wait)
        self._listen(until - time.monotonic(), once=True)
        if self.complete and stimulus.again:
            self._say(stimulus.again)
        if self.complete:
            self._listen(max(GRACE, until - time.monotonic()) if stimulus.patient else GRACE)
        if self.end is None and not stimulus.close:
            self._close()
            self._listen(GRACE if self.complete else 0)
            self.prompted = True

    def _say(self, chunk: bytes | float) -> None:
        if not isinstance(chunk, bytes):
            self._listen(chunk)
            return
        each = self._stimulus.each or len(chunk)
        for i in range(0, len(chunk), each):
            self._send(chunk[i : i + each])

    def _send(self, data: bytes) -> None:
        """In one TLS record. What goes wrong shows when listening: an answer may have come before the end."""
        deadline = time.monotonic() + self._timeout
        with contextlib.suppress(SSL.Error, OSError):
            while data and self.end is None:
                data = data[tls.run_to_completion(self._sock, deadline, partial(self.tls.send, data)) :]

    def _close(self) -> None:
        """Send close_notify; one can still listen."""
        with contextlib.suppress(SSL.Error):
            self.tls.shutdown()

    def _listen(self, seconds: float, *, once: bool = False) -> None:
        """Take what comes in that time, with `once` only until a whole message is there."""
        until = time.monotonic() + seconds
        with self._ending(), contextlib.suppress(TimeoutError):
            while self.end is None and not (once and self.complete) and time.monotonic() < until:
                self._take(tls.run_to_completion(self._sock, until, partial(self.tls.recv, tls.READ_SIZE)))

    def _take(self, data: bytes) -> None:
        self.octets += data
        with contextlib.suppress(FormatError):
            self.complete = self._reader.feed(data) is not None
        if self.complete:
            self._settle()
        if len(self.octets) > MAX_ANSWER:
            self._over(End.FLOOD)

    def answer(self, address: str) -> KeAnswer:
        """What has come of it."""
        self._settle()
        assert self._settled is not None
        return KeAnswer(
            bytes(self.octets),
            self.end or End.OPEN,
            self.detail,
            self._alert if self.end is End.ALERT else None,
            self.handshake,
            self.tls.get_alpn_proto_negotiated(),
            self.tls.get_protocol_version_name() if self.handshake else "",
            address,
            self._settled - self._started,
            self.prompted,
            tls.exporter(self.tls) if self.handshake else None,
        )


class KeProbe:
    """Key exchanges with the server of a probe, in its pace, all with the address that answered first."""

    def __init__(self, probe: ServerProbe) -> None:
        self._probe = probe
        self._endpoint: addresses.Endpoint | None = None
        self._address = ""

    @cached_property
    def name(self) -> str:
        """The server's name, or address, as certificates have it. ConfigError when it is neither."""
        return tls.identity(self._probe.target.verify_name or self._probe.target.host)

    def reach(self) -> KeAnswer:
        """First contact. Raises ResolveError, ConnectError, TLSError or ALPNError when there is no NTS-KE server."""
        answer = self._attempt(Stimulus((REQUEST,)))
        if answer.alert == Alert.NO_APPLICATION_PROTOCOL:
            raise ALPNError("the server refused the protocol ntske/1 (TLS alert 120)")
        if not answer.handshake:
            raise _no_tls(answer)
        if answer.alpn != ALPN:
            raise ALPNError("the server did not select the protocol ntske/1")
        return answer

    def ask(
        self, *chunks: bytes | float, alpn: tuple[bytes, ...] = (ALPN,), newest: int | None = None, each: int = 0,
        wait: float | None = None, close: bool = False, again: bytes = b"", patient: bool = False,
        what: str = "a request",
    ) -> KeAnswer:  # fmt: skip
        """Connect, send the chunks, and see what comes of it; the arguments are those of `Stimulus`.

        A connection that breaks before TLS is set up is tried anew; when that does not help, ConnectError or
        TLSError. But a handshake that offers something unusual may fail.
        """
        stimulus = Stimulus(chunks, alpn, newest, each, wait, close, again, patient, what)
        for left in reversed(range(ATTEMPTS)):
            try:
                answer = self._attempt(stimulus)
            except ConnectError:
                if not left:
                    raise
                continue
            if answer.handshake or answer.alert is not None or not stimulus.usual:
                break
        if stimulus.usual and not answer.handshake:
            raise _no_tls(answer)
        return answer

    def fetch(self, aeads: Iterable[int] = (Aead.AES_SIV_CMAC_256,)) -> Fetched:
        """A key exchange for NTP checks, which takes a response as it is as long as it can be used.

        Raises KeResponseError when it cannot, and what `ask` raises.
        """
        offered = tuple(aeads)
        answer = self.ask(request(offer=offered), what=f"a request for cookies, AEAD {judge_ke.listed(offered)}")
        if not answer.cookies:
            raise KeResponseError(f"the key exchange gave no cookies: the server {answer.ending}")
        chosen = [a for r in answer.of(RecordType.AEAD_ALGORITHM) for a in records.u16_list(r)]
        if not chosen or chosen[0] not in set(Aead):
            raise KeResponseError(f"the key exchange chose AEAD {judge_ke.listed(chosen)}")
        return Fetched(answer.keys(Aead(chosen[0])), *answer.time_server, tuple(answer.cookies[:COOKIES_WANTED]))

    def _attempt(self, stimulus: Stimulus) -> KeAnswer:
        probe, note = self._probe, self._probe.record.add
        probe.ke_pace.wait()
        deadline = time.monotonic() + probe.target.timeout
        with self.connect(deadline) as sock:
            session = _Session(sock, self.name, stimulus, probe.target.timeout)
            session.run(deadline)
            answer = session.answer(self._address)
        if answer.handshake:
            protocol = Protocol.NTS_KE if stimulus.octets else Protocol.NONE
            note(Direction.SENT, f"{stimulus.what} ({stimulus.offer})", protocol, stimulus.octets)
            alpn = answer.alpn.decode("ascii", "replace") or "none"
            note(Direction.NOTE, f"agreed with {answer.address}: {answer.tls_version}, ALPN {alpn}")
        else:
            note(Direction.SENT, f"a TLS handshake ({stimulus.offer})")
        if answer.octets:
            text = f"{len(answer.octets)} octets in {answer.seconds:.2f} s"
            note(Direction.RECEIVED, text, Protocol.NTS_KE, answer.octets)
        note(Direction.NOTE, f"the server {answer.ending}")
        return answer

    def connect(self, deadline: float) -> socket.socket:
        """A non-blocking TCP connection before the deadline, on the monotonic clock. ResolveError or ConnectError."""
        target = self._probe.target
        known = [self._endpoint] if self._endpoint else None
        found = known or addresses.resolve(target.host, target.port, socket.SOCK_STREAM, target.family)
        sock = ke_session.connect(target.host, found, deadline)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # one TLS record, one segment
            self._endpoint = addresses.Endpoint(sock.family, sock.getpeername())
            self._address = addresses.numeric_host(sock.getpeername())
        except OSError as e:
            sock.close()
            raise ConnectError(f"{target.host} port {target.port} broke the connection: {e.strerror}") from None
        return sock


def _no_tls(answer: KeAnswer) -> TLSError:
    return TLSError(f"no TLS 1.3 handshake: the server {answer.ending}")

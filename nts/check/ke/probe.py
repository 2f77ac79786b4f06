# SPDX-License-Identifier: MIT
"""Sends an NTS-KE stimulus over TLS and reports how the server reacts.

This module uses OpenSSL directly, because `nts.system.tls` refuses what a checker must offer (TLS 1.2, other ALPN
protocols) and hides what it must see (how a connection ends). Every wait is bounded, and so is what is kept. What a
server does becomes a `KeAnswer`, never an exception. Only `KeProbe.verify` looks at the certificate.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from cryptography import x509
from OpenSSL import SSL

from nts.base.errors import ALPNError, CertificateError, ConnectError, FormatError, KeResponseError, TLSError, TLSLost
from nts.base.registry import ALERT_NAMES, ALERT_NO_APPLICATION_PROTOCOL, ALPN, COOKIES_WANTED, RecordType
from nts.base.text import is_ip_address
from nts.check.context import Context, Pace
from nts.check.findings import listed
from nts.check.ke.answer import MAX_ANSWER, End, KeAnswer
from nts.check.ke.forge import USUAL, Stimulus, request
from nts.check.model import Direction, Protocol, Skipped
from nts.client import ke_session
from nts.codec import records
from nts.codec.aead import Aead, SessionKeys, export_keys
from nts.codec.ntp import NS
from nts.codec.records import MessageReader
from nts.system import addresses, tls

LIMITED = (
    "the server closes connections before TLS, as one does that limits their rate (chrony's ntsratelimit: one in 64 s);"
    " try --pace auto, or --ke-pace 64"
)
RATE_HINT = "a server that limits the rate of connections does this: wait some minutes, and go slower"
CONTROLS = 3  # usual handshakes after an unusual one that broke without an alert
ATTEMPTS = 3  # for a connection that breaks before the TLS handshake is done
LONGER = 2  # times the usual wait for a response, before silence counts
HALT = 0.3  # seconds
_ALERT = re.compile(r"(?:(?:ssl/tls|sslv3|tls|tlsv1|tlsv13) alert|tlsv1) (.+)")  # OpenSSL's words for one
_ALERT_NUMBERS = {name: number for number, name in ALERT_NAMES.items()}
GRACE = 1.0  # seconds for what may follow a complete answer: more octets, or the end of the connection


@dataclass(frozen=True)
class Fetched:
    """What a time request needs of a key exchange."""

    keys: SessionKeys
    server: str
    """the time server's name or address; the NTS-KE server's address if it named none (section 4.1.7)"""
    port: int
    cookies: tuple[bytes, ...] = field(repr=False)

    def endpoint(self, family: socket.AddressFamily) -> addresses.Endpoint:
        """Where to send NTP packets. ResolveError when the name has no address."""
        return addresses.resolve(addresses.absolute(self.server), self.port, socket.SOCK_DGRAM, family)[0]


def fetched(answer: KeAnswer, aead: Aead, context: int | None = None) -> Fetched:
    """What an answer with cookies brings. `context` is the number in the exporter context; None: that of `aead`."""
    assert answer.exporter is not None  # or there would be no cookies
    keys = export_keys(answer.exporter, aead, context)
    return Fetched(keys, *answer.time_server, tuple(answer.cookies[:COOKIES_WANTED]))


def _tls_context(stimulus: Stimulus) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if stimulus.newest is None:
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
    else:
        context.set_max_proto_version(stimulus.newest)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")  # if the server refuses, it must not be because we offer too little
    if stimulus.alpn:
        context.set_alpn_protos(list(stimulus.alpn))
    return context


def _alert_name(error: Exception) -> str | None:
    """The name of the alert that OpenSSL reports as this error; empty if it has none, None if it is no alert.

    OpenSSL's info callback would know the number, but Python loses an interrupt that comes within it.
    """
    for library, _function, text in error.args[0] if isinstance(error, SSL.Error) and error.args else ():
        found = _ALERT.fullmatch(text)
        if found or (library and not text):
            return found[1].replace(" ", "_") if found else ""
    return None


class _Connection:
    """One connection. Each method returns when it is done or the server has ended the connection; `end` tells which."""

    def __init__(self, sock: socket.socket, name: str, stimulus: Stimulus, timeout: float) -> None:
        self._sock, self._stimulus, self._timeout = sock, stimulus, timeout
        self._alert: int | None = None
        self.tls = SSL.Connection(_tls_context(stimulus), sock)
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

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Turn the exception that ends a connection into `end` and `detail`."""
        try:
            yield
        except SSL.ZeroReturnError:
            self._over(End.CLOSE_NOTIFY)
        except (SSL.SysCallError, OSError) as e:
            eof = isinstance(e, SSL.SysCallError) and e.args[0] == -1
            self._over(End.EOF if eof else End.RESET)
        except (SSL.Error, ValueError) as e:
            name = _alert_name(e)
            self._over(End.BROKEN if name is None else End.ALERT)
            self.detail = tls.reason(e) if name is None else name or "one that OpenSSL does not know"
            self._alert = _ALERT_NUMBERS.get(self.detail)

    def _over(self, end: End) -> None:
        self.end = end
        self._settle()

    def _settle(self) -> None:
        self._settled = time.monotonic() if self._settled is None else self._settled

    def run(self, deadline: float) -> None:
        """Do all of it: the handshake before the deadline, the octets, the answer, the end."""
        with self._ending(), contextlib.suppress(TimeoutError):
            tls.run_to_completion(self._sock, deadline, self.tls.do_handshake)
            self.handshake = True
            self._started = time.monotonic()
        if not self.handshake:
            return
        stimulus = self._stimulus
        if stimulus.halt:
            self._send(stimulus.octets[: stimulus.halt])
            self._listen(HALT)
        self._send(stimulus.octets[stimulus.halt :])
        if stimulus.close:
            self._close()
        until = time.monotonic() + (self._timeout if stimulus.wait is None else stimulus.wait)
        self._listen(until - time.monotonic(), once=True)
        if self.complete:
            self._send(stimulus.again)
            self._listen(max(GRACE, until - time.monotonic()) if stimulus.patient else GRACE)
        if self.end is None and not stimulus.close:
            self._close()
            self._listen(GRACE if self.complete else 0)
            self.prompted = True

    def _send(self, octets: bytes) -> None:
        """Send in TLS records of the wanted size. Errors show when listening: an answer may have come before them."""
        size = self._stimulus.record_size or len(octets) or 1
        with contextlib.suppress(SSL.Error, OSError):
            for i in range(0, len(octets), size):
                data, deadline = octets[i : i + size], time.monotonic() + self._timeout
                while data and self.end is None:
                    data = data[tls.run_to_completion(self._sock, deadline, partial(self.tls.send, data)) :]

    def _close(self) -> None:
        """Send close_notify. We can still listen."""
        with contextlib.suppress(SSL.Error):
            self.tls.shutdown()

    def _listen(self, seconds: float, *, once: bool = False) -> None:
        """Take what comes in that time; with `once`, stop at the end of a message."""
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
        """What the connection brought."""
        self._settle()
        assert self._settled is not None
        return KeAnswer(
            bytes(self.octets),
            self.end or End.OPEN,
            self.detail,
            self._alert,
            self.handshake,
            self.tls.get_alpn_proto_negotiated(),
            address=address,
            sent=self._stimulus.all_octets,
            seconds=self._settled - self._started,
            prompted=self.prompted,
            **(self._session() if self.handshake else {"tls_version": ""}),
        )

    def _session(self) -> dict[str, Any]:
        """What the handshake agreed on and showed."""
        return {
            "tls_version": self.tls.get_protocol_version_name(),
            "group": self.tls.get_group_name() or "",
            "cipher": self.tls.get_cipher_name() or "",
            "certificate": tls.peer_certificate(self.tls),
            "exporter": tls.exporter(self.tls),
        }


class KeProbe:
    """Runs key exchanges with the target. All go to the address that answered first."""

    def __init__(self, context: Context, pace: Pace) -> None:
        self._target, self._note = context.target, context.transcript.add
        self.pace = pace
        self._endpoint: addresses.Endpoint | None = None
        self._address = ""
        self._spoke_tls = False
        self.limited = False
        """whether the server has been seen to limit the rate of connections"""

    @cached_property
    def name(self) -> str:
        """The server's name or address as certificates have it. ConfigError when it is neither."""
        return tls.identity(self._target.verify_name or self._target.host)

    def reach(self) -> KeAnswer:
        """First contact. ResolveError, ConnectError, TLSError or ALPNError when there is no NTS-KE server."""
        answer = self._attempt(USUAL)
        if answer.alert == ALERT_NO_APPLICATION_PROTOCOL:
            raise ALPNError("the server refused the protocol ntske/1 (TLS alert 120)")
        if not answer.handshake:
            raise _no_tls(answer)
        if answer.alpn != ALPN:
            raise ALPNError("the server did not select the protocol ntske/1")
        return answer

    def ask(self, stimulus: Stimulus = USUAL) -> KeAnswer:
        """Connect, send the stimulus, and report the reaction.

        A connection that breaks before the TLS handshake is done is tried again; ConnectError or TLSError if that does
        not help. If the handshake offers something unusual, its failure is an answer. A server that says nothing is
        asked again and has more time.
        """
        left = ATTEMPTS
        while True:
            left -= 1
            try:
                answer = self._attempt(stimulus)
            except ConnectError:
                if not left:
                    raise
                continue
            if answer.handshake or answer.end is End.ALERT:
                break
            if not stimulus.usual and self._serves():
                break
            if not left and self._is_dropped(answer) and self.pace.slow_down():
                left = 1
            if not left:
                break
        if answer.handshake and answer.end is End.OPEN and not answer.octets and stimulus.wait is None:
            answer = self._attempt(replace(stimulus, wait=LONGER * self._target.timeout))
        if not answer.handshake and self._is_dropped(answer) and (stimulus.usual or self.limited):
            self.limited = True
            raise Skipped(f"could not be judged: {LIMITED}")
        if stimulus.usual and not answer.handshake:
            raise _no_tls(answer)
        return answer

    def _is_dropped(self, answer: KeAnswer) -> bool:
        """Whether the server, which has spoken TLS before, ended the connection before TLS: it limits the rate."""
        return self._spoke_tls and answer.end in (End.EOF, End.RESET)

    def _serves(self) -> bool:
        """Whether usual handshakes succeed right now. Otherwise the failure of another one proves nothing."""
        self.limited = not all(self._attempt(USUAL).handshake for _ in range(CONTROLS)) and self._spoke_tls
        return not self.limited

    def fetch(self, aeads: Iterable[int] = (Aead.AES_SIV_CMAC_256,)) -> Fetched:
        """Run a key exchange for a time request, and accept any response that can be used.

        KeResponseError when it cannot, and whatever `ask` raises.
        """
        offered = tuple(aeads)
        answer = self.ask(Stimulus(f"a request for cookies, AEAD {listed(offered)}", request(offer=offered)))
        if not answer.cookies:
            raise KeResponseError(f"the key exchange gave no cookies: the server {answer.ending}")
        chosen = [a for r in answer.of(RecordType.AEAD_ALGORITHM) for a in records.u16_list(r)]
        if not chosen or chosen[0] not in set(Aead):
            raise KeResponseError(f"the key exchange chose AEAD {listed(chosen)}")
        return fetched(answer, Aead(chosen[0]))

    def verify(self) -> x509.Certificate:
        """Verify the server's certificate as a client does, and return it. CertificateError when it is not valid.

        A connection that is closed before TLS is tried again, since servers do so that limit the rate.
        """
        left = ATTEMPTS
        while True:
            left -= 1
            try:
                return self._verified()
            except TLSLost:
                if not self._spoke_tls:
                    raise
                if not left and not self.pace.slow_down():
                    self.limited = True
                    raise Skipped(f"could not be judged: {LIMITED}") from None
                left = max(left, 1)

    def _verified(self) -> x509.Certificate:
        channel = tls.ClientChannel(name=self.name, verify=True, ca=self._target.ca, keylog=None)
        with self._connect() as (sock, deadline):
            self._note(Direction.SENT, "a TLS handshake that verifies the certificate")
            channel.open(sock, deadline)
            channel.handshake()
            certificate = channel.connection.get_peer_certificate(as_cryptography=True)
            channel.finish(0)
        assert certificate is not None  # or the handshake would have failed
        return certificate

    def dates(self) -> tuple[int, int] | None:
        """From when to when the server's certificate is valid, in Unix nanoseconds; None if it is not valid at all."""
        try:
            certificate = self.verify()
        except CertificateError:
            return None
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return int(start.timestamp()) * NS, int(end.timestamp()) * NS

    def _attempt(self, stimulus: Stimulus) -> KeAnswer:
        with self._connect() as (sock, deadline):
            connection = _Connection(sock, self.name, stimulus, self._target.timeout)
            connection.run(deadline)
            answer = connection.answer(self._address)
        self._spoke_tls |= answer.handshake
        if answer.handshake:
            protocol = Protocol.NTS_KE if answer.sent else Protocol.NONE
            self._note(Direction.SENT, f"{stimulus.what} ({stimulus.offer})", protocol, answer.sent)
            alpn = answer.alpn.decode("ascii", "replace") or "none"
            self._note(Direction.NOTE, f"agreed with {answer.address}: {answer.tls_version}, ALPN {alpn}")
        else:
            self._note(Direction.SENT, f"a TLS handshake ({stimulus.offer})")
        if answer.octets:
            text = f"{len(answer.octets)} octets in {answer.seconds:.2f} s"
            self._note(Direction.RECEIVED, text, Protocol.NTS_KE, answer.octets)
        self._note(Direction.NOTE, f"the server {answer.ending}")
        return answer

    @contextlib.contextmanager
    def _connect(self) -> Iterator[tuple[socket.socket, float]]:
        """Connect at the pace: a non-blocking socket, and the handshake's deadline. ResolveError, ConnectError."""
        target = self._target
        known = [self._endpoint] if self._endpoint else None
        endpoints = known or addresses.resolve(target.host, target.port, socket.SOCK_STREAM, target.family)
        self.pace.wait(*endpoints)
        deadline = time.monotonic() + target.timeout
        with ke_session.connect(target.host, endpoints, deadline) as sock:
            self.pace.sent(*endpoints)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # one TLS record, one segment
                self._endpoint = addresses.Endpoint(sock.family, sock.getpeername())
                self._address = addresses.numeric_host(sock.getpeername())
            except OSError as e:
                why = f"{target.host} port {target.port} broke the connection: {e.strerror}"
                raise ConnectError(why) from None
            yield sock, deadline


def _no_tls(answer: KeAnswer) -> TLSError:
    hint = RATE_HINT if answer.end in (End.EOF, End.RESET) else None
    return TLSError(f"no TLS 1.3 handshake: the server {answer.ending}", hint=hint)

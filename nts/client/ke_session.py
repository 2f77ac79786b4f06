# SPDX-License-Identifier: MIT
"""One key exchange over the network: name look-up, TCP, TLS, request, response. Each stage has its own exception."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nts.base.errors import NO_HINT, ConfigError, ConnectError, FormatError, KeResponseError, TLSError
from nts.base.registry import COOKIES_WANTED
from nts.client.state import Association
from nts.codec.aead import Aead, SessionKeys, check_usable, export_keys, possible_contexts
from nts.codec.records import Message, MessageReader
from nts.protocol import ke_client
from nts.protocol.ke_client import Agreement
from nts.system import addresses, tls

Shower = Callable[[Message], None]
"""shows a response, before it is judged"""
CLOSE_GRACE = 0.5  # seconds to wait for the server's close_notify after its response


@dataclass(frozen=True)
class Options:
    """The server to contact, what to offer, and how to verify it."""

    host: str
    port: int
    aeads: tuple[Aead, ...]
    ca: Path | None = None
    """file of CA certificates; None: the system's store"""
    verify: bool = True
    verify_name: str | None = None
    """the name that the certificate must be for; None: `host`"""
    family: socket.AddressFamily = socket.AF_UNSPEC
    timeout: float = 5.0
    """seconds for everything after the name look-up"""
    keylog: Path | None = None
    cert_time_tolerance: float = 0.0
    """seconds by which our clock may be wrong when the certificate's dates are checked"""


@dataclass(frozen=True)
class Result:
    """The result of a successful key exchange."""

    agreement: Agreement
    keys: tuple[SessionKeys, ...]
    """a pair for each exporter context that the server may use (`aead.possible_contexts`), usually only one"""
    address: str
    """the server's IP address"""
    tls_version: str
    tls_cipher: str
    tls_group: str
    """of the TLS key exchange, by OpenSSL's name"""
    response: Message = field(repr=False)
    response_length: int = 0
    certificate_not_after: int | None = None
    """when the server's certificate expires, in seconds since 1970; None if it is malformed"""
    finished: int = field(default_factory=lambda: int(time.time()))
    """when the key exchange was, likewise"""
    clock_error: float = 0.0
    """how far our clock must be behind, in seconds, for the certificate to be valid; below 0: ahead"""

    def association(self, options: Options) -> Association:
        """What to store. The time server defaults to the NTS-KE server's address (section 4.1.7)."""
        return Association(
            ke_host=options.host,
            ke_port=options.port,
            ca=str(options.ca or ""),
            verify=options.verify,
            server=self.agreement.server or self.address,
            port=self.agreement.port,
            keys=self.keys[0],
            other_keys=self.keys[1] if len(self.keys) > 1 else None,
            verify_name=options.verify_name or "",
            aeads=options.aeads,
            cookies=self.agreement.cookies[:COOKIES_WANTED],
            exchanged=self.finished,
            certificate_not_after=self.certificate_not_after,
        )


def exchange(options: Options, on_message: Shower = lambda _message: None) -> Result:
    """Run a key exchange. `on_message` is called with the response before it is judged.

    Raises the exception of the stage that failed: LibraryError, ConfigError, ResolveError, ConnectError, TLSError,
    CertificateError, ALPNError, KeResponseError or KeErrorRecord.
    """
    check_usable(options.aeads)
    keylog = KeyLog(options.keylog) if options.keylog else None
    channel = tls.ClientChannel(
        name=options.verify_name or options.host, verify=options.verify, ca=options.ca,
        keylog=keylog.write if keylog else None, time_tolerance=options.cert_time_tolerance,
    )  # fmt: skip
    endpoints = addresses.resolve(options.host, options.port, socket.SOCK_STREAM, options.family)
    deadline = time.monotonic() + options.timeout
    with connect(options.host, endpoints, deadline) as sock:
        address = addresses.numeric_host(sock.getpeername())
        channel.open(sock, deadline)
        channel.handshake()
        if keylog and keylog.problem:
            raise ConfigError(keylog.problem, hint=NO_HINT)
        message, length = ask(channel, options.aeads)
        on_message(message)
        agreement = ke_client.judge_response(message, options.aeads)
        return result(channel, address, agreement, message, length)


def ask(channel: tls.ClientChannel, aeads: tuple[Aead, ...]) -> tuple[Message, int]:
    """Send a request over a channel whose handshake is done: the response, and its length in octets.

    TLSError, KeResponseError.
    """
    try:
        channel.send(ke_client.build_request(aeads))
        message, length = _receive(channel)
    except tls.Error as e:
        raise TLSError(f"the TLS connection broke: {tls.reason(e)}") from None
    except TimeoutError:
        raise KeResponseError("no complete NTS-KE response in time", hint="try a longer --timeout") from None
    except FormatError as e:
        raise KeResponseError(f"illegal NTS-KE response: {e}") from None
    surplus = channel.finish(CLOSE_GRACE)
    return Message(message.records, message.trailing + surplus), length


def result(
    channel: tls.ClientChannel, address: str, agreement: Agreement, message: Message, length: int
) -> Result:  # fmt: skip
    """What has been agreed on, with the keys that the TLS session gives."""
    export, connection = tls.exporter(channel.connection), channel.connection
    contexts = possible_contexts(agreement.aead, confirmed=agreement.compliant_context)
    return Result(
        agreement,
        keys=tuple(export_keys(export, agreement.aead, c) for c in contexts),
        address=address,
        tls_version=connection.get_protocol_version_name(),
        tls_cipher=connection.get_cipher_name() or "?",
        tls_group=connection.get_group_name() or "?",
        response=message,
        response_length=length,
        certificate_not_after=tls.peer_expiry(connection),
        clock_error=channel.clock_error,
    )


def connect(host: str, endpoints: list[addresses.Endpoint], deadline: float) -> socket.socket:
    """Connect to the first address that accepts. ConnectError when none does before the deadline."""
    problems = []
    for i, endpoint in enumerate(endpoints):
        left = (deadline - time.monotonic()) / (len(endpoints) - i)  # a dead address must not use up all the time
        sock = None
        try:
            sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
            sock.settimeout(max(left, 0.001))
            sock.connect(endpoint.address)
            return sock
        except OSError as e:
            if sock is not None:
                sock.close()
            why = "timed out" if isinstance(e, TimeoutError) else e.strerror or str(e)
            problems.append(f"{addresses.format_address(endpoint.address)}: {why}")
    port = endpoints[0].address[1]
    raise ConnectError(f"cannot connect to {host} port {port} ({'; '.join(problems)})")


def _receive(channel: tls.ClientChannel) -> tuple[Message, int]:
    reader = MessageReader(ke_client.MAX_RESPONSE)
    while True:
        data = channel.receive()
        if not data:
            when = "in the middle of its response" if reader.octets else "without a response"
            raise KeResponseError(f"the server closed the connection {when}")
        message = reader.feed(data)
        if message is not None:
            return message, reader.octets


class KeyLog:
    """Appends NSS key log lines to a file. Makes the file readable only by its owner."""

    def __init__(self, path: Path) -> None:
        """ConfigError when the file cannot be written."""
        self._path, self.problem = path, ""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.fchmod(descriptor, 0o600)
            os.close(descriptor)
        except OSError as e:
            raise ConfigError(self._complaint(e), hint=NO_HINT) from None

    def write(self, line: bytes) -> None:
        """Append a line. Sets `problem` when that fails: OpenSSL, which calls this, cannot pass on an exception."""
        try:
            with self._path.open("ab") as f:
                f.write(line + b"\n")
        except OSError as e:
            self.problem = self._complaint(e)

    def _complaint(self, e: OSError) -> str:
        return f"cannot write the key log {self._path}: {e.strerror}"

# SPDX-License-Identifier: MIT
"""A TLS handshake that looks at everything and judges nothing: for explanations.

A `Probe` goes on when a certificate is not acceptable, to see all there is to see. So whoever uses one must look at
`Look.errors` and the name before sending anything.

`python -m nts.system.tls_probe ADDRESS PORT NAME SECONDS` does the same in a process of its own, for which another
OPENSSL_CONF can hold, and prints the size of the ClientHello and the kind of answer.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL, crypto

from nts import ROOT
from nts.base.errors import ConfigError
from nts.base.text import harmless
from nts.system import certs, files, tls

_SHOWN = 64  # octets of an answer
_LEAST = 0.001  # seconds; 0 would mean not to wait at all
_ALERT, _HANDSHAKE, _VERSION = 21, 22, 3  # RFC 8446 section 5.1: types of a record, and the first octet of its version
_OLD_VERSION_ALERT, _ALPN_ALERT = 70, 120  # RFC 8446 section 6, RFC 7301
_SLACK = 10.0  # seconds for a process to start and end on a busy machine


class Reply(Enum):
    """The answer to a ClientHello."""

    TLS = "an answer in TLS"
    OTHER = "an answer, but not in TLS"
    CLOSED = "the connection was closed"
    RESET = "the connection was reset"
    SILENCE = "no answer"


@dataclass(frozen=True)
class Look:
    """What a handshake showed."""

    hello_octets: int
    reply: Reply
    first: bytes = b""
    """the first octets of the answer"""
    problem: str = ""
    """why the handshake failed; empty: it is done"""
    alert: int = 0
    """the TLS alert in those octets, if that was the answer"""
    chain: tuple[x509.Certificate, ...] = field(default=(), repr=False)
    """what the server sent; empty if that is malformed"""
    verified: tuple[x509.Certificate, ...] = field(default=(), repr=False)
    """how OpenSSL completed it, as far as it could; empty if the certificate was not verified"""
    errors: tuple[int, ...] = ()
    """what is wrong with it, as codes of X509_STORE_CTX_get_error(3)"""

    @property
    def is_old(self) -> bool:
        """Whether the server has no TLS 1.3."""
        return self.alert == _OLD_VERSION_ALERT or "unsupported protocol" in self.problem

    @property
    def refuses_alpn(self) -> bool:
        """Whether the server refused ntske/1."""
        return self.alert == _ALPN_ALERT or "no application protocol" in self.problem


class Probe(tls.ClientChannel):
    """The client's end of a connection under examination."""

    def _on_certificate(self, _connection: object, _found: crypto.X509, error: int, _depth: int, _ok: int) -> bool:
        if error and error not in self._errors:
            self._errors.append(error)
        return True

    def open(self, sock: socket.socket, deadline: float) -> None:
        """Use a connected socket. OpenSSL gets what comes from us, who have a look at it before."""
        self._start(sock, deadline, SSL.Connection(self._context, None))
        self._errors: list[int] = []

    def look(self) -> Look:
        """Do the handshake."""
        with contextlib.suppress(SSL.WantReadError):
            self.connection.do_handshake()
        hello = self.connection.bio_read(tls.READ_SIZE)
        reply, first = self._exchange(hello)
        if reply is not Reply.TLS:
            return Look(len(hello), reply, first[:_SHOWN], reply.value)
        self.connection.bio_write(first)
        look = Look(len(hello), reply, first[:_SHOWN], alert=first[6] if first[0] == _ALERT and len(first) > 6 else 0)
        try:
            self._run(self.connection.do_handshake)
        except SSL.Error as e:
            return replace(look, problem=tls.reason(e), errors=tuple(self._errors))
        except TimeoutError:
            return replace(look, problem="the handshake did not end in time", errors=tuple(self._errors))
        try:
            chain = self.connection.get_peer_cert_chain(as_cryptography=True) or []
            verified = (self.connection.get_verified_chain(as_cryptography=True) or []) if self._verify else []
        except tls.MALFORMED:
            chain = verified = []
        return replace(look, chain=tuple(chain), verified=tuple(verified), errors=tuple(self._errors))

    def _exchange(self, hello: bytes) -> tuple[Reply, bytes]:
        try:
            self._put(hello)
            first = self._get()
        except TimeoutError:
            return Reply.SILENCE, b""
        except OSError:
            return Reply.RESET, b""
        if not first:
            return Reply.CLOSED, b""
        is_tls = first[0] in (_ALERT, _HANDSHAKE) and first[1:2] in (b"", bytes([_VERSION]))
        return (Reply.TLS if is_tls else Reply.OTHER), first

    def _run(self, step: Callable[[], tls.T]) -> tls.T:
        while True:
            try:
                result = step()
                self._flush()
                return result
            except SSL.WantReadError:
                self._flush()
            try:
                data = self._get()
            except ConnectionError as e:
                raise SSL.SysCallError(e.errno, e.strerror) from None
            if not data:
                raise SSL.SysCallError(-1, "Unexpected EOF")
            self.connection.bio_write(data)

    def _flush(self) -> None:
        with contextlib.suppress(SSL.WantReadError, ConnectionError):  # there is no more, or nobody to take it
            while True:
                self._put(self.connection.bio_read(tls.READ_SIZE))

    def _put(self, data: bytes) -> None:
        self._sock.settimeout(max(self._deadline - time.monotonic(), _LEAST))
        self._sock.sendall(data)

    def _get(self) -> bytes:
        self._sock.settimeout(max(self._deadline - time.monotonic(), _LEAST))
        return self._sock.recv(tls.READ_SIZE)


def issuer(certificate: x509.Certificate) -> str:
    """Who has signed it, fit for a terminal."""
    try:
        return harmless(certificate.issuer.rfc4514_string())
    except ValueError:
        return "a malformed name"


def is_for(certificate: x509.Certificate, name: str) -> bool:
    """Whether a certificate is for the service `name`, as `tls.identity` writes it."""
    return certs.is_for(certificate, tls.identity(name))


def trusted(ca: Path) -> str:
    """The names of the CAs in a file. ConfigError when there are none."""
    try:
        found = x509.load_pem_x509_certificates(files.read(ca))
    except ValueError:
        raise ConfigError(f"{ca} holds no usable PEM certificate") from None
    return harmless(" or ".join(dict.fromkeys(c.subject.rfc4514_string() for c in found)))


def look_again(address: str, port: int, name: str, config: Path | None, timeout: float) -> tuple[int, Reply | None]:
    """Another handshake with the same server, in a process of its own with this configuration of OpenSSL; None: ours.

    The size of its ClientHello and the answer; None: there was no connection.
    """
    command = [sys.executable, "-m", __name__, address, str(port), name, str(timeout)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **({"OPENSSL_CONF": str(config)} if config else {})}
    try:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * timeout + _SLACK,
            check=False,
        )  # fmt: skip
        size, _, reply = done.stdout.strip().partition(" ")
        return int(size), Reply[reply]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return 0, None


def _main(address: str, port: str, name: str, timeout: str) -> None:
    probe = Probe(name=name, verify=False, ca=None, keylog=None)
    with socket.create_connection((address, int(port)), float(timeout)) as sock:
        probe.open(sock, time.monotonic() + float(timeout))
        look = probe.look()
    print(look.hello_octets, look.reply.name)


if __name__ == "__main__":
    _main(*sys.argv[1:])

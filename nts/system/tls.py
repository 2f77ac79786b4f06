# SPDX-License-Identifier: MIT
"""TLS for NTS-KE (RFC 8915 sections 3 to 5.1): version 1.3 only, ALPN ntske/1 on both sides, the key exporter.

Only this module, `tls_probe` and `nts.check` import OpenSSL: those must offer and see what this one rules out. Its
errors become ours here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from OpenSSL import SSL, crypto

from nts.base.errors import NO_HINT, ALPNError, CertificateError, ConfigError, TLSError, TLSLost
from nts.base.registry import ALPN, EXPORTER_LABEL
from nts.base.text import about, harmless, is_ip_address, is_server_name, place_hint
from nts.codec.aead import Exporter
from nts.system import certs, files, waiting

T = TypeVar("T")

Context = SSL.Context
Connection = SSL.Connection
Error = SSL.Error
WantRead = SSL.WantReadError
WantWrite = SSL.WantWriteError
Closed = SSL.ZeroReturnError

READ_SIZE = 16384
MALFORMED = (ValueError, x509.InvalidVersion)  # what cryptography raises where OpenSSL is less strict


class AlpnRefused(Exception):
    """Raised in the ALPN callback, to make OpenSSL send alert 120, no_application_protocol (RFC 7301)."""


def _context(method: int) -> SSL.Context:
    try:
        context = SSL.Context(method)
    except SSL.Error as e:
        hint = "see the file that the environment variable OPENSSL_CONF names"
        raise ConfigError(f"OpenSSL refuses its configuration: {reason(e)}", hint=hint) from None
    context.set_min_proto_version(SSL.TLS1_3_VERSION)  # section 3
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # saves 16 KB for each connection that waits
    # An end of file without close_notify is no error: End of Message delimits messages (section 4.1.1), and a
    # truncated request must still get its Error record.
    context.set_options(SSL.OP_IGNORE_UNEXPECTED_EOF | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    return context


def server_context(chain: Path, key: Path) -> SSL.Context:
    """The server's context. ConfigError when certificate and key are missing, unreadable or do not match."""
    context = _context(SSL.TLS_SERVER_METHOD)
    files.read(chain, hint=_MAKE_CERT)
    try:
        context.use_certificate_chain_file(str(chain))
    except SSL.Error as e:
        raise ConfigError(f"{chain} holds no usable PEM certificate: {reason(e)}") from None
    try:
        private = serialization.load_pem_private_key(files.read(key, hint=_MAKE_CERT), None)
        if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
            raise ValueError
    except TypeError:
        raise ConfigError(f"{key} is encrypted, but a daemon cannot ask for the passphrase") from None
    except ValueError:
        raise ConfigError(f"{key} holds no usable PEM private key") from None
    try:
        context.use_privatekey(private)
        context.check_privatekey()
    except SSL.Error:
        raise ConfigError(f"{key} does not match the certificate in {chain}") from None

    def select_alpn(_connection: SSL.Connection, offered: list[bytes]) -> bytes:
        if ALPN in offered:
            return ALPN
        raise AlpnRefused

    context.set_alpn_select_callback(select_alpn)
    return context


def first_answer(context: SSL.Context, hello: bytes) -> bytes:
    """What a server with this context first sends to a client that sends these octets."""
    connection = SSL.Connection(context, None)
    connection.set_accept_state()
    connection.bio_write(hello)
    with contextlib.suppress(SSL.Error, AlpnRefused):  # it waits for more, or has refused
        connection.do_handshake()
    try:
        return connection.bio_read(READ_SIZE)
    except SSL.WantReadError:
        return b""


_MAKE_CERT = "set server_cert and server_key in server.ini, or run server_helper.py make-cert NAME for a trial"


def exporter(connection: SSL.Connection, label: str = EXPORTER_LABEL) -> Exporter:
    """The exporter of a finished handshake (section 5.1)."""
    return lambda context, length: connection.export_keying_material(label.encode(), length, context)


def speaks_ntske(connection: SSL.Connection) -> bool:
    """Whether ntske/1 was negotiated. Without it nothing may be sent (section 4)."""
    return connection.get_alpn_proto_negotiated() == ALPN


def is_lost(error: Exception) -> bool:
    """Whether the peer is gone, rather than at odds with the protocol."""
    return isinstance(error, SSL.ZeroReturnError | SSL.SysCallError | OSError)


def reason(error: Exception) -> str:
    """What OpenSSL, or the system, says about an error."""
    if isinstance(error, SSL.SysCallError):
        code = error.args[0] if error.args else -1
        return os.strerror(code) if code > 0 else "the connection was closed"
    if isinstance(error, OSError):
        return error.strerror or "the connection was closed"
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return next((str(entry[2]) for entry in queue if entry[2]), "the connection was closed")


# The causes that users may meet, by code of X509_STORE_CTX_get_error(3).
_VERIFY_ERRORS = {
    2: "no trusted CA has issued it",
    7: "no trusted CA has issued it",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed",
    19: "its root CA is not a trusted one",
    20: "no trusted CA has issued it",
    21: "no trusted CA has issued it",
    23: "it has been revoked",
    24: "its issuer is not a CA",
    26: "it is not for servers",
}
_TIME_ERRORS = (9, 10)
_VERIFY_HINTS = {
    9: "is this machine's clock right? If not, set it roughly first, or see --cert-time-tolerance",
    10: "the server's operator must renew it, unless this machine's clock is wrong: then see --cert-time-tolerance",
}
_CA_HINT = "name the CA that signed it with -c FILE"


def verify_problem(code: int) -> str:
    """What an error of X509_STORE_CTX_get_error(3) means."""
    return _VERIFY_ERRORS.get(code, f"X.509 error {code}")


class ClientChannel:
    """The client's end of a TLS connection. Call `open` first; its deadline bounds all later steps."""

    def __init__(
        self, *, name: str, verify: bool, ca: Path | None, keylog: Callable[[bytes], None] | None,
        time_tolerance: float = 0.0,
    ) -> None:  # fmt: skip
        """The certificate must be for `name`. `ca` None means the system's store.

        `time_tolerance` in seconds: accept certificates that would be valid if our clock were wrong by so much.
        ConfigError when a file or the name is unusable, before anything goes over the network.
        """
        self._name, self._verify = identity(name), verify
        self._tolerance = time_tolerance
        self.clock_error = 0.0
        """how far our clock must be behind, in seconds, for the certificates to be valid; below 0: ahead"""
        self._verify_error = 0
        self._seen = ""  # the certificate with that error
        self._deadline = 0.0
        self._sock: socket.socket
        self.connection: SSL.Connection
        self._context = context = _context(SSL.TLS_CLIENT_METHOD)
        context.set_alpn_protos([ALPN])
        if verify:
            _load_trust(context, ca)
            context.set_verify(SSL.VERIFY_PEER, self._on_certificate)
        if keylog is not None:
            context.set_keylog_callback(lambda _connection, line: keylog(line))

    def open(self, sock: socket.socket, deadline: float) -> None:
        """Use a connected socket. `deadline` is in seconds of the monotonic clock."""
        sock.setblocking(False)
        self._start(sock, deadline, SSL.Connection(self._context, sock))

    def _start(self, sock: socket.socket, deadline: float, connection: SSL.Connection) -> None:
        self._sock, self._deadline, self.connection = sock, deadline, connection
        if not is_ip_address(self._name):
            self.connection.set_tlsext_host_name(self._name.encode("ascii"))  # RFC 6066: never an address
        self.connection.set_connect_state()

    def _on_certificate(self, _connection: object, found: crypto.X509, error: int, _depth: int, ok: int) -> bool:
        if error in _TIME_ERRORS and self._tolerance:
            return True  # all others count; `_check_time` judges this one
        if error and not self._verify_error:
            self._verify_error, self._seen = error, _described(found)
        return bool(ok)

    def handshake(self) -> None:
        """Do the handshake, and check ALPN and certificate (sections 3 and 4), before any request is sent."""
        try:
            self._run(self.connection.do_handshake)
        except SSL.Error as e:
            why = reason(e)
            if self._verify_error:
                problem = verify_problem(self._verify_error)
                hint = _VERIFY_HINTS.get(self._verify_error, _CA_HINT)
                raise CertificateError(
                    f"the server's certificate is not acceptable: {problem} ({self._seen})", hint=hint
                ) from None
            if "no application protocol" in why:
                raise ALPNError("the server refused the protocol ntske/1 (TLS alert 120)") from None
            kind = TLSLost if is_lost(e) else TLSError
            raise kind(f"TLS handshake failed: {why}") from None
        except TimeoutError:
            raise TLSError("TLS handshake timed out") from None
        if not speaks_ntske(self.connection):
            raise ALPNError("the server did not select the protocol ntske/1")
        if self._verify:
            self._check_name()
            self._check_time()

    def _check_name(self) -> None:
        """The service identity (RFC 9525)."""
        certificate = peer_certificate(self.connection)
        # TLS 1.3 rules out that there is none, but "no certificate" must never pass.
        if certificate is None or not certs.is_for(certificate, self._name):
            seen = f" ({describe(certificate)})" if certificate else ""
            raise CertificateError(
                f"the server's certificate is not for {self._name}{seen}",
                hint="connect to a name in it, or give such a name with -n",
            )

    def _check_time(self) -> None:
        """Whether all certificates were valid at one time that our clock, with the tolerance, may mean."""
        if not self._tolerance:
            return  # then OpenSSL has checked it
        try:
            chain = self.connection.get_verified_chain(as_cryptography=True) or []
        except MALFORMED:
            raise CertificateError("the server's certificate, or its CA's, is malformed") from None
        least, most = certs.clock_error(chain, certs.now())
        self.clock_error = least if least > 0 else min(most, 0.0)
        if least > most or abs(self.clock_error) > self._tolerance:
            raise CertificateError(
                f"the server's certificate is not valid within {about(self._tolerance)} of what our clock says "
                f"({describe(chain[0])})",
                hint="set the clock roughly first",
            )

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        while data:  # once, unless the socket's buffer is full
            data = data[self._run(partial(self.connection.send, data)) :]

    def receive(self) -> bytes:
        """Receive some octets; none when the server has closed. TimeoutError at the deadline."""
        try:
            return self._run(lambda: self.connection.recv(READ_SIZE))
        except (SSL.ZeroReturnError, SSL.SysCallError):
            return b""

    def finish(self, grace: float) -> int:
        """Send close_notify, wait up to `grace` seconds for the server's, and count the octets before it."""
        self._deadline = min(self._deadline, time.monotonic() + grace)
        surplus = 0
        try:
            self.connection.shutdown()
            while time.monotonic() < self._deadline and (data := self.receive()):
                surplus += len(data)
        except (SSL.Error, TimeoutError):
            pass  # section 4 requires close_notify, but the message is complete, and many servers just close
        return surplus

    def _run(self, step: Callable[[], T]) -> T:
        return run_to_completion(self._sock, self._deadline, step)


def peer_certificate(connection: SSL.Connection) -> x509.Certificate | None:
    """The peer's certificate. None when it has none, or a malformed one."""
    try:
        return connection.get_peer_certificate(as_cryptography=True)
    except MALFORMED:
        return None


def peer_expiry(connection: SSL.Connection) -> int | None:
    """When the peer's certificate expires, in seconds since 1970. None when it has none, or a malformed one."""
    certificate = peer_certificate(connection)
    try:
        return int(certificate.not_valid_after_utc.timestamp()) if certificate else None
    except MALFORMED:
        return None


def is_post_quantum(group: str) -> bool:
    """Whether a TLS group, by OpenSSL's name, has ML-KEM (FIPS 203) in it."""
    return "MLKEM" in group.upper()


def _described(certificate: crypto.X509) -> str:
    try:
        return describe(certificate.to_cryptography())
    except MALFORMED:
        return "a malformed one"


def describe(certificate: x509.Certificate) -> str:
    """What a person needs to know a certificate by. The server may have put anything into it."""
    try:
        names = certs.names(certificate)
        subject = f"for {', '.join(names)}" if names else f"of {certificate.subject.rfc4514_string() or 'nobody'}"
        dates = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} to {certificate.not_valid_after_utc:%Y-%m-%d %H:%M}"
        issuer = harmless(certificate.issuer.rfc4514_string())
    except ValueError:
        return "a malformed one"
    return f"{harmless(subject)}; issued by {issuer}; valid from {dates} UTC"


def run_to_completion(sock: socket.socket, deadline: float, step: Callable[[], T]) -> T:
    """Repeat a TLS operation on a non-blocking socket until it completes. TimeoutError at the deadline."""
    while True:
        try:
            return step()
        except SSL.WantReadError:
            ready = waiting.readable
        except SSL.WantWriteError:
            ready = waiting.writable
        left = deadline - time.monotonic()
        if left <= 0 or not ready(sock, left):
            raise TimeoutError


def identity(name: str) -> str:
    """A host name in the form that certificates use: ASCII, without a zone. ConfigError for anything else."""
    bare = name.partition("%")[0] if ":" in name else name
    try:
        bare = bare if is_ip_address(bare) else bare.encode("idna").decode("ascii")
    except UnicodeError:
        bare = ""
    if not is_server_name(bare):
        raise ConfigError(f"{name!r} is neither an IP address nor a domain name", hint=place_hint(name) or NO_HINT)
    return bare.removesuffix(".")


def _load_trust(context: SSL.Context, ca: Path | None) -> None:
    if ca is None:
        context.set_default_verify_paths()
        return
    files.read(ca, hint="give the file of CA certificates with -c")
    try:
        context.load_verify_locations(os.fsencode(ca))
    except SSL.Error as e:
        raise ConfigError(f"{ca} holds no usable PEM certificate: {reason(e)}", hint=_CA_HINT) from None


def chain_problem(chain: Path, root: Path) -> str | None:
    """Why the certificates in `chain` do not verify against the CA in `root`; None when they do."""
    try:
        leaf, *others = (crypto.X509.from_cryptography(c) for c in _load_all(chain))
        store = crypto.X509Store()
        for certificate in _load_all(root):
            store.add_cert(crypto.X509.from_cryptography(certificate))
        crypto.X509StoreContext(store, leaf, others).verify_certificate()
    except crypto.X509StoreContextError as e:
        return str(e)
    except ValueError:
        return "not PEM certificates"
    return None


def _load_all(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(files.read(path))

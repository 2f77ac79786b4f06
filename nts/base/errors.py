# SPDX-License-Identifier: MIT
"""Every exception that the package raises on purpose, each with the exit code of the script that it ends.

An exception's text is one line for a person: lower case, no full stop, and never a key or a cookie.
Whatever a peer can cause on a server is not an exception but a verdict with a counter (`ke_server.Verdict`,
`ts_server.Verdict`).
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the scripts."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    RESOLVE = 10
    CONNECT = 11
    TLS = 12
    CERTIFICATE = 13
    ALPN = 14
    KE_RESPONSE = 15
    KE_ERROR_RECORD = 16
    NO_ANSWER = 20
    NTS_NAK = 21
    NOT_AUTHENTIC = 22
    MISMATCH = 23
    NO_COOKIES = 24
    UNUSABLE_SERVER = 25


NO_HINT = ""
"""for errors of a class that has a hint, where that would not help"""


class NTSError(Exception):
    """The base class. A script prints the message and the `hint` (what to try next), and exits with `exit_code`."""

    exit_code = ExitCode.FAILURE
    hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class FormatError(NTSError):
    """Malformed octets. The only exception that parsers raise."""


class AuthError(NTSError):
    """AEAD decryption failed: this key, nonce and associated data did not produce the ciphertext."""


class LibraryError(NTSError):
    """A native library is missing, broken or outdated, or a call into it failed without cause in the input."""

    hint = "run ./bootstrap build"


class ConfigError(NTSError):
    """A configuration, state, key or certificate file is unusable, or a given name is."""

    exit_code = ExitCode.USAGE
    hint = 'README.md, "Configuration", describes the files'


class ResolveError(NTSError):
    """A host name has no address."""

    exit_code = ExitCode.RESOLVE
    hint = "check the name; -4 and -6 restrict the address family"


class ConnectError(NTSError):
    """The TCP connection to the NTS-KE server failed."""

    exit_code = ExitCode.CONNECT
    hint = "is the server running, and is this TCP port (4460 by default) open on the way to it?"


class TLSError(NTSError):
    """The TLS handshake failed, or the connection broke."""

    exit_code = ExitCode.TLS
    hint = "NTS-KE needs TLS 1.3; does an NTS-KE server listen on this port?"


class TLSLost(TLSError):
    """The peer ended the connection before the TLS handshake was done."""


class CertificateError(NTSError):
    """The server's certificate is not acceptable (RFC 8915 section 3)."""

    exit_code = ExitCode.CERTIFICATE


class ALPNError(NTSError):
    """The server did not select the application protocol ntske/1 (RFC 8915 section 4)."""

    exit_code = ExitCode.ALPN
    hint = "the server speaks TLS but not NTS-KE on this port"


class KeResponseError(NTSError):
    """The NTS-KE response breaks RFC 8915 section 4, or grants nothing that this client can use."""

    exit_code = ExitCode.KE_RESPONSE
    hint = "the server does not follow RFC 8915, or shares no protocol or algorithm with this client"


class KeErrorRecord(NTSError):
    """The server answered with an Error or a Warning record (RFC 8915 sections 4.1.3 and 4.1.4)."""

    exit_code = ExitCode.KE_ERROR_RECORD
    hint = "the server refused the request; do not repeat it at once"


class NoAnswer(NTSError):
    """No NTP answer arrived within the timeout."""

    exit_code = ExitCode.NO_ANSWER
    hint = "is the time server running, and does UDP get through? Some networks drop NTP packets over 48 octets"


class NtsNak(NTSError):
    """The server could not use our cookie or authenticate our request (RFC 8915 section 5.7)."""

    exit_code = ExitCode.NTS_NAK
    hint = "the server no longer accepts these cookies or keys: run ntske_client.py again"


class NotAuthentic(NTSError):
    """Answers arrived, but none was authentic under the S2C key."""

    exit_code = ExitCode.NOT_AUTHENTIC
    hint = "something on the path alters packets, or the server lost its keys: run ntske_client.py again"


class Mismatch(NTSError):
    """Answers arrived, but none matched our request (mode, origin, Unique Identifier)."""

    exit_code = ExitCode.MISMATCH
    hint = "the answer is old or meant for another client; try again with --dump"


class NoCookies(NTSError):
    """No unspent cookie is left."""

    exit_code = ExitCode.NO_COOKIES
    hint = "run ntske_client.py again"


class UnusableServer(NTSError):
    """The server says that it has no usable time for us (unsynchronised, or a kiss-o'-death)."""

    exit_code = ExitCode.UNUSABLE_SERVER
    hint = "wait, or use another server"

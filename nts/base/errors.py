# SPDX-License-Identifier: MIT
"""Every exception the package raises on purpose, and the exit code each one means to a script.

An exception's text is one line for a person: lower case, no full stop, and never a key or a cookie.
What an attacker can cause on a server is not here: that is a verdict with a counter
(`ke_server.Verdict`, `ts_server.Verdict`).
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every tool that talks to a server."""

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


class NTSError(Exception):
    """Base of all of them. `hint` says what to try next; a script prints both and exits with `exit_code`."""

    exit_code = ExitCode.FAILURE
    hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class FormatError(NTSError):
    """Octets that are not in the format they should be: what a parser raises, and the only thing it raises."""


class AuthError(NTSError):
    """AEAD decryption failed: the ciphertext was not made with this key, nonce and associated data."""


class LibraryError(NTSError):
    """libaes_siv cannot be loaded, or a call failed for a reason that no input explains."""

    hint = "run ./bootstrap build"


class ConfigError(NTSError):
    """A configuration, state, key or certificate file that cannot be used as it is."""

    exit_code = ExitCode.USAGE
    hint = 'README.md, "Configuration", describes the files'


class ResolveError(NTSError):
    """A host name has no address."""

    exit_code = ExitCode.RESOLVE
    hint = "check the name; -4 and -6 restrict the address family"


class ConnectError(NTSError):
    """No TCP connection to the NTS-KE server."""

    exit_code = ExitCode.CONNECT
    hint = "is the server running, and is this TCP port (4460 by default) open on the way to it?"


class TLSError(NTSError):
    """The TLS handshake failed, or the connection broke."""

    exit_code = ExitCode.TLS
    hint = "NTS-KE needs TLS 1.3; is this port an NTS-KE server's?"


class CertificateError(NTSError):
    """The server's certificate is not acceptable (RFC 8915 section 3)."""

    exit_code = ExitCode.CERTIFICATE


class ALPNError(NTSError):
    """The server did not select the application protocol ntske/1 (RFC 8915 section 4)."""

    exit_code = ExitCode.ALPN
    hint = "the server speaks TLS but not NTS-KE on this port"


class KeResponseError(NTSError):
    """An NTS-KE response that breaks RFC 8915 section 4, or leaves nothing to go on with."""

    exit_code = ExitCode.KE_RESPONSE
    hint = "the server does not follow RFC 8915, or shares no protocol or algorithm with this client"


class KeErrorRecord(NTSError):
    """The server answered with an Error or a Warning record (RFC 8915 sections 4.1.3 and 4.1.4)."""

    exit_code = ExitCode.KE_ERROR_RECORD
    hint = "the server refuses; do not repeat the same request at once"


class NoAnswer(NTSError):
    """No NTP answer came within the timeout."""

    exit_code = ExitCode.NO_ANSWER
    hint = "is the time server running, and does UDP pass? Some networks drop NTP packets over 48 octets"


class NtsNak(NTSError):
    """The server could not use our cookie or authenticate our request (RFC 8915 section 5.7)."""

    exit_code = ExitCode.NTS_NAK
    hint = "the cookies or keys have expired at the server: run ntske_client.py again"


class NotAuthentic(NTSError):
    """Answers came, and none of them was authentic under the S2C key."""

    exit_code = ExitCode.NOT_AUTHENTIC
    hint = "something on the way alters packets, or the server lost the keys: run ntske_client.py again"


class Mismatch(NTSError):
    """Answers came, and none of them belonged to our request (mode, origin, Unique Identifier)."""

    exit_code = ExitCode.MISMATCH
    hint = "an old or a foreign answer; try again, and look at --dump"


class NoCookies(NTSError):
    """There is no unspent cookie left."""

    exit_code = ExitCode.NO_COOKIES
    hint = "run ntske_client.py again"


class UnusableServer(NTSError):
    """An authentic answer says that the server has no time for us (unsynchronised, or a kiss-o'-death)."""

    exit_code = ExitCode.UNUSABLE_SERVER
    hint = "wait, or use another server"
